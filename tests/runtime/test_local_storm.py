"""Many local calls at once, which end in all ways at random instants: every task and every context is as before."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import pytest

from fissile import Application, CallError, component, method
from fissile.component.context import call_context
from fissile.rpc import deadline
from fissile.rpc.deadline import environment
from fissile.runtime.host import Host

DEPTH: ContextVar[int] = ContextVar("depth", default=0)
TASKS = 300
CHANCE = random.Random(12)


class Declared(Exception):
    """An error that is declared."""


def task() -> "asyncio.Task[Any]":
    found = asyncio.current_task()
    assert found is not None
    return found


@component
class Leaf:
    """Ends as chance will have it."""

    def __init__(self) -> None:
        self.running = 0

    @method(timeout=0.03)
    async def short(self) -> None:
        await self._work()

    @method(timeout=1.0, raises=(Declared,))
    async def long(self) -> None:
        await self._work()

    @method(timeout=0.05)
    async def items(self) -> AsyncIterator[int]:
        for number in range(4):
            await self._work()
            yield number

    async def _work(self) -> None:
        self.running += 1
        try:
            DEPTH.set(DEPTH.get() + 1)
            await self._end(CHANCE.randrange(8))
        finally:
            self.running -= 1

    async def _end(self, how: int) -> None:
        if how < 3:
            await asyncio.sleep(CHANCE.random() * 0.06 * how)
        elif how == 3:
            await asyncio.sleep(0.1)
        elif how == 4:
            sys.exit(1)
        elif how == 5:
            raise Declared
        elif how == 6:
            inner = asyncio.ensure_future(asyncio.sleep(9))
            await asyncio.sleep(0)
            inner.cancel()
            await inner
        else:
            async with asyncio.timeout(CHANCE.random() * 0.04), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0.02))


@component
class Middle:
    """Calls, and sees that nothing is left of a call."""

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf

    @method(timeout=0.04)
    async def brief(self) -> None:
        await self._use()

    @method(timeout=2.0)
    async def patient(self) -> None:
        await self._use()

    async def _use(self) -> None:
        before = task().cancelling(), DEPTH.get(), call_context.get()
        try:
            await self._call(CHANCE.randrange(4))
        except (CallError, TimeoutError, Declared):
            assert task().cancelling() == before[0]
        except asyncio.CancelledError:
            assert task().cancelling() > before[0], "cancelled by nobody"
            raise
        finally:
            assert (DEPTH.get(), call_context.get()) == before[1:]

    async def _call(self, how: int) -> None:
        if how == 0:
            await self.leaf.short()
        elif how == 1:
            await self.leaf.long()
        elif how == 2:
            async with asyncio.timeout(CHANCE.random() * 0.05):
                await self.leaf.long()
        else:
            async with aclosing(self.leaf.items()) as items:
                async for _ in items:
                    if CHANCE.random() < 0.2:
                        break
                    await asyncio.sleep(CHANCE.random() * 0.02)


@pytest.mark.parametrize("copied", [False, True])
async def test_nothing_is_left_of_any_call(copied: bool) -> None:
    app = Application(Middle, Leaf)
    host = Host(app, app.components, environment=environment(copy_always=copied))
    middle: Any = host.reference("Test", "Middle")
    found: list[str] = []

    async def visit() -> None:
        for call in (middle.brief, middle.patient, middle.patient):
            try:
                await call()
                found.append("")
            except CallError as error:
                assert task().cancelling() == 0
                found.append(getattr(error, "type_name", "") or error.code)

    visits = [asyncio.create_task(visit()) for _ in range(TASKS)]
    for one in CHANCE.sample(visits, TASKS // 3):
        await asyncio.sleep(0.0005)
        one.cancel()
    ended = await asyncio.gather(*visits, return_exceptions=True)
    assert {type(one) for one in ended} <= {type(None), asyncio.CancelledError}
    assert set(found) <= {"", "deadline_exceeded"}
    assert host.instance("Leaf").running == 0
    await asyncio.sleep(0)
    assert deadline.watches_open() == 0
