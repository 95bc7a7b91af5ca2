"""The floor: a bare uvloop protocol with length-prefixed frames of the bytes that the real call has.

It decodes nothing, has no futures and no tasks: what is left is the loop, the system calls and the
kernel. It answers a frame of the request's size with one of the reply's size.
"""

import asyncio
import struct
import time

import msgspec
from work import LOCALE, USER, make_cart

_LENGTH = struct.Struct("<I")
# What Fissile's frames have before the body: `fissile.wire.frames`.
_REQUEST_HEADER_BYTES = 58
_RESPONSE_HEADER_BYTES = 9


def _frame(body: bytes, header_bytes: int) -> bytes:
    rest = bytes(header_bytes - _LENGTH.size) + body
    return _LENGTH.pack(len(rest)) + rest


_kept: list[asyncio.Server] = []  # a server that nobody holds is closed
REQUEST = _frame(msgspec.msgpack.encode((USER, LOCALE)), _REQUEST_HEADER_BYTES)
REPLY = _frame(msgspec.msgpack.encode(make_cart(USER, LOCALE)), _RESPONSE_HEADER_BYTES)


class _Framed(asyncio.Protocol):
    """Counts whole frames."""

    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        position, size, frames = 0, len(data), 0
        while size - position >= _LENGTH.size:
            end = position + _LENGTH.size + _LENGTH.unpack_from(data, position)[0]
            if end > size:
                break
            position = end
            frames += 1
        self._rest = data[position:]
        if frames:
            self.came(frames)

    def came(self, frames: int) -> None:
        raise NotImplementedError


class _Server(_Framed):
    def came(self, frames: int) -> None:
        self.transport.write(REPLY * frames)


class _Client(_Framed):
    """Keeps a number of requests in flight until the time is over."""

    def begin(self, callers: int, seconds: float) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self.calls = 0
        self.in_flight = callers
        self.latencies: list[int] = []
        self.single = callers == 1
        self.begun = time.perf_counter_ns()
        self.end = self.begun + int(seconds * 1e9)
        self.transport.write(REQUEST * callers)

    def came(self, frames: int) -> None:
        now = time.perf_counter_ns()
        self.calls += frames
        if self.single:
            self.latencies.append(now - self.begun)
            self.begun = now
        if now < self.end:
            self.transport.write(REQUEST * frames)
            return
        self.in_flight -= frames
        if self.in_flight == 0:
            self.done.set_result(None)


async def serve(address: str) -> None:
    """Listen."""
    _kept.append(await asyncio.get_running_loop().create_unix_server(_Server, address.removeprefix("unix:")))


class Load:
    """Generates its own load: there is no call here to be awaited."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    async def throughput(self, callers: int, seconds: float, _what: str) -> int:
        """Frames that came back."""
        self._client.begin(callers, seconds)
        await self._client.done
        return self._client.calls

    async def latencies(self, callers: int, seconds: float, _what: str) -> list[int]:
        """Nanoseconds of each frame's round trip, one at a time."""
        assert callers == 1, "an echo knows its round trips only one at a time"
        self._client.begin(1, seconds)
        await self._client.done
        return self._client.latencies


async def connect(address: str, _callers: int) -> Load:
    """Connect."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_unix_connection(_Client, address.removeprefix("unix:"))
    return Load(client)
