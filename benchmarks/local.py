"""A local call: what a reference costs over a plain `await`, in one process and in turns.

Measured as one component calls another while it serves a call, which is where nearly all local calls
are made; then from outside of any call, where the deadline has to be set up.
"""

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from math import inf

from work import LOCALE, USER, Cart, make_cart

from fissile import Application, component, method
from fissile.bench.report import Figure, figure
from fissile.bench.stats import median
from fissile.component.context import CallContext, call_context
from fissile.component.wiring import CELLS
from fissile.rpc.deadline import environment
from fissile.runtime.host import Host
from fissile.telemetry.recorder import Recorder

CALLS = 20_000
CART = make_cart(USER, LOCALE)


@component
class Ready:
    """A callee that does nothing: only the call is measured."""

    @method
    async def cart(self, user: int, locale: str) -> Cart:
        """A cart made before."""
        return CART


@component
class Caller:
    """It declares the reference."""

    def __init__(self, ready: Ready) -> None:
        self.ready = ready


async def _time(call: Callable[[int, str], Awaitable[Cart]]) -> float:
    begun = time.process_time_ns()  # CPU, not wall time: whatever else runs on this core is left out
    for _ in range(CALLS):
        await call(USER, LOCALE)
    return (time.process_time_ns() - begun) / CALLS


async def _rounds(rounds: int) -> dict[str, list[float]]:
    app = Application(Caller, Ready, name="local")
    host = Host(app, app.components)
    observed = Host(app, app.components, environment=environment(observe=Recorder(CELLS).observe))
    calls: dict[str, Callable[[int, str], Awaitable[Cart]]] = {
        "plain": host.instance("Ready").cart,
        "unobserved": host.reference("Caller", "Ready").cart,
        "observed": observed.reference("Caller", "Ready").cart,
    }
    inner = CallContext(1, 1, False, "", time.monotonic() + 3600, 10.0)
    outer = CallContext(1, 1, False, "", inf, inf)
    found: dict[str, list[float]] = {name: [] for name in [*calls, "outermost"]}
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        call_context.set(inner)
        for name, call in calls.items():
            found[name].append(await _time(call))
        call_context.set(outer)
        found["outermost"].append(await _time(calls["observed"]))
    return found


def measure(rounds: int) -> dict[str, list[float]]:
    """Nanoseconds per call by kind and round, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        return asyncio.run(_rounds(rounds))
    finally:
        os.sched_setaffinity(0, before)


def figures(found: dict[str, list[float]]) -> Iterable[Figure]:
    """What a reference adds to a plain await."""

    def added(name: str) -> float:
        return median([ns - plain for ns, plain in zip(found[name], found["plain"], strict=True)]) / 1000

    yield figure("local call: added to a plain await, unobserved", added("unobserved"), "µs", "<= 0.2")
    yield figure("local call: added to a plain await, counters and histogram on", added("observed"), "µs", "<= 0.6")
    yield figure("local call: added where a deadline is set up (outermost call)", added("outermost"), "µs")
    yield figure("local call: plain await", median(found["plain"]) / 1000, "µs")
