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


def received(connection: Connection, data: bytes) -> list[Any]:
    """What the peer did, by the bytes that came."""
    found: list[Any] = []
    connection.receive(data, found.append)
    return found


def pair() -> tuple[Connection, Connection]:
    caller, callee = Connection(Role.CALLER), Connection(Role.CALLEE)
    caller.hello(Hello(1, "token", "shop", ("Front",), {"Cart.show": "f00d"}))
    (hello,) = received(callee, bytes(caller.take()))
    assert isinstance(hello, events.HelloReceived)
    callee.accept(Welcome(1, "cart", {"Cart.show": 0}))
    (welcomed,) = received(caller, bytes(callee.take()))
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
    (seen,) = received(callee, bytes(caller.take()))
    assert isinstance(seen, events.Request)
    assert (seen.call, seen.trace_id, seen.span_id, seen.sampled) == (call, 2**127 + 1, 2**64 - 1, True)
    assert (seen.release, seen.timeout_ms) == ("r1", TIMEOUT_NONE)
    assert msgspec.msgpack.decode(seen.body) == [1, "en"]
    callee.send_response(call, {"total": 3})
    (answer,) = received(caller, bytes(callee.take()))
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
    seen = received(callee, bytes(caller.take()))
    assert [(one.context, one.body) for one in seen] == [(context, encode(("first",))), (b"", encode(("second",)))]


@pytest.mark.parametrize("length", [4, 200, 0xFFFF])
def test_context_variables_that_are_longer_than_their_request(length: int) -> None:
    caller, callee = pair()
    request(caller, values=(), context=b"ab")
    data = caller.take()
    data[REQUEST.size : REQUEST.size + 2] = length.to_bytes(2, "little")
    with pytest.raises(ProtocolError, match="context variables"):
        received(callee, bytes(data) if length < 0xFFFF else bytes(data) + bytes(0x10000))


def test_an_error_that_cannot_be_encoded_leaves_its_call_open() -> None:
    caller, callee = pair()
    call = request(caller, "ticket")
    received(callee, bytes(caller.take()))
    with pytest.raises(OverflowError):
        callee.send_error(call, [2**70])
    callee.send_error(call, ["in words"])
    (failed,) = received(caller, bytes(callee.take()))
    assert isinstance(failed, events.Failed)
    assert failed.ticket == "ticket"


def test_only_one_hello_is_taken() -> None:
    """Also where both come in one packet, before anybody could answer the first."""
    connection = Connection(Role.CALLER)
    connection.hello(Hello(1, "token", "shop"))
    twice = bytes(connection.take()) * 2
    with pytest.raises(ProtocolError, match="not allowed"):
        received(Connection(Role.CALLEE), twice)


def test_a_welcome_with_numbers_that_no_request_can_carry() -> None:
    caller = Connection(Role.CALLER)
    caller.hello(Hello(1, "token", "shop"))
    with pytest.raises(ProtocolError, match="malformed welcome"):
        received(caller, frame(Kind.WELCOME, 0, encode([1, "cart", {"Cart.show": 65536}, {}])))


def test_an_error_and_a_cancel() -> None:
    caller, callee = pair()
    first, second = request(caller, "a"), request(caller, "b")
    received(callee, bytes(caller.take()))
    callee.send_error(first, ["no"])
    (failed,) = received(caller, bytes(callee.take()))
    assert isinstance(failed, events.Failed)
    assert failed.ticket == "a"
    assert caller.cancel(second) == "b"
    (cancelled,) = received(callee, bytes(caller.take()))
    assert isinstance(cancelled, events.CancelRequested)
    callee.send_response(second, "too late")
    assert received(caller, bytes(callee.take())) == []


def test_a_stream_goes_only_as_far_as_its_credit() -> None:
    caller, callee = pair()
    call = request(caller, streaming=True)
    received(callee, bytes(caller.take()))
    stream = callee.open_stream(call)
    sent = 0
    while stream.window > 0:
        assert callee.send_item(call, b"x" * 10_000)
        sent += 1
    items = received(caller, bytes(callee.take()))
    assert len(items) == sent
    assert sum(item.size for item in items if isinstance(item, events.Item)) >= STREAM_WINDOW_BYTES
    caller.grant(call, items[0].size)  # type: ignore[union-attr]
    (credit,) = received(callee, bytes(caller.take()))
    assert isinstance(credit, events.CreditGranted)
    assert stream.window + 10_000 > 0
    callee.end_stream(call)
    (ended,) = received(caller, bytes(callee.take()))
    assert isinstance(ended, events.Ended)


def test_ping_is_answered() -> None:
    caller, callee = pair()
    caller.ping(5)
    (pinged,) = received(callee, bytes(caller.take()))
    assert isinstance(pinged, events.Pinged)
    callee.pong(pinged.nonce)
    (ponged,) = received(caller, bytes(callee.take()))
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
        seen += received(callee, data[:cut])
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
        received(Connection(Role.CALLEE), data)


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
        received(callee, data)


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
        received(caller, data)


