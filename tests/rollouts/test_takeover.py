"""A supervisor is killed in the midst of things, and the next one takes over what it left."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from background import wait_until
from chained import Chain, chain, frozen, traffic
from commands import fissile

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
