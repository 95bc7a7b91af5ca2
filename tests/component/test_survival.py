"""What would not survive a wire, told without a value."""

import dataclasses
import enum
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from math import inf, nan
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from fissile.component.declaration import component
from fissile.component.interface import Method, read_interface
from fissile.component.survival import difference, of_arguments, of_result


class Word(enum.StrEnum):
    ONE = "one"


class Flagged(str):
    """No plain string."""


class Point(msgspec.Struct, frozen=True):
    x: int
    name: str = ""


class Point3(Point, frozen=True):
    z: int = 0


class Pair(NamedTuple):
    left: int
    right: str


@dataclasses.dataclass(frozen=True)
class Line:
    start: Point
    parts: tuple[float, ...] = ()


class Even(msgspec.Struct, frozen=True):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError(f"the secret {self.number} is odd")


class Odd(Even, frozen=True):
    def __post_init__(self) -> None:
        pass


@component
class All:
    async def number(self, x: int) -> int:
        return x

    async def share(self, x: float) -> float:
        return x

    async def text(self, x: str) -> str:
        return x

    async def row(self, x: tuple[int, ...]) -> tuple[int, ...]:
        return x

    async def names(self, x: frozenset[str]) -> frozenset[str]:
        return x

    async def point(self, x: Point) -> Point:
        return x

    async def pair(self, x: Pair) -> Pair:
        return x

    async def line(self, x: Line) -> Line:
        return x

    async def at(self, x: datetime) -> datetime:
        return x

    async def word(self, x: Word) -> Word:
        return x

    async def even(self, x: Even) -> Even:
        return x

    async def price(self, x: Decimal) -> Decimal:
        return x

    async def key(self, x: UUID) -> UUID:
        return x

    async def maybe(self, x: int | str | None) -> int | str | None:
        return x

    async def table(self, x: dict[str, float]) -> dict[str, float]:
        return x

    async def shares(self, x: frozenset[float]) -> frozenset[float]:
        return x

    async def anything(self, x: Any) -> Any:
        return x

    async def stream(self) -> AsyncIterator[int]:
        yield 1


METHODS = read_interface(All)[0].methods


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", -(2**63)),
        ("share", nan),
        ("share", -inf),
        ("text", "a"),
        ("row", (1, 2)),
        ("names", frozenset({"a", "b"})),
        ("point", Point(1, "a")),
        ("pair", Pair(1, "a")),
        ("line", Line(Point(1), (1.0, nan))),
        ("at", datetime(2026, 1, 1, tzinfo=UTC)),
        ("at", datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))),
        ("at", datetime(2026, 1, 1)),
        ("word", Word.ONE),
        ("even", Even(2)),
        ("price", Decimal("1.10")),
        ("key", UUID(int=1)),
        ("maybe", None),
        ("table", {"a": 1.0}),
        ("anything", {"a": [1, None]}),
        ("anything", {nan: 1, 2.0: 3}),
        ("shares", frozenset({nan, 1.5})),
    ],
)
def test_what_survives(name: str, value: Any) -> None:
    method = METHODS[name]
    assert of_arguments(method, (value,)) is None
    assert of_result(method, value) is None


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("number", True, "would be refused by another process: Expected `int`, got `bool`"),
        ("number", "5", "would be refused by another process: Expected `int`, got `str`"),
        ("number", None, "would be refused by another process: Expected `int`, got `None`"),
        ("number", 2**70, "cannot be encoded for another process"),
        ("share", 1, "is an int here, and arrives as a float"),
        ("text", Word.ONE, "is a Word here, and arrives as a str"),
        ("text", Flagged("a"), "cannot be encoded for another process: Encoding objects of type Flagged"),
        ("text", "\ud800", "cannot be encoded for another process: UnicodeEncodeError"),
        ("row", [1], "is a list here, and arrives as a tuple"),
        ("row", (1, True), "would be refused"),
        ("names", {"a"}, "is a set here, and arrives as a frozenset"),
        ("names", frozenset({Word.ONE}), "is a Word here, and arrives as a str"),
        ("point", Point3(1, "a", 2), "is a Point3 here, and arrives as a Point"),
        ("point", Point(1, Word.ONE), ".name is a Word here, and arrives as a str"),
        ("pair", (1, "a"), "is a tuple here, and arrives as a Pair"),
        ("line", Line(Point3(1)), ".start is a Point3 here"),
        ("line", Line(Point(1), (1.0, 2)), ".parts[1] is an int here, and arrives as a float"),
        ("even", Odd(3), "would be refused by another process: ValueError"),
        ("table", {"a": 1}, "is an int here, and arrives as a float"),
        ("table", {Word.ONE: 1.0}, "is a Word here, and arrives as a str"),
        ("anything", Point(1), "is a Point here, and arrives as a dict"),
        ("anything", (1,), "is a tuple here, and arrives as a list"),
        ("anything", object(), "cannot be encoded"),
    ],
)
def test_what_does_not(name: str, value: Any, told: str) -> None:
    for sentence, subject in (
        (of_arguments(METHODS[name], (value,)), "argument"),
        (of_result(METHODS[name], value), "result"),
    ):
        assert sentence is not None
        assert told in sentence
        assert subject in sentence
        assert "secret" not in sentence


def test_an_item_is_called_so() -> None:
    assert "item" in str(of_result(METHODS["stream"], "a"))
    assert of_result(METHODS["stream"], 2) is None


def test_a_value_that_holds_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "cannot be encoded" in str(of_result(METHODS["anything"], loop))


def test_a_value_that_is_too_deep_to_compare_is_let_be() -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    assert of_result(METHODS["anything"], deep) is None


def test_differences_of_values() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert (
        difference("x", noon, noon.astimezone(timezone(timedelta(hours=1))))
        == "x, a datetime, arrives with another value"
    )
    assert difference("x", 0.0, 1.0) == "x, a float, arrives with another value"
    assert difference("x", [1], [1, 2]) == "x has 1 parts here, and arrives with 2"
    assert difference("x", {"a": 1}, {"b": 1}) == "x arrives with other keys"
    assert difference("x", {1}, {2}) == "x arrives with other members"


def test_every_method_is_read() -> None:
    assert all(isinstance(method, Method) for method in METHODS.values())
    assert len(METHODS) == 18


def test_a_refused_argument_is_told_by_its_name() -> None:
    assert (of_arguments(METHODS["number"], (True,)) or "").endswith("Expected `int`, got `bool` - at `x`")
    assert (of_arguments(METHODS["row"], ((1, True),)) or "").endswith("got `bool` - at `x[1]`")
