"""A service on each kind of network: in memory, on a Unix socket, on TCP."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))

from shelves import GRAPH, Shelf

from fissile.rpc.access import Access, token_digest
from fissile.rpc.channel import Channel, connect, contracts_of
from fissile.rpc.server import Export, Server
from fissile.rpc.stub import remote
from fissile.testing.memory import MemoryNetwork


class Rig:
    """Servers of one service on a network, and the way to call them."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.network = MemoryNetwork()
        self.servers: list[Server] = []
        self.shelves: list[Shelf] = []
        self.channels: list[Channel] = []
        self.addresses: list[str] = []

    async def serve(self, **options: Any) -> str:
        """Serve one more replica; its address."""
        shelf = Shelf()
        access = Access(
            peers={token_digest("secret"): "reader"},
            members={"reader": ("Reader", "Other")},
            references={"Reader": frozenset({"Shelf"})},
        )
        interface = GRAPH.components["Shelf"].interface
        server = Server("shelf", {"Shelf": Export(interface, shelf)}, access, **options)
        number = len(self.servers)
        if self.kind == "memory":
            address = f"memory:{number}"
            self.network.listen(address, server.protocol)
        elif self.kind == "unix":
            path = self.folder / f"{number}.sock"
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(path))
            sock.listen()
            sock.setblocking(False)
            await server.start(sock)
            address = f"unix:{path}"
        else:
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            sock.setblocking(False)
            address = f"tcp:127.0.0.1:{sock.getsockname()[1]}"
            await server.start(sock)  # which takes it over
        self.servers.append(server)
        self.shelves.append(shelf)
        self.addresses.append(address)
        return address

    def call(self, *, token: str = "secret", caller: str = "Reader", contracts: dict[str, str] | None = None) -> Any:
        """A reference over a channel of its own."""
        interface = GRAPH.components["Shelf"].interface
        channel = Channel(
            "shelf",
            self.addresses,
            caller_service="reader",
            token=token,
            callers=(caller,),
            contracts=contracts_of([interface]) if contracts is None else contracts,
            connect=self.network.connect if self.kind == "memory" else connect,
        )
        self.channels.append(channel)
        return remote(interface, channel, caller=caller)

    async def close(self) -> None:
        for channel in self.channels:
            await channel.close()
        for server in self.servers:
            await server.close()


@pytest_asyncio.fixture(params=["memory", "unix", "tcp"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """An empty rig on each kind of network."""
    made = Rig(request.param, tmp_path)
    with contextlib.suppress(asyncio.CancelledError):
        yield made
    await made.close()


@pytest.fixture
def until() -> Callable[..., Any]:
    """Waits for something that another task is about to do."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5.0):
            while not condition():
                await asyncio.sleep(0.002)

    return wait
