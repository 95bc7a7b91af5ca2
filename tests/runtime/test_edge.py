"""The public edge: traces, limits, and letting go of a socket without losing a request."""

import asyncio
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import uvloop

from fissile.component.context import current
from fissile.runtime.control import OtherBuild
from fissile.runtime.edge import Edge
from fissile.runtime.traffic_split import TrafficSplitter


def listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(512)
    sock.setblocking(False)
    return sock


class App:
    """Answers with the trace that it runs in; `/slow` waits for the test."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            self.begun.set()
            await self.gate.wait()
        context = current()
        assert context is not None
        text = f"{context.traceparent()} {context.release}".encode()
        headers = [(b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


async def answer(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Head and body of one answer. Raises IncompleteReadError if it does not come whole."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    found = re.search(r"content-length: (\d+)", head)
    assert found
    return head, (await reader.readexactly(int(found[1]))).decode()


def asking(path: str = "/", *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: test", *headers, "", ""]).encode()


@asynccontextmanager
async def connected(sock: socket.socket) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_a_trace_is_taken_up_or_begun_and_told() -> None:
    sock = listening()
    edge = Edge(App(), TrafficSplitter("r7", random.random))
    await edge.start(sock.dup())
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with connected(sock) as (reader, writer):
        writer.write(asking("/", f"traceparent: 00-{trace}-b7ad6b7169203331-01"))
        head, body = await answer(reader)
        assert body.startswith(f"00-{trace}-")
        assert body.endswith("-01 r7")
        assert f"traceresponse: 00-{trace}" in head
        writer.write(asking("/", "traceparent: 00-rubbish"))
        _, other = await answer(reader)
        assert re.match(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00 r7", other)
        assert trace not in other
    await edge.drain(5.0, idle_seconds_max=0.0)
    sock.close()


async def test_a_request_in_flight_is_answered_and_its_connection_closed() -> None:
    sock, app = listening(), App()
    edge = Edge(app)
    await edge.start(sock.dup())
    async with connected(sock) as (reader, writer):
        writer.write(asking("/slow"))
        await app.begun.wait()
        drain = asyncio.create_task(edge.drain(5.0, idle_seconds_max=0.0))
        await asyncio.sleep(0.05)
        assert not drain.done()
        app.gate.set()
        head, _ = await answer(reader)
        assert "connection: close" in head
        assert await drain
        assert await reader.read() == b""
    sock.close()


async def test_a_drain_has_a_limit() -> None:
    sock, app = listening(), App()
    edge = Edge(app)
    await edge.start(sock.dup())
    async with connected(sock) as (reader, writer):
        writer.write(asking("/slow"))
        await app.begun.wait()
        assert not await edge.drain(0.1, idle_seconds_max=0.0)
        assert await reader.read() == b""
    sock.close()


@pytest.mark.parametrize("addresses", [(), ("/nowhere/edge",)], ids=["nobody is there", "nobody answers"])
async def test_what_belongs_to_the_other_build_waits_for_it(addresses: tuple[str, ...]) -> None:
    """A build whose release has no requests so far gives nobody its release, though it is alone for a moment."""
    sock = listening()
    edge = Edge(App(), TrafficSplitter("new", random.random))
    edge.share(OtherBuild(1.0, addresses))
    await edge.start(sock.dup())
    async with connected(sock) as (reader, writer):
        writer.write(asking())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
        edge.share(OtherBuild(0.5, addresses))  # from now on it may serve, and nobody else can
        edge.share(None)
        assert (await answer(reader))[1].endswith(" new")
    await edge.drain(5.0, idle_seconds_max=0.0)
    sock.close()


async def test_too_many_connections_get_503() -> None:
    sock, app = listening(), App()
    edge = Edge(app, connections_max=1)
    await edge.start(sock.dup())
    async with connected(sock) as (waiting, first):
        first.write(asking("/slow"))
        await app.begun.wait()
        async with connected(sock) as (reader, second):
            second.write(asking())
            assert b" 503 " in await reader.readuntil(b"\r\n\r\n")
        app.gate.set()
        await answer(waiting)
    await edge.drain(5.0, idle_seconds_max=0.0)
    sock.close()


@pytest.mark.parametrize("rubbish", [b"rubbish\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"])
async def test_rubbish_is_answered_with_400(rubbish: bytes) -> None:
    sock = listening()
    edge = Edge(App())
    await edge.start(sock.dup())
    async with connected(sock) as (reader, writer):
        writer.write(rubbish)
        assert b" 400 " in await reader.read()
    await edge.drain(5.0, idle_seconds_max=0.0)
    sock.close()


def one_request_beside_a_drain(turns: int) -> bytes:
    """What a visitor has when the drain is over who connected so many turns of the loop before it began."""

    async def visit() -> bytes:
        sock = listening()
        edge = Edge(App())
        await edge.start(sock.dup())
        await asyncio.sleep(0)
        with socket.create_connection(sock.getsockname()) as visitor:
            visitor.sendall(asking("/", "connection: close"))
            for _ in range(turns):
                await asyncio.sleep(0)
            assert await edge.drain(5.0, idle_seconds_max=5.0)
            # The loop turns no more, as in a process that has ended.
            visitor.setblocking(False)
            sock.setblocking(False)
            with suppress(BlockingIOError):
                return visitor.recv(100)
            sock.accept()[0].close()  # raises BlockingIOError if somebody took it, and left it there
            return b"left for whoever accepts next"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(visit())


@pytest.mark.parametrize("turns", range(6))
def test_whoever_is_accepted_as_a_drain_begins_is_answered(turns: int) -> None:
    assert one_request_beside_a_drain(turns).startswith((b"HTTP/1.1 200", b"left for"))


async def browse(sock: socket.socket, keep_alive: bool, stop: asyncio.Event, count: Callable[[bool], None]) -> None:
    """A browser without its retries."""
    while not stop.is_set():
        try:
            async with connected(sock) as (reader, writer):
                while not stop.is_set():
                    writer.write(asking("/", "connection: " + ("keep-alive" if keep_alive else "close")))
                    head, _ = await answer(reader)
                    count(True)
                    await asyncio.sleep(0)
                    if "connection: close" in head or not keep_alive:
                        break
        except (OSError, asyncio.IncompleteReadError):
            count(False)


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_restarts_under_load_lose_no_request(keep_alive: bool) -> None:
    sock = listening()
    stop = asyncio.Event()
    answered = lost = 0

    def count(well: bool) -> None:
        nonlocal answered, lost
        answered += well
        lost += not well

    edge = Edge(App())
    await edge.start(sock.dup())
    browsers = [asyncio.create_task(browse(sock, keep_alive, stop, count)) for _ in range(8)]
    for _ in range(6):
        seen = answered
        while answered < seen + 100:
            await asyncio.sleep(0.002)
        successor = Edge(App())
        await successor.start(sock.dup())
        assert await edge.drain(10.0, idle_seconds_max=5.0)
        edge = successor
    stop.set()
    await asyncio.gather(*browsers)
    await edge.drain(5.0, idle_seconds_max=0.0)
    sock.close()
    assert lost == 0
    assert answered >= 600


async def test_every_answer_has_the_date_of_its_making() -> None:
    sock = listening()
    edge = Edge(App())
    await edge.start(sock.dup())
    async with connected(sock) as (reader, writer):
        for _ in range(2):
            earliest = int(time.time())
            writer.write(asking())
            head, _ = await answer(reader)
            (date,) = re.findall(r"\ndate: (.*)\r", head)
            assert earliest <= parsedate_to_datetime(date).timestamp() <= time.time()
            await asyncio.sleep(1.0)
    await edge.drain(0.0)


async def test_a_connection_whose_task_is_cancelled_before_its_first_step_is_closed() -> None:
    ours, theirs = socket.socketpair()
    others = asyncio.all_tasks()
    Edge(App()).take(ours)
    (task,) = asyncio.all_tasks() - others
    task.cancel()
    await asyncio.wait([task])
    with theirs:
        theirs.settimeout(1.0)
        assert theirs.recv(1) == b""
