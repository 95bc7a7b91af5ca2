"""A caller's process of the storm: workers that do what the plan says, through real channels, and judge each answer."""

import asyncio
import random
import socket
import struct
import time
from collections import Counter, deque
from contextlib import aclosing, suppress
from itertools import pairwise
from typing import Any

from fissile.component.context import CallContext, call_context
from fissile.errors import CallError, RemoteError
from fissile.rpc.breaker import BreakerState
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.stub import remote
from tests.storm.child import Orders, run, say
from tests.storm.gauges import living, off
from tests.storm.plan import (
    ALLOWED,
    PATIENCE_SECONDS,
    TRANSPORTS,
    Act,
    Cut,
    Ending,
    Lane,
    Reading,
    Step,
    Trouble,
    lane_of,
    steps,
)
from tests.storm.store import CALLER, CALLERS, GRAPH, INTERFACE, SERVICE, TOKEN, Refused, content, visitor, visitor_of

WORKERS = 12
LATE_SECONDS = 1.0
PROGRESS_SECONDS = 0.25
BEAT_SECONDS = 0.05
BEATS_KEPT_MAX = 1000
STARVED_SECONDS_MIN = 0.2
BREAKER_SECONDS_MAX = 20.0
BROKEN_KEPT_MAX = 20
RESET = struct.pack("ii", 1, 0)


class Wrong(Exception):
    """An answer that is not the right one."""


class Line:
    """A channel to the callee, and a reference over it for each component that calls."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.open()

    def open(self) -> None:
        """Make the channel."""
        self.channel = Channel(
            SERVICE,
            [self.address],
            caller_service=CALLER,
            token=TOKEN,
            callers=CALLERS,
            contracts=contracts_of([INTERFACE]),
        )
        self.store: dict[str, Any] = {
            name: remote(INTERFACE, self.channel, caller=name, variables=GRAPH.context) for name in CALLERS
        }

    async def cut(self, how: Cut) -> int:
        """Lose the connection; how many there are that close with bytes to send.

        Those read nothing and want to be read, as a hostile peer does that sends for ever: the callee may say so.
        """
        unsent = 0
        if how is Cut.CHANNEL:
            closed = self.channel
            self.open()
            await closed.close()
            return unsent
        for connection in list(self.channel.ready):
            if how is Cut.RESET:
                sock = connection.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.transport.abort()
            else:
                unsent += connection.transport.get_write_buffer_size() > 0
                connection.transport.close()
        return unsent


class Pulse:
    """When the loop had its turns, and how much of the processor this process had between them.

    A machine that is busy with others may leave a process without the processor for a second: then all of its calls
    are late, and nobody is to blame. A loop that is kept busy by ourselves is no excuse.
    """

    def __init__(self) -> None:
        self.beats: deque[tuple[float, float]] = deque([(time.monotonic(), time.process_time())], BEATS_KEPT_MAX)

    async def beat(self) -> None:
        """Beat for ever."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self.beats.append((time.monotonic(), time.process_time()))

    def starved(self, begun: float, ended: float) -> float:
        """Seconds of this time in which the loop had no turn and the process no processor."""
        beats = [*self.beats, (time.monotonic(), time.process_time())]
        return sum(
            max(0.0, min(end, ended) - max(begin, begun) - (end_used - begin_used))
            for (begin, begin_used), (end, end_used) in pairwise(beats)
            if end - begin > STARVED_SECONDS_MIN and end > begun and begin < ended
        )


