"""A page that needs ten components, by Fissile and by FastAPI, whole and split: its CPU and its latency.

All are up at once and asked in turns: by one client at a time for the latency, by eight for the CPU of all processes
of the application. All must give the same bytes. The handlers are the same classes (`page/shopfront.py`), and FastAPI
serves the page in all of them: what differs is who carries the calls, and the public door.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from cpu import cpu_seconds
from running import Running

from fissile.bench.report import Figure, figure
from fissile.bench.stats import median, ratio

HERE = Path(__file__).parent / "page"
CLIENTS = 8
PRODUCTS = 200
USERS = 50
COMPARED = 20
WHOLE = "Fissile, monolith"
SPLIT = "Fissile, ten services"
ONE = "FastAPI, one process"
AIOHTTP = "FastAPI, ten services, aiohttp"
HTTPX = "FastAPI, ten services, httpx"
FISSILE = {WHOLE: "monolith", SPLIT: "microservices"}
FASTAPI = {ONE: "one", AIOHTTP: "aiohttp", HTTPX: "httpx"}

# The path of a page by number.
PathOf = Callable[[int], str]


class Peer:
    """The shop front without Fissile."""

    def __init__(self, kind: str, port: int, folder: Path) -> None:
        folder.mkdir()
        self._child = subprocess.Popen(
            [sys.executable, str(HERE / "fastapi_shop.py"), kind, str(port), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError("the page by FastAPI did not start; its output above says why")
        self._pids = set(json.loads(line))
        self._address = f"http://127.0.0.1:{port}"

    def public(self, component: str) -> str:
        """The address of the page."""
        return self._address

    def pids(self) -> set[int]:
        """All processes that serve."""
        return self._pids

    def down(self) -> None:
        """Close its input, at which it ends."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(10)


@dataclass
class Found:
    """By round: CPU microseconds of a page and of an empty one, milliseconds of the median page."""

    cpu_us: list[float] = field(default_factory=list)
    empty_us: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    crowd_p50_ms: list[float] = field(default_factory=list)


class Visitor:
    """A keep-alive connection, with as little client as there can be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, path: str) -> bytes:
        """The body of a page."""
        self._writer.write(b"GET %s HTTP/1.1\r\nhost: shop\r\n\r\n" % path.encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        body = await self._reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{path} was answered with:\n{(head + body).decode()}")
        return body

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def visitor(address: str) -> Visitor:
    """Connect to http://host:port."""
    host, _, port = address.removeprefix("http://").partition(":")
    return Visitor(*await asyncio.open_connection(host, int(port)))


def product(number: int) -> str:
    """The path of a page, another one each time."""
    return f"/products/{number % PRODUCTS}?session=session-{number % USERS}"


def empty(number: int) -> str:
    """The path of the page that calls nobody."""
    return f"/empty?session=session-{number % USERS}"


async def _asked(address: str, clients: int, seconds: float, path: PathOf) -> list[float]:
    """How long each page took that so many clients got within the time, in seconds."""
    end = time.perf_counter() + seconds
    taken: list[float] = []

    async def client(start: int) -> None:
        one = await visitor(address)
        number, now = start, time.perf_counter()
        while now < end:
            await one.get(path(number))
            number += 1
            later = time.perf_counter()
            taken.append(later - now)
            now = later
        one.close()

    await asyncio.gather(*(client(start * 23) for start in range(clients)))
    return taken


async def _compare(addresses: dict[str, str]) -> None:
    """Raise RuntimeError unless all give the same bytes."""
    for number in range(COMPARED):
        bodies: dict[str, bytes] = {}
        for name, address in addresses.items():
            one = await visitor(address)
            bodies[name] = await one.get(product(number * 7))
            one.close()
        if len(set(bodies.values())) != 1:
            raise RuntimeError(f"the pages differ: { {name: len(body) for name, body in bodies.items()} }")


