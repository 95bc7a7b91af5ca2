"""The callee of the storm: one server on a Unix socket and on TCP, as a replica has it."""

import asyncio
import socket
from typing import Any

from fissile.component.wiring import CELLS
from fissile.rpc.channel import contracts_of
from fissile.rpc.server import Export, Server
from fissile.telemetry.recorder import Recorder
from tests.storm.child import Orders, run, say
from tests.storm.gauges import counts, living, off
from tests.storm.store import GRAPH, INTERFACE, SERVICE, Store, access

# The honest callers alone have up to 192 calls in flight: none is to be refused for want of room.
CONCURRENCY, QUEUE = 64, 768
# What only grows, and is meant to.
COUNTERS = {"answered"}


def listen(given: dict[str, Any]) -> list[socket.socket]:
    """The sockets at which it is called."""
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(given["folder"] + "/callee.sock")
    tcp = socket.socket()
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind(("127.0.0.1", 0))
    for sock in (unix, tcp):
        sock.listen(1024)
        sock.setblocking(False)
    return [unix, tcp]


async def serve(given: dict[str, Any], orders: Orders) -> None:
    """Serve until told to stop."""
    witnessed: set[str] = set()
    server = Server(
        SERVICE,
        {"Store": Export(INTERFACE, Store())},
        access(),
        concurrency=CONCURRENCY,
        queue=QUEUE,
        observe=Recorder(CELLS).observe,
        variables=GRAPH.context,
        on_undeclared_error=lambda label, kind: witnessed.add(f"{label}: {kind}"),
    )
    unix, tcp = listen(given)
    port = tcp.getsockname()[1]  # the server takes the sockets over
    await server.start(unix)
    await server.start(tcp)
    before, alive = counts(server), living()
    say(
        unix=f"unix:{given['folder']}/callee.sock",
        tcp=f"tcp:127.0.0.1:{port}",
        methods=server.indexes,
        contracts=contracts_of([INTERFACE]),
    )
    while True:
        order = await orders.next()
        if order == "stop":
            break
        found = {**off(before, counts(server)), **off(alive, living())}
        say(gauges={name: count for name, count in found.items() if name not in COUNTERS})
    await server.close()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    say(left=[repr(task) for task in left])


if __name__ == "__main__":
    run(serve)
