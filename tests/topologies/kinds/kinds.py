"""An application that is given a value of every kind, and that fails in every way."""

import asyncio
import enum
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import msgspec

from fissile import (
    Application,
    Cancelled,
    DeadlineExceeded,
    IncompatibleContract,
    InvalidArgument,
    Overloaded,
    PermissionDenied,
    RemoteError,
    Unavailable,
    component,
    method,
)

T = TypeVar("T")
EAST = timezone(timedelta(hours=5, minutes=45))
WEST = timezone(-timedelta(hours=9, minutes=30))


class Plain(enum.Enum):
    ONE = "one"
    TWO = "two"


class Number(enum.IntEnum):
    ONE = 1
    BIG = 2**40


class Word(enum.StrEnum):
    ONE = "one"


class Bits(enum.Flag):
    A = 1
    B = 2


class IntBits(enum.IntFlag):
    A = 1
    B = 2


class Mutable(msgspec.Struct):
    name: str
    parts: list[int] = []
    at: datetime | None = None


class Frozen(msgspec.Struct, frozen=True):
    name: str
    rate: float = 0.5


class Array(msgspec.Struct, array_like=True):
    name: str
    at: datetime
    raw: bytes = b""


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag="sq", tag_field="shape_kind"):
    side: Decimal


class Oblong(msgspec.Struct, tag="ob", tag_field="shape_kind"):
    sides: tuple[Decimal, Decimal]


class Omitted(msgspec.Struct, omit_defaults=True):
    name: str = "n"
    at: datetime = datetime(2026, 1, 1, tzinfo=EAST)
    parts: dict[str, int] = {}


class Renamed(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    first_name: str
    last_name: str | msgspec.UnsetType = msgspec.UNSET


class Box(msgspec.Struct, Generic[T], frozen=True):
    value: T


class Tree(msgspec.Struct):
    name: str
    inner: "list[Tree]" = []


class Keyed(msgspec.Struct, kw_only=True):
    a: int
    b: int = 2


@dataclass
class Data:
    name: str
    at: datetime
    parts: list[int] = field(default_factory=list[int])


@dataclass(frozen=True, slots=True)
class Slotted:
    name: str
    at: datetime


class Pair(NamedTuple):
    key: str
    at: datetime
    count: int = 3


class Table(TypedDict):
    name: str
    count: int


class Loose(TypedDict, total=False):
    name: str
    at: datetime


MOMENTS = (
    datetime(2026, 7, 1, 0, 30),
    datetime(2026, 7, 1, 0, 30, 59, 999999, tzinfo=UTC),
    datetime(2026, 7, 1, 0, 30, tzinfo=EAST),
    datetime(2026, 1, 31, 23, 59, 59, 1, tzinfo=WEST),
    datetime(1, 1, 1, tzinfo=EAST),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=WEST),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime.min,
    datetime.max,
)
FLOATS = (0.0, -0.0, 1.0, 1.5, -1e300, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf)

