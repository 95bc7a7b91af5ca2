"""What breaks callers, and what does not: rule by rule, and what is said of it."""

import enum
import sys
import types
from collections.abc import AsyncIterator
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pytest
from msgspec import UNSET, Meta, Struct, UnsetType, defstruct

from fissile.component.compatibility import ANSWERS, ARGUMENTS, refusal
from fissile.component.contract import Contracts, accepted, breaks, contracts_of
from fissile.component.declaration import component, method
from fissile.component.interface import read_interface
from fissile.component.values import describe

# -- types: (reader, writer, what is said, or None where all is well) ---------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class MoreColours(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Farbe(enum.Enum):
    ROT = "red"
    BLAU = "blue"


class Swapped(enum.Enum):
    BLUE = "red"
    RED = "blue"


class State(enum.IntEnum):
    OPEN = 1
    PAID = 2


class StateBefore(enum.IntEnum):
    DRAFT = 1
    OPEN = 2
    PAID = 3


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2


class RightsByName(enum.IntEnum):
    READ = 1
    WRITE = 2


class Two(NamedTuple):
    a: int
    b: int = 0


class Three(NamedTuple):
    a: int
    b: int = 0
    c: int = 0


class TwoSwapped(NamedTuple):
    b: int
    a: int


class Partial(TypedDict):
    a: int
    b: NotRequired[int]


class Whole(TypedDict):
    a: int
    b: int


def struct(*fields: Any, name: str = "Line", **options: Any) -> Any:
    """A struct with fields a, b, c … of these types; a pair is a type with a default."""
    named = [
        (letter, *field) if isinstance(field, tuple) else (letter, field)
        for letter, field in zip("abcd", fields, strict=False)
    ]
    return defstruct(name, named, kw_only=True, **options)


def called(*fields: Any, **options: Any) -> Any:
    """The same with names of the fields."""
    return defstruct("Line", list(fields), kw_only=True, **options)


def limited(kind: Any, **limits: Any) -> Any:
    return Annotated[kind, Meta(**limits)]


