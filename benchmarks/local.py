"""A local call: what a reference costs over a plain `await`, in one process and in turns.

Measured as one component calls another while it serves a call, then as pages do: in the handler of a request that
came in through the public door, whose time has no limit of its own.
"""

import asyncio
import gc
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any

from work import LOCALE, USER, Cart, Carts, make_cart

from fissile import Application, component, method
from fissile.bench.report import Figure, figure
from fissile.bench.stats import median
from fissile.component.context import CallContext, call_context
from fissile.component.wiring import CELLS
from fissile.errors import RemoteError
from fissile.rpc.deadline import environment
from fissile.runtime.edge import Edge
from fissile.runtime.host import Host
from fissile.telemetry.recorder import Recorder

CALLS = 20_000
ITEMS = 20_000
ERRORS = 500
CART = make_cart(USER, LOCALE)
tenant: ContextVar[str] = ContextVar("tenant")
REQUEST = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"


@component
class Ready:
    """A callee that does nothing: only the call is measured."""

    @method
    async def cart(self, user: int, locale: str) -> Cart:
        """A cart made before."""
        return CART

    async def items(self, count: int) -> AsyncIterator[int]:
        """Numbers."""
        for number in range(count):
            yield number


def _report(method: str, sentence: str) -> None:
    raise AssertionError(f"{method}: {sentence}")


Work = Callable[[], Awaitable[None]]


@component
class Page:
    """Whose request does what is measured: the last that `wanted` has, and puts its CPU time into `taken`."""

    def __init__(self, ready: Ready, carts: Carts) -> None:
        self.ready = ready
        self.carts = carts
        self.wanted: list[Work] = []
        self.taken: list[float] = []

    def http(self) -> Any:
        """One request for each measurement."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.taken.append(await _time(self.wanted.pop()))
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

        return app


async def _time(work: Work) -> float:
    """CPU nanoseconds, not wall time: whatever else runs on this core is left out."""
    begun = time.process_time_ns()
    await work()
    return time.process_time_ns() - begun


def _calls(call: Callable[[int, str], Awaitable[Cart]]) -> Work:
    async def work() -> None:
        for _ in range(CALLS):
            await call(USER, LOCALE)

    return work


def _items(stream: Callable[[int], AsyncIterator[int]]) -> Work:
    async def work() -> None:
        async for _ in stream(ITEMS):
            pass

    return work


def _errors(call: Callable[[int, str, bool], Awaitable[Cart]]) -> Work:
    async def work() -> None:
        for _ in range(ERRORS):
            try:
                await call(USER, LOCALE, False)
            except RemoteError:
                continue
            raise AssertionError("an error did not reach its caller")

    return work


async def _asked(path: str, page: Page, work: Work) -> float:
    page.wanted.append(work)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(head.decode())
    writer.close()
    await writer.wait_closed()
    return page.taken.pop()


async def _rounds(rounds: int, path: str) -> dict[str, list[float]]:
    app = Application(Page, Ready, Carts, name="local", context=[tenant])
    host = Host(app, app.components)  # as `app.asgi()` has it
    # As a replica has it: a sample of the values is looked at, and what would not survive a wire is reported.
    observed = Host(app, app.components, environment=environment(observe=Recorder(CELLS).observe, report=_report))
    await host.start()
    await observed.start()
    tenant.set("the tenant")
    ready = observed.reference("Page", "Ready")
    calls: dict[str, Work] = {
        "plain": _calls(host.instance("Ready").cart),
        "unobserved": _calls(host.reference("Page", "Ready").cart),
        "observed": _calls(ready.cart),
    }
    paged: dict[str, tuple[Work, int]] = {
        "page": (_calls(ready.cart), CALLS),
        "items": (_items(ready.items), ITEMS),
        "errors": (_errors(observed.reference("Page", "Carts").deep), ERRORS),
    }
    edge = Edge(observed.asgi("Page"))
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    sock.setblocking(False)
    await edge.start(sock)
    inner = CallContext(1, 1, False, "", time.monotonic() + 3600, 10.0)
    found: dict[str, list[float]] = {name: [] for name in [*calls, *paged]}
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        token = call_context.set(inner)
        for name, work in calls.items():
            found[name].append(await _time(work) / CALLS)
        call_context.reset(token)
        for name, (work, times) in paged.items():
            found[name].append(await _asked(path, observed.instance("Page"), work) / times)
    await edge.drain(1.0, idle_seconds_max=0.0)
    return found


def measure(rounds: int) -> dict[str, list[float]]:
    """Nanoseconds per call by kind and round, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        with tempfile.TemporaryDirectory(prefix="fissile-bench-") as folder:
            return asyncio.run(_rounds(rounds, f"{folder}/page"))
    finally:
        os.sched_setaffinity(0, before)


def figures(found: dict[str, list[float]]) -> Iterable[Figure]:
    """What a reference adds to a plain await."""

    def added(name: str) -> float:
        return median([ns - plain for ns, plain in zip(found[name], found["plain"], strict=True)]) / 1000

    yield figure("local call: added to a plain await, unobserved", added("unobserved"), "µs", "<= 0.2")
    yield figure("local call: added to a plain await, counters and histogram on", added("observed"), "µs", "<= 0.6")
    yield figure("local call: added to a plain await, from a page, counters on", added("page"), "µs", "<= 2")
    yield figure("local call: plain await", median(found["plain"]) / 1000, "µs")
    yield figure("local call: an undeclared error from 20 frames below, caught", median(found["errors"]) / 1000, "µs")
    yield figure("local stream: an item, read by a page", median(found["items"]) / 1000, "µs", "<= 1.2")


if __name__ == "__main__":
    from fissile.bench.report import as_table

    print(as_table(figures(measure(9))))
