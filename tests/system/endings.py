"""Kills of everything by seed, while children of every kind are alive; then `down`, and a walk of /proc.

`python -m tests.system.endings --kills 100` kills the supervisor, a zygote, a replica, and all at once so many times
each. The same seed kills the same in the same order.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fissile.machine.procfs import application_of, born, everyone, look, mark_of

APPLICATION = '''
import multiprocessing, os, subprocess, sys, threading, time
from fissile import Application, component

SLEEP = ["-c", "import time; time.sleep(600)", os.environ["LITTER"]]

def daemon(environment):
    """Double fork and a session of its own."""
    if os.fork():
        return os.wait()
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 100)
    os.execve(sys.executable, ["python", *SLEEP], environment)

def wait():
    time.sleep(600)

class Litter:
    async def litter(self, kind: str) -> int:
        if kind == "child":
            return subprocess.Popen([sys.executable, *SLEEP]).pid
        if kind == "session":
            return subprocess.Popen([sys.executable, *SLEEP], start_new_session=True, env={}).pid
        if kind == "stubborn":
            code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
            started = subprocess.Popen([sys.executable, "-c", code, SLEEP[-1]], stdout=subprocess.PIPE)
            started.stdout.read(1)
            return started.pid
        if kind == "daemon":
            daemon(dict(os.environ))
        elif kind == "bare daemon":
            daemon({})
        elif kind == "fork":
            forked = multiprocessing.get_context("fork").Process(target=wait, daemon=True)
            forked.start()
            return forked.pid
        elif kind == "pool":
            context = multiprocessing.get_context("spawn")
            self.executor = context.Pool(1)
        elif kind == "thread":
            code = "import subprocess, sys, threading, time; command = [sys.executable, *sys.argv[1:]];" \\
                "threading.Thread(target=subprocess.run, args=(command,)).start(); time.sleep(600)"
            return subprocess.Popen([sys.executable, "-c", code, *SLEEP]).pid
        return 0

@component
class Back(Litter):
    async def litter(self, kind: str) -> int:
        return await Litter.litter(self, kind)

@component
class Front(Litter):
    def __init__(self, back: Back) -> None:
        self.back = back
    async def litter(self, kind: str) -> int:
        return await Litter.litter(self, kind)

app = Application(Front, Back, name="litter")
'''
SERVER = """
import http.server, os, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", os.environ["LITTER"]])
address = ("127.0.0.1", int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()
"""
SETTINGS = """
app = "litter_app:app"
topology = "microservices"
[services.web]
command = "sh serve.sh"
ready = "tcp"
"""
KINDS = ("child", "session", "stubborn", "daemon", "bare daemon", "fork", "pool", "thread")
TARGETS = ("supervisor", "zygote", "replica", "all")
FISSILE = [sys.executable, "-m", "fissile"]


class Litterers:
    """An application that leaves children of every kind, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "litter_app.py").write_text(APPLICATION)
        (folder / "server.py").write_text(SERVER)
        (folder / "serve.sh").write_text(f'"{sys.executable}" server.py\necho over\n')
        (folder / "fissile.toml").write_text(SETTINGS)
        self.environment = os.environ | {"LITTER": str(folder)}

    def cli(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of Fissile's."""
        command = [*FISSILE, *arguments]
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)

    def up(self) -> None:
        """Start it, or the next supervisor of it."""
        done = self.cli("up", "--port", "0")
        assert done.returncode == 0, done.stdout + done.stderr

    def endpoints(self) -> dict[str, Any]:
        """What it publishes."""
        return json.loads((self.folder / ".fissile" / "endpoints.json").read_text())

    def litter(self, component: str, kind: str) -> int:
        """Have a component start something; its process, or 0 where that ends at once or is not known."""
        endpoints = self.endpoints()
        gateway = next(one["gateway"] for one in endpoints["services"].values() if component in one["components"])
        headers = {"Authorization": f"Bearer {endpoints['token']}", "Content-Type": "application/json"}
        address = f"{gateway}/rpc/{component}/litter"
        request = urllib.request.Request(address, json.dumps({"kind": kind}).encode(), headers)
        with urllib.request.urlopen(request, timeout=20.0) as answer:
            return int(json.load(answer))

    def until_ready(self) -> None:
        """Wait until each service has a replica that lives."""
        limit = time.monotonic() + 30.0
        while not all(any(map(born, one["pids"])) for one in self.endpoints()["services"].values()):
            assert time.monotonic() < limit, self.endpoints()
            time.sleep(0.02)

    def processes(self, target: str) -> list[int]:
        """Who is meant by a target, as far as they are known just now."""
        endpoints = self.endpoints()
        zygotes = [endpoints["zygote"]] if endpoints["zygote"] else []
        replicas = [pid for one in endpoints["services"].values() for pid in one["pids"]]
        if target == "supervisor":
            return [endpoints["pid"]]
        if target == "zygote":
            return zygotes
        return replicas if target == "replica" else [endpoints["pid"], *zygotes, *replicas]

    def left(self) -> list[str]:
        """A walk of /proc: all that has the application's mark, or its folder in its arguments or environment."""
        application = application_of(self.folder)
        found: list[str] = []
        for pid in everyone():
            here = look(pid)
            if here is None or here.ended or pid == os.getpid():
                continue
            mark = mark_of(pid)
            texts = [_read(f"/proc/{pid}/cmdline"), _read(f"/proc/{pid}/environ")]
            texts[1] = texts[1].partition("LITTER=")[2]
            if (mark is not None and mark.application == application) or any(str(self.folder) in t for t in texts):
                found.append(f"{pid} {mark} {texts[0]}")
        return found


