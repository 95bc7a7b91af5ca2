"""What would not survive a wire: values that pass between components in one process, and could not, or not unchanged,
between two.

Asked of a sample of calls, so that an application is known to be splittable before it is split. The sentences name
places and types and never a value: they are kept and shown where a value may be a secret.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Set
from datetime import datetime, time
from decimal import Decimal
from typing import Any, cast

import msgspec

from fissile.component.copying import as_it_is
from fissile.component.failure import with_names
from fissile.component.interface import Method
from fissile.component.pydantic_models import decode_hook
from fissile.component.values import UNDECODABLE, UNENCODABLE

_SENTENCE_CHARACTERS_MAX = 300


def of_arguments(method: Method, values: tuple[Any, ...]) -> str | None:
    """What would happen to the arguments of a call, in the order of its parameters; None: they would arrive."""
    try:
        data = msgspec.msgpack.encode((method.prepare_arguments or as_it_is)(values))
    except UNENCODABLE as error:
        return _short(f"an argument cannot be encoded for another process: {_reason(error)}")
    try:
        got = method.arguments(msgspec.msgpack.decode(data, type=method.request, dec_hook=decode_hook))
    except UNDECODABLE as error:
        return _short(f"the arguments would be refused by another process: {with_names(_reason(error), method)}")
    pairs = zip(method.parameters, values, got, strict=True)
    found = (_difference(parameter.name, sent, came) for parameter, sent, came in pairs)
    return next((_short(f"the argument {one}") for one in found if one), None)


def of_result(method: Method, value: Any) -> str | None:
    """What would happen to a result, or to an item of a stream; None: it would arrive."""
    what = "item" if method.streaming else "result"
    try:
        data = msgspec.msgpack.encode((method.prepare_result or as_it_is)(value))
    except UNENCODABLE as error:
        return _short(f"the {what} cannot be encoded for another process: {_reason(error)}")
    try:
        got = msgspec.msgpack.decode(data, type=method.result, dec_hook=decode_hook)
    except UNDECODABLE as error:
        return _short(f"the {what} would be refused by another process: {_reason(error)}")
    found = _difference(what, value, got)
    return _short(f"the {found}") if found else None


def _difference(path: str, sent: Any, came: Any) -> str:
    try:
        return difference(path, sent, came)
    except RecursionError:  # deeper than this can look, though not than the codec can write: it is let be
        return ""


def difference(path: str, sent: Any, came: Any) -> str:
    """Where and how a value is another after its way, exact types included; "" if it is the same."""
    kind = cast(type[Any], type(sent))
    if kind is not type(came):
        return f"{path} is {_name(kind)} here, and arrives as {_name(cast(type[Any], type(came)))}"
    if isinstance(sent, Mapping):
        return _difference_of_mappings(path, cast(Any, sent), came)
    if isinstance(sent, Set):
        return _difference_of_sets(path, cast(Any, sent), came)
    if isinstance(sent, (list, tuple)):
        return _difference_of_rows(path, cast(Any, sent), came)
    fields = _fields(sent)
    if fields is not None:
        parts = ((f"{path}.{name}", getattr(sent, name, None), getattr(came, name, None)) for name in fields)
        return _first(parts)
    return "" if _equal(sent, came) else f"{path}, {_name(kind)}, arrives with another value"


def _fields(value: Any) -> Iterable[str] | None:
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    return [field.name for field in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else None


def _difference_of_rows(path: str, sent: Any, came: Any) -> str:
    if len(sent) != len(came):
        return f"{path} has {len(sent)} parts here, and arrives with {len(came)}"
    return _first((f"{path}[{number}]", *pair) for number, pair in enumerate(zip(sent, came, strict=True)))


def _difference_of_mappings(path: str, sent: Mapping[Any, Any], came: Mapping[Any, Any]) -> str:
    keys = {key: key for key in came}
    if len(sent) != len(came) or any(key not in keys for key in _findable(sent)):
        return f"{path} arrives with other keys"
    names = _first((f"a key of {path}", key, keys[key]) for key in _findable(sent))
    return names or _first((f"a value of {path}", sent[key], came[key]) for key in _findable(sent))


def _difference_of_sets(path: str, sent: Set[Any], came: Set[Any]) -> str:
    members = {member: member for member in came}
    if len(sent) != len(came) or any(member not in members for member in _findable(sent)):
        return f"{path} arrives with other members"
    return _first((f"a member of {path}", member, members[member]) for member in _findable(sent))


def _findable(things: Iterable[Any]) -> list[Any]:
    """Without those that equal nothing, not even themselves: what is not a number cannot be looked up."""
    return [one for one in things if not isinstance(one, (float, Decimal)) or one == one]


def _first(parts: Iterable[tuple[str, Any, Any]]) -> str:
    return next((found for part in parts if (found := difference(*part))), "")


def _equal(sent: Any, came: Any) -> bool:
    if isinstance(sent, (datetime, time)):
        return sent == came and sent.utcoffset() == came.utcoffset()
    try:
        return bool(sent == came) or (sent != sent and came != came)  # not a number is the same as itself here
    except Exception:  # of a class that cannot be compared
        return False


def _name(kind: type[Any]) -> str:
    name = kind.__qualname__
    return "None" if kind is type(None) else f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def _reason(error: Exception) -> str:
    """The codec names types; an author's own check may name values, so that only its class is told."""
    text = str(error)
    of_the_codec = isinstance(error, (msgspec.MsgspecError, TypeError, OverflowError)) and error.__cause__ is None
    return text if of_the_codec and "value" not in text else type(error.__cause__ or error).__name__


def _short(sentence: str) -> str:
    return sentence[:_SENTENCE_CHARACTERS_MAX]
