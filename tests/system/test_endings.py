"""Nothing that the application has started survives it, whoever was killed before."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from endings import FISSILE, KINDS, TARGETS, Litterers, litterers, storm

from fissile.machine import process_marks
from fissile.machine.procfs import Mark, application_of, born

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def until(what: Callable[[], object], seconds: float = 10.0) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.02)


def started(application: Litterers) -> set[str]:
    """The processes of replicas and of what they have started, without a zygote's spare."""
    return {line.split()[0] for line in application.left() if "serial=0" not in line}


def test_a_storm_of_kills_leaves_nothing() -> None:
    storm(13, Counter(dict.fromkeys(TARGETS, 2)), print)


def test_what_a_replica_started_ends_with_it_alone() -> None:
    with litterers() as application:
        application.up()
        before = started(application)
        for kind in KINDS:
            application.litter("Front", kind)
        fronts = started(application) - before
        other = application.litter("Back", "child")
        assert len(fronts) >= len(KINDS)
        (front,) = next(
            one["pids"] for one in application.endpoints()["services"].values() if "Front" in one["components"]
        )
        os.kill(front, signal.SIGKILL)
        until(lambda: not any(born(int(pid)) for pid in fronts))
        assert born(other)
        log = application.folder / ".fissile" / "logs" / "fissile.log"
        until(lambda: "processes that it had started ended with it" in log.read_text())


def leave_unlisted(application: Litterers) -> None:
    """Kill all of it but a daemon of a replica's, and lose the list of its processes."""
    application.litter("Back", "bare daemon")
    for pid in application.processes("all"):
        os.kill(pid, signal.SIGKILL)
    (application.folder / ".fissile" / "endpoints.json").unlink()


def test_down_finds_what_no_list_names() -> None:
    """As after a full disk: the newest births are in no file."""
    with litterers() as application:
        application.up()
        leave_unlisted(application)
        done = application.cli("down")
        assert (done.returncode, done.stdout) == (0, "what was left of the application is stopped\n"), done.stderr
        assert application.left() == []
        assert "nothing runs" in application.cli("down").stderr


def test_the_next_start_takes_no_orphan_for_its_own() -> None:
    with litterers() as application:
        application.up()
        leave_unlisted(application)
        before = set(application.left())
        assert before
        application.up()
        assert not before & set(application.left())


@pytest.mark.parametrize("topology", ["microservices", "together"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_what_runs_in_the_foreground_leaves_nothing_either(topology: str, number: signal.Signals) -> None:
    with litterers() as application:
        settings = application.folder / "fissile.toml"
        if topology == "together":
            settings.write_text('app = "litter_app:app"\n')
        command = [*FISSILE, "run", "--port", "0"]
        process = subprocess.Popen(
            command, cwd=application.folder, env=application.environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert "is up" in process.stdout.readline()
        for kind in ("child", "bare daemon", "stubborn"):
            application.litter("Back", kind)
        process.send_signal(number)
        process.wait(20)
        if number is signal.SIGKILL:
            if topology == "together":
                assert application.left()
                assert application.cli("down").returncode == 0
            until(lambda: not application.left())  # the zygote sees to it
        process.stdout.close()
        assert application.left() == []


def test_the_end_does_not_hang_on_the_folder() -> None:
    with litterers() as application:
        application.up()
        application.litter("Front", "bare daemon")
        (supervisor,) = application.processes("supervisor")
        before = started(application)
        shutil.rmtree(application.folder)
        os.kill(supervisor, signal.SIGTERM)
        until(lambda: not any(born(int(pid)) for pid in {*before, str(supervisor)}))
        application.folder.mkdir()


def test_what_the_import_starts_ends_with_its_zygote() -> None:
    with litterers() as application:
        program = application.folder / "litter_app.py"
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        program.write_text(f'{program.read_text()}\nsubprocess.Popen([sys.executable, "-c", "{code}", SLEEP[-1]])\n')
        application.up()
        assert any("SIG_IGN" in line for line in application.left())
        assert application.cli("down").returncode == 0
        assert application.left() == []


def test_who_begins_anew_when_it_is_asked_to_end_is_outrun() -> None:
    """Each process of the chain starts the next as soon as it is told to end."""
    with litterers() as application:
        chain = application.folder / "chain.py"
        chain.write_text(
            "import os, signal, sys, time\n"
            "def again(*_):\n    os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *sys.argv]); os._exit(0)\n"
            "signal.signal(signal.SIGTERM, again)\nopen('chain', 'w')\ntime.sleep(600)\n"
        )
        (application.folder / "serve.sh").write_text(f'"{sys.executable}" chain.py &\n"{sys.executable}" server.py\n')
        application.up()
        until((application.folder / "chain").exists)
        assert application.cli("restart", "web").returncode == 0
        assert sum("chain.py" in line for line in application.left()) <= 1
        assert application.cli("down").returncode == 0
        assert application.left() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_what_cannot_be_ended_is_named() -> None:
    code = """
import os, sys
os.setuid(65534)
from fissile.machine.leftover_processes import Ending, survivors
ending = Ending(lambda: [int(sys.argv[1])], asked=0.05)
ending.hurry()
ending._limit = 0.0
print(*survivors(ending.run()))
"""
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        done = subprocess.run([sys.executable, "-c", code, str(stranger.pid)], capture_output=True, text=True)
        assert done.stdout == f"pid {stranger.pid} (sleep 600, it belongs to user 0)\n", done.stderr
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_down_names_what_it_cannot_end_and_fails() -> None:
    folder = Path(tempfile.mkdtemp(prefix="fissile-endings-"))
    (folder / ".fissile").mkdir(0o700)
    for one in (folder, folder / ".fissile"):
        os.chown(one, 65534, 65534)
    stranger = subprocess.Popen(["sleep", "600"])
    process_marks.put_on(stranger.pid, Mark(application_of(folder), 3))
    try:
        code = "import os, sys; os.setuid(65534); from fissile.cli import main; sys.argv = ['fissile', 'down']; main()"
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
        assert f"pid {stranger.pid} (sleep 600, it belongs to user 0)" in done.stderr
        assert stranger.poll() is None
        done = subprocess.run([*FISSILE, "down"], cwd=folder, capture_output=True, text=True)
        assert done.stdout == "what was left of the application is stopped\n", done.stderr
        assert stranger.wait(5) == -signal.SIGTERM
    finally:
        stranger.kill()
        stranger.wait()
        shutil.rmtree(folder)


def test_a_failed_start_leaves_nothing() -> None:
    with litterers() as application:
        program = Path(application.folder / "litter_app.py")
        program.write_text(
            program.read_text()
            .replace("class Front(Litter):", "class Front(Litter):\n    start = Litter._fail")
            .replace(
                "class Litter:",
                """class Litter:
    async def _fail(self):
        await self.litter("bare daemon")
        await self.litter("child")
        raise OSError("no")
""",
            )
        )
        done = application.cli("up", "--port", "0")
        assert done.returncode == 2
        assert "Front" in done.stderr
        assert application.left() == []
