"""Whether a reader of one type understands what a writer of another wrote.

Arguments are written by the earlier side and read by the later one; results and errors the other way round.
Whatever is not known to be safe is refused, and so is what would be understood as something else, or lost in
silence.

Types are plain data, as of `values.describe`. What a reader takes of what a writer wrote follows msgspec's rules
(jcristharif.com/msgspec/schema-evolution.html): fields are added with a default, unknown ones are ignored.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from math import floor
from typing import Any, cast

import msgspec

from fissile.component.values import DEFAULT

VALUES_SHOWN_MAX = 8
# By name of a limit: the names of the open and the closed one on its side, and the sign by which it is a lower one.
_LOWER, _UPPER = ("gt", "ge", 1), ("lt", "le", -1)
_SHORTEST, _LONGEST = ("", "min_length", 1), ("", "max_length", -1)
_SIDES = {name: side for side in (_LOWER, _UPPER, _SHORTEST, _LONGEST) for name in side[:2] if name}
_LIMITS = (*_SIDES, "multiple_of", "pattern", "tz")
# Kinds that are encoded alike. What is read as a set would lose its order, and what is in it twice.
_BYTES = ("bytes", "bytearray", "memoryview")
_SETS = ("set", "frozenset")
_ROWS = ("list", "vartuple")
_NAMED = ("record", "recursive", "union")
_PARTS = {"dict": ("key", "value"), **dict.fromkeys((*_SETS, *_ROWS), ("item",))}
_SHOWN = {"none": "None", "any": "Any", "vartuple": "tuple"}


class Refusal(msgspec.Struct, frozen=True):
    """Why a reader may refuse what a writer wrote, or take it for something else. place: as ", field `id`"."""

    place: str
    why: str
    remedy: str


class Direction(msgspec.Struct, frozen=True):
    """Who is the later of both, what is wrong then, and the remedies for it.

    reader_is_later: arguments; else results and errors. other: another type. limits, values: more than the reader
    takes. absent: a field that the reader needs.
    """

    reader_is_later: bool
    trouble: str
    other: str
    limits: str
    values: str
    absent: str
    unknown: str


ARGUMENTS = Direction(
    reader_is_later=True,
    trouble="what callers send is not taken any more",
    other="take the earlier type as well, or give the new form a name of its own",
    limits="keep the wider limit",
    values="keep the value",
    absent="give it a default",
    unknown="keep it",
)
ANSWERS = Direction(
    reader_is_later=False,
    trouble="callers do not understand it any more",
    other="keep returning the earlier type, or give the new form a name of its own",
    limits="keep the narrower limit",
    values="keep to the earlier values, or give the new form a name of its own",
    absent="keep writing it",
    unknown="give the new form a name of its own",
)


def misplaced(before: Sequence[str], after: Sequence[str], number: int) -> tuple[str, str] | None:
    """Whether what was at a place is elsewhere now, named otherwise, or gone; and what to do instead."""
    name = before[number]
    if number < len(after) and after[number] == name:
        return None
    if name in after:
        what = f"it is in another place: it was number {number + 1}, and is number {after.index(name) + 1}"
        return what, "keep the order, and add new ones at the end"
    if number < len(after) and after[number] not in before:
        return f"it is named `{after[number]}` now", "keep its name"
    return "it is gone", "keep it, and add new ones at the end"


def refusal(reader: Any, writer: Any, direction: Direction = ANSWERS) -> Refusal | None:
    """The first of `refusals`, if there is one."""
    return next(refusals(reader, writer, direction), None)


def refusals(reader: Any, writer: Any, direction: Direction) -> Iterator[Refusal]:
    """Where, why and what instead, if a reader of one type may refuse what a writer of another wrote."""
    if reader in (writer, "any"):
        return
    ours, theirs = _table(reader), _table(writer)
    if "union" in theirs:
        for part in theirs["union"]:
            yield from refusals(reader, part, direction)
    elif _values(writer) is not None:
        yield from _value_refusals(reader, writer, direction)
    elif "union" in ours:
        yield from _union_refusals(reader, writer, direction)
    elif "record" in ours and "record" in theirs:
        yield from _record_refusals(ours, theirs, direction)
    elif "recursive" in ours and ours["recursive"] == theirs.get("recursive"):
        return  # those records are being compared further up
    elif _values(reader) is not None or not _alike(_kind(reader), _kind(writer)):
        yield _other(reader, writer, direction)
    else:
        yield from _limit_refusals(reader, writer, direction)
        yield from _part_refusals(reader, writer, direction)


def _table(node: Any) -> dict[str, Any]:
    return cast(dict[str, Any], node) if isinstance(node, dict) else {}


def _kind(node: Any) -> str:
    return node if isinstance(node, str) else next(key for key in _table(node) if key not in _LIMITS)


def _parts(node: Any) -> list[Any]:
    found = _table(node).get(_kind(node))
    return cast(list[Any], found) if isinstance(found, list) else []


def _limits(node: Any) -> dict[str, Any]:
    return {key: limit for key, limit in _table(node).items() if key in _LIMITS}


def _values(node: Any) -> list[Any] | None:
    """All values of a type, where they are known one by one."""
    if node == "none":
        return [None]
    table = _table(node)
    return list(dict.fromkeys(value for _, value in table["enum"])) if "enum" in table else table.get("literal")


def _other(reader: Any, writer: Any, direction: Direction) -> Refusal:
    return Refusal("", f"{shown(writer)} is no {shown(reader)}", direction.other)


def _alike(reader: str, writer: str) -> bool:
    """Whether values of one kind are read as the same values of another."""
    return (
        (reader == writer and reader not in _NAMED)
        or (reader in _BYTES and writer in _BYTES)
        or (reader in _SETS and writer in _SETS)
        or (reader in _ROWS and writer in (*_ROWS, *_SETS, "tuple"))
        # msgspec takes an integer where a float is declared, not the other way round.
        or (reader == "float" and writer == "int")
    )


def _value_refusals(reader: Any, writer: Any, direction: Direction) -> Iterator[Refusal]:
    """Of a writer whose values are known: they travel, and each is to be taken."""
    parts = _table(reader).get("union", [reader])
    renumbered = next((no for part in parts if (no := _renumbered(_table(part), _table(writer), direction))), None)
    values = _values(writer) or []
    missing = [value for value in values if not _is_taken(parts, value)]
    combined = _table(writer).get("combined", False) and not any(map(_takes_combined, parts))
    if renumbered is not None:
        yield renumbered
    elif missing and (missing != values or _values(reader) is not None):
        yield Refusal("", f"{', '.join(map(repr, missing))} is not a value of it", direction.values)
    elif missing or combined:
        yield _other(reader, writer, direction)


def _renumbered(reader: dict[str, Any], writer: dict[str, Any], direction: Direction) -> Refusal | None:
    """A member that both enumerations have is to mean the same; the names of others may change."""
    theirs = dict(writer.get("enum", ()))
    for name, value in reader.get("enum", ()):
        if theirs.get(name, value) != value:
            before, after = (theirs[name], value) if direction.reader_is_later else (value, theirs[name])
            return Refusal("", f"its member {name} was {before!r}, and is {after!r}", "keep the value of each member")
    return None


def _is_taken(parts: Sequence[Any], value: Any) -> bool:
    """Whether one of several types takes a value. The limits of a plain one hold for literals beside it, too."""
    plain = [part for part in parts if _kind(part) == type(value).__name__]
    if plain:
        return all(_takes(part, value) for part in plain)
    return any(_takes(part, value) for part in parts)


def _takes(reader: Any, value: Any) -> bool:
    """Whether a type that is no union takes a string, an integer or None as it is."""
    allowed = _values(reader)
    if allowed is not None:
        return value in allowed
    kinds = ("any", "str") if isinstance(value, str) else ("any",) if value is None else ("any", "int", "float")
    return _kind(reader) in kinds and all(_meets(name, limit, value) for name, limit in _limits(reader).items())


def _takes_combined(reader: Any) -> bool:
    """Whether a type takes members of an enumeration that are put together."""
    return reader in ("any", "int", "float") or bool(_table(reader).get("combined", False))


def _meets(name: str, limit: Any, value: Any) -> bool:
    if name == "pattern":
        return re.search(limit, value) is not None
    if name == "multiple_of":
        return value % limit == 0
    exact = {"ge": value, "le": value} if isinstance(value, int) else _of_length(len(value))
    return _implied(name, limit, exact, whole=False)


def _of_length(length: int) -> dict[str, Any]:
    return {"min_length": length, "max_length": length}


def _union_refusals(reader: Any, writer: Any, direction: Direction) -> Iterator[Refusal]:
    parts = _table(reader)["union"]
    if any(refusal(part, writer, direction) is None for part in parts):
        return
    meant = [part for part in parts if _is_meant(_table(part), _table(writer)) or _alike(_kind(part), _kind(writer))]
    if len(meant) == 1:
        yield from refusals(meant[0], writer, direction)
    else:
        yield Refusal("", f"{shown(writer)} is none of {shown(reader)}", direction.other)


def _is_meant(reader: dict[str, Any], writer: dict[str, Any]) -> bool:
    return "record" in reader and "record" in writer and reader["tag"] == writer["tag"]


def _limit_refusals(reader: Any, writer: Any, direction: Direction) -> Iterator[Refusal]:
    given = _limits(writer)
    if _kind(writer) == "tuple":
        given = _of_length(len(_parts(writer)))
    for name, limit in _limits(reader).items():
        if not _implied(name, limit, given, whole=_kind(writer) == "int"):
            written = " and ".join(f"{key} is {value}" for key, value in given.items()) or "it is not limited"
            why = f"{name} is {limit} where it is read, and {written} where it is written"
            yield Refusal("", why, direction.limits)


def _implied(name: str, limit: Any, given: Mapping[str, Any], *, whole: bool) -> bool:
    """Whether what keeps to the given limits keeps to this one. whole: they are integers."""
    if given.get(name) == limit:
        return True
    if name == "multiple_of":
        return whole and isinstance(limit, int) and given.get(name, 1) % limit == 0
    if name not in _SIDES:
        return False
    open_name, closed_name, sign = _SIDES[name]
    bounds = [(sign * given[closed_name], False)] if closed_name in given else []
    if open_name in given:
        bound = sign * given[open_name]
        bounds.append((floor(bound) + 1, False) if whole else (bound, True))
    wanted = sign * limit
    return any(bound > wanted or (bound == wanted and (is_open or name != open_name)) for bound, is_open in bounds)


def _part_refusals(reader: Any, writer: Any, direction: Direction) -> Iterator[Refusal]:
    ours, theirs = _parts(reader), _parts(writer)
    names: Sequence[str] = _PARTS.get(_kind(writer), ())
    if _kind(writer) == "tuple":
        names = [f"item {number}" for number in range(1, len(theirs) + 1)]
        if _kind(reader) != "tuple":
            ours = ours * len(theirs)
    if len(ours) != len(theirs):
        yield _other(reader, writer, direction)
        return
    for name, one, other in zip(names, ours, theirs, strict=True):
        yield from _below(name, refusals(one, other, direction))


def _below(name: str, found: Iterator[Refusal]) -> Iterator[Refusal]:
    for one in found:
        yield Refusal(f", {name}{one.place}", one.why, one.remedy)


def _record_refusals(reader: dict[str, Any], writer: dict[str, Any], direction: Direction) -> Iterator[Refusal]:
    for key, what in (("array", "form"), ("tag", "tag"), ("tag_field", "tag's field")):
        if reader[key] != writer[key]:
            yield Refusal("", f"its {what} differs", "keep how it is encoded")
            return
    tuples = [side["record"] == "namedtuple" for side in (reader, writer)]
    if tuples[0] != tuples[1]:
        yield Refusal("", "one is a tuple and the other is not", "keep how it is encoded")
        return
    in_order = reader["array"] or tuples[0]
    ours, theirs = _fields(reader), _fields(writer)
    if in_order:
        yield from _order_refusals(list(ours), list(theirs), direction)
    # Those in another place are told already.
    placed = min(len(ours), len(theirs)) if in_order else 0
    for number, (name, field) in enumerate(ours.items()):
        if name in theirs:
            yield from _below(f"field `{name}`", _field_refusals(field, theirs[name], direction))
        elif field["required"] and number >= placed:
            yield Refusal(f", field `{name}`", "it is required, and not written", direction.absent)
    for name in [name for name in list(theirs)[placed:] if name not in ours]:
        if reader["closed"] or tuples[0]:
            why = "it is unknown there, and unknown fields are refused"
            yield Refusal(f", field `{name}`", why, direction.unknown)
        elif direction.reader_is_later:
            yield Refusal(f", field `{name}`", "it is gone or renamed, and what they say in it is lost", "keep it")


def _fields(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {field["name"]: field for field in record["fields"]}


def _order_refusals(reader: list[str], writer: list[str], direction: Direction) -> Iterator[Refusal]:
    """Of fields that travel by their place."""
    before, after = (writer, reader) if direction.reader_is_later else (reader, writer)
    for number in range(min(len(before), len(after))):
        moved = misplaced(before, after, number)
        if moved:
            yield Refusal(f", field `{before[number]}`", *moved)


def _field_refusals(reader: dict[str, Any], writer: dict[str, Any], direction: Direction) -> Iterator[Refusal]:
    yield from refusals(reader["type"], writer["type"], direction)
    missing = writer.get("missing")
    if missing and reader["required"]:
        yield Refusal("", "it is required, and may be left out", direction.absent)
    elif missing == DEFAULT and ("default" not in reader or reader["default"] != writer["default"]):
        means = f"{reader['default']!r}" if "default" in reader else "something that is not known"
        why = f"left out, it is {writer['default']!r} to who writes it, and {means} to who reads it"
        yield Refusal("", why, "keep the default")


def shown(node: Any) -> str:
    """A type for people."""
    table = _table(node)
    if "union" in table:
        return " | ".join(shown(part) for part in table["union"])
    if "record" in table:
        return f"{table['class']}{{{', '.join(_fields(table))}}}"
    if "recursive" in table:
        return str(table["class"])
    values = _values(table)
    if values is not None:
        more = ", …" if len(values) > VALUES_SHOWN_MAX else ""
        return f"one of {', '.join(map(repr, values[:VALUES_SHOWN_MAX]))}{more}"
    parts = [shown(part) for part in _parts(node)] + ["..."] * (_kind(node) == "vartuple")
    limits = ", ".join(f"{name} {value}" for name, value in _limits(node).items())
    kind = _SHOWN.get(_kind(node), _kind(node))
    inside = f"[{', '.join(parts)}]" if parts else ""
    return f"{kind}{inside}{f' ({limits})' if limits else ''}"