async def _cpu(address: str, pids: set[int], seconds: float, path: PathOf) -> tuple[float, list[float]]:
    before = cpu_seconds(pids)
    taken = await _asked(address, CLIENTS, seconds, path)
    return (cpu_seconds(pids) - before) / len(taken) * 1e6, taken


async def _rounds(systems: "dict[str, Running | Peer]", rounds: int, seconds: float) -> dict[str, Found]:
    addresses = {name: system.public("Page") for name, system in systems.items()}
    await _compare(addresses)
    for address in addresses.values():  # warm up, and connect
        await _asked(address, CLIENTS, seconds / 2, product)
    pids = {name: system.pids() for name, system in systems.items()}
    found = {name: Found() for name in systems}
    for _ in range(rounds):
        for name, address in addresses.items():
            one = found[name]
            cpu_us, taken = await _cpu(address, pids[name], seconds, product)
            one.cpu_us.append(cpu_us)
            one.crowd_p50_ms.append(median(taken) * 1000)
            one.p50_ms.append(median(await _asked(address, 1, seconds / 2, product)) * 1000)
            if name in (WHOLE, ONE):
                one.empty_us.append((await _cpu(address, pids[name], seconds / 2, empty))[0])
    return found


def measure(folder: Path, ports: list[int], rounds: int, seconds: float) -> dict[str, Found]:
    """All of them in turns. ports: free ones, one for each peer."""
    systems: dict[str, Running | Peer] = {}
    try:
        for name, topology in FISSILE.items():
            systems[name] = Running(HERE, folder / topology, topology, {})
        for (name, kind), port in zip(FASTAPI.items(), ports, strict=True):
            systems[name] = Peer(kind, port, folder / kind)
        return uvloop.run(_rounds(systems, rounds, seconds))
    finally:
        for system in systems.values():
            system.down()


def figures(found: dict[str, Found]) -> Iterable[Figure]:
    """The page whole beside one process, split beside services, and what the public door has of it."""
    whole, split, one, aiohttp, httpx = (found[name] for name in (WHOLE, SPLIT, ONE, AIOHTTP, HTTPX))
    more = median([a - b for a, b in zip(whole.cpu_us, one.cpu_us, strict=True)])
    door = median([a - b for a, b in zip(whole.empty_us, one.empty_us, strict=True)])
    yield figure(
        "page of ten: CPU, monolith / one FastAPI process", ratio(whole.cpu_us, one.cpu_us), "times", "<= 1.15"
    )
    yield figure("page of ten: CPU that the monolith takes more", more, "µs")
    yield figure("page of ten: of that the public door (an empty page, CPU more)", door, "µs")
    yield figure("page of ten: CPU of an empty page, one FastAPI process", median(one.empty_us), "µs")
    yield figure("page of ten: CPU, FastAPI + aiohttp / Fissile, split", ratio(aiohttp.cpu_us, split.cpu_us), "times")
    yield figure("page of ten: p50, FastAPI + aiohttp / Fissile, split", ratio(aiohttp.p50_ms, split.p50_ms), "times")
    yield figure("page of ten: CPU, FastAPI + httpx / Fissile, split", ratio(httpx.cpu_us, split.cpu_us), "times")
    yield figure("page of ten: p50, FastAPI + httpx / Fissile, split", ratio(httpx.p50_ms, split.p50_ms), "times")
    for name, each in found.items():
        yield figure(f"page of ten: {name}, CPU per page, all processes", median(each.cpu_us), "µs")
        yield figure(f"page of ten: {name}, p50, one client", median(each.p50_ms), "ms")
        yield figure(f"page of ten: {name}, p50, {CLIENTS} clients", median(each.crowd_p50_ms), "ms")


if __name__ == "__main__":
    from run import free_port

    from fissile.bench.report import as_table

    with tempfile.TemporaryDirectory(prefix="fissile-bench-") as place:
        ports_now = [free_port() for _ in FASTAPI]
        print(as_table(figures(measure(Path(place), ports_now, int(sys.argv[1]), float(sys.argv[2])))))
