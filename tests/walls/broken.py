"""A service into which somebody has broken, and what he gets to see of the rest."""

import os
import shutil
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from supervised import SAMPLE, Output, Running, descendants, lives, shown

from fissile.settings.load import load
from fissile.supervisor.supervisor import Supervisor

CONFINED = "\n[services.back]\nisolate = true\n[services.back.limits]\ndisk = ['data']\n"
EVERYTHING = """
import ctypes, errno, os, shutil, signal, socket, sqlite3, subprocess, sys, tempfile, zipfile
from pathlib import Path
ROOT = Path({root!r})
STATE = ROOT / ".fissile"
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    done = libc.syscall(*args)
    return "done" if done >= 0 else errno.errorcode[ctypes.get_errno()]
def refused(deed, *args, **named):
    try:
        found = deed(*args, **named)
    except OSError as error:
        return errno.errorcode[error.errno]
    return found if found is None or isinstance(found, (str, int, list)) else "done"
"""


class Broken:
    """Runs code inside the service."""

    def __init__(self, app: Running, root: Path) -> None:
        self.app = app
        self.root = root

    async def __call__(self, code: str, method: str = "Back.attack") -> str:
        """What the last expression of the code is, as text."""
        *before, last = textwrap.dedent(code).strip().splitlines()
        body = textwrap.indent("\n".join([*before, f"return {last}"]), "    ")
        found = await self.app.call(method, code=EVERYTHING.format(root=str(self.root)) + f"def attack():\n{body}")
        return str(found)

    def status(self, service: str = "back") -> Any:
        """Of a service."""
        return next(one for one in self.app.supervisor.status().services if one.name == service)


def sample(tmp_path: Path, more: str) -> Path:
    """The sample application with a folder for data, and more settings."""
    folder = Path(shutil.copytree(SAMPLE, tmp_path / "sample", ignore=shutil.ignore_patterns("__pycache__")))
    (folder / "data").mkdir()
    (folder / "beside").mkdir()
    (folder / "beside" / "file").write_text("beside")
    with (folder / "fissile.toml").open("a") as file:
        file.write(more)
    return folder


@asynccontextmanager
async def broken_into(folder: Path, **options: Any) -> AsyncIterator[Broken]:
    """As it runs in production: from a copy of its code. Afterwards nothing of it lives, wardens included."""
    output = Output()
    before = set(descendants(os.getpid()))
    supervisor = Supervisor(load(folder), "microservices", port=0, logs=output.logs(), detached=True, **options)
    endpoints = await supervisor.start()
    try:
        async with httpx.AsyncClient(timeout=30.0) as client:
            yield Broken(Running(supervisor, endpoints, output, client), folder)
    finally:
        started = set(descendants(os.getpid())) - before
        await supervisor.stop()
    assert not [pid for pid in started if lives(pid)]
    assert not (folder / ".fissile" / "tmp").exists()


def wardens() -> set[int]:
    """Those that live below this process: zygotes are the parents of whatever is left alone."""
    found: set[int] = set()
    for pid in descendants(os.getpid()):
        try:
            if shown(pid, "cmdline").startswith(b"fissile back warden"):
                found.add(pid)
        except OSError:
            continue
    return found
