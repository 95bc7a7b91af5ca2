"""Two connections, byte by byte: what one sends the other sees, and what breaks the protocol closes it."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fissile.wire import events
from fissile.wire.codec import encode
from fissile.wire.connection import Connection
from fissile.wire.frames import (
    CALLS_MAX,
    FRAME_BYTES_MAX,
    HANDSHAKE_BYTES_MAX,
    HEADER,
    REQUEST,
    STREAM_WINDOW_BYTES,
    TIMEOUT_NONE,
    Hello,
    Kind,
    Welcome,
)
from fissile.wire.state import RECEIVABLE, TRANSITIONS, ProtocolError, Role, State, Step, advance


def pair() -> tuple[Connection, Connection]:
    caller, callee = Connection(Role.CALLER), Connection(Role.CALLEE)
    caller.hello(Hello(1, "token", "shop", ("Front",), {"Cart.show": "f00d"}))
    (hello,) = callee.receive(bytes(caller.take()))
    assert isinstance(hello, events.HelloReceived)
    callee.accept(Welcome(1, "cart", {"Cart.show": 0}))
    (welcomed,) = caller.receive(bytes(callee.take()))
    assert isinstance(welcomed, events.Welcomed)
    return caller, callee


def request(caller: Connection, ticket: Any = "ticket", values: tuple[Any, ...] = (1, "en"), **more: Any) -> int:
    told = {
        "method": 0,
        "caller": 0,
        "timeout_ms": 1000,
        "trace_id": 7,
        "span_id": 9,
        "sampled": False,
        "release": "",
        "streaming": False,
        **more,
    }
    return caller.send_request(ticket, values, **told)


def test_a_request_and_its_response() -> None:
    caller, callee = pair()
    call = request(caller, trace_id=2**127 + 1, span_id=2**64 - 1, sampled=True, release="r1", timeout_ms=TIMEOUT_NONE)
    (seen,) = callee.receive(bytes(caller.take()))
    assert isinstance(seen, events.Request)
    assert (seen.call, seen.trace_id, seen.span_id, seen.sampled) == (call, 2**127 + 1, 2**64 - 1, True)
    assert (seen.release, seen.timeout_ms) == ("r1", TIMEOUT_NONE)
    assert msgspec.msgpack.decode(seen.body) == [1, "en"]
    callee.send_response(call, {"total": 3})
    (answer,) = caller.receive(bytes(callee.take()))
    assert isinstance(answer, events.Response)
    assert answer.ticket == "ticket"
    assert msgspec.msgpack.decode(answer.body) == {"total": 3}
    assert not caller.calls
    assert not callee.calls


def test_context_variables_travel_before_the_arguments() -> None:
    caller, callee = pair()
    context = encode({"tenant": "acme"})
    request(caller, values=("first",), context=context)
    request(caller, values=("second",))
    seen = callee.receive(bytes(caller.take()))
    assert [(one.context, one.body) for one in seen] == [(context, encode(("first",))), (b"", encode(("second",)))]


@pytest.mark.parametrize("length", [4, 200, 0xFFFF])
def test_context_variables_that_are_longer_than_their_request(length: int) -> None:
    caller, callee = pair()
    request(caller, values=(), context=b"ab")
    data = caller.take()
    data[REQUEST.size : REQUEST.size + 2] = length.to_bytes(2, "little")
    with pytest.raises(ProtocolError, match="context variables"):
        callee.receive(bytes(data) if length < 0xFFFF else bytes(data) + bytes(0x10000))


def test_an_error_that_cannot_be_encoded_leaves_its_call_open() -> None:
    caller, callee = pair()
    call = request(caller, "ticket")
    callee.receive(bytes(caller.take()))
    with pytest.raises(OverflowError):
        callee.send_error(call, [2**70])
    callee.send_error(call, ["in words"])
    (failed,) = caller.receive(bytes(callee.take()))
    assert isinstance(failed, events.Failed)
    assert failed.ticket == "ticket"


def test_only_one_hello_is_taken() -> None:
    """Also where both come in one packet, before anybody could answer the first."""
    connection = Connection(Role.CALLER)
    connection.hello(Hello(1, "token", "shop"))
    twice = bytes(connection.take()) * 2
    with pytest.raises(ProtocolError, match="not allowed"):
        Connection(Role.CALLEE).receive(twice)


def test_a_welcome_with_numbers_that_no_request_can_carry() -> None:
    caller = Connection(Role.CALLER)
    caller.hello(Hello(1, "token", "shop"))
    with pytest.raises(ProtocolError, match="malformed welcome"):
        caller.receive(frame(Kind.WELCOME, 0, encode([1, "cart", {"Cart.show": 65536}, {}])))


def test_an_error_and_a_cancel() -> None:
    caller, callee = pair()
    first, second = request(caller, "a"), request(caller, "b")
    callee.receive(bytes(caller.take()))
    callee.send_error(first, ["no"])
    (failed,) = caller.receive(bytes(callee.take()))
    assert isinstance(failed, events.Failed)
    assert failed.ticket == "a"
    assert caller.cancel(second) == "b"
    (cancelled,) = callee.receive(bytes(caller.take()))
    assert isinstance(cancelled, events.CancelRequested)
    callee.send_response(second, "too late")
    assert caller.receive(bytes(callee.take())) == []


def test_a_stream_goes_only_as_far_as_its_credit() -> None:
    caller, callee = pair()
    call = request(caller, streaming=True)
    callee.receive(bytes(caller.take()))
    stream = callee.open_stream(call)
    sent = 0
    while stream.window > 0:
        assert callee.send_item(call, b"x" * 10_000)
        sent += 1
    items = caller.receive(bytes(callee.take()))
    assert len(items) == sent
    assert sum(item.size for item in items if isinstance(item, events.Item)) >= STREAM_WINDOW_BYTES
    caller.grant(call, items[0].size)  # type: ignore[union-attr]
    (credit,) = callee.receive(bytes(caller.take()))
    assert isinstance(credit, events.CreditGranted)
    assert stream.window + 10_000 > 0
    callee.end_stream(call)
    (ended,) = caller.receive(bytes(callee.take()))
    assert isinstance(ended, events.Ended)


def test_ping_is_answered() -> None:
    caller, callee = pair()
    caller.ping(5)
    (pinged,) = callee.receive(bytes(caller.take()))
    assert isinstance(pinged, events.Pinged)
    callee.pong(pinged.nonce)
    (ponged,) = caller.receive(bytes(callee.take()))
    assert isinstance(ponged, events.Ponged)
    assert ponged.nonce == 5


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(), st.binary(max_size=300)), min_size=1, max_size=8), st.integers(0, 2**32))
def test_bytes_may_come_in_any_pieces(calls: list[tuple[str, bytes]], seed: int) -> None:
    caller, callee = pair()
    for values in calls:
        request(caller, values=values)
    data = bytes(caller.take())
    chance = random.Random(seed)
    seen: list[Any] = []
    while data:
        cut = chance.randint(1, min(len(data), 97))
        seen += callee.receive(data[:cut])
        data = data[cut:]
    assert [msgspec.msgpack.decode(each.body, type=tuple[str, bytes]) for each in seen] == calls


def frame(kind: int, call: int, body: bytes = b"") -> bytes:
    return HEADER.pack(HEADER.size - 4 + len(body), kind, call) + body


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "another protocol"),
        (HEADER.pack(HANDSHAKE_BYTES_MAX + 1, Kind.HELLO, 0), "outside"),
        (HEADER.pack(0, Kind.HELLO, 0), "outside"),
        (frame(99, 0), "unknown frame kind"),
        (frame(Kind.RESPONSE, 1), "not allowed"),
        (frame(Kind.REQUEST, 1, bytes(REQUEST.size)), "before the handshake"),
        (frame(Kind.HELLO, 0, b"\xc1rubbish"), "malformed hello"),
        (frame(Kind.HELLO, 0, encode(["one", 2])), "malformed hello"),
        (frame(Kind.HELLO, 0, b"\x95\x01\xa1t\xa1s\x90" + b"\x91" * 200_000), "malformed hello"),
    ],
)
def test_a_callee_before_the_handshake_takes_a_hello_only(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        Connection(Role.CALLEE).receive(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (HEADER.pack(FRAME_BYTES_MAX + 1, Kind.REQUEST, 1), "outside"),
        (frame(Kind.REQUEST, 1, b"short"), "shorter than its header"),
        (frame(Kind.REQUEST, 0, bytes(REQUEST.size)), "not greater"),
        (frame(Kind.CANCEL, 1), "never made"),
        (frame(Kind.CREDIT, 1, b"\1"), "malformed credit"),
        (frame(Kind.HELLO, 0), "not allowed"),
        (frame(Kind.GOAWAY, 0, b"\xc1"), "malformed goaway"),
    ],
)
def test_a_callee_that_is_open(data: bytes, why: str) -> None:
    _, callee = pair()
    with pytest.raises(ProtocolError, match=why):
        callee.receive(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frame(Kind.RESPONSE, 1), "does not await"),
        (frame(Kind.ITEM, 1), "no stream"),
        (frame(Kind.END, 1), "no stream"),
        (frame(Kind.REQUEST, 1, bytes(REQUEST.size)), "not allowed"),
    ],
)
def test_a_caller_that_is_open(data: bytes, why: str) -> None:
    caller, _ = pair()
    with pytest.raises(ProtocolError, match=why):
        caller.receive(data)


def test_too_much_credit_and_items_beyond_it() -> None:
    caller, callee = pair()
    call = request(caller, streaming=True)
    callee.receive(bytes(caller.take()))
    callee.open_stream(call)
    with pytest.raises(ProtocolError, match="beyond the window"):
        callee.receive(frame(Kind.CREDIT, call, (STREAM_WINDOW_BYTES + 1).to_bytes(4, "little")))
    item = frame(Kind.ITEM, call, bytes(STREAM_WINDOW_BYTES))
    caller.receive(item)
    with pytest.raises(ProtocolError, match="beyond its credit"):
        caller.receive(item)


def test_a_flood_of_calls_is_bounded() -> None:
    caller, callee = pair()
    for _ in range(CALLS_MAX):
        request(caller)
    callee.receive(bytes(caller.take()))
    request(caller)
    with pytest.raises(ProtocolError, match="in flight"):
        callee.receive(bytes(caller.take()))


def test_what_cannot_be_encoded_sends_nothing() -> None:
    caller, callee = pair()
    request(caller)
    before = bytes(caller.out)
    with pytest.raises(TypeError):
        request(caller, values=(object(),))
    with pytest.raises(ValueError, match="limit"):
        request(caller, values=(bytes(FRAME_BYTES_MAX),))
    assert bytes(caller.out) == before
    assert len(callee.receive(bytes(caller.take()))) == 1


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from([Role.CALLER, Role.CALLEE]), st.booleans())
def test_rubbish_is_refused_and_never_crashes(data: bytes, role: Role, opened: bool) -> None:
    connection = pair()[role is Role.CALLEE] if opened else Connection(role)
    try:
        connection.receive(data)
    except ProtocolError:
        pass


def test_fuzz_valid_frames_with_flipped_bits() -> None:
    """A fixed count of mutated conversations: each is understood or refused, none crashes or hoards memory."""
    chance = random.Random(20)
    for _ in range(3000):
        caller, callee = pair()
        for _ in range(chance.randint(1, 4)):
            request(caller, values=(chance.randbytes(20), "x"), streaming=chance.random() < 0.3)
        data = bytearray(caller.take())
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            callee.receive(bytes(data))
        except ProtocolError:
            continue
        assert callee._chunks_bytes <= len(data)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("step", Step)
def test_the_table_of_states_is_the_only_door(state: State, step: Step) -> None:
    if (state, step) in TRANSITIONS:
        assert advance(state, step) is TRANSITIONS[state, step]
        assert state is not State.CLOSED or advance(state, step) is State.CLOSED
    else:
        with pytest.raises(ProtocolError):
            advance(state, step)


def test_every_role_and_state_says_what_it_receives() -> None:
    assert set(RECEIVABLE) == {(role, state) for role in Role for state in State}
