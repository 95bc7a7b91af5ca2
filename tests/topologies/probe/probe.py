"""An application that shows what a call means: each method is one promise."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextvars import ContextVar
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from fissile import Application, CallError, Unavailable, component, current, method

# One that travels, and one that does not.
LOCALE: ContextVar[str] = ContextVar("locale", default="en")
THREAD: ContextVar[str] = ContextVar("thread", default="none")


class Refused(Exception):
    """A declared error with fields."""

    reason: str
    amount: Decimal

    def __init__(self, reason: str, *, amount: Decimal) -> None:
        super().__init__(reason)
        self.reason = reason
        self.amount = amount


class StillMoreRefused(Refused):
    """A subclass that is not declared."""


class Basket(msgspec.Struct):
    """A mutable value."""

    owner: str
    items: list[str] = []


class Everything(msgspec.Struct, frozen=True):
    """One of each kind of value."""

    big: int
    price: Decimal
    at: datetime
    raw: bytes
    parts: tuple[int, ...]
    note: str | None = None


@component
class Callee:
    """Does what it is told, and remembers."""

    def __init__(self) -> None:
        self.kept: Basket | None = None
        self.cancelled = 0
        self.calls = 0

    async def echo(self, value: Everything) -> Everything:
        return value

    async def keep(self, basket: Basket) -> Basket:
        basket.items.append("changed by the callee")
        self.kept = basket
        return basket

    async def kept_items(self) -> list[str]:
        assert self.kept is not None
        return self.kept.items

    @method(raises=(Refused,))
    async def refuse(self, how: str) -> None:
        if how == "declared":
            raise Refused("no money", amount=Decimal("9.99"))
        if how == "subclass":
            raise StillMoreRefused("no", amount=Decimal(1))
        raise KeyError("surprise")

    @method(timeout=0.2)
    async def slow(self, seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "done"

    @method(timeout=5.0)
    async def patient(self, seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "done"

    @method(idempotent=True)
    async def cancellations(self) -> int:
        return self.cancelled

    async def count(self, up_to: int, size: int = 10) -> AsyncIterator[bytes]:
        try:
            for number in range(up_to):
                self.calls = number + 1
                yield number.to_bytes(4, "big") + bytes(size)
        finally:
            self.cancelled += 1

    @method(timeout=0.2)
    async def brief_count(self, up_to: int) -> AsyncIterator[int]:
        for number in range(up_to):
            yield number

    async def produced(self) -> int:
        return self.calls

    async def breaking(self) -> AsyncIterator[int]:
        yield 1
        raise KeyError("in the middle")

    async def ends_badly(self, how: str) -> str:
        if how == "exit":
            sys.exit(2)
        if how == "interrupt":
            raise KeyboardInterrupt
        if how == "group":
            raise BaseExceptionGroup("both", [ValueError("one"), SystemExit(1)])
        inner = asyncio.ensure_future(asyncio.sleep(9))
        await asyncio.sleep(0)
        inner.cancel()
        await inner
        return "never"

    async def ends_badly_later(self, how: str) -> AsyncIterator[int]:
        yield 1
        await self.ends_badly(how)

    @method(timeout=0.1)
    async def swallows(self) -> str:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            pass
        return "as if nothing had been"

    async def surroundings(self) -> tuple[str, str]:
        """What it sees in its context, which it then changes."""
        seen = LOCALE.get(), THREAD.get()
        LOCALE.set("changed")
        THREAD.set("changed")
        return seen

    async def surroundings_of_a_stream(self) -> AsyncIterator[tuple[str, str]]:
        for _ in range(2):
            yield await self.surroundings()

    async def trace(self) -> str:
        context = current()
        assert context is not None
        return f"{context.trace_id:032x}"

    @method(idempotent=True)
    async def pid(self) -> int:
        return os.getpid()


@component
class Stranger:
    """A component to which Caller declares no reference."""

    async def secret(self) -> str:
        return "secret"


@component
class Caller:
    """Calls Callee as a component does."""

    def __init__(self, callee: Callee) -> None:
        self.callee = callee

    async def mutate(self) -> tuple[list[str], list[str], list[str]]:
        """What the caller, the callee and the result hold after each has changed its own."""
        mine = Basket("me", ["first"])
        result = await self.callee.keep(mine)
        mine.items.append("changed by the caller")
        result.items.append("changed in the result")
        return mine.items, await self.callee.kept_items(), result.items

    @method(timeout=0.3)
    async def nested(self) -> str:
        """The callee has 5 s, but its caller only 0.3 s."""
        return await self.callee.patient(4.0)

    async def traces(self) -> tuple[str, str]:
        context = current()
        assert context is not None
        return f"{context.trace_id:032x}", await self.callee.trace()

    async def what_arrives(self, how: str) -> tuple[str, str]:
        """The class and text of what `refuse` raises here."""
        try:
            await self.callee.refuse(how)
        except Refused as error:
            return type(error).__name__, f"{error.reason} {error.amount} {error.args}"
        except CallError as error:
            return type(error).__name__, getattr(error, "type_name", "")
        return "nothing", ""

    async def bad_end(self, how: str) -> tuple[str, str]:
        """What it gets of a call that ended badly, and of a stream that did."""
        found: list[str] = []
        try:
            await self.callee.ends_badly(how)
        except Exception as error:
            found.append(f"{type(error).__name__} {getattr(error, 'type_name', '')}")
        try:
            async for _ in self.callee.ends_badly_later(how):
                pass
        except Exception as error:
            found.append(f"{type(error).__name__} {getattr(error, 'type_name', '')}")
        return found[0], found[1]

    async def contexts(self, locale: str) -> list[str]:
        """The locale that callees see, and what is left of it here."""
        LOCALE.set(locale)
        found: list[str] = []
        for _ in range(5):
            found.append((await self.callee.surroundings())[0])
        async for seen, _ in self.callee.surroundings_of_a_stream():
            found.append(seen)
            found.append(LOCALE.get())
        return [*found, LOCALE.get()]

    async def threads(self, thread: str) -> list[str]:
        """What callees see of a variable that does not travel, and what is left of it here."""
        THREAD.set(thread)
        found = [(await self.callee.surroundings())[1] for _ in range(5)]
        return [*found, THREAD.get()]

    async def untravelled(self) -> str:
        """What it gets for a variable that cannot travel."""
        LOCALE.set(["en"])  # type: ignore[arg-type]
        try:
            await self.callee.surroundings()
        except CallError as error:
            return f"{type(error).__name__} {error.origin}: {error.message}"
        return "nothing"

    @method(timeout=0.1)
    async def begin(self) -> None:
        """A task that outlives this call, and calls when its time is up."""

        async def later() -> None:
            await asyncio.sleep(0.15)
            try:
                self.outlived = str(await self.callee.pid())
            except CallError as error:
                self.outlived = error.code

        self.task = asyncio.create_task(later())

    @method(timeout=0.1)
    async def begin_many(self) -> None:
        """A task that outlives this call, and begins many calls and a stream when its time is up."""

        async def later() -> None:
            await asyncio.sleep(0.15)
            found: list[str] = []
            for _ in range(10):
                try:
                    found.append(str(await self.callee.pid()))
                except CallError as error:
                    found.append(str(error))
            try:
                found += [str(item) async for item in self.callee.count(3)]
            except CallError as error:
                found.append(str(error))
            self.outlived = " | ".join(sorted(set(found)))

        self.task = asyncio.create_task(later())

    async def outcome(self) -> str:
        await self.task
        return self.outlived

    async def reach(self) -> str:
        try:
            return str(await self.callee.pid())
        except Unavailable:
            return "unavailable"

    async def pid(self) -> int:
        return os.getpid()


def moment() -> datetime:
    """A time with all its digits."""
    return datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)


app = Application(Caller, Callee, Stranger, name="probe", context=[LOCALE])
