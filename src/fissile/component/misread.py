"""A type that msgspec misreads: a union of a tuple of fixed length and of a type with limits.

msgspec (0.22) takes the first limit for the length of the tuple, and one of the tuple's types for the limit. To let go
of such a decoder ends the process with a segmentation fault, and msgspec's own inspection makes one. So this looks at
annotations alone, before msgspec sees them.
"""

import types
import typing
from collections.abc import Iterator
from typing import Any, cast

import msgspec

MISREAD = "msgspec misreads a union of a tuple of fixed length and a type with limits: leave the limits out"
# Limits that msgspec keeps as numbers beside a type.
_NUMBERS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length")


def is_misread(annotation: Any) -> bool:
    """Whether there is such a union in a type, or in the fields of records that it is made of."""
    return _is_misread(annotation, set())


def _is_misread(annotation: Any, seen: set[Any]) -> bool:
    parts = list(_members(annotation))
    fixed = any(_is_fixed_tuple(_bare(part)) for part in parts)
    if fixed and any(map(_has_limits, parts)):
        return True
    for part in parts:
        bare = _bare(part)
        if any(_is_misread(inner, seen) for inner in typing.get_args(bare)):
            return True
        cls = typing.get_origin(bare) or bare
        if _is_record(cls) and cls not in seen:
            seen.add(cls)
            if any(_is_misread(hint, seen) for hint in _hints(cls).values()):
                return True
    return False


def _members(annotation: Any) -> Iterator[Any]:
    """Of a union, however it is nested; of any other type itself."""
    bare = _bare(annotation)
    if typing.get_origin(bare) in (typing.Union, types.UnionType):
        for part in typing.get_args(bare):
            yield from _members(part)
    else:
        yield annotation


def _bare(annotation: Any) -> Any:
    """Without metadata, and behind its other names."""
    *_, bare = _unwrapped(annotation)
    return bare


def _unwrapped(annotation: Any) -> Iterator[Any]:
    """A type, then what is within its metadata or behind its names (`NewType`, a `type` statement), down to itself."""
    while True:
        yield annotation
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return


def _has_limits(annotation: Any) -> bool:
    layers = (one for one in _unwrapped(annotation) if typing.get_origin(one) is typing.Annotated)
    metadata = (one for layer in layers for one in typing.get_args(layer)[1:] if isinstance(one, msgspec.Meta))
    return any(getattr(one, name) is not None for one in metadata for name in _NUMBERS)


def _is_fixed_tuple(bare: Any) -> bool:
    arguments = typing.get_args(bare)
    return typing.get_origin(bare) is tuple and Ellipsis not in arguments


def _is_record(cls: Any) -> bool:
    """A struct, a dataclass, a TypedDict or a NamedTuple: what has annotated fields."""
    return isinstance(cls, type) and bool(getattr(cast(Any, cls), "__annotations__", None))


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception:  # a name that does not exist: msgspec says so, and better
        return {}
