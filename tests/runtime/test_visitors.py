"""What visitors may send, and for how long they may stay: from the side of those who mean harm."""

import asyncio
import logging
import re
import resource
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from fissile.errors import DeadlineExceeded, Overloaded, Unavailable
from fissile.runtime import lobby as limits
from fissile.runtime import visitors
from fissile.runtime.edge import Edge

HOST = b"host: test\r\n"
LAST = b"GET /last HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n"
SLOW = CHUNKED.replace(b" / ", b" /slow ")
KIB = 1024


class Echo:
    """Answers with what was asked. `/slow` waits for the gate, `/deaf` never reads."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.ended: list[str] = []
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        path = scope["path"]
        if path in ("/slow", "/deaf"):
            self.begun.set()
            await self.gate.wait()
        size = 0
        while path != "/deaf":
            message = await receive()
            if message["type"] == "http.disconnect":
                self.ended.append(path)
                return
            size += len(message["body"])
            if not message["more_body"]:
                break
        names = ",".join(name.decode() for name, _ in scope["headers"])
        text = f"[{scope['method']} {path} {size} {names}]".encode()
        if path == "/big":
            text = b"x" * (64 * KIB * KIB)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
        await send({"type": "http.response.body", "body": text})
        self.ended.append(path)


class Door:
    """One edge, and ways to misuse it."""

    def __init__(self, app: Any, connections_max: int = 1000) -> None:
        self.edge = Edge(app, connections_max=connections_max)
        self._sock = socket.socket()
        self._sock.bind(("127.0.0.1", 0))
        self._sock.listen(512)
        self._sock.setblocking(False)
        self.address = self._sock.getsockname()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        await self.edge.start(self._sock)

    async def connect(self, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.address, limit=1 << 26)
        self._writers.append(writer)
        writer.write(data)
        return reader, writer

    async def ask(self, data: bytes, piece: int = 1 << 30) -> bytes:
        """All that is answered until the connection ends."""
        reader, writer = await self.connect()
        for at in range(0, len(data), piece):
            with suppress(OSError, RuntimeError):
                writer.write(data[at : at + piece])
                await writer.drain()
            if piece == 1:
                await asyncio.sleep(0)
        async with asyncio.timeout(5.0):
            answers = b""
            while b"HTTP/1.1 431 " not in answers and (more := await reader.read(1 << 20)):
                answers += more
            return answers

    async def pour(self, begin: bytes, more: bytes, size_max: int) -> tuple[int, bytes]:
        """Send until an answer comes: how many bytes that took, and the answer."""
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, self.address)
            await loop.sock_sendall(sock, begin)
            answers, sent = b"", 0
            while sent < size_max:
                with suppress(BlockingIOError):
                    sent += sock.send(more)
                await asyncio.sleep(0)
                with suppress(BlockingIOError):
                    data = sock.recv(64 * KIB)
                    answers += data
                    if not data or b"HTTP/1.1 4" in answers:
                        break
            return sent, answers

    async def until(self, group: limits.Group, count: int) -> None:
        async with asyncio.timeout(5.0):
            while len(group) != count:
                await asyncio.sleep(0.001)

    @property
    def busy(self) -> list[Any]:
        """Connections whose requests are under way, and websockets."""
        lobby = self.edge.lobby
        return [
            one for one in lobby.connections if all(one not in g for g in (lobby.strangers, lobby.kept, lobby.leaving))
        ]

    async def until_busy(self, count: int) -> None:
        async with asyncio.timeout(5.0):
            while len(self.busy) != count:
                await asyncio.sleep(0.001)

    def later(self, seconds: float) -> None:
        """What the door does that much later. From then on its own timer rests: it would set the clock back."""
        timer = self.edge.lobby._look  # pyright: ignore[reportPrivateUsage]
        assert timer is not None
        timer.cancel()
        self.edge.lobby.look(self.edge.lobby.now + seconds + limits.LOOK_SECONDS)

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await self.edge.drain(0.0, idle_seconds_max=0.0)


@asynccontextmanager
async def door(app: Any = None, connections_max: int = 1000) -> AsyncIterator[Door]:
    made = Door(app or Echo(), connections_max)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


MALFORMED = {
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHOST: a\r\n\r\n"),
    "two hosts in HTTP/1.0": (400, b"GET / HTTP/1.0\r\nHost: a\r\nHOST: b\r\n\r\n"),
    "an empty host": (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    "a host with a path": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "a host with a user": (400, b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    "a port that is none": (400, b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    "two lengths": (400, b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabc"),
    "the same length twice": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    ),
    "a list of lengths": (400, b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 3, 3\r\n\r\nabc"),
    "a signed length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"content-length: +3\r\n\r\nabc"),
    "no length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"content-length:\r\n\r\nabc"),
    "a length beyond numbers": (400, b"POST / HTTP/1.1\r\n" + HOST + b"content-length: " + b"9" * 30 + b"\r\n\r\n"),
    "length and chunks": (400, CHUNKED[:-2] + b"content-length: 3\r\n\r\n0\r\n\r\n"),
    "chunks twice": (400, CHUNKED[:-2] + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunks that are not last": (400, CHUNKED[:-4] + b", gzip\r\n\r\n0\r\n\r\n"),
    "another coding": (501, CHUNKED.replace(b": chunked", b": gzip,chunked") + b"0\r\n\r\n"),
    "a coding that nobody knows": (501, CHUNKED.replace(b": chunked", b": cow") + b"0\r\n\r\n"),
    "chunks in HTTP/1.0": (400, CHUNKED.replace(b"/1.1", b"/1.0") + b"0\r\n\r\n"),
    "a size that is none": (400, CHUNKED + b"zz\r\n"),
    "a signed size": (400, CHUNKED + b"-3\r\nabc\r\n"),
    "a size with 0x": (400, CHUNKED + b"0x3\r\nabc\r\n"),
    "a size beyond numbers": (400, CHUNKED + b"f" * 20 + b"\r\n"),
    "a part that is too long": (400, CHUNKED + b"3\r\nabcde0\r\n\r\n"),
    "a body before another protocol": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\nabc",
    ),
    "a length among the trailers": (400, CHUNKED + b"0\r\ncontent-length: 9\r\n\r\n"),
    "NUL in a value": (400, b"GET / HTTP/1.1\r\n" + HOST + b"a: b\0c\r\n\r\n"),
    "CR in a value": (400, b"GET / HTTP/1.1\r\n" + HOST + b"a: b\rc\r\n\r\n"),
    "a bare LF": (400, b"GET / HTTP/1.1\r\n" + HOST + b"a: b\nc: d\r\n\r\n"),
    "a space before the colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"a : b\r\n\r\n"),
    "a folded line": (400, b"GET / HTTP/1.1\r\n" + HOST + b"a: b\r\n c\r\n\r\n"),
    "no version": (505, b"GET /\r\n\r\n"),
    "another version": (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    "a target that is no path": (400, b"GET here HTTP/1.1\r\n" + HOST + b"\r\n"),
    "CONNECT": (400, b"CONNECT test:80 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "the beginning of TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
}


@pytest.mark.parametrize("piece", [1 << 30, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(("status", "data"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_malformed_is_refused_and_nothing_after_it_served(status: int, data: bytes, piece: int) -> None:
    async with door() as one:
        answers = await one.ask(data + LAST, piece)
        assert statuses(answers) == [status], answers
        assert b"/last" not in answers
        assert b"connection: close" in answers


WELL_FORMED = {
    "a port": (b"GET / HTTP/1.1\r\nHost: test:80 \t\r\n\r\n", b"[GET / 0 host]"),
    "IPv6": (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", b"[GET / 0 host]"),
    "an absolute target": (b"GET http://other:8/p?q HTTP/1.1\r\n" + HOST + b"\r\n", b"[GET /p 0 host]"),
    "an absolute target without a path": (b"GET http://other HTTP/1.1\r\n" + HOST + b"\r\n", b"[GET / 0 host]"),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", b"[OPTIONS * 0 host]"),
    "an empty line before": (b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", b"[GET / 0 host]"),
    "extensions of chunks": (CHUNKED + b'3;a=b;c="d"\r\nabc\r\n0\r\n\r\n', b"[POST / 3 host,transfer-encoding]"),
    "trailers": (
        CHUNKED + b"3\r\nabc\r\n0\r\nx-user: root\r\nhost: other\r\n\r\n",
        b"[POST / 3 host,transfer-encoding]",
    ),
    "another protocol": (
        b"GET / HTTP/1.1\r\n" + HOST + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"[GET / 0 host,connection,upgrade]",
    ),
    "three at once": (
        b"GET /1 HTTP/1.1\r\n" + HOST + b"\r\n" + b"GET /2 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"[GET /2 0 host]",
    ),
    "a body that looks like a head": (
        b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 56\r\n\r\n" + LAST[:52] + b"\r\n\r\n",
        b"[POST / 56 host,content-length]",
    ),
}


@pytest.mark.parametrize("piece", [1 << 30, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(("data", "answer"), WELL_FORMED.values(), ids=WELL_FORMED.keys())
async def test_what_is_well_formed_is_served_and_what_follows_too(data: bytes, answer: bytes, piece: int) -> None:
    async with door() as one:
        answers = await one.ask(data + LAST, piece)
        assert answer in answers, answers
        assert b"[GET /last 0 host,connection]" in answers


async def test_trailers_stay_out_of_the_headers_also_of_an_application_that_looks_late() -> None:
    seen: list[list[Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        seen.append(list(scope["headers"]))
        await Echo()(scope | {"path": "/deaf-to-none"}, _nothing, send)

    async def _nothing() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async with door(app) as one:
        await one.ask(CHUNKED + b"3\r\nabc\r\n0\r\nx-user: root\r\n\r\n" + LAST)
    assert [name for name, _ in seen[0]] == [b"host", b"transfer-encoding"]


ENDLESS = {
    "a value": (b"GET / HTTP/1.1\r\n" + HOST + b"x: ", b"a" * 1000),
    "a name": (b"GET / HTTP/1.1\r\n" + HOST, b"a" * 1000),
    "lines": (b"GET / HTTP/1.1\r\n" + HOST, b"a: b\r\n" * 100),
    "a target": (b"GET /", b"a" * 1000),
    "a method": (b"", b"GET" * 300),
    "empty lines": (b"", b"\r\n" * 500),
    "an extension of a chunk": (CHUNKED + b"3;", b"a" * 1000),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n" * 100),
    "a trailer": (CHUNKED + b"0\r\na: ", b"a" * 1000),
    "the head of a websocket": (
        b"GET / HTTP/1.1\r\n" + HOST + b"connection: upgrade\r\nupgrade: websocket\r\nx: ",
        b"a" * 1000,
    ),
    "the second head": (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n" + b"GET / HTTP/1.1\r\n" + HOST + b"x: ", b"a" * 1000),
}


@pytest.mark.parametrize(("begin", "more"), ENDLESS.values(), ids=ENDLESS.keys())
async def test_what_does_not_end_is_refused_at_64_kib(begin: bytes, more: bytes) -> None:
    async with door() as one:
        sent, answers = await one.pour(begin, more, 10 * KIB * KIB)
        assert statuses(answers)[-1] in (400, 431), answers
        assert sent < 8 * KIB * KIB
        assert not one.edge.lobby.strangers


async def test_the_limits_of_a_head_are_exact() -> None:
    def head(size: int, lines: int = 0) -> bytes:
        begin = b"GET /exact HTTP/1.1\r\n" + HOST + b"connection: close\r\n" + b"a: b\r\n" * lines + b"x: "
        return begin + b"a" * (size - len(begin) - 4) + b"\r\n\r\n"

    async with door() as one:
        for piece in (1 << 30, 1000):
            assert statuses(await one.ask(head(visitors.HEAD_BYTES_MAX), piece)) == [200]
            assert statuses(await one.ask(head(visitors.HEAD_BYTES_MAX + 1), piece)) == [431]
            assert statuses(await one.ask(head(8000, 197), piece)) == [200]
            assert statuses(await one.ask(head(8000, 198), piece)) == [431]


async def test_a_body_is_no_part_of_the_head_wherever_it_was_cut() -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"connection: close\r\ncontent-length: 200000\r\n\r\n"
    async with door() as one:
        for cut in range(len(head) - 4, len(head) + 2):
            reader, writer = await one.connect()
            data = head + b"\r\n\r\n" * 50_000
            writer.write(data[:cut])
            await one.until(one.edge.lobby.strangers, 1)
            await asyncio.sleep(0.002)
            writer.write(data[cut:])
            assert statuses(await reader.read()) == [200]


async def test_many_small_chunks_are_a_body() -> None:
    async with door() as one:
        answers = await one.ask(CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n" + LAST)
        assert b"[POST / 100000 " in answers
        assert b"/last" in answers


async def test_what_waits_for_its_turn_is_not_parsed() -> None:
    """A visitor that sends requests faster than they are answered has few of them in memory at a time."""
    app = Echo()
    async with door(app) as one:
        reader, writer = await one.connect(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n")
        await app.begun.wait()
        writer.write((b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n") * 5000 + LAST)
        await asyncio.sleep(0.05)
        (visitor,) = one.busy
        assert isinstance(visitor, visitors.Visitor)
        assert len(visitor.pipeline) == 1
        app.gate.set()
        answers = await reader.read()
        assert statuses(answers) == [200] * 5002
        assert answers.endswith(b"[GET /last 0 host,connection]")


@pytest.mark.parametrize(
    "wrong", [b"rubbish\r\n\r\n", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz"]
)
@pytest.mark.parametrize("plain", [True, False])
async def test_what_is_wrong_is_answered_in_its_turn(wrong: bytes, plain: bool) -> None:
    app = Echo()
    async with door(app) as one:
        before = b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n" if plain else SLOW + b"3\r\nabc\r\n0\r\n\r\n"
        reader, _ = await one.connect(before + wrong)
        await app.begun.wait()
        await asyncio.sleep(0.02)
        app.gate.set()
        answers = await reader.read()
        assert statuses(answers) == [200, 400]
        assert [path for path in app.ended if path != "/slow"] in ([], ["/"])


async def test_the_application_hears_that_the_rest_of_a_body_is_rubbish() -> None:
    app = Echo()
    async with door(app) as one:
        answers = await one.ask(CHUNKED + b"3\r\nabc\r\nzz\r\n")
        assert statuses(answers) == [400]
        assert app.ended == ["/"]


# Limits of time: the lobby is told what time it is.


async def test_half_a_head_is_answered_with_408_and_silence_with_silence() -> None:
    async with door() as one:
        half, _ = await one.connect(b"GET / HTTP/1.1\r\n")
        silent, _ = await one.connect()
        await one.until(one.edge.lobby.strangers, 2)
        await asyncio.sleep(0.02)
        one.later(limits.HEAD_SECONDS_MAX - 1)
        assert len(one.edge.lobby.strangers) == 2
        one.later(2)
        assert statuses(await half.read()) == [408]
        assert await silent.read() == b""


async def test_a_head_may_not_take_longer_by_coming_byte_by_byte() -> None:
    async with door() as one:
        reader, writer = await one.connect(b"GET / HTTP/1.1\r\n")
        await one.until(one.edge.lobby.strangers, 1)
        for _ in range(int(limits.HEAD_SECONDS_MAX) + 1):
            writer.write(b"a")
            await asyncio.sleep(0.002)
            one.later(0.6)
        assert statuses(await reader.read()) == [408]


async def test_idle_connections_are_closed_and_a_further_half_head_has_its_own_time() -> None:
    async with door() as one:
        idle, idler = await one.connect(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await one.until(one.edge.lobby.kept, 1)
        one.later(limits.KEEP_ALIVE_SECONDS - 1)
        idler.write(b"GET")
        await one.until(one.edge.lobby.strangers, 1)
        one.later(limits.KEEP_ALIVE_SECONDS)
        idler.write(b" / HTTP/1.1\r\n" + HOST + b"\r\n")
        await one.until(one.edge.lobby.kept, 1)
        one.later(limits.KEEP_ALIVE_SECONDS)
        assert statuses(await idle.read()) == [200, 200]


async def test_a_body_that_does_not_come_is_answered_with_408() -> None:
    app = Echo()
    async with door(app) as one:
        reader, writer = await one.connect(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 1000\r\n\r\n")
        await one.until_busy(1)
        for _ in range(30):  # a byte in each second
            with suppress(RuntimeError):
                writer.write(b"x")
            await asyncio.sleep(0.002)
            one.later(1 - limits.LOOK_SECONDS)
        with suppress(OSError):
            assert statuses(await reader.readuntil(b"in time.\n")) == [408]
        assert app.ended == ["/"]


async def test_a_body_at_a_fair_rate_may_take_for_hours() -> None:
    async with door() as one:
        size = 1000 * 1000
        reader, writer = await one.connect(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: %d\r\n\r\n" % size)
        await one.until_busy(1)
        for _ in range(1000):
            writer.write(b"x" * 1000)
            await writer.drain()
            await asyncio.sleep(0.0005)
            one.later(3)
        head = await reader.readuntil(b"\r\n\r\n")
        assert statuses(head) == [200]


@pytest.mark.parametrize("rest_seconds", [0, 3], ids=["one after the other", "with rests"])
async def test_each_body_of_a_kept_connection_has_its_own_time(rest_seconds: int) -> None:
    async with door() as one:
        reader, writer = await one.connect()
        for size in [6000, *[20] * 60]:
            writer.write(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: %d\r\n\r\n" % size + b"x" * (size - 1))
            await one.until_busy(1)
            await asyncio.sleep(0.005)
            one.later(0)  # all but the last byte has come
            writer.write(b"x")
            assert statuses(await reader.readuntil(b"\r\n\r\n")) == [200]
            await reader.readuntil(b"]")
            if rest_seconds:
                one.later(rest_seconds)


async def test_who_closes_his_sending_half_has_gone() -> None:
    app = Echo()
    async with door(app) as one:
        reader, writer = await one.connect(SLOW + b"0\r\n\r\n")
        await app.begun.wait()
        writer.write_eof()
        assert await reader.read() == b""
        app.gate.set()
        async with asyncio.timeout(5.0):
            while not app.ended:
                await asyncio.sleep(0.001)


async def test_an_application_that_does_not_read_is_not_the_visitors_fault() -> None:
    app = Echo()
    async with door(app) as one:
        reader, writer = await one.connect(b"POST /slow HTTP/1.1\r\n" + HOST + b"content-length: 1000000\r\n\r\n")
        writer.write(b"x" * 1_000_000)
        waits, _ = await one.connect(
            b"POST /slow HTTP/1.1\r\n" + HOST + b"expect: 100-continue\r\ncontent-length: 9\r\n\r\n"
        )
        await one.until_busy(2)
        await asyncio.sleep(0.05)
        for _ in range(100):
            one.later(10)
        app.gate.set()
        assert statuses(await reader.readuntil(b"\r\n\r\n")) == [200]
        assert await waits.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_an_answer_that_nobody_reads_is_given_up() -> None:
    app = Echo()
    async with door(app) as one:
        _reader, writer = await one.connect()
        writer.transport.pause_reading()
        writer.write(b"GET /big HTTP/1.1\r\n" + HOST + b"\r\n")
        await one.until_busy(1)
        while app.ended != ["/big"]:
            await asyncio.sleep(0.001)
        for _ in range(25):
            one.later(1 - limits.LOOK_SECONDS)
        await one.until_busy(0)
        assert not one.edge.lobby.connections


async def test_an_answer_may_be_read_slowly() -> None:
    async with door() as one:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, one.address)
            await loop.sock_sendall(sock, b"GET /big HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n")
            size = 0
            while data := await loop.sock_recv(sock, 1 << 20):
                size += len(data)
                one.later(4)
                await asyncio.sleep(0.001)
        assert size > 64 * KIB * KIB


async def test_who_was_refused_may_read_why_although_it_goes_on_sending() -> None:
    async with door() as one:
        with socket.socket() as sock:
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, one.address)
            await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"a" * 200_000)
            await one.until(one.edge.lobby.leaving, 1)
            with suppress(OSError):
                for _ in range(100):
                    sock.send(b"a" * 100_000)
            assert statuses(await loop.sock_recv(sock, 1000)) == [431]
            one.later(limits.LEAVING_SECONDS_MAX)
            await one.until(one.edge.lobby.leaving, 0)
            with pytest.raises(OSError):  # noqa: PT011 -- reset, or a broken pipe
                for _ in range(100):
                    await asyncio.sleep(0.001)
                    sock.send(b"a")


async def test_an_early_answer_to_a_long_body_is_read_before_the_connection_ends() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"2"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": b"no"})

    async with door(app) as one:
        with socket.socket() as sock:
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, one.address)
            await loop.sock_sendall(
                sock, b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 900000\r\n\r\n" + b"x" * 100_000
            )
            await one.until(one.edge.lobby.leaving, 1)
            await loop.sock_sendall(sock, b"x" * 100_000)
            assert statuses(await loop.sock_recv(sock, 1000)) == [413]


# A full door.


async def test_a_full_door_closes_who_waits_longest_and_serves_the_newcomer() -> None:
    async with door(connections_max=10) as one:
        others = [await one.connect(b"GET / HTTP/1.1\r\n" if n % 2 else b"") for n in range(10)]
        await one.until(one.edge.lobby.strangers, 10)
        for _ in range(4):
            assert statuses(await one.ask(LAST)) == [200]
        first = [reader for reader, _ in others[:1]]
        assert await first[0].read() == b""
        await asyncio.sleep(0.02)
        assert not others[-1][0].at_eof()


async def test_a_kept_connection_outlives_a_crowd_that_asks_for_nothing() -> None:
    async with door(connections_max=10) as one:
        reader, writer = await one.connect(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await reader.readuntil(b"]")
        for _ in range(50):
            await one.connect(b"GET / HTTP/1.1\r\n")
        writer.write(LAST)
        assert statuses(await reader.read()) == [200, 200][1:]


async def test_where_kept_connections_are_more_the_longest_idle_goes() -> None:
    async with door(connections_max=10) as one:
        kept = []
        for _ in range(10):
            kept.append(await one.connect(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"))
            await kept[-1][0].readuntil(b"]")
        assert statuses(await one.ask(LAST)) == [200]
        assert await kept[0][0].read() == b""
        kept[1][1].write(LAST)
        assert statuses(await kept[1][0].read()) == [200]


async def test_where_all_have_requests_the_newcomer_is_told_when_to_come_back() -> None:
    app = Echo()
    async with door(app, connections_max=3) as one:
        slow = [await one.connect(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n") for _ in range(3)]
        await one.until_busy(3)
        for _ in range(5):
            answer = await one.ask(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 100000\r\n\r\n" + b"x" * 100_000)
            assert statuses(answer) == [503]
            assert b"retry-after: 1\r\n" in answer
            assert b"connection: close\r\n" in answer
        app.gate.set()
        for reader, _ in slow:
            assert statuses(await reader.readuntil(b"]")) == [200]


async def test_requests_whose_visitors_have_gone_take_places_too() -> None:
    app = Echo()
    async with door(app, connections_max=3) as one:
        for _ in range(3):
            app.begun.clear()
            _, writer = await one.connect(b"GET /deaf HTTP/1.1\r\n" + HOST + b"\r\n")
            await app.begun.wait()
            writer.transport.abort()
        await one.until_busy(0)
        assert statuses(await one.ask(LAST)) == [503]
        app.gate.set()


async def test_newcomers_that_ask_for_nothing_do_not_pile_up_beside_requests() -> None:
    app = Echo()
    async with door(app, connections_max=3) as one:
        for _ in range(3):
            await one.connect(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n")
        await one.until_busy(3)
        for _ in range(20):
            await one.connect(b"GET")
        await asyncio.sleep(0.05)
        assert len(one.edge.lobby.connections) <= 4
        app.gate.set()


async def test_all_of_it_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with door() as one:
            for _ in range(50):
                assert statuses(await one.ask(b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"a" * 100_000)) == [431]
            one.later(0)
            one.later(1)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "50 got 431 Request Header Fields Too Large" in line


# What the application does wrong.


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Overloaded("full", retry_after_seconds=2.5), 503),
        (Unavailable("gone"), 503),
        (DeadlineExceeded("late"), 504),
        (ValueError("x"), 500),
    ],
)
@pytest.mark.parametrize("framework", [False, True])
async def test_what_leaves_a_page_is_answered_by_what_it_means(error: Exception, status: int, framework: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/last":
            await Echo()(scope, receive, send)
            return
        if not framework:
            raise error
        try:
            raise error
        except Exception:
            # As Starlette does: answer, then let the server have it.
            await send({"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"5")]})
            await send({"type": "http.response.body", "body": b"oh no"})
            raise

    async with door(app) as one:
        answers = await one.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n" + LAST)
        first, *more = statuses(answers)
        assert first == status
        assert (b"retry-after: " in answers) == (status == 503)
        if isinstance(error, Overloaded):
            assert b"retry-after: 3\r\n" in answers
        # Where the connection ends, the answer said so; else it serves the next request.
        told = b"connection: close" in answers.partition(b"\r\n\r\n")[0]
        assert more == ([] if told else [200])
        assert b"traceresponse: " in answers


@pytest.mark.parametrize("header", [(b"a", b"b\r\nset-cookie: c"), (b"a\r\nb", b"c"), (b"a", b"\n\nx")])
async def test_a_header_with_a_line_break_is_no_answer(header: tuple[bytes, bytes]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [header]})
        await send({"type": "http.response.body", "body": b"never"})

    async with door(app) as one:
        answers = await one.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert statuses(answers) == [500]
        assert b"cookie" not in answers
        assert b"connection: close" in answers


async def test_an_error_after_a_whole_answer_leaves_the_connection_alone() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Echo()(scope, receive, send)
        raise ValueError("in a background task")

    async with door(app) as one:
        assert statuses(await one.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n" + LAST)) == [200, 200]


async def test_an_error_in_the_middle_of_an_answer_cuts_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError

    async with door(app) as one:
        answers = await one.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n" + LAST)
        assert statuses(answers) == [200]
        assert not answers.endswith(b"0\r\n\r\n")


async def test_http_1_0_gets_no_chunks() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async with door(app) as one:
        answers = await one.ask(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        assert answers.endswith(b"\r\n\r\nonetwo")
        assert b"chunked" not in answers
        assert b"connection: close" in answers


# Few descriptors.


class Somebody:
    """A connection, as a lobby sees it."""

    def __init__(self, lobby: limits.Lobby, name: str, connections: set[Any]) -> None:
        self.since = 0.0
        self.name = name
        self._lobby = lobby
        self._connections = connections
        connections.add(self)

    def expire(self) -> None:
        raise AssertionError

    def expel(self) -> None:
        self._connections.discard(self)
        for group in (self._lobby.strangers, self._lobby.kept, self._lobby.leaving):
            group.pop(self, None)

    def watch(self, now: float) -> None:
        raise AssertionError


async def test_a_process_short_of_descriptors_closes_who_waits_longest_at_its_fullest_door() -> None:
    few, crowd = set[Any](), set[Any]()
    small, full = (limits.Lobby(name, there, (), 1000) for name, there in (("small", few), ("full", crowd)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = soft - limits.descriptors_left() - limits.RESERVED_DESCRIPTORS  # in use
    try:
        for number in range(5):
            full.enter(Somebody(full, str(number), crowd))
        # One more than there are already may come; of these here none has a descriptor.
        resource.setrlimit(resource.RLIMIT_NOFILE, ((free + 1) * 8 // 7 + 1, hard))
        small.enter(Somebody(small, "newcomer", few))
        while len(crowd) == 5 and len(few) < 20:
            small.enter(Somebody(small, "newcomer", few))
        assert sorted(one.name for one in crowd) == ["1", "2", "3", "4"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_numbers_of_descriptors_that_are_given_again_hide_nothing() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = [socket.socket() for _ in range(10)]
    try:
        before = limits.descriptors_left()
        there[0].close()
        assert limits.descriptors_left() == before + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        assert limits.descriptors_left() == before + 1 - soft + 1024
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for sock in there:
            sock.close()


async def test_idle_connections_do_not_shut_a_door_with_few_descriptors() -> None:
    clients = [socket.socket() for _ in range(150)]  # theirs come first: only the door's own are few
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with door() as one:
        few = max(client.fileno() for client in clients) + 40
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
            one.edge.lobby.look(asyncio.get_running_loop().time())
            loop = asyncio.get_running_loop()
            for client in clients:
                client.setblocking(False)
                await loop.sock_connect(client, one.address)
                await asyncio.sleep(0.002)
            newcomer = clients[-1]
            await loop.sock_sendall(newcomer, LAST)
            assert statuses(await loop.sock_recv(newcomer, KIB)) == [200]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for client in clients:
                client.close()


# Websockets.


def frame(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    """RFC 6455, 5.2; masked with zeros."""
    assert len(data) < 126
    return struct.pack("!BB4s", (0x80 if fin else 0) | opcode, 0x80 | len(data), b"\0" * 4) + data


UPGRADE = (
    b"GET / HTTP/1.1\r\n" + HOST + b"connection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def talk(scope: Any, receive: Any, send: Any) -> None:
    """Accepts, and listens to all."""
    if scope["type"] == "http":
        await Echo()(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def test_a_websocket_that_reads_nothing_or_never_ends_its_message_is_cut() -> None:
    async with door(talk) as one:
        reader, writer = await one.connect(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        assert len(one.busy) == 1
        writer.write(frame(1, b"", fin=False) + frame(0, b"", fin=False) * 30_000)
        await writer.drain()
        async with asyncio.timeout(5.0):
            while one.busy:
                one.later(0)
                await asyncio.sleep(0.01)
        deaf, pinger = await one.connect(UPGRADE)
        await deaf.readuntil(b"\r\n\r\n")
        pinger.transport.pause_reading()
        async with asyncio.timeout(20.0):
            while one.busy:
                with suppress(OSError, RuntimeError):
                    pinger.write(frame(9, b"x" * 125) * 1000)
                await asyncio.sleep(0.002)
                one.later(1)


async def test_websockets_take_places_and_are_not_closed_for_newcomers() -> None:
    async with door(talk, connections_max=3) as one:
        talking = [await one.connect(UPGRADE) for _ in range(3)]
        for reader, _ in talking:
            assert statuses(await reader.readuntil(b"\r\n\r\n")) == [101]
        assert statuses(await one.ask(LAST)) == [503]
        one.later(1000)
        await one.until_busy(3)
