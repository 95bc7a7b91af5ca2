"""What the storm calls: bytes in, bytes out, and everything that can go wrong in a method."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextvars import ContextVar

import msgspec

from fissile.component.declaration import component, method
from fissile.component.graph import Graph
from fissile.rpc.access import Access, token_digest
from tests.storm.plan import BIG_BYTES_MAX, PATIENCE_SECONDS

SERVICE, CALLER, TOKEN = "store", "visitors", "the visitors' token"
CALLERS = ("Calm", "Hasty", "Rough")
# Travels with each call; by it a method knows whose context it runs in.
visitor: ContextVar[int] = ContextVar("visitor", default=0)
_SHIFTS = 65_521
_BYTES = random.Random("bytes").randbytes(BIG_BYTES_MAX + _SHIFTS + 1)


def content(key: int, size: int) -> bytes:
    """The bytes that belong to a call: another call's, or its own out of place, are not equal to them."""
    start = key % _SHIFTS
    return _BYTES[start : start + size]


def visitor_of(key: int) -> int:
    """The context in which a call is made."""
    return key if key % 3 else 0


class Answer(msgspec.Struct, frozen=True):
    """What a call gets. intact: its argument and its context came as they were sent."""

    key: int
    intact: bool
    body: bytes


class Refused(Exception):
    """A declared error."""

    key: int

    def __init__(self, key: int) -> None:
        super().__init__(key)
        self.key = key


class Unprintable(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("not printable")

    __repr__ = __str__


@component
class Store:
    """Answers with the bytes that belong to a key."""

    @method(timeout=PATIENCE_SECONDS, idempotent=True)
    async def echo(self, key: int, body: bytes, size: int, work: float) -> Answer:
        """May be tried again."""
        return await self._answer(key, body, size, work)

    @method(timeout=PATIENCE_SECONDS)
    async def keep(self, key: int, body: bytes, size: int, work: float) -> Answer:
        """May not be tried again."""
        return await self._answer(key, body, size, work)

    async def _answer(self, key: int, body: bytes, size: int, work: float) -> Answer:
        intact = body == content(key, len(body)) and visitor.get() == visitor_of(key)
        visitor.set(-1)  # for nobody to see
        if work:
            await asyncio.sleep(work)
        return Answer(key, intact, content(key, size))

    @method(timeout=PATIENCE_SECONDS)
    async def follow(self, key: int, items: int, size: int, work: float) -> AsyncIterator[Answer]:
        """The bytes in so many items."""
        each = size // items
        for index in range(items):
            if work and index < 3:
                await asyncio.sleep(work)
            yield Answer(key + index, visitor.get() == visitor_of(key), content(key + index, each))

    @method(timeout=PATIENCE_SECONDS, raises=(Refused,))
    async def fail(self, key: int, trouble: str, work: float) -> Answer:
        """Raise."""
        if work:
            await asyncio.sleep(work)
        if trouble == "declared":
            raise Refused(key)
        if trouble == "surrogates":
            raise ValueError("\udc80 of " + str(key))
        if trouble == "unprintable":
            raise Unprintable
        if trouble == "exit":
            sys.exit(3)
        if trouble == "cancelled":
            raise asyncio.CancelledError
        raise ValueError(f"trouble with {key}")


@component
class Calm:
    """Calls without trouble of its own."""

    def __init__(self, store: Store) -> None: ...


@component
class Hasty:
    """Calls with short deadlines."""

    def __init__(self, store: Store) -> None: ...


@component
class Rough:
    """Loses its connections."""

    def __init__(self, store: Store) -> None: ...


GRAPH = Graph(Calm, Hasty, Rough, Store, context=[visitor])
INTERFACE = GRAPH.components["Store"].interface


def access() -> Access:
    """Who may call."""
    return Access(
        peers={token_digest(TOKEN): CALLER},
        members={CALLER: CALLERS},
        references={caller: frozenset({"Store"}) for caller in CALLERS},
    )
