"""The offsets of datetimes, which msgpack would lose: its timestamp is an instant, and arrives as UTC.

A datetime that is neither naive nor UTC is written as ISO 8601 text instead, which decoders take as well. Who
encodes first passes the value through `preparer` of its declared type: it looks at nothing but the places
that may hold a datetime, and returns the value itself where there is nothing to do.
"""

import copy
from collections.abc import Callable, Iterator
from datetime import datetime, time, timedelta, timezone
from typing import Any

import msgspec
from msgspec import inspect as shape

from fissile.component.values import RECORDS, children, class_of, record_key

Prepare = Callable[[Any], Any]

_ZERO = timedelta()
_MINUTE = timedelta(minutes=1)
_LISTS = (shape.ListType, shape.VarTupleType, shape.SetType, shape.FrozenSetType)


def preparer(annotation: Any) -> Prepare | None:
    """What is applied to a value of this type before it is encoded; None where nothing is to be done."""
    return _preparer(shape.type_info(annotation), {})


def preparer_of_all(annotations: list[Any]) -> Prepare | None:
    """The same for a tuple that has a value of each of these types."""
    known: dict[Any, Prepare] = {}
    return _at_places([_preparer(shape.type_info(annotation), known) for annotation in annotations])


def datetime_text(value: datetime) -> Any:
    """The datetime as it is encoded: itself, or text where it has an offset that would be lost.

    Offsets have whole minutes (RFC 3339). One with seconds, as zones had long ago, is rounded; the instant stays.
    """
    offset = value.utcoffset()
    if not offset:
        return value
    if offset % _MINUTE:
        value = value.astimezone(timezone(round(offset / _MINUTE) * _MINUTE))
    return value.isoformat()


def time_text(value: time) -> Any:
    """The time of day as it is encoded. Raises ValueError for a zone that would be lost or altered."""
    if value.tzinfo is None:
        return value
    offset = value.utcoffset()
    if offset is None:
        raise ValueError(f"{value} is in a zone whose offset depends on the date: pass a datetime, or a fixed offset")
    if offset % _MINUTE:
        raise ValueError(f"{value} has an offset with seconds: use whole minutes")
    return value


def _preparer(node: Any, known: dict[Any, Prepare]) -> Prepare | None:
    """known: of the records that this is in, so that a type may hold itself."""
    if isinstance(node, shape.Metadata):
        return _preparer(node.type, known)
    if isinstance(node, (shape.DateTimeType, shape.TimeType)):
        write: Prepare = datetime_text if isinstance(node, shape.DateTimeType) else time_text
        return None if node.tz is False else _of_type(datetime if write is datetime_text else time, write)
    if not _holds(node, set()):
        return None
    if isinstance(node, RECORDS):
        return _record(node, known)
    if isinstance(node, shape.UnionType):
        return _union([found for child in node.types if (found := _preparer(child, known)) is not None])
    if isinstance(node, shape.DictType):
        return _table(_preparer(node.key_type, known), _preparer(node.value_type, known))
    if isinstance(node, shape.TupleType):
        return _at_places([_preparer(child, known) for child in node.item_types])
    if isinstance(node, _LISTS):
        return _sequence(_preparer(node.item_type, known))
    return None


def _holds(node: Any, seen: set[Any]) -> bool:
    """Whether there is a datetime or a time anywhere in values of this type."""
    if isinstance(node, (shape.DateTimeType, shape.TimeType)):
        return node.tz is not False
    if isinstance(node, RECORDS):
        if record_key(node) in seen:
            return False
        seen.add(record_key(node))
    return any(_holds(child, seen) for child in children(node))


def _of_type(kind: type, write: Prepare) -> Prepare:
    # Anything else is the encoder's to refuse, or the decoder's.
    return lambda value: write(value) if type(value) is kind else value


def _is(value: Any, kinds: Any) -> bool:
    """`isinstance`, of which type checkers conclude nothing about what is inside."""
    return isinstance(value, kinds)


def _union(parts: list[Prepare]) -> Prepare:
    """Each part leaves alone what is not its own: the members of a union differ in their kinds."""

    def prepare(value: Any) -> Any:
        for part in parts:
            found = part(value)
            if found is not value:
                return found
        return value

    return prepare


def _sequence(item: Prepare | None) -> Prepare | None:
    if item is None:
        return None

    def prepare(value: Any) -> Any:
        if not _is(value, (list, tuple, set, frozenset)):
            return value
        return _changed(value, [item(one) for one in value])

    return prepare


def _at_places(parts: list[Prepare | None]) -> Prepare | None:
    places = [(place, part) for place, part in enumerate(parts) if part is not None]
    if not places:
        return None

    def prepare(value: Any) -> Any:
        if not _is(value, (list, tuple)) or len(value) != len(parts):
            return value
        found: list[Any] = list(value)
        for place, part in places:
            found[place] = part(found[place])
        return _changed(value, found)

    return prepare


def _changed(value: Any, found: list[Any]) -> Any:
    """The value itself where nothing was to be done, else what was found."""
    if all(one is other for one, other in zip(value, found, strict=True)):
        return value
    return tuple(found) if _is(value, tuple) else found


def _table(key: Prepare | None, item: Prepare | None) -> Prepare:
    def pairs(value: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
        for one, other in value.items():
            yield (one if key is None else key(one)), (other if item is None else item(other))

    def prepare(value: Any) -> Any:
        if not _is(value, dict):
            return value
        found = dict(pairs(value))
        same = all(a is c and b is d for (a, b), (c, d) in zip(value.items(), found.items(), strict=True))
        return value if same else found

    return prepare


def _record(record: Any, known: dict[Any, Prepare]) -> Prepare:
    key = record_key(record)
    if key in known:
        return lambda value: known[key](value)
    cls = class_of(record)
    fields: list[tuple[str, Prepare]] = []

    def prepare(value: Any) -> Any:
        if not isinstance(value, cls):
            return value
        found = value
        for name, part in fields:
            before: Any = getattr(value, name, None)
            after = part(before)
            if after is not before:
                if found is value:
                    found = copy.copy(value)
                write(found, name, after)
        return found

    def prepare_table(value: Any) -> Any:
        if not _is(value, dict):
            return value
        found: Any = value
        for name, part in fields:
            before = found.get(name)
            after = part(before)
            if after is not before:
                found = {**found, name: after}
        return found

    def prepare_tuple(value: Any) -> Any:
        if not isinstance(value, cls):
            return value
        odd = {
            name: after for name, part in fields if (after := part(getattr(value, name))) is not getattr(value, name)
        }
        named: Any = value
        return named._replace(**odd) if odd else value

    write: Callable[[Any, str, Any], None] = object.__setattr__
    whole: Prepare = prepare
    if isinstance(record, shape.StructType):
        write = msgspec.structs.force_setattr
    elif isinstance(record, shape.TypedDictType):
        whole = prepare_table
    elif isinstance(record, shape.NamedTupleType):
        whole = prepare_tuple
    known[key] = whole
    for field in record.fields:
        part = _preparer(field.type, known)
        if part is not None:
            fields.append((field.name, part))
    return whole
