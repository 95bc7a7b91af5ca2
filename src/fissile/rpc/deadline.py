"""Enforces deadlines within a process: the waiting task is cancelled when its time is up.

A timer per call would cost more than the call. So there is one alarm for each event loop, and a watch for each call:
the alarm rings at the earliest deadline, and cancels the tasks of those watches whose time is up.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import msgspec

from fissile.component.context import CallContext, call_context
from fissile.component.wiring import DEFAULT_TIMEOUT_SECONDS, Environment
from fissile.component.wiring import exceeded as exceeded
from fissile.rpc.alarm import Alarm


class Watch(msgspec.Struct, eq=False):
    """Over a task while it waits for one call; or for one stream, with pauses in between.

    expired: the time is up; if it was while the task waited, the task was cancelled. before: how often the task had
    been cancelled when it began to wait. hit: whether it was cancelled from here.
    """

    deadline: float
    watches: "Watches"
    task: "asyncio.Task[Any] | None"
    before: int
    token: Any = None
    expired: bool = False
    hit: bool = False

    def begin(self) -> None:
        """The current task waits."""
        self.task = task = asyncio.current_task(self.watches.loop)
        self.before = 0 if task is None else task.cancelling()

    def pause(self) -> None:
        """It does not wait any more; a cancellation of ours is taken back."""
        task = self.task
        if task is not None:
            if self.hit:
                self.hit = False
                task.uncancel()
            self.task = None

    def expire(self) -> None:
        """The time is up."""
        self.expired = True
        if self.task is not None:
            self.hit = True
            self.task.cancel()

    def end(self) -> bool:
        """Watch no more, and take our cancellation back. Whether the time had run out."""
        self.watches.open.discard(self)
        if self.hit:
            assert self.task is not None
            self.hit = False
            self.task.uncancel()
        return self.expired

    def cancelled(self) -> bool:
        """Whether somebody else has cancelled the current task since it began to wait."""
        task = self.task or asyncio.current_task(self.watches.loop)
        return task is not None and task.cancelling() > self.before


class Watches:
    """All that are open on one event loop."""

    __slots__ = ("alarm", "loop", "open")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.alarm = Alarm(loop, self._sweep)
        self.open: set[Watch] = set()

    def _sweep(self, now: float) -> float:
        following = inf
        for watch in list(self.open):
            if watch.deadline <= now:
                self.open.discard(watch)
                watch.expire()
            elif watch.deadline < following:
                following = watch.deadline
        return following


_by_loop: dict[asyncio.AbstractEventLoop, Watches] = {}


def _watches(loop: asyncio.AbstractEventLoop) -> Watches:
    for one in [one for one in _by_loop if one.is_closed()]:
        _by_loop.pop(one, None)
    _by_loop[loop] = made = Watches(loop)
    return made


def watch(deadline: float, begin: bool) -> Watch:
    """Watch over the current task, from now on (`begin`) or whenever it begins, until a deadline (time.monotonic)."""
    loop = asyncio.get_running_loop()
    watches = _by_loop.get(loop) or _watches(loop)
    task = asyncio.current_task(loop) if begin else None
    made = Watch(deadline, watches, task, 0 if task is None else task.cancelling())
    if deadline != inf:
        watches.open.add(made)
        if deadline < watches.alarm.due:
            watches.alarm.set(deadline)
    return made


def watches_open() -> int:
    """How many calls and streams of the current loop are watched over: a gauge, 0 where nothing is under way."""
    watches = _by_loop.get(asyncio.get_running_loop())
    return 0 if watches is None else len(watches.open)


async def enforce(coroutine: Awaitable[Any], context: CallContext, origin: str) -> Any:
    """Await under the context; past its deadline the coroutine is cancelled and DeadlineExceeded raised."""
    over = watch(context.deadline, True)
    token = call_context.set(context)
    error: BaseException | None = None
    result: Any = None
    try:
        result = await coroutine
    except BaseException as caught:
        error = caught
    call_context.reset(token)
    try:
        if over.end() and not over.cancelled():
            raise exceeded(origin, context.timeout)
        if error is not None:
            raise error
        return result
    finally:
        del error  # its traceback holds this frame


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _later(function: Callable[..., object], *arguments: Any) -> None:
    asyncio.get_running_loop().call_soon(function, *arguments)


def environment(
    *,
    observe: Callable[[str, str], list[int]] | None = None,
    witness: Callable[[str, str], None] | None = None,
    report: Callable[[str, str], None] | None = None,
    copy_always: bool = False,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> Environment:
    """The real world for references: this process's clock, randomness and deadlines."""
    return Environment(
        clock=time.monotonic,
        clock_ns=time.perf_counter_ns,
        bits=random.getrandbits,
        watch=watch,
        cancellation=asyncio.CancelledError,
        cancelling=_cancelling,
        later=_later,
        observe=observe,
        witness=witness,
        report=report,
        copy_always=copy_always,
        timeout_seconds=timeout_seconds,
    )