def test_too_much_credit_and_items_beyond_it() -> None:
    caller, callee = pair()
    call = request(caller, streaming=True)
    received(callee, bytes(caller.take()))
    callee.open_stream(call)
    with pytest.raises(ProtocolError, match="beyond the window"):
        received(callee, frame(Kind.CREDIT, call, (STREAM_WINDOW_BYTES + 1).to_bytes(4, "little")))
    item = frame(Kind.ITEM, call, bytes(STREAM_WINDOW_BYTES))
    received(caller, item)
    with pytest.raises(ProtocolError, match="beyond its credit"):
        received(caller, item)


def test_a_flood_of_calls_is_bounded() -> None:
    caller, callee = pair()
    for _ in range(CALLS_MAX):
        request(caller)
    received(callee, bytes(caller.take()))
    request(caller)
    with pytest.raises(ProtocolError, match="in flight"):
        received(callee, bytes(caller.take()))


def test_what_cannot_be_encoded_sends_nothing() -> None:
    caller, callee = pair()
    request(caller)
    before = bytes(caller.out)
    with pytest.raises(TypeError):
        request(caller, values=(object(),))
    with pytest.raises(ValueError, match="limit"):
        request(caller, values=(bytes(FRAME_BYTES_MAX),))
    assert bytes(caller.out) == before
    assert len(received(callee, bytes(caller.take()))) == 1


def test_a_cancel_in_the_packet_of_its_request_finds_what_the_request_began() -> None:
    """The shell keeps its ticket when it acts on the request: the cancel must not be looked at before."""
    caller, callee = pair()
    for _ in range(3):
        caller.cancel(request(caller))
    begun: list[str] = []
    ended: list[str] = []

    def act(event: Any) -> None:
        if isinstance(event, events.Request):
            callee.calls[event.call] = f"ticket {event.call}"
            begun.append(callee.calls[event.call])
        else:
            ended.append(event.ticket)

    callee.receive(bytes(caller.take()), act)
    assert begun == ended == ["ticket 1", "ticket 2", "ticket 3"]
    assert not callee.calls


def test_valid_requests_before_a_malformed_frame_are_known_to_the_shell() -> None:
    caller, callee = pair()
    request(caller)
    seen: list[Any] = []
    with pytest.raises(ProtocolError, match="unknown frame kind"):
        callee.receive(bytes(caller.take()) + frame(99, 1), seen.append)
    assert [event.call for event in seen] == [1]


@pytest.mark.parametrize("kind", [Kind.RESPONSE, Kind.ERROR, Kind.ITEM, Kind.END])
def test_a_callee_takes_no_answers(kind: Kind) -> None:
    """A response to a callee's own call once made it forget that call: its caller waited for ever."""
    caller, callee = pair()
    call = request(caller)
    with pytest.raises(ProtocolError, match="not allowed for a callee"):
        received(callee, bytes(caller.take()) + frame(kind, call, b"\xc0"))
    assert call in callee.calls


@pytest.mark.parametrize("other", [0, 1])
def test_credit_before_there_is_a_stream(other: int) -> None:
    """Credit for a call that has not begun to stream, or was never made, is made up."""
    caller, callee = pair()
    call = request(caller, streaming=True)
    data = bytes(caller.take()) + frame(Kind.CREDIT, call + other, b"\xff" * 4)
    with pytest.raises(ProtocolError, match="which has sent no item"):
        received(callee, data)


def test_credit_for_a_stream_that_is_over_is_no_offence() -> None:
    caller, callee = pair()
    call = request(caller, streaming=True)
    received(callee, bytes(caller.take()))
    callee.open_stream(call)
    callee.end_stream(call)
    assert received(callee, frame(Kind.CREDIT, call, (10).to_bytes(4, "little"))) == []


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_where_the_bytes_are_cut_makes_no_difference(seed: int) -> None:
    """The same conversation, in one piece and in many: the same events, and the same end."""
    chance = random.Random(seed)
    caller, _ = pair()
    for _ in range(chance.randint(1, 12)):
        call = request(caller, values=(chance.randbytes(chance.choice((0, 3, 300))),), streaming=chance.random() < 0.3)
        if chance.random() < 0.4:
            caller.cancel(call)
        if chance.random() < 0.2:
            caller.ping(chance.getrandbits(32))
    data = bytearray(caller.take())
    if chance.random() < 0.5:
        data += chance.choice(
            (frame(99, 1), frame(Kind.RESPONSE, 1), HEADER.pack(2, Kind.PING, 1), frame(Kind.CREDIT, 99))
        )

    def told(pieces: list[bytes]) -> tuple[list[str], str]:
        _, callee = pair()
        seen: list[Any] = []
        try:
            for piece in pieces:
                callee.receive(piece, seen.append)
        except ProtocolError as error:
            return [repr(event) for event in seen], str(error)
        return [repr(event) for event in seen], ""

    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randint(1, 40)))
    pieces = [bytes(data[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert told(pieces) == told([bytes(data)])


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from([Role.CALLER, Role.CALLEE]), st.booleans())
def test_rubbish_is_refused_and_never_crashes(data: bytes, role: Role, opened: bool) -> None:
    connection = pair()[role is Role.CALLEE] if opened else Connection(role)
    try:
        received(connection, data)
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
            received(callee, bytes(data))
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
