"""Datetimes keep their offsets through the codec, wherever a type may hold them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, timezone
from typing import Annotated, Any, Generic, NamedTuple, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pytest

from fissile.component.offsets import preparer, preparer_of_all

T = TypeVar("T")
EAST = datetime(2026, 7, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
WEST = datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=-9, minutes=-30)))
FIRST = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
LAST = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=-12)))
NAIVE = datetime(2026, 7, 1, 0, 30)
PLAIN = datetime(2026, 7, 1, 0, 30, tzinfo=UTC)


class Event(msgspec.Struct, frozen=True, rename="camel", tag=True):
    begun_at: datetime
    also_at: datetime | None = None


class Rest(msgspec.Struct, frozen=True, tag=True):
    at: list[datetime]


class Row(msgspec.Struct, frozen=True, array_like=True, tag=True):
    at: datetime
    raw: bytes = b""


class Short(msgspec.Struct, omit_defaults=True):
    at: datetime = EAST
    until: datetime | msgspec.UnsetType = msgspec.UNSET
    names: list[str] = []


class Tree(msgspec.Struct):
    at: datetime
    inner: "list[Tree]" = []


class Box(msgspec.Struct, Generic[T]):
    value: T


class Sealed(msgspec.Struct):
    at: datetime
    rest: msgspec.Raw


@dataclass(frozen=True)
class Entry:
    at: datetime
    inner: "Entry | None" = None
    names: list[str] = field(default_factory=list[str])


class Pair(NamedTuple):
    at: datetime
    count: int


class Table(TypedDict, total=False):
    at: datetime
    count: int


def through(kind: Any, value: Any) -> Any:
    prepare: Callable[[Any], Any] = preparer(kind) or (lambda one: one)
    return msgspec.msgpack.decode(msgspec.msgpack.encode(prepare(value)), type=kind)


def offsets(value: Any) -> list[timedelta | None]:
    """The offsets of all datetimes in a value, in its order."""
    if isinstance(value, datetime):
        return [value.utcoffset()]
    if isinstance(value, msgspec.Struct):
        value = [getattr(value, name) for name in value.__struct_fields__]
    elif isinstance(value, Entry):
        value = [value.at, value.inner]
    elif isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    return [found for part in value for found in offsets(part)] if isinstance(value, (list, tuple)) else []


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((datetime, value) for value in (EAST, WEST, FIRST, LAST, NAIVE, PLAIN, datetime.max, datetime.min)),
        (datetime | None, None),
        (Annotated[datetime, msgspec.Meta(tz=True)], EAST),
        (list[datetime], [EAST, PLAIN, NAIVE]),
        (tuple[int, datetime, bytes], (1, EAST, b"\xff")),
        (tuple[datetime, ...], (EAST, WEST)),
        (set[datetime], {EAST, WEST}),
        (frozenset[datetime], frozenset({EAST})),
        (dict[datetime, datetime], {EAST: WEST, PLAIN: NAIVE}),
        (dict[str, list[datetime | None]], {"a": [EAST, None]}),
        (Event, Event(EAST)),
        (Event | Rest | None, Event(PLAIN, WEST)),
        (Row, Row(EAST, b"\xff")),
        (Short, Short()),
        (Short, Short(WEST, EAST, ["a"])),
        (Tree, Tree(NAIVE, [Tree(EAST, [Tree(WEST)])])),
        (Box[datetime], Box(EAST)),
        (Box[Box[datetime]] | int, Box(Box(EAST))),
        (Entry, Entry(EAST, Entry(WEST, None, ["a"]))),
        (list[Pair], [Pair(EAST, 1), Pair(NAIVE, 2)]),
        (Table, {"at": EAST, "count": 1}),
        (Table, {}),
        (int | datetime, EAST),
        (list[datetime] | dict[str, datetime] | datetime | float, [EAST]),
        (list[datetime] | dict[str, datetime] | datetime | float, {"a": EAST}),
        (list[datetime] | dict[str, datetime] | datetime | float, 1.5),
    ],
)
def test_offsets_travel(kind: Any, value: Any) -> None:
    before = msgspec.msgpack.encode(value) if value not in (FIRST, LAST) else b""
    found = through(kind, value)
    assert found == value
    assert offsets(found) == offsets(value)
    assert not before or msgspec.msgpack.encode(value) == before


def test_what_has_no_offset_stays_as_it_is() -> None:
    for kind, value in ((list[Event], [Event(PLAIN)]), (dict[str, Tree], {"a": Tree(NAIVE, [Tree(PLAIN)])})):
        prepare = preparer(kind)
        assert prepare is not None
        assert prepare(value) is value
    for kind in (int, list[str], dict[str, Any], Any, Box[int], Annotated[datetime, msgspec.Meta(tz=False)]):
        assert preparer(kind) is None
    assert preparer_of_all([int, str]) is None


def test_arguments_in_their_order() -> None:
    prepare = preparer_of_all([int, datetime, list[datetime]])
    assert prepare is not None
    assert prepare((1, EAST, [NAIVE])) == (1, EAST.isoformat(), [NAIVE])


def test_a_deep_tree_takes_one_look_at_each_part() -> None:
    tree = Tree(EAST)
    for _ in range(100):
        tree = Tree(NAIVE, [Tree(PLAIN), tree])
    found, depth = through(Tree, tree), 0
    while found.inner:
        found, depth = found.inner[1], depth + 1
    assert (depth, found.at.utcoffset()) == (100, EAST.utcoffset())


def test_a_raw_part_beside_a_datetime() -> None:
    found = through(Sealed, Sealed(EAST, msgspec.Raw(b"\x01")))
    assert (offsets(found.at), bytes(found.rest)) == (offsets(EAST), b"\x01")


def test_an_offset_with_seconds_keeps_its_instant() -> None:
    old = datetime(1890, 1, 1, 12, 0, tzinfo=ZoneInfo("Europe/Amsterdam"))
    found = through(datetime, old)
    assert old.utcoffset() == timedelta(minutes=17, seconds=30) or old.utcoffset() == timedelta(seconds=1172)
    assert found == old


def test_times_of_day() -> None:
    for value in (time(1, 2, 3, 4), time(1, tzinfo=UTC), time(1, tzinfo=timezone(timedelta(hours=-3)))):
        assert (found := through(time, value)) == value
        assert found.utcoffset() == value.utcoffset()
    for value in (time(1, tzinfo=timezone(timedelta(seconds=61))), time(1, tzinfo=ZoneInfo("Europe/Berlin"))):
        with pytest.raises(ValueError, match=r"in a zone|with seconds"):
            through(time, value)
