"""What it costs that a request is given its release at the edge and keeps it.

The same application in this process, asked by the same client, three ways: with counts that are not kept and
calls that carry no release; pinned to the one release that there is; and while two releases are live, of which each
request gets one and every call takes its way. CPU time of a request and its two calls over the wire, in turns.
"""

import asyncio
import random
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from fissile import Application, component, method
from fissile.bench.report import Figure, figure
from fissile.component.wiring import CELLS
from fissile.rpc.access import Access, token_digest
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.deadline import environment
from fissile.rpc.route import Route
from fissile.rpc.server import Server
from fissile.rpc.stub import remote
from fissile.runtime.edge import Edge
from fissile.runtime.host import Host
from fissile.runtime.request_stats import RequestStats
from fissile.runtime.traffic_split import TrafficSplitter
from fissile.telemetry.recorder import Recorder

REQUESTS = 300
TURNS = 15
TOKEN = "the caller's"
ANSWER = b"HTTP/1.1 200 OK"


@component
class Callee:
    """Answers at once."""

    @method(idempotent=True)
    async def double(self, number: int) -> int:
        """Twice as much."""
        return number * 2


app = Application(Callee, name="pinning")


class Uncounted(RequestStats):
    """Nothing is counted."""

    def begin(self, release: str) -> int:
        """Not remembered."""
        return 0

    def answered(self, release: str, number: int, *, failed: bool) -> None:
        """Nor that it was answered."""

    def end(self, release: str, number: int, *, broken: bool) -> None:
        """Nor that it ended."""


async def _door(
    folder: Path, name: str, splitter: TrafficSplitter, stats: RequestStats, route: Route[Channel]
) -> tuple[str, Edge]:
    interface = app.components["Callee"].interface
    callee: Any = remote(interface, route, caller="Caller", observe=Recorder(CELLS).observe)

    async def http(scope: Any, receive: Any, send: Any) -> None:
        body = b"%d" % (await callee.double(1) + await callee.double(2))
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    edge = Edge(http, splitter, stats)
    path = f"{folder}/{name}"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    sock.setblocking(False)
    await edge.start(sock)
    return path, edge


def _channel(address: str) -> Channel:
    contracts = contracts_of([app.components["Callee"].interface])
    return Channel("callee", [address], caller_service="caller", token=TOKEN, callers=("Caller",), contracts=contracts)


async def _asked(path: str) -> float:
    """CPU seconds of this process for so many requests on one connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    begun = time.process_time()
    for _ in range(REQUESTS):
        writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(ANSWER):
            raise RuntimeError(head.decode())
        await reader.readexactly(1)
    taken = time.process_time() - begun
    writer.close()
    await writer.wait_closed()
    return taken


async def _measure(turns: int) -> tuple[list[float], list[float]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        host = Host(app, ("Callee",), environment=environment())
        await host.start()
        access = Access({token_digest(TOKEN): "caller"}, {"caller": ("Caller",)}, {"Caller": frozenset({"Callee"})})
        server = Server("callee", host.exports(), access, observe=Recorder(CELLS).observe)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(f"{folder}/callee")
        sock.listen()
        sock.setblocking(False)
        await server.start(sock)
        address = f"unix:{folder}/callee"
        one, other = _channel(address), _channel(address)
        both: Route[Channel] = Route(one)
        both.set_targets(one, {"r1": one, "r2": other})
        several, counted = TrafficSplitter("r1", random.random), RequestStats("r1")
        several.divide({"r1": 0.9, "r2": 0.1}, "r1", "", 0)
        counted.compare(("r1", "r2"))
        none, pinned = TrafficSplitter("", random.random), TrafficSplitter("0123456789ab", random.random)
        doors = [
            await _door(folder, "unpinned", none, Uncounted(), Route(one)),
            await _door(folder, "pinned", pinned, RequestStats("0123456789ab"), Route(one)),
            await _door(folder, "during", several, counted, both),
        ]
        taken: list[list[float]] = [[], [], []]
        for turn in range(turns + 1):
            for number in range(3):
                at = (number + turn) % 3
                taken[at].append(await _asked(doors[at][0]))
        for _, edge in doors:
            await edge.drain(1.0, idle_seconds_max=0.0)
        for channel in (one, other):
            await channel.close()
        await server.close()
    unpinned, pinned, rollout = (each[1:] for each in taken)  # the first turn warms up
    return (
        [b / a for a, b in zip(unpinned, pinned, strict=True)],
        [b / a for a, b in zip(unpinned, rollout, strict=True)],
    )


def measure(rounds: int) -> list[Figure]:
    """The ratios."""
    pinned, rollout = asyncio.run(_measure(TURNS if rounds < 3 else TURNS * 3))
    return [
        figure("pinning: a request with it / without", statistics.median(pinned), "times", "<= 1.03"),
        figure("pinning: a request while two releases are live / without", statistics.median(rollout), "times"),
    ]


if __name__ == "__main__":
    from fissile.bench.report import as_table

    print(as_table(measure(9)))