OPTIONAL = (int, 0)
EITHER_WAY: list[tuple[Any, Any]] = [
    (list[int], tuple[int, ...]),
    (set[int], frozenset[int]),
    (bytes, bytearray),
    (bytes, memoryview),
    (limited(int, gt=0), limited(int, ge=1)),
    (limited(int, lt=1), limited(int, le=0)),
    (Literal["red", "blue"], Colour),
    (Colour, Farbe),
    (int | None, int | None),
    (Literal["a"] | None, Literal["a", None]),
    (struct(int), called(("a", int), frozen=True)),
    (called(("a", int)), called(("x", int), rename={"x": "a"})),
    (struct(int, OPTIONAL), struct(int, OPTIONAL, omit_defaults=True)),
    (struct(int, (int, 1)), struct(int, (int, 2))),
    (struct((int | UnsetType, UNSET)), struct((int, 5))),
    (struct(list[int] | None), struct(tuple[int, ...] | None)),
]
FINE: list[tuple[Any, Any]] = [
    (float, int),
    (str, Colour),
    (int, State),
    (float, State),
    (int, Rights),
    (Rights, RightsByName),
    (MoreColours, Colour),
    (Literal["a", 1, 2], Literal["a", 1]),
    (int | str, Literal["a", 1]),
    (int | Literal["a"], Literal["a", 1]),
    (Colour | int, Literal["red", 1]),
    (float, Literal[1]),
    (limited(int, ge=0, le=2, multiple_of=2), Literal[0, 2]),
    (limited(str, min_length=1, max_length=1, pattern="^[ab]$"), Literal["a", "b"]),
    (Colour | None, Colour),
    (MoreColours | None, Colour),
    (int | None, int),
    (Literal["a", None], None),
    (Any, Two),
    (Any, Literal["a"]),
    (limited(int, ge=0), limited(int, gt=0)),
    (limited(int, gt=0), limited(int, gt=1)),
    (limited(float, gt=0), limited(float, ge=0.1)),
    (limited(float, gt=0), limited(int, ge=1)),
    (limited(int, lt=9), limited(int, le=8)),
    (limited(int, le=9), limited(int, lt=9)),
    (limited(int, multiple_of=2), limited(int, multiple_of=4)),
    (int, limited(int, ge=0)),
    (limited(str, max_length=3), limited(str, max_length=2)),
    (limited(list[int], min_length=1), limited(list[int], min_length=2)),
    (list[int], set[int]),
    (tuple[int, ...], frozenset[int]),
    (tuple[int, ...], tuple[int, int]),
    (list[int | str], tuple[int, str]),
    (limited(list[int], min_length=1, max_length=2), tuple[int, int]),
    (dict[float, int | None], dict[int, int]),
    (Three, Two),
    (Partial, Whole),
    (struct(int), Whole),
    (struct(int, OPTIONAL), struct(int)),
    (struct(int, OPTIONAL), Partial),
    (struct(int, OPTIONAL), struct(int, (int | UnsetType, UNSET))),
    (struct(int, (int, 5)), struct(int, (int, 5), omit_defaults=True)),
    (struct((list[int], msgspec.field(default_factory=list))), struct((list[int], []), omit_defaults=True)),
    (struct(int, int, array_like=True), struct(int, OPTIONAL, array_like=True, omit_defaults=True)),
    (struct(int, array_like=True), struct(int, int, array_like=True)),
    (struct(int, OPTIONAL, array_like=True), struct(int, array_like=True)),
    (struct(int), struct(int, int)),
    (struct(int, tag="a") | struct(int, tag="b"), struct(int, tag="b")),
]
# (reader, writer, words) as of results, where the writer is the later one.
REFUSED: list[tuple[Any, Any, str]] = [
    (int, float, "float is no int"),
    (int, bool, "bool is no int"),
    (int, Any, "Any is no int"),
    (int, int | None, "None is no int"),
    (int | str, float, "float is none of int | str"),
    (int | str, Any, "Any is none of int | str"),
    (Colour, str, "str is no one of 'red', 'blue'"),
    (Literal["a"], str, "str is no one of 'a'"),
    (Colour, MoreColours, "'green' is not a value of it"),
    (Colour | None, MoreColours, "'green' is not a value of it"),
    (Literal["a", "b"], Literal["c", "d"], "'c', 'd' is not a value of it"),
    (Colour, Swapped, "its member RED was 'red', and is 'blue'"),
    (Colour | None, Swapped | None, "its member RED was 'red', and is 'blue'"),
    (State, StateBefore, "its member OPEN was 1, and is 2"),
    (RightsByName, Rights, "one of 1, 2 is no one of 1, 2"),
    (limited(int, ge=2), Literal[1, 2], "1 is not a value of it"),
    (limited(int, multiple_of=2), Literal[1, 2], "1 is not a value of it"),
    (limited(str, max_length=1), Literal["a", "bb"], "'bb' is not a value of it"),
    (limited(str, pattern="^a"), Literal["a", "b"], "'b' is not a value of it"),
    (Literal[1] | limited(int, ge=2), Literal[1], "one of 1 is no int (ge 2) | one of 1"),
    (int, Literal["a"], "one of 'a' is no int"),
    (limited(int, ge=0), int, "ge is 0 where it is read, and it is not limited where it is written"),
    (limited(int, ge=0), limited(int, ge=-1), "ge is 0 where it is read, and ge is -1"),
    (limited(int, gt=0), limited(int, ge=0), "gt is 0"),
    (limited(float, gt=0), limited(float, ge=0), "gt is 0"),
    (limited(int, gt=0), limited(int, gt=-1), "gt is 0"),
    (limited(float, ge=0.5), limited(float, gt=0), "ge is 0.5"),
    (limited(int, le=9), limited(int, le=10), "le is 9"),
    (limited(int, lt=9), limited(int, le=9), "lt is 9"),
    (limited(int, lt=9), limited(int, lt=10), "lt is 9"),
    (limited(int, le=9), limited(int, ge=9), "le is 9"),
    (limited(int, multiple_of=4), limited(int, multiple_of=2), "multiple_of is 4"),
    (limited(float, multiple_of=0.5), limited(float, multiple_of=1.5), "multiple_of is 0.5"),
    (limited(str, min_length=2), limited(str, min_length=1), "min_length is 2"),
    (limited(str, max_length=2), limited(str, max_length=3), "max_length is 2"),
    (limited(str, pattern="a"), limited(str, pattern="b"), "pattern is a"),
    (limited(list[int], min_length=3), tuple[int, int], "min_length is 3"),
    (limited(list[int], max_length=1), tuple[int, int], "max_length is 1"),
    (list[int], list[str], "str is no int"),
    (set[int], list[int], "list[int] is no set[int]"),
    (frozenset[int], tuple[int, int], "tuple[int, int] is no frozenset[int]"),
    (tuple[int, int], tuple[int, ...], "tuple[int, ...] is no tuple[int, int]"),
    (tuple[int, int], tuple[int, int, int], "tuple[int, int, int] is no tuple[int, int]"),
    (dict[str, int], dict[int, int], "int is no str"),
    (dict[str, int], dict[str, str], "str is no int"),
    (dict[str, int], list[int], "list[int] is no dict[str, int]"),
    (Two, Three, "unknown fields are refused"),
    (Two, TwoSwapped, "it is in another place"),
    (Two, struct(int, int), "one is a tuple and the other is not"),
    (struct(int, int), Two, "one is a tuple and the other is not"),
    (Whole, Partial, "it is required, and may be left out"),
    (struct(int), int, "int is no Line{a}"),
    (struct(int), struct(str), "str is no int"),
    (struct(int, int), struct(int), "it is required, and not written"),
    (struct(int, forbid_unknown_fields=True), struct(int, int), "unknown fields are refused"),
    (struct(int), struct(int, array_like=True), "its form differs"),
    (struct(int), struct(int, tag="a"), "its tag differs"),
    (struct(int, tag="a"), struct(int, tag="b"), "its tag differs"),
    (struct(int, tag="a"), struct(int, tag="a", tag_field="kind"), "its tag's field differs"),
    (struct(int, tag="a") | struct(int, tag="b"), struct(str, tag="b"), "str is no int"),
    (struct(int, tag="a") | struct(int, tag="b"), struct(int, tag="c"), "Line{a} is none of Line{a} | Line{a}"),
    (struct(int) | None, struct(str) | None, "str is no int"),
    (struct(int, int), struct(int, (int | UnsetType, UNSET)), "it is required, and may be left out"),
    (struct(int, int), struct(int, (int | UnsetType, 0)), "it is required, and may be left out"),
    (struct(int, int), struct(int, (int, 5), omit_defaults=True), "it is required, and may be left out"),
    (struct(int, (int, 7)), struct(int, (int, 5), omit_defaults=True), "left out, it is 5 to who writes it, and 7"),
    (
        struct(int, (int, 7), omit_defaults=True),
        struct(int, (int, 5), omit_defaults=True),
        "left out, it is 5 to who writes it, and 7",
    ),
    (
        struct((list[int], msgspec.field(default_factory=lambda: [1]))),
        struct((list[int], []), omit_defaults=True),
        "left out, it is [] to who writes it, and something that is not known",
    ),
    (
        called(("a", int), ("b", int), array_like=True),
        called(("b", int), ("a", int), array_like=True),
        "it is in another place: it was number 1, and is number 2",
    ),
    (
        called(("a", int), ("b", int), array_like=True),
        called(("a", int), ("c", int), array_like=True),
        "it is named `c` now",
    ),
    (struct(int, int, array_like=True), struct(int, array_like=True), "it is required, and not written"),
    (
        struct(int, array_like=True, forbid_unknown_fields=True),
        struct(int, int, array_like=True),
        "unknown fields are refused",
    ),
]


