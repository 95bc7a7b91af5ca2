"""What a connection reports to its shell. Each event is one thing that the peer did."""

from typing import Any

import msgspec

from fissile.wire.frames import Goaway, Hello, Welcome


class HelloReceived(msgspec.Struct, frozen=True, gc=False):
    """A caller introduced itself: answer with `accept` or `refuse`."""

    hello: Hello


class Welcomed(msgspec.Struct, frozen=True, gc=False):
    """The callee accepted this side."""

    welcome: Welcome


class Request(msgspec.Struct, gc=False):
    """A call to serve. timeout_ms: remaining time, `TIMEOUT_NONE` for none. context: variables, encoded."""

    call: int
    method: int
    caller: int
    sampled: bool
    timeout_ms: int
    trace_id: int
    span_id: int
    release: str
    body: bytes
    context: bytes = b""


class Response(msgspec.Struct, gc=False):
    """A call's result. `ticket` is what the shell gave with the request."""

    ticket: Any
    body: bytes


class Failed(msgspec.Struct, gc=False):
    """A call's error, encoded."""

    ticket: Any
    body: bytes


class Item(msgspec.Struct, gc=False):
    """One item of a stream. `size`: the bytes to give back as credit when it is consumed."""

    ticket: Any
    body: bytes
    size: int


class Ended(msgspec.Struct, gc=False):
    """A stream is complete."""

    ticket: Any


class CancelRequested(msgspec.Struct, gc=False):
    """The caller gave a call up; it is forgotten already. `ticket`: what the shell gave with it."""

    ticket: Any


class CreditGranted(msgspec.Struct, gc=False):
    """The caller can take more of a stream."""

    ticket: Any


class GoawayReceived(msgspec.Struct, frozen=True, gc=False):
    """The peer takes no more requests."""

    goaway: Goaway


class Pinged(msgspec.Struct, gc=False):
    """The peer asks for a sign of life: answer with `pong`."""

    nonce: int


class Ponged(msgspec.Struct, gc=False):
    """The peer answered a ping."""

    nonce: int


Event = (
    HelloReceived
    | Welcomed
    | Request
    | Response
    | Failed
    | Item
    | Ended
    | CancelRequested
    | CreditGranted
    | GoawayReceived
    | Pinged
    | Ponged
)
