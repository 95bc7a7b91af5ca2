"""One process of a benchmark: the server or the client of a peer, commanded by lines on its input.

`process.py PEER server ADDRESS` or `process.py PEER client ADDRESS`. Each line in is a JSON command,
each line out its JSON answer, so that the driver can measure the peers in turns while all stay up.
A server at several addresses is so many processes, forked before any loop runs: replicas.
"""

import asyncio
import gc
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).parent))

from cpu import cpu_seconds

WARM_UP_CALLS = 100
# What is asked unless an order says otherwise.
USUAL = "cart"

Answer = Callable[[dict[str, Any]], Awaitable[Any]]


class Load:
    """Load made of single calls that are awaited, and of streams that are read."""

    def __init__(self, calls: Mapping[str, Callable[[], Any]]) -> None:
        self._calls = calls

    async def throughput(self, callers: int, seconds: float, what: str) -> int:
        """How many calls so many concurrent callers make within the time."""
        call: Callable[[], Awaitable[Any]] = self._calls[what]
        end = time.perf_counter() + seconds

        async def caller() -> int:
            made = 0
            while time.perf_counter() < end:
                await call()
                made += 1
            return made

        return sum(await asyncio.gather(*(caller() for _ in range(callers))))

    async def latencies(self, callers: int, seconds: float, what: str) -> list[int]:
        """How long each of the calls takes that so many callers make within the time, in nanoseconds."""
        call, clock = self._calls[what], time.perf_counter_ns
        end = clock() + int(seconds * 1e9)
        taken: list[int] = []

        async def caller() -> None:
            now = clock()
            while now < end:
                await call()
                later = clock()
                taken.append(later - now)
                now = later

        await asyncio.gather(*(caller() for _ in range(callers)))
        return taken

    async def items(self, seconds: float) -> int:
        """How many items one reader gets out of streams within the time."""
        end = time.perf_counter() + seconds
        read = 0
        while time.perf_counter() < end:
            stream: AsyncIterator[Any] = self._calls["items"]()
            async for _ in stream:
                read += 1
        return read


class Client:
    """The client's side. Each number of callers has connections of its own, as many as suit it."""

    def __init__(self, peer: Any, address: str) -> None:
        self._peer = peer
        self._address = address
        self._loads: dict[int, Any] = {}

    async def load(self, callers: int) -> Any:
        """The load for so many callers; the first time it connects, and checks that the right reply comes."""
        if callers not in self._loads:
            connected = await self._peer.connect(self._address, callers)
            self._loads[callers] = connected if hasattr(connected, "throughput") else await self._checked(connected)
        return self._loads[callers]

    async def _checked(self, calls: Mapping[str, Callable[[], Any]]) -> Load:
        reply = await calls[USUAL]()
        if len(reply.lines) != 10 or reply.lines[9].price_cents != 2008 or reply.user_id != 4711:
            raise RuntimeError(f"{self._peer.__name__} gives another reply: {reply!r}")
        for _ in range(WARM_UP_CALLS):
            await calls[USUAL]()
        return Load(calls)

    async def command(self, order: dict[str, Any]) -> Any:
        """Carry out an order."""
        callers, seconds, what = order.get("callers", 1), order["seconds"], order.get("what", USUAL)
        load = await self.load(callers)
        cpu, begun = cpu_seconds([os.getpid()]), time.perf_counter()
        if order["do"] == "throughput":
            calls = await load.throughput(callers, seconds, what)
        elif order["do"] == "items":
            calls = await load.items(seconds)
        else:
            taken = sorted(await load.latencies(callers, seconds, what))
            return {"calls": len(taken), "p50_us": _rank(taken, 0.5) / 1000, "p99_us": _rank(taken, 0.99) / 1000}
        return {
            "calls": calls,
            "seconds": time.perf_counter() - begun,
            "cpu": cpu_seconds([os.getpid()]) - cpu,
        }


def _rank(ordered: list[int], q: float) -> int:
    return ordered[max(0, ceil(q * len(ordered)) - 1)]


async def client(peer: Any, address: str) -> Answer:
    """Connect once, and answer commands."""
    made = Client(peer, address)
    await made.load(1)
    return made.command


async def server(peer: Any, address: str, pids: list[int]) -> Answer:
    """Listen unless replicas do, and answer commands."""
    if not pids:
        await peer.serve(address)

    async def command(order: dict[str, Any]) -> Any:
        return {"cpu": cpu_seconds(pids or [os.getpid()]), "pids": pids}

    return command


def replicas(peer: Any, addresses: list[str]) -> list[int]:
    """A process for each address; all end when this one does. Returns their pids once all listen."""
    alive, ended = os.pipe()  # nothing is ever written: its end says that this process has gone
    listening, ready = os.pipe()
    pids: list[int] = []
    gc.collect()
    gc.freeze()
    for address in addresses:
        pid = os.fork()
        if pid == 0:
            os.close(ended)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            uvloop.run(_replica(peer, address, alive, ready))
            os._exit(0)
        pids.append(pid)
    os.close(ready)
    for _ in addresses:
        if not os.read(listening, 1):
            raise RuntimeError("a replica of the benchmark ended at its start; its output above says why")
    return pids


async def _replica(peer: Any, address: str, alive: int, ready: int) -> None:
    await peer.serve(address)
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(alive, over.set)
    os.write(ready, b".")
    os.close(ready)
    await over.wait()


async def main(peer: Any, side: str, address: str, pids: list[int]) -> None:
    """Serve commands until the input ends."""
    command = await (server(peer, address, pids) if side == "server" else client(peer, address))
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    gc.collect()
    gc.freeze()
    print(json.dumps({"ready": True}), flush=True)
    while line := await reader.readline():
        print(json.dumps(await command(json.loads(line))), flush=True)
    os._exit(0)  # what the peers hold open ends with the process; they need not complain of it


if __name__ == "__main__":
    name, its_side, where = sys.argv[1:]
    its_peer = importlib.import_module(f"peers.{name}")
    many = where.split(",") if its_side == "server" else []
    # All on uvloop, which is the faster for each of them, grpc.aio included (by a tenth).
    uvloop.run(main(its_peer, its_side, where, replicas(its_peer, many) if len(many) > 1 else []))
