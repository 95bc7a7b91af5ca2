"""Which release a new request gets."""

import random

import pytest

from fissile.runtime.traffic_split import TrafficSplitter

COOKIE = [(b"cookie", b"a=b; fissile-release=3.new")]
HEADER = [(b"fissile-release", b"new")]
USER = [(b"x-user", b"anna")]


def splitter(share: float, sticky: str = "") -> TrafficSplitter:
    """Two releases are live, and the new one gets a share."""
    found = TrafficSplitter("old", random.random)
    found.divide({"old": 1.0 - share, "new": share}, "old", sticky, 3)
    return found


def chosen(found: TrafficSplitter, headers: list[tuple[bytes, bytes]]) -> set[str]:
    return {found.choose(headers)[0] for _ in range(50)}


def test_whoever_has_a_live_release_keeps_it():
    assert chosen(splitter(0.01, "cookie"), COOKIE) == {"new"}
    assert chosen(splitter(0.01), HEADER) == {"new"}
    assert len(chosen(splitter(0.5, "x-user"), USER)) == 1


@pytest.mark.parametrize(
    ("share", "asked", "given"), [(0.0, "new", "old"), (1.0, "old", "new")], ids=["taken back", "moved"]
)
def test_nobody_keeps_or_chooses_a_release_that_gets_no_new_requests(share: float, asked: str, given: str):
    found = splitter(share, "cookie")
    for cookie in ("", f"fissile-release=3.{asked}"):
        assert found.choose([(b"cookie", cookie.encode())]) == (given, b""), "nobody is kept where all get the same"
    header = [(b"fissile-release", asked.encode())]
    assert chosen(found, header) == {given}
    assert chosen(splitter(share, "x-user"), USER) == {given}
    # But a program in the middle of a request passes its release on.
    assert found.choose(header, passed_on=True) == (asked, b"")


@pytest.mark.parametrize("stamp", ["2.old", "old", "3.gone", "", "3", ".", "3."])
def test_a_stamp_holds_in_its_own_rollout_alone(stamp: str):
    found = splitter(0.5, "cookie")
    drawn = [found.choose([(b"cookie", b"fissile-release=" + stamp.encode())]) for _ in range(50)]
    assert {release for release, _ in drawn} == {"old", "new"}
    for release, cookie in drawn:
        assert cookie.startswith(f"fissile-release=3.{release};".encode())


def test_what_is_no_live_release_is_no_choice():
    found = splitter(0.5)
    assert found.choose([(b"fissile-release", b"nonsense")], passed_on=True)[0] in ("old", "new")
