"""One process of a benchmark: the server or the client of a peer, commanded by lines on its input.

`process.py PEER server ADDRESS` or `process.py PEER client ADDRESS`. Each line in is a JSON command,
each line out its JSON answer, so that the driver can measure the peers in turns while all stay up.
"""

import asyncio
import gc
import importlib
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).parent))
WARM_UP_CALLS = 100


def cpu_seconds() -> float:
    """CPU time of this process and all its threads so far, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Load:
    """Load made of single calls that are awaited."""

    def __init__(self, call: Callable[[], Awaitable[Any]]) -> None:
        self._call = call

    async def throughput(self, callers: int, seconds: float) -> int:
        """How many calls so many concurrent callers make within the time."""
        call = self._call
        end = time.perf_counter() + seconds

        async def caller() -> int:
            made = 0
            while time.perf_counter() < end:
                await call()
                made += 1
            return made

        return sum(await asyncio.gather(*(caller() for _ in range(callers))))

    async def sequential(self, seconds: float) -> list[int]:
        """How long each of the calls takes that one caller makes within the time, in nanoseconds."""
        call, clock = self._call, time.perf_counter_ns
        end = clock() + int(seconds * 1e9)
        taken: list[int] = []
        now = clock()
        while now < end:
            await call()
            later = clock()
            taken.append(later - now)
            now = later
        return taken


async def client(peer: Any, address: str) -> Callable[[dict[str, Any]], Awaitable[Any]]:
    """Connect, check that the right reply comes, and answer commands."""
    connected = await peer.connect(address)
    load: Any = connected if hasattr(connected, "throughput") else Load(connected)
    if load is not connected:
        reply = await connected()
        if len(reply.lines) != 10 or reply.lines[9].price_cents != 2008 or reply.user_id != 4711:
            raise RuntimeError(f"{peer.__name__} gives another reply: {reply!r}")
        for _ in range(WARM_UP_CALLS):
            await connected()

    async def command(order: dict[str, Any]) -> Any:
        cpu, begun = cpu_seconds(), time.perf_counter()
        if order["do"] == "throughput":
            calls = await load.throughput(order["callers"], order["seconds"])
            return {"calls": calls, "seconds": time.perf_counter() - begun, "cpu": cpu_seconds() - cpu}
        taken = sorted(await load.sequential(order["seconds"]))
        return {"calls": len(taken), "p50_us": taken[len(taken) // 2] / 1000}

    return command


async def server(peer: Any, address: str) -> Callable[[dict[str, Any]], Awaitable[Any]]:
    """Listen, and answer commands."""
    await peer.serve(address)

    async def command(order: dict[str, Any]) -> Any:
        return {"cpu": cpu_seconds()}

    return command


async def main(name: str, side: str, address: str) -> None:
    """Serve commands until the input ends."""
    peer = importlib.import_module(f"peers.{name}")
    command = await (server if side == "server" else client)(peer, address)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    gc.collect()
    gc.freeze()
    print(json.dumps({"ready": True}), flush=True)
    while line := await reader.readline():
        print(json.dumps(await command(json.loads(line))), flush=True)


if __name__ == "__main__":
    # All on uvloop, which is the faster for each of them, grpc.aio included (by a tenth).
    uvloop.run(main(*sys.argv[1:]))
