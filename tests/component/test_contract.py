"""What is called compatible is: real values of generated pairs of types pass. And what is a break is told."""

import enum
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from fissile.component.contract import Contracts, breaks, contracts_of, refusal
from fissile.component.interface import component, method, read_interface
from fissile.component.values import describe

# -- pairs of types ----------------------------------------------------------------------------------

Typed = tuple[Any, st.SearchStrategy[Any]]

LEAVES: list[Typed] = [
    (int, st.integers(-(2**40), 2**40)),
    (float, st.floats(allow_nan=False)),
    (str, st.text(max_size=4)),
    (bool, st.booleans()),
    (bytes, st.binary(max_size=4)),
    (type(None), st.none()),
    (Any, st.one_of(st.integers(-(2**40), 2**40), st.text(max_size=3))),
    (Annotated[int, msgspec.Meta(ge=0)], st.integers(0, 2**40)),
    (Annotated[int, msgspec.Meta(ge=0, le=9)], st.integers(0, 9)),
    (Annotated[str, msgspec.Meta(max_length=3)], st.text(max_size=3)),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (Literal["a", "b", "c"], st.sampled_from(["a", "b", "c"])),
]


def nested(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    def several(typed: Typed) -> Typed:
        return (list[typed[0]], st.lists(typed[1], max_size=3))  # type: ignore[name-defined]

    def mapping(typed: Typed) -> Typed:
        return (dict[str, typed[0]], st.dictionaries(st.text(max_size=2), typed[1], max_size=2))  # type: ignore[name-defined]

    def maybe(typed: Typed) -> Typed:
        return (typed[0] | None, st.one_of(st.none(), typed[1])) if typed[0] is not Any else typed

    return st.one_of(inner.map(several), inner.map(mapping), inner.map(maybe), records(inner))


@st.composite
def records(draw: st.DrawFn, inner: st.SearchStrategy[Typed]) -> Typed:
    """A struct with some of the fields a, b, c; each required or with a default."""
    fields: list[Any] = []
    values: dict[str, Any] = {}
    order = draw(st.sampled_from(["abc", "ab", "abd", "acb", "b"]))
    for name in order:
        kind, strategy = draw(inner)
        if draw(st.booleans()):
            fields.append((name, kind))
        else:
            default = draw(strategy)
            fields.append((name, kind, msgspec.field(default_factory=lambda default=default: default)))
        values[name] = strategy
    options = {"array_like": draw(st.booleans()), "forbid_unknown_fields": draw(st.booleans())}
    made = msgspec.defstruct("Record", fields, kw_only=True, frozen=True, **options)
    return made, st.builds(made, **values)


TYPES = st.recursive(st.sampled_from(LEAVES), nested, max_leaves=6)


def supported(kind: Any) -> bool:
    try:
        msgspec.msgpack.Decoder(kind)
    except TypeError:
        return False
    return True


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_what_is_called_compatible_round_trips_real_values(data: st.DataObject):
    reader, _ = data.draw(TYPES)
    writer, values = data.draw(TYPES)
    assume(supported(reader) and supported(writer))
    if refusal(describe(reader), describe(writer)) is not None:
        event("a break")
        return
    event("compatible")
    value = data.draw(values)
    for codec in (msgspec.msgpack, msgspec.json):
        codec.decode(codec.encode(value), type=reader)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_added_field_with_a_default_passes_both_ways(data: st.DataObject):
    kind, values = data.draw(st.sampled_from(LEAVES))
    default = data.draw(values)
    before = msgspec.defstruct("Record", [("a", int)])
    after = msgspec.defstruct("Record", [("a", int), ("b", kind, default)])
    for reader, writer, value in ((after, before, before(1)), (before, after, after(1, data.draw(values)))):
        assert refusal(describe(reader), describe(writer)) is None
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=reader).a == 1


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class MoreColours(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Two(NamedTuple):
    a: int
    b: int = 0


class Three(NamedTuple):
    a: int
    b: int = 0
    c: int = 0


@pytest.mark.parametrize(
    ("reader", "writer", "words"),
    [
        (float, int, None),
        (int, float, "float is no int"),
        (str, Colour, None),
        (MoreColours, Colour, None),
        (Colour, MoreColours, "'green' is no value of it"),
        (Colour, str, "str is no one of 'red', 'blue'"),
        (int | None, int, None),
        (int, int | None, "none is no int"),
        (Annotated[int, msgspec.Meta(ge=0)], int, "ge is 0, and was not limited"),
        (int, Annotated[int, msgspec.Meta(ge=0)], None),
        (list[int], list[str], "str is no int"),
        (Three, Two, None),
        (Two, Three, "unknown fields are refused"),
        (Any, Two, None),
        (int, Any, "any is no int"),
    ],
)
def test_rules(reader: Any, writer: Any, words: str | None):
    found = refusal(describe(reader), describe(writer))
    assert (found is None) == (words is None), found
    if words is not None and found is not None:
        assert words in found[1]


# -- interfaces --------------------------------------------------------------------------------------


class Line(msgspec.Struct, frozen=True):
    title: str


class PricedLine(msgspec.Struct, frozen=True):
    title: str
    cents: int


class NoStock(Exception):
    def __init__(self, left: int) -> None:
        self.left = left

    left: int


class NoBread(Exception):
    def __init__(self) -> None: ...


class NoStockByItem(Exception):
    def __init__(self, item: str) -> None:
        self.item = item

    item: str


NoStockByItem.__qualname__ = "NoStock"


@component(name="Shop")
class Earlier:
    async def find(self, text: str, limit: int = 10) -> list[Line]: ...

    async def put(self, line: Line) -> None: ...

    @method(raises=(NoStock,))
    async def take(self, item: str) -> int: ...

    async def watch(self) -> AsyncIterator[Line]:
        yield Line("")

    async def old(self) -> None: ...


@component(name="Shop")
class Compatible:
    async def find(self, text: str, limit: int = 10, page: int = 0) -> list[PricedLine]: ...

    async def put(self, line: Line) -> None: ...

    @method(raises=(NoStock, NoBread))
    async def take(self, item: str | int) -> int: ...

    async def watch(self) -> AsyncIterator[PricedLine]:
        yield PricedLine("", 0)

    async def old(self) -> None: ...

    async def new(self) -> None: ...


@component(name="Shop")
class Breaking:
    async def find(self, words: str, limit: int = 10) -> list[Line]: ...

    async def put(self, line: PricedLine) -> None: ...

    @method(raises=(NoStockByItem,))
    async def take(self, item: str, count: int) -> str: ...

    async def watch(self) -> list[Line]: ...


def contracts(kind: type) -> Any:
    interface, mistakes = read_interface(kind)
    assert mistakes == []
    return contracts_of(interface)


def test_compatible_changes_pass_without_a_word():
    assert breaks(contracts(Earlier), contracts(Compatible)) == []
    assert breaks(contracts(Earlier), contracts(Earlier)) == []


def test_every_break_is_told_with_its_place_and_the_compatible_way():
    told = [str(one) for one in breaks(contracts(Earlier), contracts(Breaking))]
    assert told == [
        "Shop.find, parameter `text`: it is gone, renamed, or in another place: keep it, and add new ones at the end",
        "Shop.put, parameter `line`.cents: what callers send is not taken any more (it is required, and not written): "
        "give it a default, or keep writing it",
        "Shop.take, parameter `count`: callers do not send it: give it a default",
        "Shop.take, result: callers do not understand it any more (str is no int): "
        "take the earlier type as well, or give the new form a name of its own",
        "Shop.take, error NoStock, field `left`: it is gone: keep it as long as callers read it",
        "Shop.watch: it was a stream: give the new form a name of its own",
        "Shop.old: it is gone: keep it until no caller is left, also where it has a new name",
    ]


def test_contracts_survive_being_written_down():
    data = msgspec.json.encode(contracts(Earlier))
    again = msgspec.json.decode(data, type=Contracts)
    assert again == contracts(Earlier)
    assert breaks(again, contracts(Compatible)) == []
