"""Calls within one process: deadlines, what is an error of the call, and what its context is."""

import asyncio
import gc
import sys
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from decimal import Decimal, getcontext
from itertools import count
from math import inf
from typing import Any

import msgspec
import pytest

from fissile import Application, CallError, DeadlineExceeded, InvalidArgument, RemoteError, component, method
from fissile.component.context import CallContext, call_context
from fissile.component.wiring import CELL_FAILURES, CELLS, FIRST_CALLS
from fissile.rpc.deadline import enforce, environment
from fissile.runtime.host import Host, StartError

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")
LOCALE: ContextVar[str] = ContextVar("locale", default="en")
BARE: ContextVar[Any] = ContextVar("bare")
# More calls than those that always run in a context of their own.
MANY = FIRST_CALLS + 2


class Incomparable:
    """As an array of numpy is."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Declared(Exception):
    """An error that is declared."""


class Point(msgspec.Struct, frozen=True):
    x: int


class Point3(Point, frozen=True):
    z: int = 0


@component
class Callee:
    """Does what its name says."""

    def __init__(self) -> None:
        self.ended = 0
        self.steps: list[str] = []

    @method(timeout=0.05)
    async def slow(self) -> str:
        await asyncio.sleep(5)
        return "late"

    @method(timeout=0.05)
    async def stubborn(self, how: str) -> str:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            if how == "raises":
                raise Declared("in the end") from None
        return "swallowed"

    @method(timeout=5.0, raises=(Declared,))
    async def fails(self, how: str) -> str:
        if how == "exit":
            sys.exit(2)
        if how == "interrupt":
            raise KeyboardInterrupt
        if how == "group":
            raise BaseExceptionGroup("both", [ValueError("one"), KeyboardInterrupt()])
        if how == "declared":
            raise Declared("as it is")
        inner = asyncio.ensure_future(asyncio.sleep(9))
        await asyncio.sleep(0)
        inner.cancel()
        await inner
        return "never"

    @method(timeout=5.0)
    async def wait(self) -> str:
        try:
            await asyncio.sleep(5)
        finally:
            self.ended += 1
        return "late"

    async def changes(self, tenant: str, fail: bool = False) -> str:
        seen = TENANT.get()
        TENANT.set(tenant)
        await asyncio.sleep(0)
        if fail:
            raise KeyError(tenant)
        return seen

    async def sets_anything(self, really: bool) -> None:
        if really:
            BARE.set(Incomparable())

    async def counts(self) -> Decimal:
        getcontext().prec = 50
        return Decimal(1) / 3

    async def sees(self) -> tuple[str, str]:
        return TENANT.get(), LOCALE.get()

    @method(timeout=5.0)
    async def stream(self, pause: float = 0.0) -> AsyncIterator[str]:
        try:
            for tenant in ("a", "b", "c"):
                self.steps.append(TENANT.get())
                TENANT.set(tenant)
                await asyncio.sleep(pause)
                yield tenant
        finally:
            self.steps.append(f"ended as {TENANT.get()}")

    @method(timeout=0.05)
    async def brief(self, swallow: bool = False) -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            if not swallow:
                raise
        finally:
            self.ended += 1

    async def breaks(self, how: str) -> AsyncIterator[int]:
        yield 1
        await self.fails(how)

    async def bad_end(self) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise KeyError("while it ended")

    async def point(self, wrong: bool) -> Point:
        return Point3(1, 2) if wrong else Point(1)

    async def takes(self, x: float) -> str:
        return repr(x)

    async def none(self) -> int:
        return None  # type: ignore[return-value]

    async def unencodable(self) -> str:
        return "\ud800"


@component
class Caller:
    """It declares the reference."""

    def __init__(self, callee: Callee) -> None:
        self.callee = callee

    @method(timeout=5.0)
    async def through(self, how: str) -> str:
        return await self.callee.fails(how)


class Setup:
    """An application in one process, what it counts and what it reports."""

    def __init__(
        self,
        *,
        copied: bool = False,
        report: bool = False,
        observe: bool = True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.cells: dict[str, list[int]] = {}
        self.seen: list[tuple[str, str]] = []
        self.reports: list[tuple[str, str]] = []
        app = Application(Caller, Callee, name="local", context=[LOCALE])
        real = environment(
            observe=self._observe if observe else None,
            on_undeclared_error=lambda label, kind: self.seen.append((label, kind)),
            report=(lambda label, sentence: self.reports.append((label, sentence))) if report else None,
            copy_always=copied,
        )
        self.host = Host(
            app, app.components, environment=msgspec.structs.replace(real, clock=clock) if clock is not None else real
        )
        self.instance: Callee = self.host.instance("Callee")
        self.callee: Any = self.host.reference("Caller", "Callee")
        self.caller: Any = self.host.reference("Test", "Caller")

    def _observe(self, name: str, function: str) -> list[int]:
        return self.cells.setdefault(f"{name}.{function}", [0] * CELLS)


@pytest.fixture(params=["direct", "copied"])
def setup(request: pytest.FixtureRequest) -> Setup:
    return Setup(copied=request.param == "copied")


def task() -> "asyncio.Task[Any]":
    found = asyncio.current_task()
    assert found is not None
    return found


async def test_a_deadline_is_kept_and_the_task_is_as_before(setup: Setup) -> None:
    for _ in range(MANY):
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"Callee\.slow did not answer within its 0\.05 s"):
            await setup.callee.slow()
        assert 0.04 < time.monotonic() - begun < 1.0
        assert task().cancelling() == 0
    assert setup.cells["Callee.slow"][CELL_FAILURES] == MANY
    assert call_context.get() is None


@pytest.mark.parametrize("how", ["returns", "raises"])
async def test_a_callee_that_swallows_its_cancellation_is_late_all_the_same(setup: Setup, how: str) -> None:
    for _ in range(MANY):
        with pytest.raises(DeadlineExceeded):
            await setup.callee.stubborn(how)
        assert task().cancelling() == 0
    await asyncio.sleep(0)  # nothing is left to be cancelled


@pytest.mark.parametrize("timeout", [inf, 0.5])
async def test_a_deadline_that_has_passed_runs_nothing(setup: Setup, timeout: float) -> None:
    """As in a task that outlives the call by which it was begun."""
    call_context.set(CallContext(1, 1, False, "", time.monotonic() - 1, timeout))
    with pytest.raises(DeadlineExceeded):
        await setup.callee.changes("x")
    with pytest.raises(DeadlineExceeded):
        async for _ in setup.callee.stream():
            pass
    assert setup.instance.steps == []
    assert setup.cells["Callee.changes"][CELL_FAILURES] == 1


@pytest.mark.parametrize("within", [False, True])
async def test_the_callers_own_cancellation_passes(setup: Setup, within: bool) -> None:
    """within: in a context whose time is not longer than the method's, so that the call needs no deadline."""
    if within:
        call_context.set(CallContext(1, 1, False, "", time.monotonic() + 1, 1.0))
    for _ in range(MANY):
        call = asyncio.create_task(setup.callee.wait())
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()
    assert setup.instance.ended == MANY