@pytest.mark.parametrize(("one", "other"), EITHER_WAY)
def test_what_may_be_put_in_each_others_place(one: Any, other: Any):
    assert refusal(describe(one), describe(other)) is None
    assert refusal(describe(other), describe(one)) is None


@pytest.mark.parametrize(("reader", "writer"), FINE)
def test_what_a_reader_takes(reader: Any, writer: Any):
    assert refusal(describe(reader), describe(writer)) is None


@pytest.mark.parametrize(("reader", "writer", "words"), REFUSED)
def test_what_a_reader_may_refuse_or_take_for_something_else(reader: Any, writer: Any, words: str):
    found = refusal(describe(reader), describe(writer), ANSWERS)
    assert found is not None
    assert words in found.why


DATES = "datetime.datetime", "datetime.time"


@pytest.mark.parametrize("kind", DATES)
def test_a_time_zone_that_is_asked_for(kind: str):
    import datetime

    plain = {"datetime.datetime": datetime.datetime, "datetime.time": datetime.time}[kind]
    aware, naive = limited(plain, tz=True), limited(plain, tz=False)
    assert refusal(describe(plain), describe(aware)) is None
    assert refusal(describe(plain), describe(naive)) is None
    for reader, writer in ((aware, plain), (aware, naive), (naive, aware), (naive, plain)):
        found = refusal(describe(reader), describe(writer))
        assert found is not None
        assert "tz is" in found.why


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        (struct(int), struct(int, OPTIONAL)),
        (struct(int), struct(int, int)),
        (called(("a", int), ("reduction", int, 0)), called(("a", int), ("discount", int, 0))),
        (struct(int), Partial),
        (struct(int, array_like=True), struct(int, OPTIONAL, array_like=True)),
    ],
)
def test_what_callers_say_is_not_lost_in_silence(reader: Any, writer: Any):
    """But callers ignore what they do not know of a result."""
    found = refusal(describe(reader), describe(writer), ARGUMENTS)
    assert found is not None
    assert "is lost" in found.why
    assert refusal(describe(reader), describe(writer), ANSWERS) is None


