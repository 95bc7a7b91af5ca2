"""Which release a new request gets, and what is counted of each."""

import pytest

from fissile.runtime.control import Routes
from fissile.runtime.ledger import Ledger
from fissile.telemetry.aggregate import bucket

COOKIE = [(b"cookie", b"a=b; fissile-release=3.new")]
HEADER = [(b"fissile-release", b"new")]
USER = [(b"x-user", b"anna")]


def ledger(share: float, sticky: str = "") -> Ledger:
    """Two releases are live, and the new one gets a share."""
    found = Ledger("old")
    found.follow(
        Routes(
            release="old", releases=("old", "new"), shares={"old": 1.0 - share, "new": share}, sticky=sticky, rollout=3
        )
    )
    return found


def chosen(found: Ledger, headers: list[tuple[bytes, bytes]]) -> set[str]:
    return {found.choose(headers)[0] for _ in range(50)}


def test_whoever_has_a_live_release_keeps_it():
    assert chosen(ledger(0.01, "cookie"), COOKIE) == {"new"}
    assert chosen(ledger(0.01), HEADER) == {"new"}
    assert len(chosen(ledger(0.5, "x-user"), USER)) == 1


@pytest.mark.parametrize(
    ("share", "asked", "given"), [(0.0, "new", "old"), (1.0, "old", "new")], ids=["taken back", "moved"]
)
def test_nobody_keeps_or_chooses_a_release_that_gets_no_new_requests(share: float, asked: str, given: str):
    found = ledger(share, "cookie")
    for cookie in ("", f"fissile-release=3.{asked}"):
        assert found.choose([(b"cookie", cookie.encode())]) == (given, b""), "nobody is kept where all get the same"
    header = [(b"fissile-release", asked.encode())]
    assert chosen(found, header) == {given}
    assert chosen(ledger(share, "x-user"), USER) == {given}
    # But a program in the middle of a request passes its release on.
    assert found.choose(header, passed_on=True) == (asked, b"")


@pytest.mark.parametrize("stamp", ["2.old", "old", "3.gone", "", "3", ".", "3."])
def test_a_stamp_holds_in_its_own_rollout_alone(stamp: str):
    found = ledger(0.5, "cookie")
    drawn = [found.choose([(b"cookie", b"fissile-release=" + stamp.encode())]) for _ in range(50)]
    assert {release for release, _ in drawn} == {"old", "new"}
    for release, cookie in drawn:
        assert cookie.startswith(f"fissile-release=3.{release};".encode())


def test_what_is_no_live_release_is_no_choice():
    found = ledger(0.5)
    assert found.choose([(b"fissile-release", b"nonsense")], passed_on=True)[0] in ("old", "new")


def test_a_stream_counts_once_it_begins_and_its_length_does_not():
    found = ledger(0.5)
    waiting, streaming, ended, broken = (found.begin("new") for _ in range(4))
    for number in (streaming, ended, broken):
        found.answered("new", number, failed=False)
    found.end("new", ended, broken=False)
    traffic = found.traffic()["new"]
    assert traffic.in_flight == 3
    assert sum(traffic.ages.values()) == 1, "only one still waits"
    assert (traffic.answers.count, traffic.answers.errors) == (3, 0)
    assert sum(traffic.answers.latencies.values()) == 3
    assert max(traffic.answers.latencies) <= bucket(1.0)
    # One that breaks later is an error of now, whenever its beginning was counted.
    found.end("new", broken, broken=True)
    found.end("new", waiting, broken=True)
    found.end("new", streaming, broken=False)
    traffic = found.traffic()["new"]
    assert (traffic.in_flight, traffic.answers.count, traffic.answers.errors) == (0, 5, 2)
    assert found.pinned() == ()
