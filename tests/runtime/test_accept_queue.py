"""Visitors who come while a process does not accept wait in its queue: as many as we ask for, on every listener."""

import select
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fissile.machine.sockets import listen_handover, listen_tcp, listen_unix
from fissile.rpc.access import Access
from fissile.rpc.server import Server
from fissile.runtime.edge import Edge

VISITORS = 400

Serve = Callable[[socket.socket], Awaitable[None]]


@pytest_asyncio.fixture
async def serves(request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def edge(sock: socket.socket) -> None:
            made = Edge(None)
            await made.start(sock)
            stack.push_async_callback(made.drain, 0.0)

        async def server(sock: socket.socket) -> None:
            made = Server("test", {}, Access({}, {}, {}))
            await made.start(sock)
            stack.push_async_callback(made.close)

        async def nobody(sock: socket.socket) -> None:
            stack.callback(sock.close)

        yield {"edge": edge, "server": server, "nobody": nobody}[request.param]


def tcp(_: Path) -> socket.socket:
    return listen_tcp(0, "a test", "a setting")


def unix(folder: Path) -> socket.socket:
    return listen_unix(str(folder / "s"))


def handover(folder: Path) -> socket.socket:
    return listen_handover(str(folder / "h"))


@pytest.mark.parametrize(
    ("serves", "listening"),
    [("edge", tcp), ("edge", unix), ("server", tcp), ("server", unix), ("nobody", tcp), ("nobody", handover)],
    indirect=["serves"],
)
async def test_four_hundred_who_come_at_once_are_let_in(
    serves: Serve, listening: Callable[[Path], socket.socket], tmp_path: Path
) -> None:
    sock = listening(tmp_path)
    address: Any = sock.getsockname()
    family, kind = sock.family, sock.type
    await serves(sock)
    visitors: list[socket.socket] = []
    try:
        # The loop does not turn from here on, so nobody accepts.
        poll = select.poll()
        for _ in range(VISITORS):
            visitor = socket.socket(family, kind)
            visitors.append(visitor)
            visitor.setblocking(False)
            visitor.connect_ex(address)
            poll.register(visitor, select.POLLOUT)
        limit = time.monotonic() + 0.5  # a second later, TCP asks once more
        let_in = 0
        while let_in < VISITORS and time.monotonic() < limit:
            for fd, found in poll.poll(50):
                poll.unregister(fd)
                let_in += found == select.POLLOUT
        assert let_in == VISITORS
    finally:
        for visitor in visitors:
            visitor.close()
