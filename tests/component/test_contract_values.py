"""What is called compatible is: real values pass, in both directions, and mean the same to both sides.

One type is drawn from all that can travel, the other is made of it by one or two of the changes that people make.
"""

import collections
import dataclasses
import datetime
import enum
import itertools
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict, Union

import msgspec
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Meta, UnsetType

from fissile.component.compatibility import ANSWERS, ARGUMENTS, Direction, refusal
from fissile.component.values import describe, essence, unsupported
from fissile.wire.codec import encode

EXAMPLES = 300
# Of all pairs: how many are to be different records that are called compatible in a direction, at least.
SHARE_MIN = 0.15
WHOLE = 2**40  # beyond 2**53, an integer that is read as a float is another

# -- types as data, so that they can be altered --------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Field:
    """default: the number of one of `DEFAULTS`; None: it is required. unset: it may be left out."""

    name: str
    spec: "Spec"
    default: int | None = None
    unset: bool = False


@dataclasses.dataclass(frozen=True)
class Spec:
    """options: limits, or those of a record. values: of a literal, and of an enumeration with their names."""

    kind: str
    parts: tuple["Spec", ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    values: tuple[Any, ...] = ()
    fields: tuple[Field, ...] = ()

    def but(self, **options: Any) -> "Spec":
        """With other options; None: without."""
        found = {name: value for name, value in {**dict(self.options), **options}.items() if value is not None}
        return dataclasses.replace(self, options=tuple(found.items()))

    def option(self, name: str) -> Any:
        return dict(self.options).get(name)


INT, STR, NONE = Spec("int"), Spec("str"), Spec("none")
ENUMS = [
    Spec("enum", values=(("A", 1), ("B", 2))),
    Spec("enum", values=(("A", 1), ("B", 2), ("C", 3))),
    Spec("enum", values=(("A", "a"), ("B", "b"))),
]
LITERALS = [Spec("literal", values=("a", "b")), Spec("literal", values=(1, 2)), Spec("literal", values=("a", None))]
KEYS = [INT, STR, *ENUMS, *LITERALS[:2]]
LEAVES = [
    *KEYS,
    LITERALS[2],
    INT.but(ge=0),
    INT.but(gt=0, le=20),
    INT.but(multiple_of=4),
    STR.but(max_length=3),
    *map(Spec, ("float", "bool", "bytes", "bytearray", "datetime", "date", "any")),
    Spec("datetime").but(tz=True),
]
DEFAULTS: dict[str, list[Any]] = {
    "int": [4, 8],
    "float": [4.0, 0.5],
    "str": ["a", "b"],
    "bool": [False, True],
    "union": [None, None],
    "list": [[], []],
}
PLAIN = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "bytes": bytes,
    "bytearray": bytearray,
    "any": Any,
    "datetime": datetime.datetime,
    "date": datetime.date,
}
ROWS = ["list", "vartuple", "set", "frozenset"]
RECORDS = ["struct", "dataclass", "typeddict", "namedtuple"]


@st.composite
def specs(draw: st.DrawFn, depth: int = 1) -> Spec:
    """Any type, not much deeper than `depth`."""
    kind = draw(st.sampled_from(["leaf", "leaf", "row", "tuple", "dict", "union", "record"])) if depth else "leaf"
    if kind == "leaf":
        return draw(st.sampled_from(LEAVES))
    if kind == "record":
        return draw(records(depth - 1))
    part = draw(specs(depth - 1))
    if kind == "row":
        row = draw(st.sampled_from(ROWS))
        part = draw(st.sampled_from(KEYS)) if row in ("set", "frozenset") else part
        return Spec(row, (part,)).but(min_length=draw(st.sampled_from([None, None, 1])))
    if kind == "tuple":
        return Spec("tuple", (part, draw(specs(depth - 1))))
    if kind == "dict":
        return Spec("dict", (draw(st.sampled_from(KEYS)), part))
    if draw(st.booleans()):
        return Spec("union", (part, NONE))
    return Spec("union", tuple(draw(records(0)).but(kind="struct", array_like=None, tag=tag) for tag in ("one", "two")))


