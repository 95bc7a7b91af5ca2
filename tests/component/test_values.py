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


Pair = tuple[int, str]


Limited = NewType("Limited", Annotated[int, msgspec.Meta(lt=9)])  # type: ignore[valid-newtype]


class Holder(msgspec.Struct):
    mixed: dict[str, Pair | Annotated[str, msgspec.Meta(max_length=3)]]


@pytest.mark.parametrize(
    "annotation",
    [
        Pair | Annotated[int, msgspec.Meta(ge=0)],
        Pair | None | Annotated[float, msgspec.Meta(multiple_of=2)],
        list[Pair | Annotated[dict[str, int], msgspec.Meta(min_length=1)]],
        Annotated[Pair | Annotated[str, msgspec.Meta(max_length=3)], msgspec.Meta(description="either")],
        Holder,
        NewType("Either", Holder),
        tuple[Pair | Limited, int],
    ],
)
def test_what_msgspec_misreads_is_refused(annotation: Any) -> None:
    """Even a decoder that is made and let go of ends the process, so the refusal comes before."""
    why = unsupported(annotation)
    assert why is not None
    assert "misreads" in why


@pytest.mark.parametrize(
    "annotation",
    [
        tuple[int | str, ...] | Annotated[str, msgspec.Meta(max_length=3)],
        Pair | Annotated[str, msgspec.Meta(pattern="a")],
        tuple[Annotated[int, msgspec.Meta(ge=0)], str] | int,
        Pair | int,
    ],
)
def test_unions_beside_it_are_not(annotation: Any) -> None:
    value = (1, "b")
    assert unsupported(annotation) is None
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=annotation)
    assert read == value


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