async def test_an_outer_timeout_is_the_callers(setup: Setup) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await setup.callee.wait()
    assert task().cancelling() == 0


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("exit", "SystemExit"),
        ("interrupt", "KeyboardInterrupt"),
        ("group", "BaseExceptionGroup"),
        ("inside", "asyncio.exceptions.CancelledError"),
    ],
)
async def test_whatever_a_callee_raises_is_an_error_of_the_call(
    setup: Setup, how: str, name: str, within: bool
) -> None:
    if within:
        call_context.set(CallContext(1, 1, False, "", time.monotonic() + 1, 1.0))
    for number in range(MANY):
        with pytest.raises(RemoteError) as caught:
            await setup.callee.fails(how)
        assert (caught.value.type_name, caught.value.origin) == (name, "Callee.fails")
        with pytest.raises(RemoteError) as caught:
            async for _ in setup.callee.breaks(how):
                pass
        assert caught.value.type_name == name
        with pytest.raises(RemoteError):
            await setup.caller.through(how)
        assert setup.cells["Callee.fails"][CELL_FAILURES] == 2 * number + 2
    assert task().cancelling() == 0


async def test_an_error_shows_where_it_was_raised(setup: Setup) -> None:
    for _ in range(MANY):
        with pytest.raises(Declared) as caught:
            await setup.callee.fails("declared")
        assert caught.traceback[-1].name == "fails"


async def test_an_error_keeps_no_frame_alive() -> None:
    setup = Setup()
    gc.collect()
    gc.disable()
    try:
        for _ in range(MANY):
            try:
                await setup.callee.fails("declared")
            except Declared as error:
                kept = weakref.ref(error)
            assert kept() is None, "a cycle keeps the error, and all locals of the frames that it went through"
    finally:
        gc.enable()


@pytest.mark.parametrize("fail", [False, True])
async def test_what_a_callee_sets_never_reaches_its_caller(setup: Setup, fail: bool) -> None:
    TENANT.set("acme")
    for number in range(MANY):
        try:
            await setup.callee.changes(f"changed {number}", fail)
        except RemoteError:
            assert fail
        assert TENANT.get() == "acme"


