"""Bodies: msgpack by msgspec. One encoder serves all, since its output never depends on the type."""

from typing import Any, TypeVar

import msgspec

from fissile.wire.state import ProtocolError

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
encode_into = _encoder.encode_into


def decode_body(kind: type[T], body: Any, what: str) -> T:
    """A body of the handshake, decoded. Raises ProtocolError where it is not one."""
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"malformed {what}: {error}") from None