@st.composite
def records(draw: st.DrawFn, depth: int = 1) -> Spec:
    """A record of two or three fields, now and then with itself in one of them."""
    fields = tuple(draw(fields_named(name, depth)) for name in ("abc", "ab")[draw(st.integers(0, 1))])
    found = Spec("record", fields=fields)
    kind = draw(st.sampled_from(["struct", "struct", "struct", *RECORDS]))
    options = {name: draw(st.sampled_from([None, None, None, True])) for name in OPTIONS}
    if draw(st.integers(0, 9)) == 0:
        options["tag"] = "one"
    return found.but(kind=kind, **options)


OPTIONS = ("array_like", "forbid_unknown_fields", "omit_defaults", "recursive")


@st.composite
def fields_named(draw: st.DrawFn, name: str, depth: int) -> Field:
    default = draw(st.sampled_from([None, None, 0, 1]))
    return Field(name, draw(specs(depth)), default, draw(st.integers(0, 5)) == 0)


# -- what people change ----------------------------------------------------------------------------------


def spots(spec: Spec) -> Iterator[tuple[Spec, Callable[[Spec], Spec]]]:
    """Every type within a type, and how the whole is made with another there."""
    yield spec, lambda new: new
    for number, part in enumerate(spec.parts):
        for found, make in spots(part):
            yield found, lambda new, number=number, make=make: _with_part(spec, number, make(new))
    for number, field in enumerate(spec.fields):
        for found, make in spots(field.spec):
            yield found, lambda new, number=number, make=make: _with_field(spec, number, spec=make(new))


def _with_part(spec: Spec, number: int, part: Spec) -> Spec:
    return dataclasses.replace(spec, parts=(*spec.parts[:number], part, *spec.parts[number + 1 :]))


def _with_field(spec: Spec, number: int, /, **changes: Any) -> Spec:
    changed = dataclasses.replace(spec.fields[number], **changes)
    return dataclasses.replace(spec, fields=(*spec.fields[:number], changed, *spec.fields[number + 1 :]))


@st.composite
def altered(draw: st.DrawFn, spec: Spec) -> Spec:
    """Another type, in one place."""
    found, make = draw(st.sampled_from(list(spots(spec))))
    return make(draw(changed_records(found) if found.kind == "record" else changed(found)))


@st.composite
def changed_records(draw: st.DrawFn, spec: Spec) -> Spec:
    number = draw(st.integers(0, len(spec.fields) - 1))
    field = spec.fields[number]
    what = draw(st.sampled_from(["add", "add", "drop", "rename", "order", "default", "unset", "kind", "tag", *OPTIONS]))
    if what == "add":
        return dataclasses.replace(spec, fields=(*spec.fields, draw(fields_named(f"new{len(spec.fields)}", 0))))
    if what == "drop":
        return dataclasses.replace(spec, fields=(*spec.fields[:number], *spec.fields[number + 1 :]) or spec.fields)
    if what == "rename":
        return _with_field(spec, number, name=f"{field.name}2")
    if what == "order":
        return dataclasses.replace(spec, fields=(*spec.fields[1:], spec.fields[0]))
    if what == "default":
        return _with_field(spec, number, default=draw(st.sampled_from([None, 0, 1])))
    if what == "unset":
        return _with_field(spec, number, unset=not field.unset)
    if what == "kind":
        return spec.but(kind=draw(st.sampled_from(RECORDS)))
    if what == "tag":
        return spec.but(tag=draw(st.sampled_from([None, "one", "two"])))
    return spec.but(**{what: None if spec.option(what) else True})


