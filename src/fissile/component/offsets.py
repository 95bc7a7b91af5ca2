"""What is rewritten before it is encoded: datetimes with an offset, and pydantic models.

msgpack would lose the offset of a datetime: its timestamp is an instant, and arrives as UTC.

A datetime that is neither naive nor UTC is written as ISO 8601 text instead, which decoders take as well. Who
encodes first passes the value through `preparer` of its declared type: it looks at nothing but the places
that may hold a datetime or a model, and returns the value itself where there is nothing to do.
"""

import copy
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta, timezone
from typing import Any

import msgspec
from msgspec import inspect as shape

from fissile.component.pydantic_models import is_model, to_plain
from fissile.component.values import RECORDS, children, class_of, record_key

Prepare = Callable[[Any], Any]

_MINUTE = timedelta(minutes=1)
_SEQUENCES = (list, tuple, set, frozenset)
_LISTS = (shape.ListType, shape.VarTupleType, shape.SetType, shape.FrozenSetType)


def preparer(annotation: Any) -> Prepare | None:
    """What is applied to a value of this type before it is encoded; None where there is nothing to do."""
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
    if offset.seconds % 60 or offset.microseconds:
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
        if node.tz is False:
            return None
        return _moment if isinstance(node, shape.DateTimeType) else _time_of_day
    if isinstance(node, shape.CustomType) and is_model(node.cls):
        return to_plain
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
        item = _preparer(node.item_type, known)
        return None if item is None else _sequence(item)
    return None


def _holds(node: Any, seen: set[Any]) -> bool:
    """Whether there is a datetime, a time or a pydantic model anywhere in values of this type."""
    if isinstance(node, (shape.DateTimeType, shape.TimeType)):
        return node.tz is not False
    if isinstance(node, shape.CustomType):
        return is_model(node.cls)
    if isinstance(node, RECORDS):
        if record_key(node) in seen:
            return False
        seen.add(record_key(node))
    return any(_holds(child, seen) for child in children(node))


# Anything but a datetime is the encoder's to refuse, or the decoder's.


def _moment(value: Any) -> Any:
    if type(value) is not datetime:
        return value
    zone = value.tzinfo
    return value if zone is None or zone is UTC else datetime_text(value)


def _time_of_day(value: Any) -> Any:
    return time_text(value) if type(value) is time else value


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


def _sequence(item: Prepare) -> Prepare:
    def prepare(value: Any) -> Any:
        if not _is(value, _SEQUENCES):
            return value
        for place, one in enumerate(value):
            after = item(one)
            if after is not one:
                # Each is prepared once: twice on each level would be without end in a deep tree.
                found: list[Any] = list(value)
                found[place:] = [after, *map(item, found[place + 1 :])]
                return tuple(found) if _is(value, tuple) else found
        return value

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
        if all(found[place] is value[place] for place, _ in places):
            return value
        return tuple(found)

    return prepare


def _table(key: Prepare | None, item: Prepare | None) -> Prepare:
    keys, values = _sequence(key or _as_it_is), _sequence(item or _as_it_is)

    def prepare(value: Any) -> Any:
        if not _is(value, dict):
            return value
        old = list(value), list(value.values())
        new = keys(old[0]), values(old[1])
        return value if new[0] is old[0] and new[1] is old[1] else dict(zip(*new, strict=True))

    return prepare


def _as_it_is(value: Any) -> Any:
    return value


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
            if before is None:
                continue
            after = part(before)
            if after is not before:
                if found is value:
                    found = duplicate(value)
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
    duplicate: Prepare = copy.copy
    whole: Prepare = prepare
    if isinstance(record, shape.StructType):
        write, duplicate = msgspec.structs.force_setattr, cls.__copy__
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