# -- types that hold themselves ----------------------------------------------------------------------


def in_module(source: str) -> types.ModuleType:
    """Types that name each other, in a module of their own."""
    module = types.ModuleType(f"made_{abs(hash(source))}")
    sys.modules[module.__name__] = module
    exec("import msgspec\n" + source, vars(module))
    return module


NODE = """
class {name}(msgspec.Struct):
    value: int
    {more}
    next: "{name} | None" = None
"""
TWO_OF_ONE_NAME = """
class Node(msgspec.Struct):
    child: "Inner | None" = None
class Inner(msgspec.Struct):
    child: "{target} | None" = None
Inner.__name__ = "Node"
"""


def test_a_type_that_holds_itself_may_be_renamed_and_grow():
    node = describe(in_module(NODE.format(name="Node", more="")).Node)
    tree = describe(in_module(NODE.format(name="Tree", more="")).Tree)
    grown = describe(in_module(NODE.format(name="Node", more="more: int = 0")).Node)
    needy = describe(in_module(NODE.format(name="Node", more="more: int")).Node)
    assert refusal(node, tree) is refusal(tree, node) is None
    assert refusal(node, grown) is refusal(grown, node) is None
    assert refusal(needy, node) is not None


def test_classes_of_one_name_are_not_taken_for_each_other():
    outer = describe(in_module(TWO_OF_ONE_NAME.format(target="Node")).Node)
    inner = describe(in_module(TWO_OF_ONE_NAME.format(target="Inner")).Node)
    assert outer != inner
    assert refusal(outer, inner) is not None


T = TypeVar("T")


class Box(Struct, Generic[T], frozen=True, omit_defaults=True):
    value: T
    spare: T | None = None


def test_a_type_with_parameters_is_described_with_them():
    assert refusal(describe(Box[float]), describe(Box[int])) is None
    assert refusal(describe(Box[Box[int]]), describe(Box[Box[str]])) is not None


def test_a_struct_that_is_used_twice_is_compared_twice():
    item, other = struct(int, name="Item"), struct(str, name="Item")
    both, mixed = struct(item, item), struct(item, other)
    assert refusal(describe(both), describe(mixed)) is not None
    assert refusal(describe(mixed), describe(both)) is not None


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


class NoStockInWords(Exception):
    left: str


NoStockInWords.__qualname__ = "NoStock"


class NoStockAtAll(Exception):
    left: Literal[1, 2]


NoStockAtAll.__qualname__ = "NoStock"


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


def declared(function: Any, *raises: type[Exception]) -> Any:
    """The contract of one method, as Shop.do."""
    function.__name__ = "do"
    return contracts(component(name="Shop")(type("Shop", (), {"do": method(raises=raises)(function)})))


