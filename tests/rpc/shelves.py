"""The application of these tests: a callee whose progress and end a test controls."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator

from fissile.component.declaration import component, method
from fissile.component.graph import Graph
from fissile.wire.frames import FRAME_BYTES_MAX


class TooLarge(Exception):
    """It does not fit into a frame."""


@component(raises=(TooLarge,))
class Shelf:
    """A callee whose progress a test controls."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = 0
        self.ended = 0

    @method(idempotent=True)
    async def read(self, key: str) -> str:
        return key.upper()

    @method(idempotent=True)
    async def wait(self) -> int:
        self.begun += 1
        await self.gate.wait()
        self.ended += 1
        return self.ended

    @method(timeout=60.0)
    async def follow(self) -> AsyncIterator[int]:
        self.begun += 1
        yield self.begun
        await self.gate.wait()
        yield self.begun

    async def write(self) -> int:
        self.begun += 1
        await self.gate.wait()
        self.ended += 1
        return self.ended

    async def echo(self, data: bytes) -> bytes:
        self.begun += 1
        return data

    @method(timeout=60.0)
    async def pages(self, count: int, size: int) -> AsyncIterator[bytes]:
        self.begun += 1
        try:
            for _ in range(count):
                yield bytes(size)
        finally:
            self.ended += 1

    async def block(self, seconds: float) -> float:
        """Keep the whole process from doing anything else."""
        time.sleep(seconds)  # noqa: ASYNC251
        return seconds

    async def outlive(self, how: str) -> str:
        """Make something else of the cancellation."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if how == "raises":
                raise ValueError("cancelled") from None
        return how

    async def fail(self, how: str) -> str:
        self.begun += 1
        if how == "exit":
            sys.exit(2)
        if how == "interrupt":
            raise KeyboardInterrupt
        if how == "cancelled inside":
            inner = asyncio.ensure_future(asyncio.sleep(60))
            inner.cancel()
            await inner
        if how == "surrogates":
            raise ValueError("no such picture: caf\udce9")
        if how == "too large":
            raise TooLarge(bytes(FRAME_BYTES_MAX))
        return how


@component
class Reader:
    def __init__(self, shelf: Shelf) -> None: ...


@component
class Other:
    async def nothing(self) -> None: ...


GRAPH = Graph(Reader, Shelf, Other)
SHELF = GRAPH.components["Shelf"].interface
