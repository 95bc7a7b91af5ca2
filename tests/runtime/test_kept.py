"""Kept connections go from one process to another, and their clients notice nothing."""

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets

from fissile.machine.sockets import listen_handover, listen_tcp
from fissile.runtime.connection_handoff import HandoffReceiver, HandoffSender
from fissile.runtime.edge import Edge
from fissile.runtime.kept import Kept


class Named:
    """Answers with its name and what it was sent; `/slow` waits for the test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self.echo(receive, send)
            return
        if scope["path"] == "/slow":
            self.begun.set()
            await self.gate.wait()
        text = f"{self.name} {(await receive()).get('body', b'').decode()}".encode()
        headers = [(b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def echo(self, receive: Any, send: Any) -> None:
        """Until it is closed."""
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"{self.name} {message['text']}"})


class Pair:
    """Two edges, as those of two replicas, and the first one's listening socket."""

    def __init__(self, folder: Path) -> None:
        self.apps = [Named("first"), Named("second")]
        self.edges = [Edge(app, door="Page") for app in self.apps]
        self.address = str(folder / "second.sock")
        second = self.edges[1]
        take = lambda _door, connection, kept: second.take(connection, kept=kept)  # noqa: E731
        self.receiver = HandoffReceiver(listen_handover(self.address), take)
        self.sock = listen_tcp(0, "a test", "a setting")

    async def client(self) -> "Client":
        return await Client().connect(self.sock)


class Client:
    """One connection, used for request after request."""

    async def connect(self, sock: socket.socket) -> "Client":
        self.reader, self.writer = await asyncio.open_connection(*sock.getsockname())
        return self

    def send(self, text: str = "", path: str = "/", *, begin: int = 0, end: int | None = None) -> None:
        """A request, or only a part of it."""
        head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {len(text)}\r\n\r\n"
        self.writer.write((head + text).encode()[begin:end])

    async def answer(self) -> tuple[str, bool]:
        """The text, and whether the connection goes on."""
        async with asyncio.timeout(5.0):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].split()[0])
            return (await self.reader.readexactly(length)).decode(), "connection: close" not in head

    async def ask(self, text: str = "") -> str:
        """One request, after which the connection goes on."""
        self.send(text)
        answer, goes_on = await self.answer()
        assert goes_on
        return answer


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Pair]:
    found = Pair(folder)
    await found.edges[0].start(found.sock.dup())
    try:
        yield found
    finally:
        found.receiver.close()
        for edge in found.edges:
            await edge.drain(0.0)
        found.sock.close()


async def until_kept(edge: Edge, count: int) -> None:
    async with asyncio.timeout(5.0):
        while edge.kept() != count:
            await asyncio.sleep(0.005)


async def test_a_part_of_those_who_rest_goes_elsewhere(tmp_path: Path):
    async with pair(tmp_path) as found:
        clients = [await found.client() for _ in range(10)]
        assert {await client.ask("a") for client in clients} == {"first a"}
        found.edges[0].move({found.address: 4})
        await until_kept(found.edges[1], 4)
        assert found.edges[0].kept() == 6
        answers = [await client.ask("b") for client in clients]
        assert sorted(answers) == ["first b"] * 6 + ["second b"] * 4