def told(earlier: Any, later: Any) -> list[str]:
    return [str(one).removeprefix("Shop.do, ") for one in breaks(earlier, later)]


def test_compatible_changes_pass_without_a_word():
    assert breaks(contracts(Earlier), contracts(Compatible)) == []
    assert breaks(contracts(Earlier), contracts(Earlier)) == []


def test_every_break_is_told_with_its_place_and_the_compatible_way():
    assert [str(one) for one in breaks(contracts(Earlier), contracts(Breaking))] == [
        "Shop.find, parameter `text`: it is named `words` now: keep its name",
        "Shop.put, parameter `line`, field `cents`: what callers send is not taken any more "
        "(it is required, and not written): give it a default",
        "Shop.take, parameter `count`: callers do not send it: give it a default",
        "Shop.take, result: callers do not understand it any more (str is no int): "
        "keep returning the earlier type, or give the new form a name of its own",
        "Shop.take, error NoStock, field `left`: it is gone: keep it as long as callers read it",
        "Shop.watch, result: it was a stream: give the new form a name of its own",
        "Shop.old: it is gone: keep it until no caller is left, even if it was renamed",
    ]


class Wide(msgspec.Struct):
    a: int
    b: str
    c: str = ""


class WideOtherwise(msgspec.Struct):
    a: str
    b: int
    d: int


def test_all_that_is_wrong_with_a_method_is_told_at_once():
    async def before(self: Any, x: dict[str, int], y: tuple[int, list[Wide]]) -> tuple[Wide, ...]: ...

    async def after(self: Any, z: int, y: tuple[int, list[WideOtherwise]], x: dict[int, str]) -> tuple[int, ...]: ...

    assert told(declared(before, NoStock, NoBread), declared(after, NoBread)) == [
        "parameter `x`: it is in another place: it was number 1, and is number 3: "
        "keep the order, and add new ones at the end",
        "parameter `x`, key: what callers send is not taken any more (str is no int): "
        "take the earlier type as well, or give the new form a name of its own",
        "parameter `x`, value: what callers send is not taken any more (int is no str): "
        "take the earlier type as well, or give the new form a name of its own",
        "parameter `y`, item 2, item, field `a`: what callers send is not taken any more (int is no str): "
        "take the earlier type as well, or give the new form a name of its own",
        "parameter `y`, item 2, item, field `b`: what callers send is not taken any more (str is no int): "
        "take the earlier type as well, or give the new form a name of its own",
        "parameter `y`, item 2, item, field `d`: what callers send is not taken any more "
        "(it is required, and not written): give it a default",
        "parameter `y`, item 2, item, field `c`: what callers send is not taken any more "
        "(it is gone or renamed, and what they say in it is lost): keep it",
        "parameter `z`: callers do not send it: give it a default",
        "result, item: callers do not understand it any more (int is no Wide{a, b, c}): "
        "keep returning the earlier type, or give the new form a name of its own",
        "error NoStock: it is gone or renamed, and callers may catch it: "
        "keep declaring and raising it until no caller is left",
    ]


def test_parameters():
    async def one(self: Any, a: int, b: int = 0) -> None: ...

    async def shorter(self: Any, a: int) -> None: ...

    async def required(self: Any, a: int, b: int) -> None: ...

    async def inserted(self: Any, a: int, c: int = 0, b: int = 0) -> None: ...

    async def by_name(self: Any, *, a: int, b: int = 0) -> None: ...

    base = declared(one)
    assert told(base, declared(shorter)) == ["parameter `b`: it is gone: keep it, and add new ones at the end"]
    assert told(base, declared(required)) == [
        "parameter `b`: it is required now, and callers may leave it out: keep it optional"
    ]
    assert told(base, declared(inserted)) == [
        "parameter `b`: it is in another place: it was number 2, and is number 3: "
        "keep the order, and add new ones at the end"
    ]
    assert told(declared(required), base) == []
    assert told(declared(shorter), base) == []
    assert told(base, declared(by_name)) == []


