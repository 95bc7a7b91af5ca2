"""A network in memory: the real protocols over transports that need no socket.

Bytes arrive in order and in a later turn of the loop, as on a real network; a peer that does not read
makes its writer's buffer grow until the writer is paused. Addresses are any text. What a listener does is done in
the context in which the network was made, as that of another process knows nothing of a caller's ContextVars.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

HIGH_WATER_BYTES = 64 * 1024


class MemoryTransport(asyncio.Transport):
    """One end of a connection in memory."""

    def __init__(self, protocol: asyncio.Protocol, name: str, context: Context) -> None:
        super().__init__({"peername": name})
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._name = name
        self._context = context
        self.peer: MemoryTransport | None = None
        self._inbox: list[bytes] = []
        self._inbox_bytes = 0
        self._paused = False
        self._closing = False
        self._scheduled = False
        self._high = HIGH_WATER_BYTES
        self._writer_paused = False

    def get_protocol(self) -> asyncio.Protocol:
        return self._protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER_BYTES if high is None else high

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return 0 if self.peer is None else self.peer._inbox_bytes

    def write(self, data: Any) -> None:
        if self._closing or self.peer is None or not data:
            return
        self.peer._deliver(bytes(data))
        if not self._writer_paused and self.peer._inbox_bytes > self._high:
            self._writer_paused = True
            self._protocol.pause_writing()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._schedule()

    def is_reading(self) -> bool:
        return not self._paused

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._inbox.clear()
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._loop.call_soon(self._protocol.connection_lost, error, context=self._context)
        if self.peer is not None:
            self._loop.call_soon(self.peer._peer_ended, context=self.peer._context)

    def _peer_ended(self) -> None:
        self._drain()
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(None)

    def _deliver(self, data: bytes) -> None:
        self._inbox.append(data)
        self._inbox_bytes += len(data)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and self._inbox and not self._paused:
            self._scheduled = True
            self._loop.call_soon(self._arrive, context=self._context)

    def _arrive(self) -> None:
        self._scheduled = False
        self._drain()

    def _drain(self) -> None:
        while self._inbox and not self._paused and not self._closing:
            data = self._inbox.pop(0)
            self._inbox_bytes -= len(data)
            self._protocol.data_received(data)
        peer = self.peer
        if peer is not None and peer._writer_paused and self._inbox_bytes <= peer._high // 2:
            peer._writer_paused = False
            peer._protocol.resume_writing()


class MemoryNetwork:
    """Listeners by address. `connect` fits where a channel takes its way to connect."""

    def __init__(self) -> None:
        self._listeners: dict[str, Callable[[], asyncio.Protocol]] = {}
        self._open: dict[str, list[MemoryTransport]] = {}
        self._context = copy_context()

    def listen(self, address: str, factory: Callable[[], asyncio.Protocol]) -> None:
        """Accept connections to an address."""
        self._listeners[address] = factory

    def cut(self, address: str) -> None:
        """Refuse connections to an address, and break those there are."""
        self._listeners.pop(address, None)
        for transport in self._open.pop(address, []):
            transport.abort()

    async def connect(self, factory: Callable[[], asyncio.BaseProtocol], address: str) -> Any:
        """Connect; raises ConnectionRefusedError where nobody listens."""
        accept = self._listeners.get(address)
        if accept is None:
            raise ConnectionRefusedError(f"nobody listens at {address}")
        near_protocol: Any = factory()
        far_protocol = accept()
        near = MemoryTransport(near_protocol, address, self._context)
        far = MemoryTransport(far_protocol, f"a caller of {address}", self._context)
        near.peer, far.peer = far, near
        self._open.setdefault(address, []).append(far)
        self._context.copy().run(far_protocol.connection_made, far)
        near_protocol.connection_made(near)
        return near, near_protocol
