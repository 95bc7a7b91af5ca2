"""What both ends of a connection share: the wire fed by a socket, and writes that are coalesced.

A write is a system call, so frames are gathered: written through while few calls are in flight,
once per loop tick above that, and early when `WRITE_BYTES` have gathered (waiting for the tick's end
with more would put caller and callee in lock-step).

When the peer reads too slowly, the socket's buffer fills and the connection is not `writable`. What
follows differs by side, and must: if both sides stopped reading, each would wait for the other for
ever. A caller goes on reading and makes no new calls; a callee stops reading and starts no new calls.
"""

import asyncio
import logging
from typing import Any, cast

from fissile.wire.connection import Connection
from fissile.wire.events import Event, Pinged
from fissile.wire.state import ProtocolError, Role

log = logging.getLogger("fissile.rpc")

WRITE_BYTES = 16 * 1024
WRITE_THROUGH_CALLS_MAX = 4
WRITE_BUFFER_BYTES_MAX = 1024 * 1024


class Endpoint(asyncio.Protocol):
    """One end of a connection on a transport. Subclasses act on the events.

    heard: how often something came. lost: the connection is no more.
    """

    def __init__(self, role: Role, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.wire = Connection(role)
        self.transport = cast(asyncio.Transport, None)
        self.lost = False
        self.writable = True
        self.heard = 0
        self._flushing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        self.heard += 1
        try:
            self.wire.receive(data, self.act)
        except ProtocolError as error:
            self.abandon(f"it broke the protocol: {error}")
            return
        if self.wire.out:
            self.flush()

    def act(self, event: Event) -> None:
        """Act on what the peer did. Raises ProtocolError: then nothing more of what it sent is looked at."""
        # To a peer that does not read, a sign of life is one more thing to keep for it.
        if type(event) is Pinged and self.writable:
            self.wire.pong(event.nonce)

    def abandon(self, reason: str) -> None:
        """Close this connection, and no other, because of what the peer did."""
        if self.lost or self.transport.is_closing():
            return
        self.lost = True
        log.warning("closing the connection with %s: %s", self.peer(), reason)
        self.transport.abort()

    def peer(self) -> str:
        """The peer's address, for messages."""
        found: Any = self.transport.get_extra_info("peername") or self.transport.get_extra_info("sockname")
        text = str(found) if found else "a local peer"
        return text if text.isprintable() else repr(text)  # of a Unix socket it is what the peer says

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True

    def flush(self) -> None:
        """Write what has gathered: now or at the end of this tick."""
        wire = self.wire
        if len(wire.out) >= WRITE_BYTES or len(wire.calls) <= WRITE_THROUGH_CALLS_MAX:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush_late)

    def flush_soon(self) -> None:
        """Write what has gathered at the end of this tick, or now if that is much."""
        if len(self.wire.out) >= WRITE_BYTES:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush_late)

    def _flush_late(self) -> None:
        self._flushing = False
        self._flush()

    def _flush(self) -> None:
        # Closing: uvloop lets nobody write between a connection's end and the news of it.
        if self.wire.out and not self.lost and not self.transport.is_closing():
            self.transport.write(self.wire.take())
