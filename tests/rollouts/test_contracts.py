"""A method is renamed together with all its callers: who can still meet the earlier one, and who cannot."""

import sqlite3
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from background import wait_until
from chained import Chain, chain, traffic
from commands import fissile

from fissile.api.client import Client
from fissile.api.discovery import read_endpoints
from fissile.journal.journal import Journal
from fissile.journal.sums import SUM_BYTES
from fissile.releases.callers import DAY, Called
from fissile.supervisor.callers import CALLERS


@pytest.fixture
def app(tmp_path: Path):
    with chain(tmp_path / "app") as found:
        yield found


def rename(app: Chain) -> None:
    """`Back.version` is `Back.revision` from now on, to its callers as well."""
    for name in ("back", "middle", "front"):
        file = app.folder / "chain" / f"{name}.py"
        file.write_text(file.read_text().replace("version(", "revision("))


def calls(app: Chain) -> dict[str, Called]:
    return Client(app.folder).callers()


def remembered(app: Chain, alter: Callable[[Called], Called]) -> None:
    """Another supervisor takes over, and finds this in the journal."""
    app.kill(app.supervisor())
    with closing(Journal(app.folder / ".fissile" / "journal.db")) as journal:
        journal.open()
        kept = journal.kept(CALLERS)
        assert kept is not None
        found = msgspec.msgpack.decode(kept, type=dict[str, Called])
        journal.keep(CALLERS, msgspec.msgpack.encode({method: alter(one) for method, one in found.items()}))
    assert fissile("up", app.folder, "--port", "0").returncode == 0
    app.status()


def kept(app: Chain, method: str = "Back.version") -> Called | None:
    """What the journal has of a method. Who writes to it is not disturbed."""
    with (
        closing(sqlite3.connect(app.folder / ".fissile" / "journal.db")) as running,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        running.backup(copy)
        row = copy.execute("select value from kept where name = ?", (CALLERS,)).fetchone()
    return msgspec.msgpack.decode(row[0][SUM_BYTES:], type=dict[str, Called]).get(method) if row else None


def post(app: Chain, method: str, **headers: str) -> int:
    found = read_endpoints(app.folder)
    door = found.services["back"].gateway
    told = {
        "Authorization": f"Bearer {found.token}",
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    request = urllib.request.Request(f"{door}/rpc/{method.replace('.', '/')}", b"{}", told, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(answer.read())


def test_a_rename_with_all_its_callers_loses_no_request(app: Chain):
    rename(app)
    said = app.order("deploy", code=1)
    assert "Back.version: it is gone; called by Middle, Front" in said
    assert "its calls over HTTP/JSON have been watched for less than a minute; 24 hours are needed" in said
    wait_until(lambda: kept(app), "it is written")
    remembered(app, lambda one: Called(time.time() - 3 * DAY))
    plan = app.order("deploy", "--plan")
    note = "Middle and Front are replaced with it; not called over HTTP/JSON in 3 days"
    assert note in plan
    assert "would break with it" not in plan
    diff = fissile("contract", "diff", "--path", app.folder)
    assert diff.returncode == 0, diff
    assert note in diff.stdout
    with traffic(app) as seen:
        assert note in app.deploy()
    assert not seen.failures
    now = {"Back.revision", "Back.versions", "Middle.relayed"}
    wait_until(lambda: {method for method, one in calls(app).items() if one.since} == now, "the new one is watched")


def test_who_called_from_outside_yesterday_may_call_again(app: Chain):
    assert post(app, "Back.version") == 1
    wait_until(lambda: calls(app)["Back.version"].last, "the call is heard of")
    assert not calls(app)["Middle.relayed"].last
    # A person is no program, nor are those within.
    assert fissile("call", "Middle.relayed", "--path", app.folder).returncode == 0
    assert post(app, "Back.version", Fissile_Caller="operator") == 1
    wait_until(lambda: kept(app), "it is written")
    remembered(app, lambda one: Called(time.time() - 3 * DAY, one.last))
    # The replica tells its new supervisor again what it was called for: the old one may not have written it.
    wait_until(lambda: calls(app)["Back.version"].last, "it is told again")
    assert not calls(app)["Middle.relayed"].last
    rename(app)
    said = app.order("deploy", code=1)
    assert "it was called over HTTP/JSON less than a minute ago" in said
    diff = fissile("contract", "diff", "--path", app.folder)
    assert diff.returncode == 1
    assert "it was called over HTTP/JSON" in diff.stdout
    with traffic(app) as seen:
        assert "Back.version: it is gone, and may be called: it was called over" in app.deploy("--accept-breaks")
    assert not seen.failures
    assert "Back.revision: it is gone, and may be called" in app.order("rollback", "--wait")
