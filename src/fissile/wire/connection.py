"""One connection, without its socket: bytes in, events out, and bytes to send.

The shell feeds `receive` with what it read, and is told of one event after the other: it acts on one
before the next is looked at, so that the cancel of a request finds what the request began, also where
both came in one packet. It calls the `send_*` methods and writes what `take` returns. Nothing here waits
or knows the time. An unanswered call is kept with the shell's own `ticket`, so that an answer is matched
with one look-up.
"""

from collections.abc import Callable
from typing import Any

from fissile.wire import events
from fissile.wire.codec import decode_body, encode_into
from fissile.wire.events import Event
from fissile.wire.frames import (
    CALL_ID_MAX,
    CALLS_MAX,
    CONTEXT_BYTES_MAX,
    CONTEXT_LENGTH_BYTES,
    CREDIT,
    FLAG_CONTEXT,
    FLAG_SAMPLED,
    FRAME_BYTES_MAX,
    HANDSHAKE_BYTES_MAX,
    HEADER,
    LENGTH_BYTES,
    OVERHEAD_BYTES,
    RELEASES_KNOWN_MAX,
    REQUEST,
    STREAM_WINDOW_BYTES,
    Goaway,
    Hello,
    Kind,
    Welcome,
)
from fissile.wire.state import RECEIVABLE, ProtocolError, Role, State, Step, advance

_HEADER_ROOM = bytes(HEADER.size)
_REQUEST_ROOM = bytes(REQUEST.size)
_unpack_header = HEADER.unpack_from
_unpack_request = REQUEST.unpack_from
_pack_header_into = HEADER.pack_into
_pack_request_into = REQUEST.pack_into
_pack_header = HEADER.pack
_HEADER_BYTES = HEADER.size
_REQUEST_BYTES = REQUEST.size
_NO_RELEASE = bytes(16)
# Plain ints: comparing an IntEnum member costs several times as much.
_REQUEST, _RESPONSE = int(Kind.REQUEST), int(Kind.RESPONSE)


class Stream:
    """A stream in flight. `window`: bytes that may still be sent (callee) or received (caller)."""

    __slots__ = ("ticket", "window")

    def __init__(self, ticket: Any) -> None:
        self.ticket = ticket
        self.window = STREAM_WINDOW_BYTES