@st.composite
def changed(draw: st.DrawFn, spec: Spec) -> Spec:
    if spec.kind == "union":
        return draw(st.sampled_from(spec.parts))
    wider = Spec("union", (spec, NONE)) if spec.kind not in ("any", "none") else spec
    choices = [wider, draw(specs(0))]
    if spec.kind in ROWS:
        choices += [dataclasses.replace(spec, kind=kind) for kind in ROWS]
        choices += [spec.but(min_length=length) for length in (None, 1)]
    elif spec.kind == "tuple":
        choices += [Spec("vartuple", spec.parts[:1]), Spec("list", spec.parts[:1]), Spec("tuple", spec.parts[:1])]
    elif spec.kind == "enum":
        first, second, *rest = spec.values
        more = "c" if isinstance(first[1], str) else 9
        choices += [
            dataclasses.replace(spec, values=values)
            for values in (
                tuple(dict([*spec.values, ("D", more)]).items()),
                (first, second),
                ((first[0], second[1]), (second[0], first[1]), *rest),
                (("OTHER", first[1]), second, *rest),
            )
        ]
        choices.append(Spec("literal", values=tuple(value for _, value in spec.values)))
    elif spec.kind == "literal":
        choices += [
            Spec("literal", values=tuple(dict.fromkeys((*spec.values, "z")))),
            Spec("literal", values=spec.values[:1]),
            STR,
            INT,
        ]
    elif spec.kind in ("int", "float"):
        choices += [spec.but(ge=least, gt=None) for least in (None, 0, 1)]
        choices += [spec.but(gt=least, ge=None) for least in (-1, 0)]
        choices += [spec.but(le=8, lt=None), spec.but(lt=9, le=None), spec.but(multiple_of=2)]
        choices += [dataclasses.replace(spec, kind="float"), Spec("int")]
    elif spec.kind == "str":
        choices += [spec.but(max_length=length) for length in (None, 2, 4)]
    elif spec.kind in ("bytes", "bytearray"):
        choices += [Spec("bytes"), Spec("bytearray")]
    elif spec.kind == "datetime":
        choices += [spec.but(tz=tz) for tz in (None, True)]
    return draw(st.sampled_from(choices))


# -- made types, with their values -----------------------------------------------------------------------

Typed = tuple[Any, st.SearchStrategy[Any]]
_number = itertools.count()
# A type that is made by a test is not to vanish while msgspec still knows it.
_made: list[Any] = []


def build(spec: Spec) -> Typed:
    """The type itself, and what may be its values."""
    kind, values = _build(spec)
    _made.append(kind)
    return kind, values


def _build(spec: Spec) -> Typed:
    limits = {name: value for name, value in spec.options if name != "kind"}
    if spec.kind == "record":
        return _build_record(spec)
    if spec.kind == "none":
        return None, st.none()
    if spec.kind == "enum":
        made = enum.Enum("Made", list(spec.values))
        return made, st.sampled_from(list(made))
    if spec.kind == "literal":
        return Literal[spec.values], st.sampled_from(spec.values)
    parts = [build(part) for part in spec.parts]
    kinds, inner = [kind for kind, _ in parts], [values for _, values in parts]
    if spec.kind == "union":
        if spec.parts[0].kind == spec.parts[1].kind != "record":
            return parts[0]  # of `int | Annotated[int, …]`, msgspec makes one type with the limits of both
        if "tuple" in (part.kind for part in spec.parts) and any(map(_limited, spec.parts)):
            return parts[0]  # which msgspec misreads, and no component may declare
        return Union[tuple(kinds)], st.one_of(inner)  # noqa: UP007
    if spec.kind == "tuple":
        return tuple[tuple(kinds)], st.tuples(*inner)
    if spec.kind == "dict" and _hashable(spec.parts[0]):
        return dict[kinds[0], kinds[1]], st.dictionaries(inner[0], inner[1], max_size=2)
    if spec.kind in (*ROWS, "dict"):
        kind = spec.kind if _hashable(spec.parts[0]) and spec.kind != "dict" else "list"
        made, values = _build_row(kind, kinds[0], inner[0], limits.get("min_length", 0))
    else:
        made, values = PLAIN[spec.kind], _values(spec.kind, limits)
    return (Annotated[made, Meta(**limits)] if limits else made), values


def _limited(spec: Spec) -> bool:
    return spec.kind in ("int", "float", "str") and len(spec.options) > 0


