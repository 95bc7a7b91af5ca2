"""What is on the wire: length-prefixed frames, little-endian, and the bodies of the handshake.

Every frame: length u32 (of all that follows), kind u8, call id u32. A REQUEST goes on with method u16,
caller u16, flags u8, timeout u32 (milliseconds, all ones: none), trace id 16 bytes, span id u64 and
release id 16 bytes; then, if the flags say so, the context variables (length u16, msgpack map); then the
arguments in msgpack. Bodies of HELLO, WELCOME, GOAWAY and ERROR are msgpack arrays.
docs/reference/wire.md says the same for those who write a peer.
"""

from enum import IntEnum
from struct import Struct
from typing import Annotated

import msgspec

PROTOCOL_VERSION = 1

HEADER = Struct("<IBI")
REQUEST = Struct("<IBIHHBI16sQ16s")
CREDIT = Struct("<IBII")
LENGTH_BYTES = 4
OVERHEAD_BYTES = HEADER.size - LENGTH_BYTES

TIMEOUT_NONE = 0xFFFFFFFF
FLAG_SAMPLED = 1
FLAG_CONTEXT = 2
CALL_ID_MAX = 0xFFFFFFFF

# Limits: every length and count is bounded before anything is allocated for it.
FRAME_BYTES_MAX = 16 * 1024 * 1024
HANDSHAKE_BYTES_MAX = 256 * 1024
CALLS_MAX = 4096
STREAM_WINDOW_BYTES = 256 * 1024
RELEASES_KNOWN_MAX = 64
# As much as W3C Baggage asks every platform to carry.
CONTEXT_BYTES_MAX = 8192
CONTEXT_LENGTH_BYTES = 2
METHODS_MAX = 0x10000

MethodIndex = Annotated[int, msgspec.Meta(ge=0, lt=METHODS_MAX)]


class Kind(IntEnum):
    """The kinds of frame."""

    HELLO = 1
    WELCOME = 2
    REQUEST = 3
    RESPONSE = 4
    ERROR = 5
    CANCEL = 6
    ITEM = 7
    END = 8
    CREDIT = 9
    PING = 10
    PONG = 11
    GOAWAY = 12


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """What the connecting side says first.

    token: proves `service`. callers: components that will call, by index. contracts: fingerprint of
    each method that it may call, by "Component.method".
    """

    version: int
    token: str
    service: str
    callers: tuple[str, ...] = ()
    contracts: dict[str, str] = {}


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a hello.

    methods: index by "Component.method" of those that may be called. refused: the code of the error
    that each other method gets ("permission_denied", "incompatible_contract", "unavailable"). variables: names of
    the context variables that the callee takes.
    """

    version: int
    service: str
    methods: dict[str, MethodIndex] = {}
    refused: dict[str, str] = {}
    variables: tuple[str, ...] = ()


class Goaway(msgspec.Struct, frozen=True, array_like=True):
    """Send no more requests here; `reason` says why, `refused` that the connection never opened."""

    reason: str
    refused: bool = False
