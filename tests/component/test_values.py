"""Which values pass by reference, and what a type looks like as data."""

import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, NewType

import msgspec
import pytest

from fissile.component.values import describe, is_immutable, unsupported


class Frozen(msgspec.Struct, frozen=True):
    name: str
    parts: tuple["Frozen", ...] = ()


class FrozenOutside(msgspec.Struct, frozen=True):
    tags: list[str]


class Loose(msgspec.Struct):
    name: str


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        str,
        bytes,
        None,
        float,
        bool,
        decimal.Decimal,
        datetime.datetime,
        datetime.timedelta,
        uuid.UUID,
        Colour,
        Literal["a", 1],
        UserId,
        Frozen,
        Point,
        tuple[int, str],
        tuple[Frozen, ...],
        frozenset[int],
        int | None,
        Annotated[int, msgspec.Meta(ge=0)],
    ],
)
def test_immutable(annotation: Any) -> None:
    assert is_immutable(annotation)


@pytest.mark.parametrize(
    "annotation",
    [list[int], dict[str, int], set[int], bytearray, Loose, FrozenOutside, tuple[Loose, ...], Any, Frozen | list[int]],
)
def test_mutable(annotation: Any) -> None:
    assert not is_immutable(annotation)


@pytest.mark.parametrize("annotation", [complex, object(), type, list[complex], Mapping[str, complex]])
def test_what_cannot_be_encoded_says_why(annotation: Any) -> None:
    assert unsupported(annotation)


def test_descriptions_tell_types_apart() -> None:
    different = [
        int,
        str,
        int | None,
        list[int],
        tuple[int, ...],
        Frozen,
        Loose,
        Literal[1],
        Literal[2],
        dict[str, int],
    ]
    described = [msgspec.json.encode(describe(annotation)) for annotation in different]
    assert len(set(described)) == len(described)