def _hashable(spec: Spec) -> bool:
    return spec.kind not in ("list", "set", "dict", "record", "bytearray") and all(map(_hashable, spec.parts))


def _build_row(kind: str, part: Any, inner: st.SearchStrategy[Any], least: int) -> Typed:
    if kind == "set":
        return set[part], st.sets(inner, min_size=least, max_size=3)
    if kind == "frozenset":
        return frozenset[part], st.frozensets(inner, min_size=least, max_size=3)
    rows = st.lists(inner, min_size=least, max_size=3)
    return (list[part], rows) if kind == "list" else (tuple[part, ...], rows.map(tuple))


def _values(kind: str, limits: dict[str, Any]) -> st.SearchStrategy[Any]:
    if kind in ("int", "float"):
        least = max(limits.get("ge", -WHOLE), limits.get("gt", -WHOLE) + 1)
        most = min(limits.get("le", WHOLE), limits.get("lt", WHOLE) - 1)
        step = limits.get("multiple_of", 1)
        whole = st.sampled_from([*range(-8, 21), -WHOLE, WHOLE]).map(lambda n: n * step)
        found = whole.filter(lambda n: least <= n <= most)
        return found if kind == "int" else found.map(float) if limits else st.one_of(found.map(float), st.just(0.5))
    times = st.datetimes(timezones=st.just(datetime.UTC))
    return {
        "str": st.text("ab", max_size=limits.get("max_length", 4)),
        "bool": st.booleans(),
        "bytes": st.binary(max_size=2),
        "bytearray": st.binary(max_size=2).map(bytearray),
        "any": st.sampled_from([1, "a", None]),
        "datetime": times if limits.get("tz") else st.one_of(times, st.datetimes()),
        "date": st.dates(),
    }[kind]


def _build_record(spec: Spec) -> Typed:
    name = f"Made{next(_number)}"
    kind = spec.option("kind")
    fields: list[tuple[str, Any, Any]] = []
    values: dict[str, st.SearchStrategy[Any]] = {}
    for field in spec.fields:
        made, values[field.name] = build(field.spec)
        default: Any = NOTHING
        if field.default is not None and field.spec.kind in DEFAULTS and not _fails(field):
            default = DEFAULTS[field.spec.kind][field.default]
        if default is not NOTHING:
            values[field.name] = st.one_of(st.just(default), values[field.name])
        if field.unset and kind in ("struct", "dataclass") and not spec.option("array_like"):
            made, default = Union[made, UnsetType], UNSET  # noqa: UP007
            values[field.name] = st.one_of(st.just(UNSET), values[field.name])
        fields.append((field.name, made, default))
    if spec.option("recursive") and kind == "struct":
        fields.append(("next", f"{name} | None", None))
    made = {"struct": _struct, "dataclass": _dataclass, "typeddict": _typed, "namedtuple": _named}[kind](
        name, fields, {key: value for key, value in spec.options if key not in ("kind", "recursive")}
    )
    globals()[name] = made  # where its own name is looked up
    if kind == "typeddict":
        required = {field: values[field] for field, _, default in fields if default is NOTHING}
        optional = {field: values[field] for field, _, default in fields if default is not NOTHING}
        return made, st.fixed_dictionaries(required, optional=optional)
    alone = st.builds(made, **values)
    if spec.option("recursive") and kind == "struct":
        return made, st.one_of(alone, st.builds(made, **values, next=alone))
    return made, alone


NOTHING = object()


def _fails(field: Field) -> bool:
    """Whether the default is not a value of its type, or it is no type at all."""
    made, _ = build(field.spec)
    value = DEFAULTS[field.spec.kind][field.default or 0]
    try:
        return msgspec.convert(value, made) != value
    except (msgspec.ValidationError, TypeError):
        return True


def _default(value: Any, make: Any) -> Any:
    return make(default_factory=list) if value == [] else make(default=value)


def _struct(name: str, fields: list[Any], options: dict[str, Any]) -> Any:
    given = [(n, kind) if d is NOTHING else (n, kind, _default(d, msgspec.field)) for n, kind, d in fields]
    return msgspec.defstruct(name, given, kw_only=True, module=__name__, **options)