def test_a_stream_is_no_plain_result_nor_the_other_way_round():
    async def plain(self: Any) -> int: ...

    async def stream(self: Any) -> AsyncIterator[int]:
        yield 1

    async def words(self: Any) -> AsyncIterator[str]:
        yield ""

    assert told(declared(plain), declared(stream)) == [
        "result: it is a stream now: give the new form a name of its own"
    ]
    assert told(declared(stream), declared(plain)) == ["result: it was a stream: give the new form a name of its own"]
    assert "str is no int" in told(declared(stream), declared(words))[0]


def test_errors_are_part_of_what_callers_know():
    async def do(self: Any) -> int: ...

    async def does(self: Any) -> int: ...

    base = declared(do, NoStock)
    assert "error NoStock: it is gone or renamed" in told(base, declared(does))[0]
    assert "error NoStock: it is gone or renamed" in told(base, declared(does, NoBread))[0]
    assert "error NoStock, field `left`: callers do not" in told(base, declared(does, NoStockInWords))[0]
    assert told(base, declared(does, NoStockAtAll)) == []
    assert "int is no one of 1, 2" in told(declared(do, NoStockAtAll), declared(does, NoStock))[0]
    assert told(declared(do), declared(does, NoBread)) == []


def test_a_fingerprint_covers_all_that_travels():
    async def do(self: Any, a: int) -> int: ...

    async def with_result(self: Any, a: int) -> str: ...

    async def with_stream(self: Any, a: int) -> AsyncIterator[int]:
        yield 1

    async def with_name(self: Any, b: int) -> int: ...

    async def with_default(self: Any, a: int = 1) -> int: ...

    found = [
        declared(do),
        declared(with_result),
        declared(with_stream),
        declared(with_name),
        declared(with_default),
        declared(do, NoStock),
        declared(do, NoStockInWords),
        declared(do, NoBread),
        declared(do, NoStock, NoBread),
    ]
    assert len({one["Shop.do"].fingerprint for one in found}) == len(found)


def test_a_fingerprint_covers_how_types_are_encoded_and_not_how_they_are_called():
    def of(kind: Any) -> str:
        async def do(self: Any, a: Any) -> None: ...

        do.__annotations__["a"] = kind
        return declared(do)["Shop.do"].fingerprint

    plain = struct(int, OPTIONAL)
    assert of(plain) == of(struct(int, (int, 9), name="Other"))
    different = [
        plain,
        struct(int, int),
        struct(int, OPTIONAL, omit_defaults=True),
        struct(int, (int, 1), omit_defaults=True),
        struct(int, (int | UnsetType, 0)),
        struct(int, OPTIONAL, array_like=True),
        struct(int, OPTIONAL, tag="a"),
        struct(int, OPTIONAL, forbid_unknown_fields=True),
        State,
        StateBefore,
        Colour,
        Swapped,
        Farbe,
        Rights,
        RightsByName,
        in_module(TWO_OF_ONE_NAME.format(target="Node")).Node,
        in_module(TWO_OF_ONE_NAME.format(target="Inner")).Node,
    ]
    assert len({of(kind) for kind in different}) == len(different)


def test_contracts_survive_being_written_down():
    async def do(self: Any, a: Any, b: State) -> None: ...

    do.__annotations__["a"] = struct((int, 1), (str | UnsetType, UNSET), omit_defaults=True)
    do.__annotations__["return"] = in_module(NODE.format(name="Node", more="")).Node
    for written in (contracts(Earlier), declared(do)):
        assert read_again(written) == written
    assert breaks(read_again(contracts(Earlier)), contracts(Compatible)) == []


def read_again(written: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(written), type=Contracts)


def test_whom_a_callee_understands_though_they_were_built_otherwise():
    earlier, compatible, breaking = contracts(Earlier), contracts(Compatible), contracts(Breaking)

    def pairs(callers: Any, callee: Any) -> set[tuple[str, str]]:
        found = accepted(callers, callee)
        names = {one.fingerprint: label for side in (callers, callee) for label, one in side.items()}
        return {(names[own], names[other]) for own, others in found.items() for other in others}

    assert pairs(earlier, compatible) == {(name, name) for name in ("Shop.find", "Shop.take", "Shop.watch")}
    # What the later ones say of the page would be lost, and they read prices.
    assert pairs(compatible, earlier) == set()
    assert pairs(earlier, breaking) == set()
    assert accepted(earlier, earlier) == {}
