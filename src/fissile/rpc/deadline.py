"""Enforces deadlines within a process: the waiting task is cancelled when its time is up.

A timer per call would cost more than the call. So there is one alarm for each event loop, and a watch for each call:
the alarm rings at the earliest deadline, and cancels the tasks of those watches whose time is up.
"""

import asyncio
import random
import time
from asyncio import current_task
from collections.abc import Awaitable, Callable
from math import inf
from threading import get_ident
from typing import Any

import msgspec

from fissile.component.context import CallContext, call_context
from fissile.component.reference import exceeded as exceeded
from fissile.component.wiring import DEFAULT_TIMEOUT_SECONDS, Environment
from fissile.rpc.alarm import Alarm


# gc=False: of objects that the collector looks after, each call of a page makes too many as it is. A watch holds its
# task, whose frames hold the watch: that circle is cut when the call ends, and at the deadline at the latest.
class Watch(msgspec.Struct, eq=False, gc=False):
    """Over a task while it waits for one call; or for one stream, with pauses in between.

    expired: the time is up; if it was while the task waited, the task was cancelled. before: how often the task had
    been cancelled when it began to wait. hit: whether it was cancelled from here. open: where it
    stands while it watches.
    """

    deadline: float
    open: "set[Watch]"
    task: "asyncio.Task[Any] | None" = None
    before: int = 0
    token: Any = None
    expired: bool = False
    hit: bool = False

    def begin(self) -> None:
        """The current task waits."""
        task = current_task()
        self.before = 0 if task is None else task.cancelling()
        self.task = None if self.deadline == inf else task

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
        self.open.discard(self)
        if self.hit:
            assert self.task is not None
            self.hit = False
            self.task.uncancel()
        return self.expired

    def cancelled(self) -> bool:
        """Whether somebody else has cancelled the current task since it began to wait."""
        task = self.task or current_task()
        return task is not None and task.cancelling() > self.before


class Watches:
    """All that are open on one event loop."""

    __slots__ = ("alarm", "loop", "open")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.alarm = Alarm(loop, self._sweep)
        self.open: set[Watch] = set()

    def add(self, watch: Watch) -> None:
        """Watch until its deadline."""
        self.open.add(watch)
        if watch.deadline < self.alarm.due:
            self.alarm.set(watch.deadline)

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
# Those of the loop that was asked last, and its thread: to find the running loop costs more than all the rest.
_last: tuple[int, asyncio.AbstractEventLoop, Watches] | None = None


def _watches() -> Watches:
    """Those of the running loop. Raises RuntimeError where there is none."""
    global _last
    loop = asyncio.get_running_loop()
    found = _by_loop.get(loop)
    if found is None:
        for closed in [one for one in _by_loop if one.is_closed()]:
            _by_loop.pop(closed, None)
        _by_loop[loop] = found = Watches(loop)
    _last = get_ident(), loop, found
    return found


def watch(deadline: float) -> Watch:
    """Watch over a stream until a deadline (time.monotonic): over the task that takes its items, while it begins."""
    last = _last
    found = last[2] if last is not None and last[0] == get_ident() and current_task(last[1]) is not None else _watches()
    made = Watch(deadline, found.open)
    if deadline != inf:
        found.add(made)
    return made


def entering(timeout: float, late: Callable[[], Exception]) -> Callable[[CallContext | None], Watch]:
    """Begins calls with this timeout (seconds) in the current task, as `Environment.entering` says.

    What `late` makes is raised where the time is up already.
    """
    # Every call of a page comes through here. The names of a function are found faster than those of an object.
    clock, bits, set_context = time.monotonic, random.getrandbits, call_context.set

    def enter(outer: CallContext | None) -> Watch:
        last = _last
        # A loop without a current task is not the one that runs here: another one was run in this thread since.
        if last is not None and last[0] == get_ident() and (task := current_task(last[1])) is not None:
            watches = last[2]
        else:
            watches = _watches()
            task = current_task(watches.loop)
        now = clock()
        deadline = now + timeout
        if outer is None:
            context = CallContext(bits(128) or 1, bits(64) or 1, False, "", deadline, timeout)
        else:
            if outer.deadline < deadline:
                deadline = outer.deadline
                if deadline <= now:
                    raise late()
            context = CallContext(outer.trace_id, outer.span_id, outer.sampled, outer.release, deadline, timeout)
        before = 0 if task is None else task.cancelling()
        if deadline == inf:
            return Watch(deadline, watches.open, None, before, set_context(context))
        made = Watch(deadline, watches.open, task, before, set_context(context))
        watches.open.add(made)
        if deadline < watches.alarm.due:
            watches.alarm.set(deadline)
        return made

    return enter


def watches_open() -> int:
    """How many calls and streams of the current loop are watched over: a gauge, 0 where nothing is under way."""
    watches = _by_loop.get(asyncio.get_running_loop())
    return 0 if watches is None else len(watches.open)


async def enforce(coroutine: Awaitable[Any], context: CallContext, origin: str) -> Any:
    """Await under the context; past its deadline the coroutine is cancelled and DeadlineExceeded raised."""
    over = watch(context.deadline)
    over.begin()
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
    task = current_task()
    return task is not None and task.cancelling() > 0


def _later(function: Callable[..., object], *arguments: Any) -> None:
    asyncio.get_running_loop().call_soon(function, *arguments)


def environment(
    *,
    observe: Callable[[str, str], list[int]] | None = None,
    on_undeclared_error: Callable[[str, str], None] | None = None,
    report: Callable[[str, str], None] | None = None,
    copy_always: bool = False,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> Environment:
    """The real world for references: this process's clock, randomness and deadlines."""
    return Environment(
        clock=time.monotonic,
        clock_ns=time.perf_counter_ns,
        bits=random.getrandbits,
        entering=entering,
        watch=watch,
        cancellation=asyncio.CancelledError,
        cancelling=_cancelling,
        later=_later,
        observe=observe,
        on_undeclared_error=on_undeclared_error,
        report=report,
        copy_always=copy_always,
        timeout_seconds=timeout_seconds,
    )