def _dataclass(name: str, fields: list[Any], options: dict[str, Any]) -> Any:
    given = [(n, kind) if d is NOTHING else (n, kind, _default(d, dataclasses.field)) for n, kind, d in fields]
    return dataclasses.make_dataclass(name, given, kw_only=True)


def _typed(name: str, fields: list[Any], options: dict[str, Any]) -> Any:
    return TypedDict(name, {n: Required[kind] if d is NOTHING else NotRequired[kind] for n, kind, d in fields})  # type: ignore[misc]


def _named(name: str, fields: list[Any], options: dict[str, Any]) -> Any:
    with_default = list(itertools.takewhile(lambda d: d is not NOTHING, (d for _, _, d in reversed(fields))))
    made = collections.namedtuple(name, [n for n, _, _ in fields], defaults=with_default[::-1])
    made.__annotations__ = {n: kind for n, kind, _ in fields}
    return made


# -- what both sides understand --------------------------------------------------------------------------


def check(written: Any, read: Any, direction: Direction) -> None:
    """What was read means what was written, as far as both know of it."""
    theirs, ours = _fields_of(written), _fields_of(read)
    if theirs is not None and ours is not None:
        for name, value in theirs.items():
            if value is UNSET:
                continue
            if name in ours:
                check(value, ours[name], direction)
            else:
                assert direction is ANSWERS, f"{name} is lost"
    elif isinstance(written, enum.Enum) and isinstance(read, enum.Enum):
        assert written.value == read.value
        assert written.name == read.name or not {written.name} & set(type(read).__members__)
    elif isinstance(written, (set, frozenset)):
        assert len(written) == len(read)
        assert set(map(_plain, written)) == set(map(_plain, read))
    elif isinstance(written, (list, tuple)) and isinstance(read, (list, tuple)) and theirs is ours is None:
        for one, other in zip(written, read, strict=True):
            check(one, other, direction)
    else:  # who reads anything gets it as it is encoded
        assert _plain(written) == _plain(read) or encode(written) == encode(read)


def _fields_of(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, dict):
        return {_plain(key): one for key, one in value.items()}
    if isinstance(value, msgspec.Struct) or dataclasses.is_dataclass(value):
        fields = value.__struct_fields__ if isinstance(value, msgspec.Struct) else [*vars(value)]
        return {name: getattr(value, name) for name in fields}
    return value._asdict() if hasattr(value, "_asdict") else None


def _plain(value: Any) -> Any:
    if isinstance(value, bytearray):
        return bytes(value)  # which can be in a set
    return value.value if isinstance(value, enum.Enum) else value


def test_what_is_called_compatible_round_trips_with_the_same_meaning():
    seen: collections.Counter[str] = collections.Counter()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def examples(data: st.DataObject) -> None:
        before = data.draw(st.one_of(records(), records(), specs()))
        after = before
        for _ in range(data.draw(st.integers(1, 2))):
            after = data.draw(altered(after))
        (earlier, said), (later, answered) = build(before), build(after)
        seen["all"] += 1
        if unsupported(earlier) or unsupported(later):
            seen["not supported"] += 1
            return
        ways = ((ARGUMENTS, earlier, said, later), (ANSWERS, later, answered, earlier))
        found = [(way, w, v, r) for way, w, v, r in ways if refusal(describe(r), describe(w), way) is None]
        different = essence(describe(earlier)) != essence(describe(later))
        event(f"{len(found)} ways, {'different' if different else 'the same'}")
        if found and different:
            seen["compatible and different"] += 1
            seen["of them records"] += before.kind == after.kind == "record"
            seen["of them both ways"] += len(found) == 2
        for way, _, values, reader in found:
            for _ in range(3):
                value = data.draw(values)
                check(value, msgspec.msgpack.decode(encode(value), type=reader), way)

    examples()
    assert seen["of them records"] >= SHARE_MIN * seen["all"], seen
    assert seen["not supported"] <= 0.25 * seen["all"], seen
