"""Contracts as plain data, and which changes of one break the callers of another.

A caller that was built with an earlier contract meets a callee that was built with a later one. What it sends
has to be understood there, and what comes back, here. `compatibility` compares the types; this compares methods:
parameters by place and name, results, and the errors that a method declares.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from fissile.component.compatibility import ANSWERS, ARGUMENTS, Direction, Refusal, misplaced, refusals
from fissile.component.declared_errors import describe_error
from fissile.component.interface import Interface, Method
from fissile.component.values import describe


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
        where = f"{self.method}, {self.place}" if self.place else self.method
        return f"{where}: {self.what}: {self.remedy}"


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
            found.append(Break(label, "", "it is gone", "keep it until no caller is left, even if it was renamed"))
        elif old.fingerprint != new.fingerprint:
            found += [Break(label, *one) for one in _method_breaks(old, new)]
    return found


# Place, what and remedy of a break.
_Told = tuple[str, str, str]


def _method_breaks(old: MethodContract, new: MethodContract) -> Iterator[_Told]:
    yield from _parameter_breaks(old, new)
    if old.streaming != new.streaming:
        what = "it was a stream" if old.streaming else "it is a stream now"
        yield "result", what, "give the new form a name of its own"
    else:
        yield from _told("result", refusals(old.result, new.result, ANSWERS), ANSWERS)
    yield from _error_breaks(old, new)


def _told(place: str, found: Iterator[Refusal], direction: Direction) -> Iterator[_Told]:
    for one in found:
        yield place + one.place, f"{direction.trouble} ({one.why})", one.remedy


def _parameter_breaks(old: MethodContract, new: MethodContract) -> Iterator[_Told]:
    """Arguments travel by their place, and are meant by their name."""
    before = [name for name, _, _ in old.parameters]
    after = [name for name, _, _ in new.parameters]
    later = {name: (kind, required) for name, kind, required in new.parameters}
    for number, (name, kind, required) in enumerate(old.parameters):
        place = f"parameter `{name}`"
        moved = misplaced(before, after, number)
        if moved:
            yield place, *moved
        if name not in later:
            continue
        if later[name][1] and not required:
            yield place, "it is required now, and callers may leave it out", "keep it optional"
        yield from _told(place, refusals(later[name][0], kind, ARGUMENTS), ARGUMENTS)
    renamed = {name for number, name in enumerate(after) if number < len(before) and before[number] not in later}
    for name, (_, required) in later.items():
        if required and name not in before and name not in renamed:
            yield f"parameter `{name}`", "callers do not send it", "give it a default"


def _error_breaks(old: MethodContract, new: MethodContract) -> Iterator[_Told]:
    for name, fields in old.errors.items():
        if name not in new.errors:
            what = "it is gone or renamed, and callers may catch it"
            yield f"error {name}", what, "keep declaring and raising it until no caller is left"
            continue
        changed = dict(new.errors[name])
        for field, kind in fields:
            place = f"error {name}, field `{field}`"
            if field in changed:
                yield from _told(place, refusals(kind, changed[field], ANSWERS), ANSWERS)
            else:
                yield place, "it is gone", "keep it as long as callers read it"


def accepted(callers: Contracts, callee: Contracts) -> dict[str, frozenset[str]]:
    """Which other callers a callee understands, and they it: its methods' fingerprints → theirs."""
    found: dict[str, frozenset[str]] = {}
    for label, own in callee.items():
        theirs = callers.get(label)
        if theirs is None or theirs.fingerprint == own.fingerprint or breaks({label: theirs}, {label: own}):
            continue
        found[own.fingerprint] = found.get(own.fingerprint, frozenset()) | {theirs.fingerprint}
    return found
