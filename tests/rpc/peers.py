"""A peer that speaks the wire by hand: what a caller does that keeps no rules but those of the protocol."""

import asyncio
from typing import Any

from fissile.rpc.channel import contracts_of
from fissile.wire import events
from fissile.wire.connection import Connection
from fissile.wire.frames import TIMEOUT_NONE, Hello
from fissile.wire.state import Role


class Peer:
    """A caller on a socket. Nothing is read but by `read`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.wire = Connection(Role.CALLER)
        self.methods: dict[str, int] = {}

    @classmethod
    async def connect(cls, address: str, interface: Any) -> "Peer":
        """Connect, and shake hands."""
        scheme, _, rest = address.partition(":")
        if scheme == "unix":
            reader, writer = await asyncio.open_unix_connection(rest)
        else:
            host, _, port = rest.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
        peer = cls(reader, writer)
        peer.wire.hello(Hello(1, "secret", "reader", ("Reader",), contracts_of([interface])))
        peer.send()
        (welcomed,) = await peer.read()
        assert isinstance(welcomed, events.Welcomed)
        peer.methods = welcomed.welcome.methods
        return peer

    def request(self, method: str, *values: Any, timeout_ms: int = TIMEOUT_NONE, streaming: bool = False) -> int:
        """Gather a request; nothing is sent yet."""
        return self.wire.send_request(method, values, self.methods[method], 0, timeout_ms, 1, 1, False, "", streaming)

    def send(self) -> None:
        """Send all that was gathered, in one piece."""
        self.writer.write(self.wire.take())

    async def read(self) -> list[events.Event]:
        """What the callee did, at least one thing; nothing: it closed the connection."""
        while True:
            data = await self.reader.read(1 << 20)
            found: list[events.Event] = []
            self.wire.receive(data, found.append)
            if found or not data:
                return found

    def reset(self) -> None:
        """Break the connection at once."""
        self.writer.transport.abort()