async def test_a_leak_that_begins_late_is_undone() -> None:
    setup = Setup(report=True)
    for _ in range(MANY):
        await setup.callee.changes("nobody")  # the same as before: nothing that a caller could see
    assert setup.reports == []
    for number in range(3):
        await setup.callee.changes(f"changed {number}")
        assert TENANT.get() == "nobody"
    assert setup.reports == []  # it is no other in another process


async def test_what_cannot_be_undone_is_reported_once_and_happens_once() -> None:
    setup = Setup(report=True)
    for number in range(MANY):
        await setup.callee.sets_anything(number >= FIRST_CALLS)
    (report,) = setup.reports
    assert report == (
        "Callee.sets_anything",
        "left bare set for its caller, once, as no other process could: give it a default",
    )
    left = BARE.get()
    await setup.callee.sets_anything(True)
    assert BARE.get() is left


@pytest.mark.parametrize("early", [True, False])
async def test_a_value_that_cannot_be_compared_does_no_harm(early: bool) -> None:
    setup = Setup()
    BARE.set(Incomparable())
    before = BARE.get()
    for number in range(MANY):
        await setup.callee.sets_anything(early or number >= FIRST_CALLS)
        assert BARE.get() is before


async def test_a_librarys_own_variables_are_no_leak() -> None:
    setup = Setup(report=True)

    async def fresh() -> None:
        assert str(await setup.callee.counts()).startswith("0.333")

    for _ in range(MANY):
        await asyncio.create_task(fresh())
    assert setup.reports == []


async def test_only_named_variables_reach_a_callee_in_copied() -> None:
    setup = Setup(copied=True)
    await setup.host.start()
    TENANT.set("acme")
    LOCALE.set("de")
    for _ in range(MANY):
        assert await setup.callee.sees() == ("nobody", "de")
    LOCALE.set(["no", "text"])  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="'locale' cannot travel"):
        await setup.callee.sees()


async def test_what_would_be_hidden_by_a_split_is_reported_once_a_method() -> None:
    setup = Setup(report=True)
    await setup.host.start()
    TENANT.set("acme")
    LOCALE.set("de")
    for _ in range(MANY):
        assert await setup.callee.sees() == ("acme", "de")
    (report,) = setup.reports
    assert report[0] == "Callee.sees"
    assert "can see tenant in its caller's context" in report[1]
    LOCALE.set(object())  # type: ignore[arg-type]
    await setup.callee.takes(1.0)
    assert any("'locale' cannot travel" in sentence for _, sentence in setup.reports)


async def test_a_stream_has_a_context_of_its_own(setup: Setup) -> None:
    TENANT.set("acme")
    async with aclosing(setup.callee.stream()) as items:
        async for item in items:
            assert TENANT.get() == "acme"
            assert call_context.get() is None
            if item == "b":
                break
    assert setup.instance.steps[1:] == ["a", "ended as b"]


async def test_a_stream_is_late_also_while_its_consumer_is_busy(setup: Setup) -> None:
    for swallow in (False, True):
        seen = []
        with pytest.raises(DeadlineExceeded):
            async for item in setup.callee.brief(swallow):
                seen.append(item)
        assert seen == [1]
        assert task().cancelling() == 0
    items = setup.callee.brief()
    assert await anext(items) == 1
    await asyncio.sleep(0.1)  # its time runs out, and nobody waits for it
    assert task().cancelling() == 0
    with pytest.raises(DeadlineExceeded):
        await anext(items)
    assert setup.instance.ended == 3


async def test_a_stream_may_be_consumed_by_several_tasks(setup: Setup) -> None:
    items = setup.callee.stream(0.01)
    first: Callable[[], Awaitable[str]] = items.__anext__
    assert [await asyncio.ensure_future(first()) for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(StopAsyncIteration):
        await anext(items)


async def test_how_a_stream_ends_is_its_own_business(setup: Setup) -> None:
    async with aclosing(setup.callee.bad_end()) as items:
        assert await anext(items) == 1
    assert ("Callee.bad_end", "KeyError") in setup.seen


async def test_a_consumer_that_is_cancelled_ends_the_stream(setup: Setup) -> None:
    async def consume() -> None:
        async with aclosing(setup.callee.stream(5.0)) as items:
            await anext(items)

    consumer = asyncio.create_task(consume())
    await asyncio.sleep(0.01)
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert setup.instance.steps[-1] == "ended as a"


async def test_results_that_do_not_fit_are_errors_of_the_call() -> None:
    callee = Setup(copied=True).callee
    for name, kind in (("none", "ValidationError"), ("unencodable", "UnicodeEncodeError")):
        with pytest.raises(RemoteError) as caught:
            await getattr(callee, name)()
        assert (caught.value.type_name, caught.value.origin) == (kind, f"Callee.{name}")
    assert await callee.point(True) == Point(1)
    assert type(await callee.point(True)) is Point
    assert await callee.takes(1) == "1.0"
    with pytest.raises(InvalidArgument, match=r"Callee\.takes\(x\)"):
        await callee.takes("1")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda callee: callee.point(True), "the result is a Point3 here, and arrives as a Point"),
        (lambda callee: callee.takes(1), "the argument x is an int here, and arrives as a float"),
        (lambda callee: callee.none(), "the result would be refused by another process"),
        (lambda callee: callee.unencodable(), "the result cannot be encoded for another process"),
    ],
)
async def test_what_would_not_survive_a_wire_is_reported_once(call: Callable[[Any], Awaitable[Any]], told: str) -> None:
    setup = Setup(report=True)
    for _ in range(MANY):
        await call(setup.callee)
        await asyncio.sleep(0)
    (report,) = setup.reports
    assert told in report[1]