async def test_a_request_that_is_on_its_way_meanwhile_is_answered_over_there(tmp_path: Path):
    async with pair(tmp_path) as found:
        client = await found.client()
        await client.ask()
        with client.writer.get_extra_info("socket").dup() as raw:
            raw.send(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1\r\n\r\nc")
        found.edges[0].move({found.address: 1})  # before the loop has looked at what came
        assert found.edges[0].kept() == 0
        assert await client.answer() == ("second c", True)


@pytest.mark.parametrize("end", [1, 20, -1], ids=["a byte", "half a head", "all but a byte of the body"])
async def test_who_has_sent_part_of_a_request_stays_until_it_is_answered(tmp_path: Path, end: int):
    async with pair(tmp_path) as found:
        client = await found.client()
        await client.ask()
        assert found.edges[0].kept() == 1
        client.send("d", end=end)
        await asyncio.sleep(0.05)
        found.edges[0].move({found.address: 1})
        client.send("d", begin=end)
        assert await client.answer() == ("first d", True)
        await until_kept(found.edges[1], 1)
        assert await client.ask("e") == "second e"


async def test_who_is_busy_goes_once_all_of_its_requests_are_answered(tmp_path: Path):
    async with pair(tmp_path) as found:
        client = await found.client()
        await client.ask()
        assert found.edges[0].kept() == 1
        client.send("f", "/slow")
        await found.apps[0].begun.wait()
        client.send("g")  # sent ahead
        await asyncio.sleep(0.02)
        found.edges[0].move({found.address: 1})
        found.apps[0].gate.set()
        assert [await client.answer(), await client.answer()] == [("first f", True), ("first g", True)]
        await until_kept(found.edges[1], 1)
        assert await client.ask("h") == "second h"


async def test_whom_nobody_takes_stays(tmp_path: Path):
    async with pair(tmp_path) as found:
        client = await found.client()
        await client.ask()
        found.edges[0].move({str(tmp_path / "nowhere.sock"): 1})
        assert await client.ask("i") == "first i"
        found.edges[0].move({str(tmp_path / "nowhere.sock"): 1})
        found.edges[0].move({})  # what was ordered before is forgotten
        found.edges[0].move({found.address: 1})
        assert await client.ask("j") == "second j"


async def test_a_websocket_stays_and_is_not_counted(tmp_path: Path):
    async with pair(tmp_path) as found:
        host, port = found.sock.getsockname()
        async with websockets.connect(f"ws://{host}:{port}/") as one:
            await one.send("k")
            assert await one.recv() == "first k"
            assert found.edges[0].kept() == 0
            found.edges[0].move({found.address: 5})
            await one.send("l")
            assert await one.recv() == "first l"


async def test_who_reads_a_long_answer_stays_and_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever has streams alone would seem to have his part of the requests."""
    monkeypatch.setattr("fissile.runtime.kept.LONG_SECONDS", 0.1)
    async with pair(tmp_path) as found:
        client, edge = await found.client(), found.edges[0]
        await client.ask()
        assert edge.kept() == 1
        client.send("t", "/slow")
        await found.apps[0].begun.wait()
        assert edge.kept() == 1  # who knows how long it takes
        await until_kept(edge, 0)
        found.apps[0].gate.set()
        assert await client.answer() == ("first t", True)
        assert edge.kept() == 1


async def test_who_asks_without_a_pause_is_counted_and_goes(tmp_path: Path):
    async with pair(tmp_path) as found:
        client = await found.client()
        answers: list[str] = []

        async def asks() -> None:
            while "second v" not in answers:
                answers.append(await client.ask("v"))

        work = asyncio.create_task(asks())
        await until_kept(found.edges[0], 1)
        found.edges[0].move({found.address: 1})
        async with asyncio.timeout(5.0):
            await work
        assert set(answers) == {"first v", "second v"}


async def test_a_drain_hands_over_who_rests_and_tells_who_is_busy(tmp_path: Path):
    async with pair(tmp_path) as found:
        resting, busy = await found.client(), await found.client()
        await resting.ask()
        busy.send("m", "/slow")
        await found.apps[0].begun.wait()
        drain = asyncio.create_task(found.edges[0].drain(5.0, idle_seconds_max=5.0, heirs=(found.address,)))
        await until_kept(found.edges[1], 1)
        assert await resting.ask("n") == "second n"
        found.apps[0].gate.set()
        assert await busy.answer() == ("first m", False)
        assert await drain


async def test_heirs_may_be_told_when_the_drain_has_begun(tmp_path: Path):
    async with pair(tmp_path) as found:
        client = await found.client()
        await client.ask()
        drain = asyncio.create_task(found.edges[0].drain(5.0, idle_seconds_max=5.0))
        await asyncio.sleep(0.1)
        assert not drain.done()
        found.edges[0].hurry(5.0, 5.0, (found.address,))
        assert await drain
        assert await client.ask("o") == "second o"


async def test_a_drain_may_be_given_less_time_and_never_more(tmp_path: Path):
    async with pair(tmp_path) as found:
        client = await found.client()
        await client.ask()
        begun = time.monotonic()
        drain = asyncio.create_task(found.edges[0].drain(20.0, idle_seconds_max=5.0))
        await asyncio.sleep(0.05)
        found.edges[0].hurry(20.0, 0.0, ())
        found.edges[0].hurry(60.0, 30.0, ())
        assert await drain
        assert time.monotonic() - begun < 3.0
        assert await client.reader.read() == b""


@pytest.mark.parametrize("seconds", [0.4, 2.0])
async def test_with_little_time_websockets_hear_of_the_end_and_requests_are_answered(tmp_path: Path, seconds: float):
    async with pair(tmp_path) as found:
        host, port = found.sock.getsockname()
        client = await found.client()
        await client.ask()
        async with websockets.connect(f"ws://{host}:{port}/") as one:
            await one.send("p")
            await one.recv()
            drain = asyncio.create_task(found.edges[0].drain(seconds, idle_seconds_max=5.0))
            await asyncio.sleep(seconds / 8)
            client.send("q")
            assert await client.answer() == ("first q", False)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await one.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            assert await drain


async def test_a_request_that_came_while_nobody_looked_is_not_met_by_the_end_of_an_idle_connection(tmp_path: Path):
    """After a stall, an event loop sees first that a time is over, and then what has come in time."""
    async with pair(tmp_path) as found:
        client = await found.client()
        await client.ask()
        (kept,) = [one for one in gc.get_objects() if type(one) is Kept and one.stays()]
        with client.writer.get_extra_info("socket").dup() as raw:
            raw.send(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1\r\n\r\nr")
        kept.expire()
        assert await client.answer() == ("first r", True)
        await client.ask()
        with client.writer.get_extra_info("socket").dup() as raw:
            raw.send(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1\r\n\r\ns")
        assert await found.edges[0].drain(5.0, idle_seconds_max=0.0)
        assert await client.answer() == ("first s", False)


async def test_who_was_taken_over_ends_when_he_says_nothing(tmp_path: Path):
    async with pair(tmp_path) as found:
        client = await found.client()
        await client.ask()
        found.edges[0].move({found.address: 1})
        await until_kept(found.edges[1], 1)
        async with asyncio.timeout(8.0):
            assert await client.reader.read() == b""


async def test_what_was_handed_over_as_a_replica_stops_taking_is_taken_or_stays(tmp_path: Path):
    """Whatever was sent is served, and who comes too late hears of it: nothing is lost in between."""
    for early in (True, False):
        taken: list[socket.socket] = []
        address = str(tmp_path / f"{early}.sock")
        receiver = HandoffReceiver(
            listen_handover(address), lambda _door, connection, _kept, to=taken: to.append(connection)
        )
        sender = HandoffSender()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            well = early and sender.hand_off(ours, "Page", address)
            receiver.close()  # the loop has not turned: nobody has accepted
            if not early:
                well = sender.hand_off(ours, "Page", address)
            assert (well, len(taken)) == (early, early)
        for one in taken:
            one.close()
        sender.close()
