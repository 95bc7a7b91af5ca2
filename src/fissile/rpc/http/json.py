"""JSON that loses nothing on its way through programs whose only number is a double.

Decimal is a string, bytes are base64, datetimes RFC 3339: that is msgspec's own form. Integers beyond
±(2^53-1) become strings, because most JSON parsers would round them (RFC 8259, section 6); strings
are accepted wherever an integer is wanted. JSON has no number for NaN and the infinities: they are the strings
"NaN", "Infinity" and "-Infinity", as in the JSON form of protocol buffers, accepted wherever a float is wanted.
"""

from math import isfinite
from typing import Any, cast

import msgspec

EXACT_INTEGER_MAX = 2**53 - 1


def to_json(value: Any) -> bytes:
    """The value as exact JSON. Raises one of `UNENCODABLE` for what is no value of JSON."""
    return msgspec.json.encode(exact(msgspec.to_builtins(value, str_keys=True)))


def exact(value: Any) -> Any:
    """Builtins in which every number survives JSON and a double."""
    if type(value) is float and not isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if type(value) is int:
        return value if -EXACT_INTEGER_MAX <= value <= EXACT_INTEGER_MAX else str(value)
    if isinstance(value, dict):
        return {key: exact(item) for key, item in cast(dict[str, Any], value).items()}
    if isinstance(value, (list, tuple)):
        return [exact(item) for item in cast(list[Any], value)]
    return value
