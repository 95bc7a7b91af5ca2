"""Contracts as plain data, and whether callers of one can live with another.

A caller that was built with an earlier contract meets a callee that was built with a later one: what it
sends has to be understood there, and what comes back, here. So arguments are written by the earlier and
read by the later, results and errors the other way round. Whatever is not known to be safe is a break.

The data are those of `values.describe`; what a reader takes of what a writer wrote follows msgspec's rules
(jcristharif.com/msgspec/schema-evolution.html): fields are added with a default, unknown ones are ignored.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from fissile.component.interface import Interface, Method, describe_error
from fissile.component.values import describe

_LOWER = ("gt", "ge", "min_length")
_UPPER = ("lt", "le", "max_length")
_LIMITS = (*_LOWER, *_UPPER, "multiple_of", "pattern", "tz")


class MethodContract(msgspec.Struct, frozen=True):
    """One method: parameters as (name, type, required), the result, declared errors as (name, fields)."""

    fingerprint: str
    parameters: list[tuple[str, Any, bool]]
    result: Any
    streaming: bool
    errors: dict[str, list[tuple[str, Any]]]


# By "Component.method".
Contracts = dict[str, MethodContract]


class Break(msgspec.Struct, frozen=True):
    """Why a caller built with the earlier contract cannot call the later one.

    method: as "Catalog.product". place: where in it, as "parameter `id`". remedy: the compatible way.
    """

    method: str
    place: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"{self.method}, {self.place}: {self.what}: {self.remedy}"
            if self.place
            else (f"{self.method}: {self.what}: {self.remedy}")
        )


def contracts_of(interface: Interface) -> Contracts:
    """The contracts of an interface's methods."""
    return {method.label: _contract(method) for method in interface.methods.values()}


def _contract(method: Method) -> MethodContract:
    errors = {name: [(field, kind) for field, kind in fields] for name, fields in map(describe_error, method.raises)}
    return MethodContract(
        method.fingerprint,
        [(p.name, describe(p.type), p.required) for p in method.parameters],
        describe(method.result),
        method.streaming,
        errors,
    )


def breaks(earlier: Contracts, later: Contracts) -> list[Break]:
    """What breaks callers built with the earlier contracts; none: all can go on calling."""
    found: list[Break] = []
    for label, old in earlier.items():
        new = later.get(label)
        if new is None:
            found.append(
                Break(label, "", "it is gone", "keep it until no caller is left, also where it has a new name")
            )
        elif old.fingerprint != new.fingerprint:
            found += _method_breaks(label, old, new)
    return found


def _method_breaks(label: str, old: MethodContract, new: MethodContract) -> Iterator[Break]:
    if old.streaming != new.streaming:
        what = "it was a stream" if old.streaming else "it is a stream now"
        yield Break(label, "", what, "give the new form a name of its own")
        return
    for number, (name, kind, _) in enumerate(old.parameters):
        place = f"parameter `{name}`"
        if number >= len(new.parameters) or new.parameters[number][0] != name:
            yield Break(
                label, place, "it is gone, renamed, or in another place", "keep it, and add new ones at the end"
            )
            return
        yield from _told(
            label, place, "what callers send is not taken any more", reader=new.parameters[number][1], writer=kind
        )
    for name, _, required in new.parameters[len(old.parameters) :]:
        if required:
            yield Break(label, f"parameter `{name}`", "callers do not send it", "give it a default")
    yield from _told(label, "result", "callers do not understand it any more", reader=old.result, writer=new.result)
    for name, fields in old.errors.items():
        changed = dict(new.errors.get(name, fields))
        for field, kind in fields:
            place = f"error {name}, field `{field}`"
            if field not in changed:
                yield Break(label, place, "it is gone", "keep it as long as callers read it")
            else:
                yield from _told(
                    label, place, "callers do not understand it any more", reader=kind, writer=changed[field]
                )


def _told(label: str, place: str, what: str, *, reader: Any, writer: Any) -> Iterator[Break]:
    why = refusal(reader, writer)
    if why is not None:
        path, reason, remedy = why
        yield Break(label, place + path, f"{what} ({reason})", remedy)


Refusal = tuple[str, str, str]
WIDER = "take the earlier type as well, or give the new form a name of its own"