class Caller:
    """The workers of this process."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.seed: int = given["seed"]
        self.process: int = given["process"]
        self.calls: int = given["calls"]
        self.addresses: dict[str, str] = {name: given[name] for name in TRANSPORTS}
        self.begun = 0
        self.ended = 0
        self.offences = 0
        self.pulse = Pulse()
        self.outcomes: Counter[str] = Counter()
        self.broken: list[str] = []
        self.under_way: dict[asyncio.Task[Any], tuple[float, str]] = {}

    async def work(self, worker: int, shared: dict[str, Line]) -> None:
        """Do what the plan says until this process has made its share."""
        lane = lane_of(worker)
        lines = {name: Line(address) for name, address in self.addresses.items()} if lane is Lane.ROUGH else shared
        for step in steps(self.seed, self.process, worker):
            if self.begun >= self.calls:
                break
            self.begun += len(step.acts)
            await self.perform(step, lane, lines[step.over])
            self.ended += len(step.acts)
            breaker = lines[step.over].channel.breakers[CALLERS.index(lane.value)]
            if breaker.state is not BreakerState.CLOSED:
                # Calls that a breaker refuses prove nothing: come back when it lets a probe through, which has time.
                await asyncio.sleep(max(0.0, breaker.reopens_at - time.monotonic()))
                with suppress(CallError):
                    await lines[step.over].store[lane.value].echo(1, b"", 0, 0.0)
        if lines is not shared:
            for line in lines.values():
                await line.channel.close()

    async def perform(self, step: Step, lane: Lane, line: Line) -> None:
        """Make the calls of a step, end them as it says, and judge what came of each."""
        store = line.store[lane.value]
        if len(step.acts) == 1 and step.ending is Ending.ANSWERED:
            await self.judged(step, step.acts[0], store)
            return
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []
        made = [self.judged(step, act, store) for act in step.acts]
        if step.ending is Ending.GROUP:
            with suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one) for one in made]
                    group.create_task(_fail_after(step.after))
            return
        tasks = [loop.create_task(one) for one in made]
        handles: list[asyncio.TimerHandle] = []
        if step.ending is Ending.CANCELLED:
            await asyncio.sleep(0)
            for task, act in zip(tasks, step.acts, strict=True):
                if act.after:
                    handles.append(loop.call_later(act.after, task.cancel))
                else:
                    task.cancel()
        elif step.ending is Ending.ABANDONED:
            await asyncio.sleep(step.after)
            for task in tasks:
                task.cancel()
        elif step.ending is Ending.CUT:
            await asyncio.sleep(step.after)
            assert step.cut is not None
            self.offences += await line.cut(step.cut)
        await asyncio.gather(*tasks, return_exceptions=True)
        for handle in handles:
            handle.cancel()

    async def judged(self, step: Step, act: Act, store: Any) -> None:
        """Make a call and judge what comes of it."""
        seconds = act.after if step.ending is Ending.DEADLINE else PATIENCE_SECONDS
        begun = time.monotonic()
        call_context.set(CallContext(random.getrandbits(128) or 1, 1, False, "", begun + seconds, seconds))
        visitor.set(visitor_of(act.key))
        task = asyncio.current_task()
        assert task is not None
        limit = begun + seconds + LATE_SECONDS
        self.under_way[task] = (limit, f"{step.ending.value} over {step.over}: {act.told()}")
        why = ""
        try:
            await (_read(act, store) if act.items else _call(act, store))
            outcome = "right"
        except asyncio.CancelledError:
            outcome = "gone"
        except CallError as error:
            outcome, why = "breaker open" if "breaker is open" in str(error) else error.code, f": {error}"
        except Wrong as error:
            outcome, why = "wrong", f": {error}"
        except Exception as error:
            outcome, why = "another error", f": {type(error).__name__}: {error}"
        finally:
            ended = time.monotonic()
            if self.under_way.pop(task, None) is None:
                outcome, why = "hung", ""
            elif ended > limit + self.pulse.starved(begun, ended):
                outcome, why = "late", f", after {ended - begun:.3f} s of {seconds:.3f}"
            self.outcomes[f"{step.ending.value}: {outcome}"] += 1
            if outcome != "right" and outcome not in ALLOWED[step.ending]:
                self.complain(f"{outcome}{why} ({step.ending.value} over {step.over}: {act.told()})")

    def complain(self, what: str) -> None:
        """Tell the driver of a promise that was broken."""
        self.broken.append(what)
        if len(self.broken) <= BROKEN_KEPT_MAX:
            say(broken=what[:1500])

    async def watch(self) -> None:
        """Say how far it is, and give up calls that hang."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            say(done=self.ended)
            now = time.monotonic()
            for task, (limit, _) in list(self.under_way.items()):
                if now > limit + LATE_SECONDS:
                    del self.under_way[task]
                    task.cancel()


