"""Programs behind wrappers and at ports: who is told to end, and who is taken for ready."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from endings import FISSILE

from fissile.machine.leftover_processes import left_anywhere
from fissile.machine.port_owners import holder, listening, listens
from fissile.machine.procfs import application_of, descendants

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# Serves, and on SIGTERM writes that it ends in order, a while later.
SERVER = """
import http.server, os, signal, sys, threading, time
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler)
def end(*_):
    time.sleep(0.3)
    open("told", "a").write("server\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
server.serve_forever()
"""
# A server whose worker it ends itself, last of all.
MASTER = """
import http.server, os, signal, subprocess, sys, time
code = "import signal, sys, time; signal.signal(15, lambda *_: (open('told','a').write('worker\\\\n'), sys.exit()));" \\
    "print(1, flush=True); time.sleep(600)"
worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
worker.stdout.read(1)
def end(*_):
    time.sleep(0.3)
    open("told", "a").write("master\\n")
    worker.terminate()
    worker.wait()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


class Project:
    """A service that is a command, in a folder."""

    def __init__(self, folder: Path, command: str, more: str = "") -> None:
        self.folder = folder
        text = f"[services.web]\ncommand = '{command}'\nready = 'tcp'\n{more}"
        (folder / "fissile.toml").write_text(text)
        (folder / "server.py").write_text(SERVER)
        (folder / "master.py").write_text(MASTER)

    def cli(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*FISSILE, *arguments], cwd=self.folder, capture_output=True, text=True)

    def up(self) -> int:
        """Start it; its process."""
        done = self.cli("up")
        assert done.returncode == 0, done.stdout + done.stderr
        (replica,) = self.replicas()
        return int(str(replica["pid"]))

    def replicas(self) -> list[dict[str, object]]:
        status = json.loads(self.cli("status", "--json").stdout)
        return status["services"][0]["replicas"]

    def told(self) -> list[str]:
        return (self.folder / "told").read_text().split()