def refusal(reader: Any, writer: Any) -> Refusal | None:
    """Where, why and what instead, if a reader of one type may refuse what a writer of another wrote; else None."""
    if reader == writer or reader == "any":
        return None
    ours, theirs = _table(reader), _table(writer)
    if "union" in theirs:
        return next((no for part in theirs["union"] if (no := refusal(reader, part)) is not None), None)
    if "union" in ours:
        taken = any(refusal(part, writer) is None for part in ours["union"])
        return None if taken else ("", f"{shown(writer)} is none of {shown(reader)}", WIDER)
    if "record" in ours and "record" in theirs:
        return _record_refusal(ours, theirs)
    written, allowed = _values(writer), _values(reader)
    if written is not None:
        return _values_refusal(reader, allowed, writer, written)
    # msgspec takes an integer where a float is declared, not the other way round.
    alike = _kind(reader) == _kind(writer) or (_kind(reader), _kind(writer)) == ("float", "int")
    if allowed is not None or not alike:
        return "", f"{shown(writer)} is no {shown(reader)}", WIDER
    return _limit_refusal(_limits(reader), _limits(writer)) or _children_refusal(reader, writer)


def _table(node: Any) -> dict[str, Any]:
    return cast(dict[str, Any], node) if isinstance(node, dict) else {}


def _kind(node: Any) -> str:
    return node if isinstance(node, str) else next(key for key in _table(node) if key not in _LIMITS)


def _children(node: Any) -> list[Any]:
    found = _table(node).get(_kind(node), [])
    return cast(list[Any], found) if isinstance(found, list) else [found]


def _limits(node: Any) -> dict[str, Any]:
    return {key: limit for key, limit in _table(node).items() if key in _LIMITS}


def _values(node: Any) -> list[Any] | None:
    return _table(node).get("enum", _table(node).get("literal"))


def _values_refusal(reader: Any, allowed: list[Any] | None, writer: Any, written: list[Any]) -> Refusal | None:
    if allowed is None:
        plain = {type(value).__name__ for value in written} <= {_kind(reader)} and not _limits(reader)
        return None if plain else ("", f"{shown(writer)} is no {shown(reader)}", WIDER)
    missing = [value for value in written if value not in allowed]
    if not missing:
        return None
    return "", f"{missing[0]!r} is no value of it", "keep the value, or add new ones on the reading side first"


def _limit_refusal(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> Refusal | None:
    for name, limit in reader.items():
        given = writer.get(name)
        if given == limit:
            continue
        lower = given is not None and name in _LOWER and given >= limit
        upper = given is not None and name in _UPPER and given <= limit
        if not lower and not upper:
            before = "was not limited" if given is None else f"was {given}"
            return "", f"{name} is {limit}, and {before}", "keep the wider limit"
    return None


def _children_refusal(reader: Any, writer: Any) -> Refusal | None:
    ours, theirs = _children(reader), _children(writer)
    if len(ours) != len(theirs):
        return "", f"{shown(writer)} is no {shown(reader)}", WIDER
    for one, other in zip(ours, theirs, strict=True):
        no = refusal(one, other)
        if no is not None:
            return f"[]{no[0]}", no[1], no[2]
    return None


def _record_refusal(reader: dict[str, Any], writer: dict[str, Any]) -> Refusal | None:
    for key in ("array", "tag", "tag_field"):
        if reader[key] != writer[key]:
            return "", f"its {key} differs", "keep how it is encoded"
    ours = {name: (kind, required) for name, kind, required in reader["fields"]}
    theirs = {name: (kind, required) for name, kind, required in writer["fields"]}
    tuples = [side["record"] == "namedtuple" for side in (reader, writer)]
    if tuples[0] != tuples[1]:
        return "", "one is a tuple and the other is not", "keep how it is encoded"
    if reader["array"] or tuples[0]:
        for one, other in zip(ours, theirs, strict=False):
            if one != other:
                return f".{other}", "it is in another place", "keep the order, and add new fields at the end"
    for name, (kind, required) in ours.items():
        if name not in theirs:
            if required:
                return f".{name}", "it is required, and not written", "give it a default, or keep writing it"
            continue
        if required and not theirs[name][1] and writer["record"] == "typeddict":
            return f".{name}", "it is required, and may be missing", "leave it optional"
        no = refusal(kind, theirs[name][0])
        if no is not None:
            return f".{name}{no[0]}", no[1], no[2]
    unknown = [name for name in theirs if name not in ours]
    if unknown and (reader["closed"] or tuples[0]):
        return f".{unknown[0]}", "it is unknown there, and unknown fields are refused", "allow unknown fields first"
    return None


def shown(node: Any) -> str:
    """A type for people."""
    table = _table(node)
    if not table:
        return str(node)
    if "union" in table:
        return " | ".join(shown(part) for part in table["union"])
    if "record" in table:
        return f"{{{', '.join(name for name, _, _ in table['fields'])}}}"
    values = _values(node)
    if values is not None:
        return f"one of {', '.join(map(repr, values))}"
    children = ", ".join(shown(child) for child in _children(node))
    limits = ", ".join(f"{name} {value}" for name, value in _limits(node).items())
    return f"{_kind(node)}{f'[{children}]' if children else ''}{f' ({limits})' if limits else ''}"