def _read(file: str) -> str:
    with suppress(OSError):
        return Path(file).read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


@contextmanager
def litterers() -> Iterator[Litterers]:
    """Such an application, and nothing of it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="fissile-endings-"))
    application = Litterers(folder)
    try:
        yield application
    finally:
        with suppress(OSError, ValueError):
            application.cli("down")
        for line in application.left():
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def storm(seed: int, kills: Counter[str], say: Callable[[str], None]) -> None:
    """Kill so many of each target. Raises AssertionError with what is left after a `down`."""
    dice = random.Random(seed)
    ahead = list(kills.elements())
    dice.shuffle(ahead)
    with litterers() as application:
        while ahead:
            application.up()
            begun = time.monotonic()
            killed = [_kill(application, target, dice) for target in _some(ahead, application, dice)]
            assert application.left()
            done = application.cli("down")
            left = application.left()
            say(f"{len(ahead)} to go; {killed}: {time.monotonic() - begun:.1f} s, {len(left)} left")
            assert done.returncode == 0, f"seed {seed}, after {killed}: {done.stdout}{done.stderr}"
            assert not left, f"seed {seed}, after {killed}:\n" + "\n".join(left)


def _some(ahead: list[str], application: Litterers, dice: random.Random) -> Iterator[str]:
    """Up to three targets; in the end, or before, `down` finds the application as the last kill has left it."""
    for _ in range(3):
        if ahead:
            target = ahead.pop()
            yield target
            time.sleep(dice.choice((0.0, 0.0, 0.05, 0.5)))
            if dice.random() < 0.4:
                return
            if target in ("supervisor", "all"):
                application.up()
            else:
                application.until_ready()


def _kill(application: Litterers, target: str, dice: random.Random) -> str:
    """Have everybody start something, and kill a target."""
    for component in ("Front", "Back"):
        for kind in dice.sample(KINDS, 2):
            application.litter(component, kind)
    victims = application.processes(target)
    if target == "replica":
        victims = [dice.choice(victims)]
    dice.shuffle(victims)
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return target


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    storm(options.seed, Counter(dict.fromkeys(TARGETS, options.kills)), lambda text: print(text, flush=True))


if __name__ == "__main__":
    main()
