"""`fissile up` in a folder, and proof that nothing is left of it."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from commands import WAIT_SECONDS_MAX, fissile
from supervised import left_in, lives

from fissile.api.client import Client

# What outlives an application: what happened, what it said, and its releases with their code.
LEFT = {"journal.db", "logs", "code", "releases", ".gitignore"}


class Up:
    """An application in the background."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: set[int] = set()

    def up(self, *options: str) -> dict[str, Any]:
        """Start it; its endpoints."""
        result = fissile("up", self.folder, "--port", "0", "--topology", "microservices", "--json", *options)
        assert result.returncode == 0, result
        found = json.loads(result.stdout)
        self.status()
        return found

    def status(self) -> dict[str, Any]:
        """As `fissile status --json` prints it, without a process for each look."""
        found = msgspec.to_builtins(Client(self.folder).status())
        self.seen |= {found["supervisor"]["pid"], found["supervisor"]["zygote"]}
        self.seen |= {replica["pid"] for service in found["services"] for replica in service["replicas"]}
        return found

    def pids(self, service: str) -> list[int]:
        (found,) = [one for one in self.status()["services"] if one["name"] == service]
        return [replica["pid"] for replica in found["replicas"] if replica["pid"]]

    def supervisor(self) -> int:
        return int(self.status()["supervisor"]["pid"])

    def kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):  # it has ended with another one that was killed
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not lives(pid), "it is dead")

    def down(self) -> None:
        result = fissile("down", self.folder)
        assert result.returncode == 0, result
        assert not [pid for pid in self.seen if pid and lives(pid)]
        assert left_in(self.folder) <= LEFT, left_in(self.folder)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    limit = time.monotonic() + WAIT_SECONDS_MAX
    while not (found := condition()):
        assert time.monotonic() < limit, f"waited in vain: {what}"
        time.sleep(0.02)
    return found


@contextmanager
def background(folder: Path, kind: type[Up] = Up) -> Iterator[Up]:
    app = kind(folder)
    try:
        yield app
    finally:
        if (folder / ".fissile" / "endpoints.json").exists():
            fissile("down", folder)
        for pid in app.seen:
            if pid and lives(pid):
                os.kill(pid, signal.SIGKILL)


def text_at(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())
