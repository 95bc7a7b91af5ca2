"""Untrusted values as plain data that can always be encoded: what errors carry, whoever made them.

What an exception holds was never checked: texts that are no Unicode, numbers beyond 64 bits, objects
whose `__str__` raises, structures that hold themselves. Here they become bounded, readable plain data.
"""

from typing import Any, cast

import msgspec

from fissile.component.pydantic_models import encode_hook

VALUE_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 32
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def cut(text: str, characters_max: int) -> str:
    """The text with at most so many characters and a word of how many more there were, fit to be encoded."""
    if len(text) > characters_max:
        text = f"{text[:characters_max]}… ({len(text) - characters_max} more characters)"
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def text_of(value: Any, characters_max: int) -> str:
    """What `str` says of the value, bounded and fit to be encoded. Never raises."""
    try:
        text = str(value)
        if type(text) is not str:
            text = str.__getitem__(text, slice(None))
    except BaseException as error:  # whatever an author's __str__ does
        return f"<{type(value).__name__} whose text cannot be made: {type(error).__name__}>"
    return cut(text, characters_max)


def plain(value: Any) -> Any:
    """An equal value of plain data; where there is none, a readable text. Never raises."""
    kind = type(cast(object, value))
    if value is None or kind is bool or kind is float:
        return value
    if kind is int:
        return value if INTEGER_MIN <= value <= INTEGER_MAX else _digits(value)
    if kind is str:
        return cut(value, VALUE_BYTES_MAX)
    try:
        builtins = msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=encode_hook)
    except BaseException:  # whatever an author's class does
        return text_of(value, VALUE_BYTES_MAX)
    try:
        data = _encode(builtins)
    except (TypeError, ValueError, OverflowError, RecursionError):
        try:
            data = _encode(_cleaned(builtins, DEPTH_MAX))
        except Exception:
            return text_of(value, VALUE_BYTES_MAX)
    if len(data) > VALUE_BYTES_MAX:
        return text_of(value, VALUE_BYTES_MAX)
    return _decode(data)


def _digits(value: int) -> str:
    try:
        return cut(str(value), VALUE_BYTES_MAX)
    except ValueError:  # more digits than Python converts
        return f"<an integer of {value.bit_length()} bits>"


def _cleaned(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return cut(value, VALUE_BYTES_MAX)
    if isinstance(value, int) and not isinstance(value, bool):
        return plain(int(value))
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        table = cast(dict[Any, Any], value)
        return {_cleaned(key, depth - 1): _cleaned(item, depth - 1) for key, item in table.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item, depth - 1) for item in cast(list[Any], value)]
    return value
