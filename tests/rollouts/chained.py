"""The sample in a folder of its own, run by `fissile up`, edited, deployed, and asked by a load."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from background import Up, background
from commands import fissile

from fissile.api.client import Client

SAMPLE = Path(__file__).parent / "sample"
TRAFFIC = Path(__file__).parents[2] / "benchmarks" / "traffic.py"


class Chain(Up):
    """One running sample."""

    page = ""

    def start(self, topology: str = "microservices") -> None:
        """`fissile up`."""
        result = fissile("up", self.folder, "--port", "0", "--topology", topology, "--json")
        assert result.returncode == 0, result
        services = json.loads(result.stdout)["services"]
        (self.page,) = [url for one in services.values() for url in one["public"].values()]
        self.status()

    def edit(self, component: str, **values: Any) -> None:
        """Alter constants of a component's module, VERSION among them."""
        file = self.folder / "chain" / f"{component}.py"
        text = file.read_text()
        for name, value in values.items():
            text, count = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", text, flags=re.MULTILINE)
            assert count == 1, name
        file.write_text(text)

    def order(self, *arguments: str, code: int = 0) -> Any:
        """A command that is to end with this exit code; what it said."""
        command, *rest = arguments
        path = ("--path", self.folder) if command in ("rollback", "promote", "abort") else (self.folder,)
        result = fissile(command, *path, *rest)
        assert result.returncode == code, result
        self.status()
        return result.stdout + result.stderr

    def deploy(self, *options: str, code: int = 0) -> Any:
        """`fissile deploy --wait`."""
        return self.order("deploy", "--wait", *options, code=code)

    def history(self) -> list[dict[str, Any]]:
        """All that has happened."""
        found: list[dict[str, Any]] = msgspec.to_builtins(Client(self.folder).history(limit=10_000))
        return found

    def all_pids(self) -> dict[str, list[int]]:
        """By service."""
        return {one["name"]: [r["pid"] for r in one["replicas"]] for one in self.status()["services"]}


@contextmanager
def chain(folder: Path, topology: str = "microservices") -> Iterator[Chain]:
    """A running sample, and the end of all of it."""
    shutil.copytree(SAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with background(folder, Chain) as app:
        assert isinstance(app, Chain)
        app.start(topology)
        yield app


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Processes stand still for as long as the block lasts."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Traffic:
    """What a load saw. versions: of Front, Middle and Back (twice), with how often."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.versions: dict[tuple[int, ...], int] = {}
        self.count = 0

    def read(self, found: dict[str, Any]) -> None:
        """What the load's process printed."""
        self.failures = found["failures"]
        self.count = len(found["requests"])
        for text, count in found["answers"].items():
            front, middle, *backs = json.loads(text)
            key = (front, middle, *dict.fromkeys(backs))
            self.versions[key] = self.versions.get(key, 0) + count


@contextmanager
def traffic(app: Chain, rate: float = 100.0, paths: tuple[str, ...] = ("/",)) -> Iterator[Traffic]:
    """A load for as long as the block lasts."""
    command = [sys.executable, str(TRAFFIC), app.page, str(rate), *paths]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found = Traffic()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield found
        out, _ = process.communicate(timeout=40)
        found.read(json.loads(out))
    finally:
        process.kill()
        process.wait()


def asked(page: str, **headers: str) -> tuple[Any, str]:
    """The answer, and the cookie that came with it."""
    request = urllib.request.Request(page, headers={name.replace("_", "-"): value for name, value in headers.items()})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())[-1], (answer.headers["set-cookie"] or "").partition(";")[0]