# The type, and values of it.
KINDS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "none": (None, (None,)),
    "bool": (bool, (True, False)),
    "int": (int, (0, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**64 - 1)),
    "float": (float, FLOATS),
    "str": (str, ("", "a", "caf\u00e9", "\U0001d11e", "\x00", '"\\\n\u2028', "NaN", "7", "null", "x" * 100_000)),
    "bytes": (bytes, (b"", bytes(range(256)))),
    "bytearray": (bytearray, (bytearray(b"\x00\xff"),)),
    "datetime": (datetime, MOMENTS),
    "date": (date, (date.min, date.max, date(2026, 2, 28))),
    "time": (time, (time.min, time.max, time(1, 2, 3, 4), time(1, tzinfo=UTC), time(1, tzinfo=WEST))),
    "timedelta": (
        timedelta,
        (timedelta(), timedelta(days=-1, seconds=3, microseconds=7), timedelta(hours=1), timedelta(days=100_000)),
    ),
    "decimal": (
        Decimal,
        tuple(map(Decimal, ("0.10", "1E+3", "-0.00", "1e-30", "123456789012345678901234567890", "NaN"))),
    ),
    "uuid": (UUID, (UUID(int=0), UUID("12345678-1234-5678-1234-567812345678"))),
    "enum": (Plain, (Plain.ONE, Plain.TWO)),
    "int_enum": (Number, tuple(Number)),
    "str_enum": (Word, (Word.ONE,)),
    "flag": (Bits, (Bits.A, Bits.A | Bits.B, Bits(0))),
    "int_flag": (IntBits, (IntBits.A, IntBits.A | IntBits.B)),
    "literal": (Literal["a", "b", 3], ("a", 3)),
    "list": (list[int], ([], [1, 2])),
    "list_of_float": (list[float], (list(FLOATS),)),
    "list_of_datetime": (list[datetime], (list(MOMENTS),)),
    "tuple": (tuple[int, str, datetime], ((1, "a", MOMENTS[2]),)),
    "vartuple": (tuple[Frozen, ...], ((), (Frozen("a"), Frozen("b", math.inf)))),
    "set": (set[int], (set[int](), {1, 2})),
    "frozenset": (frozenset[str], (frozenset({"a", "b"}),)),
    "dict_of_str": (dict[str, int], ({}, {"a": 1, "": 2})),
    "dict_of_int": (dict[int, str], ({1: "a", -(2**63): "b", 2**60: "c"},)),
    "dict_of_uuid": (dict[UUID, int], ({UUID(int=1): 1},)),
    "dict_of_date": (dict[date, int], ({date(2026, 1, 1): 1},)),
    "dict_of_datetime": (dict[datetime, datetime], ({MOMENTS[2]: MOMENTS[0]},)),
    "dict_of_enum": (dict[Plain, Word], ({Plain.ONE: Word.ONE},)),
    "dict_of_any": (dict[str, Any], ({"a": [1, 2.5, None, True, "x", {"b": [[]]}]},)),
    "any": (Any, (None, 1, "a", [1, [2]], {"a": {"b": 1.5}})),
    "mutable": (Mutable, (Mutable("a"), Mutable("b", [1], MOMENTS[3]))),
    "frozen": (Frozen, (Frozen("a"), Frozen("b", math.nan))),
    "array": (Array, (Array("a", MOMENTS[2], b"\xff"), Array("a", MOMENTS[0]))),
    "tagged": (Circle | int, (Circle(-0.0), 3)),
    "tagged_by_field": (Square | Oblong | None, (Square(Decimal("0.10")), Oblong((Decimal(1), Decimal(2))), None)),
    "omitted": (Omitted, (Omitted(), Omitted("m", MOMENTS[3], {"a": 1}))),
    "renamed": (Renamed, (Renamed("a"), Renamed("a", "b"))),
    "generic": (Box[Box[datetime]], (Box(Box(MOMENTS[2])),)),
    "recursive": (Tree, (Tree("a", [Tree("b"), Tree("c", [Tree("d")])]),)),
    "keyword_only": (Keyed, (Keyed(a=1), Keyed(a=1, b=3))),
    "dataclass": (Data, (Data("a", MOMENTS[2]), Data("a", MOMENTS[0], [1]))),
    "slotted": (Slotted, (Slotted("a", MOMENTS[3]),)),
    "named_tuple": (Pair, (Pair("a", MOMENTS[2]), Pair("a", MOMENTS[1], 4))),
    "typed_dict": (Table, ({"name": "a", "count": 1},)),
    "loose": (Loose, ({}, {"name": "a"}, {"at": MOMENTS[2]})),
    "optional": (int | None, (None, 2**63)),
    "number": (int | float, (1, 1.0, -0.0, 2**60, math.nan)),
    "union": (bool | int | str | list[str] | dict[str, int] | None, (True, 1, "1", ["a"], {"a": 1}, None)),
    "limited": (Annotated[int, msgspec.Meta(ge=0, le=9)], (0, 9)),
    "limited_text": (Annotated[str, msgspec.Meta(pattern="^a+$")], ("aaa",)),
    "aware": (Annotated[datetime, msgspec.Meta(tz=True)], MOMENTS[1:6]),
    "naive": (Annotated[datetime, msgspec.Meta(tz=False)], (MOMENTS[0],)),
}


def look(value: Any) -> Any:
    """A value as text, with the types of all that is in it."""
    kind = type(value)
    inner: Any = repr(value)
    if isinstance(value, msgspec.Struct):
        inner = [look(getattr(value, name)) for name in value.__struct_fields__]
    elif hasattr(value, "__dataclass_fields__"):
        inner = [look(getattr(value, name)) for name in value.__dataclass_fields__]
    elif isinstance(value, dict):
        inner = [[look(key), look(item)] for key, item in value.items()]
    elif isinstance(value, (set, frozenset)):
        inner = sorted(look(item) for item in value)
    elif isinstance(value, (list, tuple)):
        inner = [look(item) for item in value]
    elif isinstance(value, (datetime, time)):
        inner = value.isoformat()
    return f"{kind.__qualname__}:{inner}"


