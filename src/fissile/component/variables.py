"""ContextVars that travel with a call, by value, in every topology.

An application names them: `Application(..., context=[tenant, locale])`. Any other stays in its process. Between
services their values go along in the request's frame as msgpack, and over HTTP as W3C Baggage
(https://www.w3.org/TR/baggage/): strings as they are, other kinds with a property that says so.
"""

from collections.abc import Collection, Iterable, Mapping
from contextvars import Context, ContextVar
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import msgspec

from fissile.errors import InvalidArgument

T = TypeVar("T", str, bytes)

KINDS = (type(None), bool, int, float, str)
# As much as W3C Baggage asks everybody to carry: members, and bytes, in a header as in a frame.
MEMBERS_MAX = 64
BYTES_MAX = 8192
# The codec's integers.
INT_MIN, INT_MAX = -(2**63), 2**64 - 1
OWN = "fissile"

# The property of a member that is no string.
_TYPE = f"{OWN}-type"
_NAMES: dict[type[Any], str] = {type(None): "none", bool: "bool", int: "int", float: "float", str: "str"}
# RFC 7230, 3.2.6, without letters, digits and the percent sign; and what a value may hold as it is.
_TOKEN = "!#$&'*+-.^_`|~"
_VALUE = "!#$&'()*+-./:<=>?@[]^_`{|}~"


class Absent:
    """The type of ABSENT."""


ABSENT = Absent()


def default_of(variable: ContextVar[Any]) -> Any:
    """What a variable is where nobody has set it; ABSENT where it has no default."""
    try:
        return Context().run(variable.get)
    except LookupError:
        return ABSENT


class Variables:
    """The variables that an application names, by name. False where there are none."""

    def __init__(self, variables: Iterable[ContextVar[Any]] = ()) -> None:
        self.by_name = {variable.name: variable for variable in variables}

    def __bool__(self) -> bool:
        return bool(self.by_name)

    def collect(self, origin: str = "") -> dict[str, Any]:
        """The values of those that are set. origin: the method that is called. Raises InvalidArgument for one that
        cannot travel.
        """
        found: dict[str, Any] = {}
        for name, variable in self.by_name.items():
            value = variable.get(ABSENT)
            if value is not ABSENT:
                why_not = unfit(value)
                if why_not:
                    raise _cannot_travel(name, why_not, origin)
                found[name] = value
        return found

    def apply(self, values: Mapping[str, Any]) -> None:
        """Set them in the current context; names that the application does not know are left out."""
        for name, value in values.items():
            variable = self.by_name.get(name)
            if variable is not None:
                variable.set(value)

    def pack(self, origin: str = "", known: Collection[str] | None = None) -> bytes:
        """Those that are set, as bytes for a frame; none: b"". known: the names that the callee takes, None for all.

        Raises InvalidArgument for one that cannot travel, or where all of them are too much.
        """
        values = self.collect(origin)
        if known is not None:
            values = {name: value for name, value in values.items() if name in known}
        return self._bounded(msgspec.msgpack.encode(values), origin) if values else b""

    def unpack(self, data: bytes) -> dict[str, Any]:
        """What `pack` has written, by another process. Raises InvalidArgument where it is something else."""
        if not data:
            return {}
        try:
            return msgspec.msgpack.decode(data, type=dict[str, bool | int | float | str | None])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidArgument(
                f"the context of the call cannot be read: {error}", remedy="run one version of Fissile on both sides"
            ) from None

    def to_baggage(self, origin: str = "") -> str:
        """Those that are set, as the value of a `baggage` header; none: "".

        Raises InvalidArgument for one that cannot travel, or where all of them are too much.
        """
        header = ",".join(_member(self.by_name[name], value) for name, value in self.collect(origin).items())
        return self._bounded(header, origin)

    def from_baggage(self, header: str) -> dict[str, Any]:
        """The values of known names in a `baggage` header; malformed members, and those beyond the limits, are none.

        A member that says no type is taken for that of the variable's default.
        """
        found: dict[str, Any] = {}
        if len(header) > BYTES_MAX:
            header = header[:BYTES_MAX].rpartition(",")[0]  # without the member that is cut
        for member in header.split(",")[:MEMBERS_MAX]:
            pair, *properties = member.split(";")
            key, equals, text = pair.partition("=")
            variable = self.by_name.get(unquote(key.strip()))
            if variable is None or not equals:
                continue
            value = _read(text.strip(), _kind(variable, properties))
            if value is not ABSENT:
                found[variable.name] = value
        return found

    def _bounded(self, form: T, origin: str) -> T:
        if len(form) > BYTES_MAX:
            raise InvalidArgument(
                f"the context variables {', '.join(self.by_name)} take {len(form)} bytes, and {BYTES_MAX} are allowed",
                origin=origin,
                remedy="pass what is long as an argument",
            )
        return form


def unfit(value: Any) -> str:
    """Why a value cannot travel as a variable; "" if it can. The value itself is not told: it may be a secret."""
    if type(value) not in KINDS:
        return f"it is a {type(value).__qualname__}"
    if type(value) is int and not INT_MIN <= value <= INT_MAX:
        return "it is an int of more than 64 bits"
    if type(value) is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "its text is not valid Unicode"
    return ""


def mistakes(variables: Iterable[Any]) -> list[str]:
    """What is wrong with the variables that an application names, each with its remedy."""
    found: list[str] = []
    seen: dict[str, ContextVar[Any]] = {}
    for variable in variables:
        if not isinstance(variable, ContextVar):
            found.append(f"context: {variable!r} is not a ContextVar: pass the variable itself, as in context=[tenant]")
            continue
        name = variable.name
        if name.startswith(OWN):
            found.append(f"context: {name!r} begins with {OWN!r}, which is reserved: give the variable another name")
        elif name in seen:
            found.append(f"context: two variables are named {name!r}, and they travel by name: rename one of them")
        seen[name] = variable
    if len(seen) > MEMBERS_MAX:
        found.append(f"context: {len(seen)} variables, and a request can carry {MEMBERS_MAX}: put some into one string")
    return found


def _cannot_travel(name: str, why: str, origin: str) -> InvalidArgument:
    return InvalidArgument(
        f"the context variable {name!r} cannot travel: {why}",
        origin=origin,
        remedy="set it to None, a bool, int, float or str, or do not name it in Application(context=[...])",
    )


def _member(variable: ContextVar[Any], value: Any) -> str:
    key = quote(variable.name, safe=_TOKEN)
    kind = _NAMES[type(value)]
    if kind == "str":
        said = "" if _kind(variable, []) == "str" else f";{_TYPE}={kind}"
        return f"{key}={quote(value, safe=_VALUE)}{said}"
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return f"{key}={quote(text, safe=_VALUE)};{_TYPE}={kind}"


def _kind(variable: ContextVar[Any], properties: list[str]) -> str:
    """The type that a member's properties say, else that of the variable's default."""
    for one in properties:
        key, _, value = one.partition("=")
        if key.strip() == _TYPE:
            return value.strip()
    default = default_of(variable)
    return next((_NAMES[kind] for kind in KINDS[1:] if type(default) is kind), "str")


def _read(text: str, kind: str) -> Any:
    try:
        text = unquote(text, errors="strict")
        if kind == "bool":
            return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), ABSENT)
        value: Any = (
            None if kind == "none" else int(text) if kind == "int" else float(text) if kind == "float" else text
        )
    except ValueError:
        return ABSENT
    return ABSENT if unfit(value) else value