async def _fail_after(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise RuntimeError("a task of the group fails")


async def _call(act: Act, store: Any) -> None:
    if act.trouble is not None:
        await _fail(act, store)
        return
    method = getattr(store, act.method)
    answer = await method(act.key, content(act.key, act.argument_bytes), act.result_bytes, act.work)
    if not answer.intact:
        raise Wrong("the argument or the context did not arrive as it was sent")
    if answer.key != act.key or answer.body != content(act.key, act.result_bytes):
        raise Wrong(f"the answer of another call: key {answer.key}, {len(answer.body)} bytes")


async def _fail(act: Act, store: Any) -> None:
    trouble = act.trouble
    assert trouble is not None
    try:
        await store.fail(act.key, trouble.value, act.work)
    except Refused as error:
        if trouble is not Trouble.DECLARED or error.key != act.key:
            raise Wrong(f"refused {error.key}") from None
    except RemoteError as error:
        if trouble is Trouble.DECLARED:
            raise Wrong(f"not as declared: {error}") from None
    else:
        raise Wrong("no error")


async def _read(act: Act, store: Any) -> None:
    each = act.result_bytes // act.items
    leaves = act.items // 2 if act.reading is Reading.LEFT else act.items
    index = 0
    async with aclosing(store.follow(act.key, act.items, act.result_bytes, act.work)) as items:
        async for item in items:
            if not item.intact or item.key != act.key + index or item.body != content(act.key + index, each):
                raise Wrong(f"item {index} is {item.key}, {len(item.body)} bytes")
            index += 1
            if act.reading is Reading.LEFT and index > leaves:
                return
            if act.reading is Reading.PAUSED and index == 1:
                await asyncio.sleep(0.05)
    if index != act.items:
        raise Wrong(f"{index} items of {act.items}")


async def _settle(line: Line) -> None:
    """Until its breakers are closed: a probe is let through once their pause is over."""
    async with asyncio.timeout(BREAKER_SECONDS_MAX):
        for name in CALLERS:
            while True:
                with suppress(CallError):
                    await line.store[name].echo(1, b"", 0, 0.0)
                if all(one.state is BreakerState.CLOSED for one in line.channel.breakers[: CALLERS.index(name) + 1]):
                    break
                await asyncio.sleep(0.05)


def _gauges(lines: dict[str, Line]) -> dict[str, int]:
    """What counts while nothing is called."""
    found: dict[str, int] = {}
    for name, line in lines.items():
        channel = line.channel
        found[f"{name}: in flight"] = channel.in_flight()
        found[f"{name}: breakers open"] = sum(one.state is not BreakerState.CLOSED for one in channel.breakers)
        for connection in channel.ready:
            found[f"{name}: calls"] = len(connection.wire.calls)
            found[f"{name}: streams"] = len(connection.wire.streams)
            found[f"{name}: bytes to send"] = len(connection.wire.out) + connection.transport.get_write_buffer_size()
    return {name: count for name, count in found.items() if count}


async def call(given: dict[str, Any], orders: Orders) -> None:
    """Make this process's share of the calls, then say what counts."""
    caller = Caller(given)
    before = living()
    shared = {name: Line(address) for name, address in caller.addresses.items()}
    watches = [asyncio.create_task(caller.watch()), asyncio.create_task(caller.pulse.beat())]
    await asyncio.gather(*(caller.work(worker, shared) for worker in range(WORKERS)))
    try:
        for line in shared.values():
            await _settle(line)
    except TimeoutError:
        caller.complain("a breaker does not close, or a call does not end, when all is over")
    for watch in watches:
        watch.cancel()
    await asyncio.gather(*watches, return_exceptions=True)
    say(done=caller.ended, idle=True, gauges=_gauges(shared))
    await orders.next()
    for line in shared.values():
        await line.channel.close()
        found = line.channel.in_flight()
        if found:
            caller.complain(f"{found} calls in flight in a closed channel")
    shared.clear()
    del line
    await _closed(before)
    say(
        gauges=off(before, living()),
        outcomes=caller.outcomes,
        offences=caller.offences,
        wrong=len(caller.broken),
        end=True,
    )


async def _closed(before: dict[str, int]) -> None:
    """Until the loop has let go of what was closed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(3.0):
            while off(before, living()):
                await asyncio.sleep(0.1)


if __name__ == "__main__":
    run(call)