class Refused(Exception):
    """Declared, with a field."""

    reason: str
    at: datetime

    def __init__(self, reason: str, *, at: datetime) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


class Kept(Exception):
    """Declared; its constructor's annotations name its fields."""

    def __init__(self, what: str, parts: tuple[int, ...]) -> None:
        super().__init__(what)
        self.what = what
        self.parts = parts


class Several(ExceptionGroup[Exception]):
    """A declared group."""


class Unnamed(Exception):
    """Not declared."""


class Away(Unavailable):
    """An author's own kind of an error of the platform."""


class Quiet(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


FAILURES: dict[str, Callable[[], BaseException]] = {
    "declared": lambda: Refused("no", at=MOMENTS[2]),
    "kept": lambda: Kept("what", (1, 2)),
    "args": lambda: Kept("w", ()),
    "odd args": lambda: caused(Kept("caf\udce9", (2**70,)), KeyError("caf\udce9")),
    "builtin": lambda: FileNotFoundError(2, "No such file", "a.txt"),
    "timeout": lambda: TimeoutError("mine"),
    "quiet": lambda: Quiet(1),
    "cause": lambda: caused(Refused("no", at=MOMENTS[0]), caused(KeyError("k"), Kept("first", (1,)))),
    "cause of undeclared": lambda: caused(Unnamed("u"), Refused("no", at=MOMENTS[1])),
    "group": lambda: Several("two", [Refused("no", at=MOMENTS[2]), Unnamed("u")]),
    "undeclared group": lambda: ExceptionGroup("two", [Refused("no", at=MOMENTS[2]), Unnamed("u")]),
    "undeclared": lambda: Unnamed("u"),
    "no text": lambda: ValueError("caf\udce9", 2**70),
    "exit": lambda: SystemExit(3),
    "interrupt": lambda: KeyboardInterrupt(),
    "cancelled": lambda: asyncio.CancelledError("from inside"),
    "remote": lambda: RemoteError("m", origin="Deep.down", type_name="KeyError", traceback_text="t"),
    "own kind": lambda: Away("away", remedy="wait"),
    "overloaded": lambda: Overloaded("full", retry_after_seconds=2.5),
    "overloaded for ever": lambda: Overloaded("full", retry_after_seconds=math.nan),
    **{
        kind.code: (lambda kind=kind: kind("m", origin="Deep.down", remedy="r"))
        for kind in (
            Unavailable,
            DeadlineExceeded,
            Cancelled,
            PermissionDenied,
            IncompatibleContract,
            InvalidArgument,
        )
    },
}


@component(raises=(Refused, Kept, Several, FileNotFoundError, TimeoutError))
class Mirror:
    """For each kind of value a method that says what it got, one that gives it back, and a stream."""

    async def fail(self, how: str) -> int:
        raise FAILURES[how]()

    async def fail_later(self, how: str) -> AsyncIterator[int]:
        yield 1
        raise FAILURES[how]()

    async def defaults(
        self,
        first: int,
        second: float = 1,
        third: list[int] = [3],  # noqa: B006 -- by value
        *,
        fourth: datetime = datetime(2026, 7, 1, 0, 30, tzinfo=EAST),
        fifth: tuple[Frozen, ...] = (Frozen("a"),),
        sixth: Mutable = Mutable("m"),  # noqa: B008 -- by value
    ) -> str:
        found = look((first, second, third, fourth, fifth, sixth))
        third.append(4)
        sixth.parts.append(1)
        return found

    @method(idempotent=True)
    async def ready(self) -> bool:
        return True


def _methods(name: str, kind: Any) -> None:
    async def takes(self: Mirror, value: Any) -> str:
        return look(value)

    async def gives(self: Mirror, value: Any) -> Any:
        return value

    async def each(self: Mirror, value: Any) -> AsyncIterator[Any]:
        yield value
        yield value

    takes.__annotations__ = {"value": kind, "return": str}
    gives.__annotations__ = {"value": kind, "return": kind}
    each.__annotations__ = {"value": kind, "return": AsyncIterator[kind]}
    for function in (takes, gives, each):
        function.__name__ = f"{function.__name__}_{name}"
        setattr(Mirror, function.__name__, function)


for _name, (_kind, _values) in KINDS.items():
    _methods(_name, _kind)


app = Application(Mirror, name="kinds")