@pytest.fixture
def project(open_path: Path) -> Iterator[Callable[..., Project]]:
    made: list[Project] = []

    def make(command: str, more: str = "") -> Project:
        made.append(Project(open_path, command, more))
        return made[-1]

    yield make
    for one in made:
        one.cli("down")
    assert left_anywhere(application_of(open_path)) == []


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def stranger(port: int, address: str = "127.0.0.1", option: str = "0") -> Iterator[int]:
    """Another program that listens; its process."""
    code = (
        "import socket, sys, time; a = sys.argv[1]; s = socket.socket(socket.AF_INET6 if ':' in a else socket.AF_INET);"
        "s.setsockopt(1, 15, int(sys.argv[3])); s.bind((a, int(sys.argv[2]))); s.listen(); print(1, flush=True);"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", code, address, str(port), option]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)
    try:
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("end", ["down", "restart"])
@pytest.mark.parametrize(
    "wrapper",
    [
        "{python} server.py\necho over\n",
        "trap 'echo no' TERM\n{python} server.py\nwait\n",
        "{python} server.py &\nwait\n",
        "setsid {python} server.py\necho over\n",
    ],
    ids=["plain", "trap", "background", "session"],
)
def test_a_server_behind_a_wrapper_ends_in_order(project: Callable[..., Project], wrapper: str, end: str) -> None:
    made = project("sh run.sh")
    (made.folder / "run.sh").write_text(wrapper.format(python=sys.executable))
    made.up()
    assert made.cli(*(["down"] if end == "down" else ["restart", "web"])).returncode == 0
    assert made.told() == ["server"]


def test_a_server_that_has_processes_ends_them_itself(project: Callable[..., Project]) -> None:
    made = project(f"{sys.executable} master.py")
    made.up()
    assert made.cli("down").returncode == 0
    assert made.told() == ["master", "worker"]


def test_what_is_left_of_a_server_that_is_killed_is_asked_and_its_port_is_free(project: Callable[..., Project]) -> None:
    port = free_port()
    made = project("sh run.sh", f"port = {port}\n")
    (made.folder / "run.sh").write_text(f"{sys.executable} server.py\necho over\n")
    shell = made.up()
    (server,) = descendants(shell)
    os.kill(shell, signal.SIGKILL)
    limit = time.monotonic() + 20.0
    while not ((replicas := made.replicas()) and replicas[0]["state"] == "ready" and replicas[0]["pid"] != shell):
        assert time.monotonic() < limit
    assert made.told() == ["server"]
    assert not listens([server], port)
    assert listens(descendants(int(str(replicas[0]["pid"]))), port)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_stranger_on_the_port_is_named(project: Callable[..., Project], address: str) -> None:
    port = free_port()
    made = project(f"{sys.executable} server.py", f"port = {port}\n")
    with stranger(port, address) as pid:
        done = made.cli("up")
        assert done.returncode == 2
        assert f"port {port}, where web is to listen, is taken by pid {pid} (" in done.stderr
        assert "choose another `port` under [services.web]" in done.stderr
    made.up()


def test_a_stranger_that_shares_the_port_is_one_all_the_same(project: Callable[..., Project]) -> None:
    port = free_port()
    made = project(f"{sys.executable} server.py", f"port = {port}\nports = 'reuseport'\n")
    with stranger(port, option="1") as pid:
        assert f"is taken by pid {pid} (" in made.cli("up").stderr


def test_a_program_that_never_listens_is_not_made_ready_by_a_stranger_that_comes_later(
    project: Callable[..., Project], open_path: Path
) -> None:
    """It crashes in a loop, because the other one was faster."""
    port = free_port()
    (open_path / "data").mkdir()  # what comes to be in it is no code, so that the program sees it at once
    (open_path / "late.py").write_text(
        "import os, socket, time\nopen('begun', 'w')\nwhile not os.path.exists('data/go'): time.sleep(0.01)\n"
        "socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\n"
    )
    made = project(f"{sys.executable} late.py", f"port = {port}\nstart_seconds = 10\n")
    process = subprocess.Popen([*FISSILE, "up"], cwd=made.folder, stderr=subprocess.PIPE, text=True)
    while not (open_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    with stranger(port):
        (open_path / "data/go").touch()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert f"port {port}, where web is to listen, is taken by pid" in errors


def test_where_another_listens_in_its_place_status_says_so(project: Callable[..., Project], open_path: Path) -> None:
    """As a container runtime does: a program that began later, and is no child of the command."""
    port = free_port()
    (open_path / "runtime.py").write_text("import time\nopen('begun', 'w')\ntime.sleep(600)\n")
    made = project(f"{sys.executable} runtime.py", f"port = {port}\n")
    process = subprocess.Popen([*FISSILE, "up"], cwd=made.folder, stdout=subprocess.DEVNULL)
    while not (open_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    with stranger(port) as pid:
        assert process.wait(30) == 0
        (replica,) = made.replicas()
        assert str(replica["listener"]).startswith(f"pid {pid} (")
        assert f"pid {pid} (" in made.cli("status").stdout


def test_only_what_a_connection_reaches_is_looked_at() -> None:
    for address, reached in (
        ("127.0.0.1", True),
        ("0.0.0.0", True),
        ("::", True),
        ("::1", False),
        ("127.0.0.2", False),
    ):
        port = free_port()
        assert holder(port) is None
        with stranger(port, address) as pid:
            assert bool(listening(port)) is reached, address
            assert listens([pid], port) is reached
            assert not listens([os.getpid()], port)
            found = holder(port)
            assert (found.pid if found is not None else None) == (pid if reached else None)
            assert holder(port, [pid]) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_program_that_becomes_another_user_reads_what_it_could_read_before(project: Callable[..., Project]) -> None:
    made = project("sh run.sh")
    (made.folder / "run.sh").write_text("exec setpriv --reuid=65534 --regid=65534 --clear-groups sh serve.sh")
    (made.folder / "serve.sh").write_text(
        f"for file in open.txt closed.txt fissile.toml; do cat $(pwd)/$file; done; exec {sys.executable} -S server.py\n"
    )
    for name, mode in (("open.txt", 0o644), ("closed.txt", 0o600)):
        (made.folder / name).write_text(f"{name} was read\n")
        (made.folder / name).chmod(mode)
    made.up()
    log = made.cli("logs", "web").stdout
    assert "open.txt was read" in log
    assert "closed.txt was read" not in log
    assert "command" not in log
    # Others see no list of what there is, and nothing of the rest.
    state = made.folder / ".fissile"
    others = [path for path in state.iterdir() if path.stat().st_mode & 0o077]
    assert [(path.name, path.stat().st_mode & 0o777) for path in others] == [("code", 0o711)]
    assert state.stat().st_mode & 0o777 == 0o711
