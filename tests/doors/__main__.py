"""A crowd at each door, beside ordinary visitors: `python -m tests.doors [--seconds S] [--seed N] [--doors page,api]`.

Fifty ordinary requests a second, at times that do not wait for answers (half of them over connections that are kept),
are measured without the crowd and beside it. None may fail, and of a hundred the slowest but one may take three times
as long as without, or 50 ms. Meanwhile the supervisor is asked over its Unix socket: what it takes to answer bounds how
long its event loop stood still, which may be 200 ms. Exits with 1 if a promise is broken.
"""

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

DOORS = ("page", "gateway", "api")
REQUESTS_PER_SECOND = 50
KEPT = 4
WITHOUT_SECONDS = 10.0
REQUEST_SECONDS_MAX = 10.0
SLOWER_MAX = 3.0
P99_SECONDS_MAX = 0.05
LAG_SECONDS_MAX = 0.2
LAG_EVERY_SECONDS = 0.05
START_SECONDS_MAX = 60.0
PAGE = """
from fissile import Application, component
@component
class Page:
    def http(self):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"hi"})
        return app
    async def name(self) -> str: return "page"
app = Application(Page, name="doors")
"""


@dataclass
class Seen:
    """What ordinary visitors met."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)

    def p99(self) -> float:
        """Seconds."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)] if self.seconds else float("inf")


@dataclass
class Door:
    """What one door did. memory: of the process behind it, in MiB, before and at its most."""

    name: str
    without: Seen
    beside: Seen
    crowd: dict[str, Any]
    memory: tuple[int, int]

    def broken(self) -> Iterator[str]:
        """Promises that were not kept."""
        limit = max(SLOWER_MAX * self.without.p99(), P99_SECONDS_MAX)
        if self.beside.failed:
            yield f"{len(self.beside.failed)} failed, the first with {self.beside.failed[0]}"
        if self.beside.p99() > limit:
            yield f"p99 {self.beside.p99() * 1000:.1f} ms, and {limit * 1000:.1f} are allowed"
        if max(self.beside.lags) > LAG_SECONDS_MAX:
            yield f"the supervisor stood still for {max(self.beside.lags) * 1000:.0f} ms"

    def line(self) -> str:
        """Its figures."""
        return (
            f"{self.name:8} {len(self.beside.seconds)} answered, {len(self.beside.failed)} failed; "
            f"p99 {self.without.p99() * 1000:.1f} ms without, {self.beside.p99() * 1000:.1f} beside; "
            f"slowest {max(self.beside.seconds, default=0) * 1000:.0f}; supervisor {max(self.beside.lags) * 1000:.0f}; "
            f"memory {self.memory[0]} to {self.memory[1]} MiB; crowd {json.dumps(self.crowd)}"
        )


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, token: str, last: bool) -> None:
    end = "close" if last else "keep-alive"
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: {end}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head[:20]:
        raise ValueError(head[:60].decode())
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
    await reader.readexactly(length)


class Visitors:
    """Ordinary ones."""

    def __init__(self, address: tuple[str, int], path: str, token: str) -> None:
        self._address = address
        self._path = path
        self._token = token
        self._kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def come(self, seconds: float, seen: Seen) -> None:
        """Fifty in each second."""
        begun = time.perf_counter()
        tasks: list[asyncio.Task[None]] = []
        for number in range(int(seconds * REQUESTS_PER_SECOND)):
            due = begun + number / REQUESTS_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(self._visit(number, due, seen)))
        await asyncio.gather(*tasks)
        for _, writer in self._kept:
            writer.close()
        self._kept.clear()

    async def _visit(self, number: int, due: float, seen: Seen) -> None:
        kept = number % 2 == 1
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                if kept and len(self._kept) >= KEPT:
                    streams = self._kept.pop(0)
                else:
                    streams = await asyncio.open_connection(*self._address)
                await _ask(*streams, self._path, self._token, not kept)
            seen.seconds.append(time.perf_counter() - due)
            if kept:
                self._kept.append(streams)
            else:
                streams[1].close()
        except (OSError, ValueError, EOFError, TimeoutError) as error:
            seen.failed.append(repr(error))


async def _watch(path: str, token: str, seen: Seen) -> None:
    """How long the supervisor takes to answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    while True:
        begun = time.perf_counter()
        await _ask(reader, writer, "/openapi.json", token, False)
        seen.lags.append(time.perf_counter() - begun)
        await asyncio.sleep(LAG_EVERY_SECONDS)


@contextmanager
def _up(files: int) -> Iterator[dict[str, Any]]:
    """An application in the background; what its endpoints.json says, and `supervisor`, its process."""
    folder = Path(tempfile.mkdtemp(prefix="fissile-doors-"))
    try:
        (folder / "a.py").write_text(PAGE)
        limits = f"[services.app.limits]\nfiles = {files}\n" if files else ""
        (folder / "fissile.toml").write_text(f'app = "a:app"\n{limits}')
        command = [sys.executable, "-m", "fissile"]
        subprocess.run(
            [*command, "up", str(folder), "--port", "0"], check=True, timeout=START_SECONDS_MAX, capture_output=True
        )
        try:
            yield json.loads((folder / ".fissile/endpoints.json").read_text())
        finally:
            subprocess.run([*command, "down", str(folder)], timeout=START_SECONDS_MAX, capture_output=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def crowd_at(door: str, seconds: float, seed: int, *, files: int = 0, without: float = WITHOUT_SECONDS) -> Door:
    """Raise the crowd at one door of a new application. files: the limit of the service's descriptors; 0 is none."""
    with _up(files) as found:
        service = found["services"]["app"]
        url, path = {
            "page": (service["public"]["Page"], "/"),
            "gateway": (service["gateway"], "/health"),
            "api": (found["api"], "/openapi.json"),
        }[door]
        address = (str(urlsplit(url).hostname), int(urlsplit(url).port or 80))
        token = found["api_token"] if door == "api" else found["token"]
        pid = found["pid"] if door == "api" else service["pids"][0]
        made = Door(door, Seen(), Seen(), {}, (0, 0))
        visitors = Visitors(address, path, token)
        await visitors.come(without, made.without)
        before = most = psutil.Process(pid).memory_info().rss >> 20
        command = [sys.executable, "-m", "tests.doors.crowd", *map(str, address), str(seed)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        crowd = await asyncio.create_subprocess_exec(*command, **pipes)
        watch = asyncio.create_task(_watch(found["api_socket"], found["api_token"], made.beside))
        try:
            visiting = asyncio.create_task(visitors.come(seconds, made.beside))
            while not visiting.done():
                most = max(most, psutil.Process(pid).memory_info().rss >> 20)
                await asyncio.wait({visiting}, timeout=0.5)
            await visiting
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            told, _ = await crowd.communicate(b"")
        made.crowd, made.memory = json.loads(told), (before, most)
        return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--doors", default=",".join(DOORS))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    broken = 0
    for name in given.doors.split(","):
        door = asyncio.run(crowd_at(name, given.seconds, given.seed))
        print(door.line())
        for promise in door.broken():
            broken += 1
            print(f"  BROKEN: {promise}")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
