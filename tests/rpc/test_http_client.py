"""Calls of a program in another language, whatever it answers."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from fissile import Application, component, method
from fissile.component.context import CallContext, call_context
from fissile.errors import CALL_ERRORS, DeadlineExceeded, InvalidArgument, Overloaded, RemoteError, Unavailable
from fissile.rpc.http.client import HttpChannel, http_reference
from fissile.rpc.route import Route

TENANT: ContextVar[str] = ContextVar("tenant")


class Refused(Exception):
    reason: str
    left: int


class Both(ExceptionGroup[Exception]):
    """A declared group."""


@component
class Bank:
    @method(raises=(Refused, Both, TimeoutError))
    async def pay(self, amount: float, at: datetime | None = None) -> float: ...

    async def items(self) -> AsyncIterator[int]:
        yield 1

    async def anything(self, given: Any) -> Any: ...


APP = Application(Bank, context=[TENANT])


class Peer:
    """A program that answers all requests alike, and remembers them."""

    def __init__(self, status: int, body: bytes, headers: str = "") -> None:
        self.status, self.body, self.headers = status, body, headers
        self.heads: list[str] = []
        self.bodies: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = next(
            int(line.partition(":")[2]) for line in head.splitlines() if line.lower().startswith("content-le")
        )
        self.heads.append(head)
        self.bodies.append(await reader.readexactly(length))
        writer.write(
            f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(self.body)}\r\n"
            f"{self.headers}Connection: close\r\n\r\n".encode()
        )
        writer.write(self.body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def bank(status: int, body: Any, headers: str = "") -> AsyncIterator[tuple[Any, Peer]]:
    peer = Peer(status, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    # By name: to an address without one no client sends cookies back.
    channel = HttpChannel("bank", [f"http://{host.replace('127.0.0.1', 'localhost')}:{port}"], token="t")
    try:
        yield http_reference(APP.components["Bank"].interface, Route(channel), variables=APP.context), peer
    finally:
        await channel.close()
        server.close()
        await server.wait_closed()


DECLARED = {
    "type": "urn:fissile:declared:Refused",
    "detail": "no",
    "args": ["no"],
    "fields": {"reason": "r", "left": 1},
}


async def test_a_declared_error_with_its_cause() -> None:
    document = DECLARED | {"cause": {"type": "about:blank", "detail": "oops", "exception": "TypeError"}}
    async with bank(422, document) as (reference, _):
        with pytest.raises(Refused) as caught:
            await reference.pay(1.0)
    assert (caught.value.reason, caught.value.left, caught.value.args) == ("r", 1, ("no",))
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteError)
    assert (cause.type_name, cause.message) == ("TypeError", "oops")


async def test_a_declared_group() -> None:
    document = {"type": "urn:fissile:declared:Both", "args": ["two"], "parts": [DECLARED, {"detail": "x"}, 3]}
    async with bank(422, document) as (reference, _):
        with pytest.raises(Both) as caught:
            await reference.pay(1.0)
    assert [type(one) for one in caught.value.exceptions] == [Refused, RemoteError]


async def test_a_declared_timeout_is_not_taken_for_the_requests() -> None:
    async with bank(422, {"type": "urn:fissile:declared:TimeoutError", "args": ["mine"]}) as (reference, peer):
        with pytest.raises(TimeoutError, match="mine"):
            await reference.pay(1.0)
    assert len(peer.heads) == 1


NESTED: Any = {"detail": "x"}
for _ in range(100):
    NESTED = {"type": "urn:fissile:declared:Both", "args": ["x"], "cause": {"detail": "y"}, "parts": [NESTED]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"detail": ' + b'{"a":' * 50_000,
        {"type": 7, "status": "abc", "detail": ["x"], "title": {}, "remedy": None, "origin": 1.5},
        {"type": "urn:fissile:declared:Refused", "args": 3, "fields": "many"},
        {"type": "urn:fissile:declared:Refused", "args": {"a": 1}, "fields": {"left": "many"}},
        {"type": "urn:fissile:declared:Nobody"},
        {"type": "urn:fissile:declared:Both", "parts": [1, None]},
        {"type": "urn:fissile:error:overloaded", "retry_after_seconds": "soon"},
        {"type": "urn:fissile:error:overloaded", "retry_after_seconds": -1},
        {"type": "urn:fissile:error:nonsense", "cause": 3},
        NESTED,
        {"detail": "x" * 1_000_000},
    ],
)
@pytest.mark.parametrize("status", [400, 500, 422])
async def test_a_problem_that_makes_no_sense_is_an_error_of_the_call(status: int, body: Any) -> None:
    async with bank(status, body) as (reference, _):
        with pytest.raises((*CALL_ERRORS.values(), Refused, Both)) as caught:
            await reference.pay(1.0)
    assert len(str(caught.value)) < 10_000
    if isinstance(caught.value, Overloaded):
        assert caught.value.retry_after_seconds == 0.0


@pytest.mark.parametrize("line", [b"", b"x", b"[1]", b"{}", b'{"item": "x"}', b'{"error": 3}', b"[" * 100_000])
async def test_a_line_that_makes_no_sense_ends_its_stream(line: bytes) -> None:
    async with bank(200, b'{"item": 1}\n' + line + b"\n") as (reference, _):
        seen: list[int] = []
        with pytest.raises((RemoteError, Unavailable)):
            async for item in reference.items():
                seen.append(item)
    assert seen == [1]


async def test_values_go_as_exact_json() -> None:
    at = datetime(2026, 7, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    async with bank(200, b'"-Infinity"') as (reference, peer):
        assert await reference.pay(math.nan, at) == -math.inf
    assert json.loads(peer.bodies[0]) == {"amount": "NaN", "at": "2026-07-01T00:30:00+02:00"}


@pytest.mark.parametrize("given", ["caf\udce9", object(), [[]] * 2])
async def test_what_cannot_be_sent_is_the_callers_mistake(given: Any) -> None:
    if isinstance(given, list):
        given.append(given)
    async with bank(200, b"null") as (reference, peer):
        with pytest.raises(InvalidArgument):
            await reference.anything(given)
    assert peer.heads == []


async def test_whoever_sends_a_call_elsewhere_is_asked_once() -> None:
    async with bank(307, b"", "Location: /elsewhere\r\n") as (reference, peer):
        with pytest.raises(RemoteError, match="HTTP 307"):
            await reference.pay(1.0)
    assert len(peer.heads) == 1


async def test_nothing_is_remembered_for_a_callee() -> None:
    async with bank(200, 1.0, "Set-Cookie: many=more\r\n") as (reference, peer):
        assert [await reference.pay(1.0), await reference.pay(1.0)] == [1.0, 1.0]
    assert not any("many=more" in head for head in peer.heads)


async def test_calls_whose_time_was_up_say_nothing_of_their_callee() -> None:
    async def too_late() -> None:
        call_context.set(CallContext(1, 1, deadline=time.monotonic() - 1.0, timeout=1.0))
        for _ in range(10):
            with pytest.raises(DeadlineExceeded, match=r"Bank\.pay was not called"):
                await reference.pay(1.0)

    async with bank(200, 1.0) as (reference, peer):
        await asyncio.create_task(too_late())
        assert await reference.pay(1.0) == 1.0
    assert len(peer.heads) == 1


async def test_named_variables_go_along_as_baggage() -> None:
    async def told(call: Callable[[Any], Awaitable[Any]]) -> str:
        async with bank(200, b"null") as (reference, peer):
            await call(reference)
        return next((line for line in peer.heads[0].splitlines() if line.lower().startswith("baggage:")), "")

    assert await told(lambda reference: reference.anything(1)) == ""
    TENANT.set("caf\u00e9")
    assert await told(lambda reference: reference.anything(1)) == "baggage: tenant=caf%C3%A9"


def test_json_is_what_msgspec_reads() -> None:
    for text, value in (("NaN", math.nan), ("Infinity", math.inf), ("-Infinity", -math.inf)):
        found = msgspec.json.decode(json.dumps([text]), type=list[float], strict=False)
        assert repr(found) == repr([value])


async def test_a_thread_with_an_event_loop_of_its_own_may_call() -> None:
    """The connections are those of the loop that goes on."""
    async with bank(200, 1.0) as (reference, peer):
        for _ in range(2):
            assert await asyncio.to_thread(lambda: asyncio.run(reference.pay(1.0))) == 1.0
        assert await reference.pay(1.0) == 1.0
    async with bank(200, b'{"item":1}\n{"item":2}\n') as (reference, peer):

        async def items() -> list[int]:
            return [item async for item in reference.items()]

        assert await asyncio.to_thread(lambda: asyncio.run(items())) == [1, 2]
    assert len(peer.heads) == 1
