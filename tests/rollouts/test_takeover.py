"""A supervisor is killed in the midst of things, and the next one takes over what it left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from background import wait_until
from chained import Chain, chain, frozen, traffic
from commands import fissile
from supervised import lives

ONE = (1, 1, 1)


@pytest.fixture
def app(tmp_path: Path):
    with chain(tmp_path / "app") as found:
        yield found


def ready(app: Chain, service: str) -> int:
    (found,) = [one for one in app.status()["services"] if one["name"] == service]
    return sum(replica["state"] == "ready" for replica in found["replicas"])


def test_no_request_gets_a_release_before_an_adopted_replica_knows_it(app: Chain):
    app.edit("back", VERSION=2)
    (front,) = app.pids("front")
    with frozen(front):
        app.order("deploy", "--json")
        wait_until(lambda: ready(app, "back") == 2, "both builds of Back are ready")
        app.kill(app.supervisor())
        up = subprocess.Popen([sys.executable, "-m", "fissile", "up", str(app.folder), "--port", "0"])
        wait_until(lambda: fissile("status", app.folder).returncode == 0, "it is supervised")
        # The others report, and the time in which routes stay as they are passes, too.
        time.sleep(3.5)
        assert app.status()["rollout"]["stage"] == "starting"
    with traffic(app) as seen:
        assert up.wait(20) == 0
        wait_until(lambda: app.status()["rollout"] is None, "it is over")
        time.sleep(0.2)
    assert front in app.pids("front")
    assert not seen.failures
    assert set(seen.versions) <= {ONE, (1, 1, 2)}
    assert (1, 1, 2) in seen.versions


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def orphans_ended(app: Chain) -> bool:
    return any(entry["what"] == "OrphansEnded" for entry in app.history())


def test_who_cannot_be_adopted_is_replaced_and_ends(app: Chain):
    app.edit("back", VERSION=2)
    app.deploy()
    before = app.all_pids()
    # The zygote of the first release only looks after those who did not change.
    os.kill(parent(before["front"][0]), signal.SIGKILL)
    app.kill(app.supervisor())
    with traffic(app) as seen:
        app.up()
        wait_until(lambda: orphans_ended(app), "they have ended")
        assert not [pid for name in ("front", "middle") for pid in before[name] if lives(pid)]
        assert app.pids("back") == before["back"]
        app.edit("front", VERSION=5)
        app.deploy()
        time.sleep(0.2)
    assert not seen.failures
    assert set(seen.versions) == {(1, 1, 2), (5, 1, 2)}
    app.down()


def test_who_cannot_be_adopted_is_not_left_behind(app: Chain):
    app.edit("back", VERSION=2)
    app.deploy()
    (front,) = app.pids("front")
    os.kill(parent(front), signal.SIGKILL)
    app.kill(app.supervisor())
    app.down()
    assert not lives(front)


def test_the_address_outlives_every_zygote(app: Chain):
    for component in ("front", "middle", "back"):
        app.edit(component, VERSION=2)
    app.order("deploy", "--canary", "50%", "--watch", "100s")
    (later,) = {parent(pid) for pid in app.pids("back")} - {app.status()["supervisor"]["zygote"]}
    supervisor = app.supervisor()
    os.kill(later, signal.SIGKILL)
    app.kill(supervisor)
    page = app.page
    with traffic(app) as seen:
        app.up()
        wait_until(lambda: orphans_ended(app), "they have ended")
        app.order("promote")
        wait_until(lambda: app.status()["rollout"] is None, "it is over")
        # From here on only the zygote that was started anew is there.
        app.kill(app.supervisor())
        endpoints = app.up()
        assert endpoints["services"]["front"]["public"] == {"Front": page}
        app.kill(app.pids("front")[0])
        time.sleep(0.5)
    assert set(seen.versions) == {ONE, (2, 2, 2)}
    with traffic(app) as after:
        time.sleep(0.2)
    assert not after.failures


def test_no_serial_is_given_twice(app: Chain):
    serials = {one["name"]: one["replicas"][0]["serial"] for one in app.status()["services"]}
    last = max(serials, key=lambda name: serials[name])
    (pid,) = app.pids(last)
    app.kill(app.supervisor())
    app.kill(pid)
    app.up()
    wait_until(lambda: app.pids(last), "it is there again")
    (service,) = [one for one in app.status()["services"] if one["name"] == last]
    assert service["replicas"][0]["serial"] > max(serials.values())
    assert "cannot start" not in (app.folder / ".fissile" / "logs" / "fissile.log").read_text()
    left = {path.name for path in (app.folder / ".fissile").glob("edge-*.sock")}
    assert f"edge-{serials[last]}.sock" not in left
