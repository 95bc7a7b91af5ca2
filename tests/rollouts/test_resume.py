"""What ended without `fissile down` goes on with the release that ran last, whatever the folder holds."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from background import wait_until
from chained import Chain, chain, traffic
from commands import fissile
from supervised import lives

ONE, TWO, THREE = (1, 1, 1), (1, 1, 2), (1, 1, 3)


@pytest.fixture
def app(tmp_path: Path):
    with chain(tmp_path / "app") as found:
        yield found


def power_cut(app: Chain) -> None:
    """All processes of the application end at once."""
    supervisor = app.status()["supervisor"]
    zygotes = [int(pid) for pid in _children(supervisor["pid"])]
    replicas = [pid for pids in app.all_pids().values() for pid in pids]
    for pid in [supervisor["pid"], *zygotes, *replicas]:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)
    for pid in [supervisor["pid"], *zygotes, *replicas]:
        wait_until(lambda pid=pid: not lives(pid), "it is dead")


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def versions(app: Chain) -> set[tuple[int, ...]]:
    with traffic(app) as seen:
        wait_until(lambda: app.status()["rollout"] is None, "nothing is under way")
    assert not seen.failures
    return set(seen.versions)


def up(app: Chain, *options: str, code: int = 0) -> tuple[dict[str, str], str]:
    result = fissile("up", app.folder, "--port", "0", *options, "--json")
    assert result.returncode == code, result
    if code:
        return {}, result.stderr
    found = json.loads(result.stdout)
    (app.page,) = [url for one in found["services"].values() for url in one["public"].values()]
    app.status()
    return found, result.stderr


def test_what_was_deployed_goes_on_after_a_power_cut(app: Chain):
    app.edit("back", VERSION=2)
    app.deploy()
    deployed = app.status()["release"]
    app.order("deploy", "--plan")
    assert fissile("scale", "back", "2", "--path", app.folder).returncode == 0
    wait_until(lambda: len(app.pids("back")) == 2, "two replicas")
    app.edit("back", VERSION=3)
    power_cut(app)
    found, _ = up(app)
    assert (found["release"], found["topology"], found["resumed"]) == (deployed, "microservices", True)
    assert versions(app) == {TWO}
    assert len(app.pids("back")) == 2
    # A rollback still knows the way, and a deploy brings what the folder holds.
    app.order("rollback", "--wait")
    assert versions(app) == {ONE}
    app.deploy()
    assert versions(app) == {THREE}


def test_whoever_stopped_it_begins_anew(app: Chain):
    app.edit("back", VERSION=2)
    app.down()
    found, _ = up(app, "--topology", "monolith")
    assert (found["topology"], found["resumed"]) == ("monolith", False)
    assert versions(app) == {TWO}
    assert "ApplicationDown" in fissile("history", "--path", app.folder).stdout


def test_another_topology_is_no_accident(app: Chain):
    app.edit("back", VERSION=2)
    power_cut(app)
    _, said = up(app, "--topology", "monolith", code=2)
    assert "ran as microservices last" in said
    assert "--fresh" in said
    found, _ = up(app, "--topology", "monolith", "--fresh")
    assert found["topology"] == "monolith"
    assert versions(app) == {TWO}


@pytest.mark.parametrize("all_of_it", [False, True], ids=["supervisor", "all"])
def test_a_unit_of_systemd_does_not_undo_what_was_deployed(app: Chain, all_of_it: bool):
    app.deploy("--topology", "monolith")
    if all_of_it:
        power_cut(app)
    else:
        app.kill(app.supervisor())
    unit = fissile("up", app.folder, "--topology", "microservices", "--port", "0", "--systemd").stdout
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    command = line.partition("=")[2].split()
    assert command[0] == sys.executable
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as unit:
        wait_until(lambda: fissile("status", app.folder, "--json").returncode == 0, "it supervises")
        status = app.status()
        assert status["supervisor"]["pid"] == unit.pid
        assert status["topology"] == "monolith"
        app.down()
        assert unit.wait(10) == 0


def test_a_rollout_that_was_cut_short_is_over(app: Chain):
    app.edit("back", VERSION=2)
    app.order("deploy", "--canary", "50%", "--watch", "100s")
    power_cut(app)
    up(app)
    assert app.status()["rollout"] is None
    assert versions(app) == {ONE}
    assert "ended before it was over" in fissile("history", "--path", app.folder).stdout
    app.deploy()
    assert versions(app) == {TWO}


def test_a_first_start_that_failed_is_not_gone_back_to(app: Chain):
    app.down()
    file = app.folder / "chain" / "back.py"
    text = file.read_text()
    file.write_text(f"{text}\n    async def start(self) -> None:\n        raise RuntimeError('no database')\n")
    _, said = up(app, "--topology", "microservices", code=2)
    assert "no database" in said
    file.write_text(text)
    up(app, "--topology", "microservices")
    assert versions(app) == {ONE}