async def test_a_look_that_took_long_is_followed_by_a_pause() -> None:
    begun = time.monotonic()
    ticks = count()
    setup = Setup(report=True, clock=lambda: begun + next(ticks))  # each look at the clock is a second later
    await setup.callee.takes(1.0)  # looked at, for a second
    await asyncio.sleep(0)
    await setup.callee.takes(1)
    await asyncio.sleep(0)
    assert setup.reports == []
    for _ in range(200):
        next(ticks)
    await setup.callee.takes(1)
    await asyncio.sleep(0)
    assert "arrives as a float" in setup.reports[0][1]


async def test_later_calls_are_looked_at_by_chance() -> None:
    begun = time.monotonic()
    setup = Setup(report=True, clock=lambda: begun)  # no look takes any time, so that none is left out
    for _ in range(FIRST_CALLS):
        await setup.callee.point(False)
    for _ in range(100_000):
        await setup.callee.point(True)
        await asyncio.sleep(0)
        if setup.reports:
            break
    assert "arrives as a Point" in setup.reports[0][1]


async def test_nothing_is_looked_at_where_nobody_wants_a_report() -> None:
    setup = Setup(observe=False)
    for _ in range(MANY):
        assert type(await setup.callee.point(True)) is Point3


async def test_enforce_takes_its_cancellation_back() -> None:
    async def swallow() -> str:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            pass
        return "swallowed"

    def within(seconds: float) -> CallContext:
        return CallContext(1, 1, False, "", time.monotonic() + seconds, seconds)

    for work in (swallow, lambda: asyncio.sleep(5)):
        with pytest.raises(DeadlineExceeded):
            await enforce(work(), within(0.05), "x.y")
        assert task().cancelling() == 0
    assert await enforce(asyncio.sleep(0, "done"), within(5.0), "x.y") == "done"


def test_deadlines_hold_on_each_loop() -> None:
    setup = Setup()

    async def late() -> None:
        with pytest.raises(CallError):
            await setup.callee.slow()

    for _ in range(3):
        asyncio.run(late())


@component
class Leaves:
    """Gives up in one of the steps of its life, as a library may that was written for a command line."""

    when = ""

    def __init__(self) -> None:
        self._give_up("made")

    async def migrate(self) -> None:
        self._give_up("migrated")

    async def start(self) -> None:
        self._give_up("started")
        if self.when == "cancelled":
            inner = asyncio.ensure_future(asyncio.sleep(9))
            await asyncio.sleep(0)
            inner.cancel()
            await inner

    async def stop(self) -> None:
        self._give_up("stopped")

    def http(self) -> None:
        self._give_up("http")

    def _give_up(self, when: str) -> None:
        if when == self.when:
            sys.exit("no settings")


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("made", "Leaves cannot be made: SystemExit: no settings"),
        ("migrated", "Leaves cannot be migrated: SystemExit: no settings"),
        ("started", "Leaves cannot be started: SystemExit: no settings"),
        ("cancelled", "Leaves cannot be started: CancelledError"),
        ("http", "Leaves cannot make its pages: SystemExit: no settings"),
    ],
)
async def test_a_component_that_gives_up_ends_no_process(monkeypatch: pytest.MonkeyPatch, when: str, told: str) -> None:
    monkeypatch.setattr(Leaves, "when", when)
    app = Application(Leaves)
    with pytest.raises(StartError, match=told):
        host = Host(app, app.components)
        await host.start()
        host.asgi("Leaves")


async def test_a_component_that_gives_up_when_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leaves, "when", "stopped")
    app = Application(Leaves)
    host = Host(app, app.components)
    await host.start()
    assert [str(error) for error in await host.stop()] == ["SystemExit: no settings"]


async def test_a_start_that_is_cancelled_is_cancelled() -> None:
    @component
    class Slow:
        async def start(self) -> None:
            await asyncio.sleep(9)

    app = Application(Slow)
    starting = asyncio.create_task(Host(app, app.components).start())
    await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