class Connection:
    """The protocol's state on one side of one connection."""

    def __init__(self, role: Role, *, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.role = role
        self.state = State.HANDSHAKE
        self.calls: dict[int, Any] = {}
        self.streams: dict[int, Stream] = {}
        self.out = bytearray()
        self._frame_bytes_max = frame_bytes_max
        self._last_call = 0
        self._chunks: list[bytes] = []
        self._chunks_bytes = 0
        self._wanted_bytes = LENGTH_BYTES
        self._releases: dict[bytes, str] = {_NO_RELEASE: ""}
        self._receivable = RECEIVABLE[role, self.state]

    # -- bytes in ---------------------------------------------------------------------------------

    def receive(self, data: bytes, act: Callable[[Event], object]) -> None:
        """Act on what the peer did, event by event.

        Raises ProtocolError, after which the connection is to be closed, and what `act` raises.
        """
        if self._chunks:
            self._chunks.append(data)
            self._chunks_bytes += len(data)
            if self._chunks_bytes < self._wanted_bytes:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
        callee = self.role is Role.CALLEE
        position = 0
        size = len(data)
        while size - position >= _HEADER_BYTES:
            length, kind, call = _unpack_header(data, position)
            end = position + LENGTH_BYTES + length
            if end > size or length < OVERHEAD_BYTES:
                self._check_length(length)
                break
            if callee and kind == _REQUEST:
                act(self._request(data, position, end, call))
            elif kind == _RESPONSE and not callee and call in self.calls:
                act(events.Response(self.calls.pop(call), data[position + _HEADER_BYTES : end]))
            else:
                event = self._other(kind, call, data[position + _HEADER_BYTES : end])
                if event is not None:
                    act(event)
            position = end
        if position < size:
            self._keep(data[position:] if position else data)

    def _keep(self, rest: bytes) -> None:
        self._chunks.append(rest)
        self._chunks_bytes = len(rest)
        self._wanted_bytes = _HEADER_BYTES
        if len(rest) >= LENGTH_BYTES:
            length = int.from_bytes(rest[:LENGTH_BYTES], "little")
            self._check_length(length)
            self._wanted_bytes = max(LENGTH_BYTES + length, _HEADER_BYTES)

    def _check_length(self, length: int) -> None:
        handshake = self.state is State.HANDSHAKE or self.state is State.GREETED
        most = HANDSHAKE_BYTES_MAX if handshake else self._frame_bytes_max
        if length < OVERHEAD_BYTES or length > most:
            raise ProtocolError(
                f"a frame of {length} bytes is outside {OVERHEAD_BYTES}..{most}; does the peer speak another protocol?"
            )

    def _request(self, data: bytes, position: int, end: int, call: int) -> Event:
        if self.state is not State.OPEN and self.state is not State.DRAINING:
            raise ProtocolError("a request before the handshake was done")
        if end - position < _REQUEST_BYTES:
            raise ProtocolError("a request that is shorter than its header")
        if end - position > self._frame_bytes_max:
            self._check_length(end - position - LENGTH_BYTES)
        if call <= self._last_call:
            raise ProtocolError(f"request {call} is not greater than {self._last_call}, which came before it")
        if len(self.calls) >= CALLS_MAX:
            raise ProtocolError(f"more than {CALLS_MAX} calls in flight on one connection")
        self._last_call = call
        self.calls[call] = None
        _, _, _, method, caller, flags, timeout_ms, trace, span_id, release = _unpack_request(data, position)
        known = self._releases.get(release)
        if known is None:
            known = self._learn_release(release)
        position += _REQUEST_BYTES
        context = b""
        if flags & FLAG_CONTEXT:
            begin = position + CONTEXT_LENGTH_BYTES
            position = begin + int.from_bytes(data[position:begin], "little")
            context = data[begin:position]
            if position > end or len(context) > CONTEXT_BYTES_MAX:
                raise ProtocolError(
                    f"context variables of more than {CONTEXT_BYTES_MAX} bytes, or than the request has"
                )
        return events.Request(
            call,
            method,
            caller,
            flags & FLAG_SAMPLED != 0,
            timeout_ms,
            int.from_bytes(trace, "big"),
            span_id,
            known,
            data[position:end],
            context,
        )

    def _learn_release(self, raw: bytes) -> str:
        try:
            text = raw.rstrip(b"\0").decode("ascii")
        except UnicodeDecodeError:
            raise ProtocolError("a release id that is not ASCII") from None
        if len(self._releases) < RELEASES_KNOWN_MAX:
            self._releases[raw] = text
        return text

    def _other(self, number: int, call: int, body: bytes) -> Event | None:
        try:
            kind = Kind(number)
        except ValueError:
            raise ProtocolError(f"unknown frame kind {number}") from None
        if kind not in self._receivable:
            raise ProtocolError(f"{kind.name} is not allowed for a {self.role.value} in state {self.state.value}")
        self._check_length(len(body) + OVERHEAD_BYTES)
        return _RECEIVERS[kind](self, call, body)

    def _on_hello(self, call: int, body: bytes) -> Event:
        hello = decode_body(Hello, body, "hello")
        self._move(Step.GREET)
        return events.HelloReceived(hello)

    def _on_welcome(self, call: int, body: bytes) -> Event:
        welcome = decode_body(Welcome, body, "welcome")
        self._move(Step.ACCEPT)
        return events.Welcomed(welcome)

    def _on_goaway(self, call: int, body: bytes) -> Event:
        goaway = decode_body(Goaway, body, "goaway")
        self._move(Step.GOAWAY)
        return events.GoawayReceived(goaway)

    def _on_response(self, call: int, body: bytes) -> Event | None:
        # Not in `calls`: the answer crossed our cancel, unless it was never asked for.
        if call > self._last_call or call in self.streams:
            raise ProtocolError(f"a response to call {call}, which does not await one")
        return None

    def _on_error(self, call: int, body: bytes) -> Event | None:
        if call in self.calls:
            return events.Failed(self.calls.pop(call), body)
        stream = self.streams.pop(call, None)
        if stream is not None:
            return events.Failed(stream.ticket, body)
        return self._on_response(call, body)

    def _on_item(self, call: int, body: bytes) -> Event | None:
        stream = self.streams.get(call)
        if stream is None:
            if call in self.calls or call > self._last_call:
                raise ProtocolError(f"a stream item for call {call}, which is no stream")
            return None
        if stream.window <= 0:
            raise ProtocolError(f"a stream item for call {call} beyond its credit")
        size = len(body) + _HEADER_BYTES
        stream.window -= size
        return events.Item(stream.ticket, body, size)

    def _on_end(self, call: int, body: bytes) -> Event | None:
        stream = self.streams.pop(call, None)
        if stream is not None:
            return events.Ended(stream.ticket)
        if call in self.calls or call > self._last_call:
            raise ProtocolError(f"the end of call {call}, which is no stream")
        return None

    def _on_cancel(self, call: int, body: bytes) -> Event | None:
        if call > self._last_call:
            raise ProtocolError(f"a cancel for call {call}, which was never made")
        if call in self.calls:
            return events.CancelRequested(self.calls.pop(call))
        stream = self.streams.pop(call, None)
        return None if stream is None else events.CancelRequested(stream.ticket)

    def _on_credit(self, call: int, body: bytes) -> Event | None:
        if len(body) != CREDIT.size - _HEADER_BYTES:
            raise ProtocolError("malformed credit")
        stream = self.streams.get(call)
        if stream is None:
            if call in self.calls or call > self._last_call:
                raise ProtocolError(f"credit for call {call}, which has sent no item")
            return None
        stream.window += int.from_bytes(body, "little")
        if stream.window > STREAM_WINDOW_BYTES:
            raise ProtocolError(f"credit for call {call} beyond the window of {STREAM_WINDOW_BYTES} bytes")
        return events.CreditGranted(stream.ticket)

    def _on_ping(self, call: int, body: bytes) -> Event:
        return events.Pinged(call)

    def _on_pong(self, call: int, body: bytes) -> Event:
        return events.Ponged(call)

    def _move(self, step: Step) -> None:
        self.state = advance(self.state, step)
        self._receivable = RECEIVABLE[self.role, self.state]

    # -- bytes out --------------------------------------------------------------------------------

    def take(self) -> bytearray:
        """The bytes to write; they are the shell's from now on."""
        taken = self.out
        self.out = bytearray()
        return taken

    def hello(self, hello: Hello) -> None:
        """Introduce this side; the first thing that a caller sends."""
        self._body(Kind.HELLO, 0, hello)

    def accept(self, welcome: Welcome) -> None:
        """Answer a hello: the connection is open."""
        self._move(Step.ACCEPT)
        self._body(Kind.WELCOME, 0, welcome)

    def refuse(self, reason: str) -> None:
        """Answer a hello: the connection will be closed."""
        self._move(Step.REFUSE)
        self._body(Kind.GOAWAY, 0, Goaway(reason, True))

    def send_request(
        self,
        ticket: Any,
        values: tuple[Any, ...],
        method: int,
        caller: int,
        timeout_ms: int,
        trace_id: int,
        span_id: int,
        sampled: bool,
        release: str,
        streaming: bool,
        context: bytes = b"",
    ) -> int:
        """Send a request; its call id. Raises what the encoder raises, and then nothing is sent.

        context: variables, encoded, of at most CONTEXT_BYTES_MAX. There is room: `calls_left` says so.
        """
        call = self._last_call + 1
        assert call <= CALL_ID_MAX, "the connection's call ids are used up"
        out = self.out
        start = len(out)
        out += _REQUEST_ROOM
        flags = FLAG_SAMPLED if sampled else 0
        if context:
            flags |= FLAG_CONTEXT
            out += len(context).to_bytes(CONTEXT_LENGTH_BYTES, "little")
            out += context
        try:
            encode_into(values, out, -1)
        except BaseException:
            del out[start:]
            raise
        length = len(out) - start - LENGTH_BYTES
        if length > self._frame_bytes_max:
            del out[start:]
            raise ValueError(f"the arguments take {length} bytes; the limit is {self._frame_bytes_max}")
        _pack_request_into(
            out,
            start,
            length,
            _REQUEST,
            call,
            method,
            caller,
            flags,
            timeout_ms,
            trace_id.to_bytes(16, "big"),
            span_id,
            release.encode() if release else _NO_RELEASE,
        )
        self._last_call = call
        if streaming:
            self.streams[call] = Stream(ticket)
        else:
            self.calls[call] = ticket
        return call

    def calls_left(self) -> int:
        """How many calls may still be made here, in all."""
        return CALL_ID_MAX - self._last_call

    def cancel(self, call: int) -> Any:
        """Give a call up; its ticket, or None if it was already answered."""
        if call in self.calls:
            ticket = self.calls.pop(call)
        elif call in self.streams:
            ticket = self.streams.pop(call).ticket
        else:
            return None
        self.out += _pack_header(OVERHEAD_BYTES, Kind.CANCEL, call)
        return ticket

    def grant(self, call: int, size: int) -> None:
        """Give credit back for consumed stream items."""
        stream = self.streams.get(call)
        if stream is not None:
            stream.window += size
            self.out += CREDIT.pack(CREDIT.size - LENGTH_BYTES, Kind.CREDIT, call, size)

    def send_response(self, call: int, value: Any) -> None:
        """Answer a request. Raises what the encoder raises, and then nothing is sent."""
        if call not in self.calls:
            return
        out = self.out
        start = len(out)
        out += _HEADER_ROOM
        try:
            encode_into(value, out, -1)
        except BaseException:
            del out[start:]
            raise
        length = len(out) - start - LENGTH_BYTES
        if length > self._frame_bytes_max:
            del out[start:]
            raise ValueError(f"the result takes {length} bytes; the limit is {self._frame_bytes_max}")
        _pack_header_into(out, start, length, _RESPONSE, call)
        del self.calls[call]

    def open_stream(self, call: int) -> Stream:
        """Answer a request with a stream; its ticket is the request's."""
        stream = self.streams[call] = Stream(self.calls.pop(call, None))
        return stream

    def send_item(self, call: int, value: Any) -> bool:
        """Send an item of a stream. False if the stream was given up. Only while its window is open."""
        stream = self.streams.get(call)
        if stream is None:
            return False
        assert stream.window > 0, "an item beyond the credit"
        stream.window -= self._body(Kind.ITEM, call, value)
        return True

    def end_stream(self, call: int) -> None:
        """Say that a stream is complete."""
        if self.streams.pop(call, None) is not None:
            self.out += _pack_header(OVERHEAD_BYTES, Kind.END, call)

    def send_error(self, call: int, failure: Any) -> None:
        """Answer a request, or end a stream, with an error. Raises what the encoder raises: then it is still open."""
        if call in self.calls or call in self.streams:
            self._body(Kind.ERROR, call, failure)
            self.drop(call)

    def drop(self, call: int) -> None:
        """Forget a call that gets no answer any more."""
        self.calls.pop(call, None)
        self.streams.pop(call, None)

    def ping(self, nonce: int) -> None:
        """Ask for a sign of life."""
        self.out += _pack_header(OVERHEAD_BYTES, Kind.PING, nonce)

    def pong(self, nonce: int) -> None:
        """Give a sign of life."""
        self.out += _pack_header(OVERHEAD_BYTES, Kind.PONG, nonce)

    def goaway(self, reason: str) -> None:
        """Take no more requests; what is in flight goes on."""
        self._move(Step.GOAWAY)
        self._body(Kind.GOAWAY, 0, Goaway(reason))

    def close(self) -> list[Any]:
        """End the connection's life; the tickets of all calls that got no answer."""
        self._move(Step.CLOSE)
        left = [*self.calls.values(), *(stream.ticket for stream in self.streams.values())]
        self.calls.clear()
        self.streams.clear()
        self._chunks.clear()
        return left

    def _body(self, kind: Kind, call: int, value: Any) -> int:
        out = self.out
        start = len(out)
        out += _HEADER_ROOM
        try:
            encode_into(value, out, -1)
        except BaseException:
            del out[start:]
            raise
        size = len(out) - start
        if size - LENGTH_BYTES > self._frame_bytes_max:
            del out[start:]
            raise ValueError(f"it takes {size} bytes; the limit is {self._frame_bytes_max}")
        _pack_header_into(out, start, size - LENGTH_BYTES, kind, call)
        return size


_RECEIVERS = {
    Kind.HELLO: Connection._on_hello,  # pyright: ignore[reportPrivateUsage]
    Kind.WELCOME: Connection._on_welcome,  # pyright: ignore[reportPrivateUsage]
    Kind.GOAWAY: Connection._on_goaway,  # pyright: ignore[reportPrivateUsage]
    Kind.RESPONSE: Connection._on_response,  # pyright: ignore[reportPrivateUsage]
    Kind.ERROR: Connection._on_error,  # pyright: ignore[reportPrivateUsage]
    Kind.ITEM: Connection._on_item,  # pyright: ignore[reportPrivateUsage]
    Kind.END: Connection._on_end,  # pyright: ignore[reportPrivateUsage]
    Kind.CANCEL: Connection._on_cancel,  # pyright: ignore[reportPrivateUsage]
    Kind.CREDIT: Connection._on_credit,  # pyright: ignore[reportPrivateUsage]
    Kind.PING: Connection._on_ping,  # pyright: ignore[reportPrivateUsage]
    Kind.PONG: Connection._on_pong,  # pyright: ignore[reportPrivateUsage]
}
