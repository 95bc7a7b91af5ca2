"""What may pass through a call: which types can be encoded, which are immutable, what they look like.

By value is promised in every topology, so a local call copies what its callee could mutate, through
the codec that a remote call uses: both then see the same conversions. A deeply immutable value needs
no copy. `describe` writes a type as plain data: fingerprints and contract comparisons are made of it.
"""

from typing import Any, cast

import msgspec
from msgspec import inspect as shape

# Leaves that can never be altered in place.
_IMMUTABLE_LEAVES = (
    shape.NoneType,
    shape.BoolType,
    shape.IntType,
    shape.FloatType,
    shape.StrType,
    shape.BytesType,
    shape.DateTimeType,
    shape.DateType,
    shape.TimeType,
    shape.TimeDeltaType,
    shape.DecimalType,
    shape.UUIDType,
    shape.EnumType,
    shape.LiteralType,
)
_RECORDS = (shape.StructType, shape.DataclassType, shape.TypedDictType, shape.NamedTupleType)


def unsupported(annotation: Any) -> str | None:
    """Why values of this type cannot be encoded, or None if they can."""
    try:
        msgspec.msgpack.Decoder(annotation)
        msgspec.json.Decoder(annotation)
        node = shape.type_info(annotation)
    except Exception as error:  # msgspec raises several kinds; each says what it does not support
        return str(error).replace("\n", " ")
    foreign = _find_foreign(node, set())
    return None if foreign is None else f"{foreign!r} is not a type that can be encoded"


def is_immutable(annotation: Any) -> bool:
    """Whether values of this type are deeply immutable, so that they pass by reference locally."""
    return _is_immutable(shape.type_info(annotation), set())


def describe(annotation: Any) -> Any:
    """The type as plain JSON-able data; equal data mean types that encode alike."""
    return _describe(shape.type_info(annotation), set())


def _record_key(node: Any) -> Any:
    return getattr(node, "cls", node)


def _children(node: Any) -> list[Any]:
    if isinstance(node, _RECORDS):
        return [field.type for field in cast(Any, node).fields]
    children: list[Any] = []
    for name in ("item_type", "key_type", "value_type"):
        child = getattr(node, name, None)
        if child is not None:
            children.append(child)
    for name in ("item_types", "types"):
        children.extend(getattr(node, name, ()))
    if isinstance(node, shape.Metadata):
        children.append(node.type)
    return children


def _find_foreign(node: Any, seen: set[Any]) -> Any:
    if isinstance(node, shape.CustomType):
        return node.cls
    if isinstance(node, _RECORDS):
        if _record_key(node) in seen:
            return None
        seen.add(_record_key(node))
    for child in _children(node):
        found = _find_foreign(child, seen)
        if found is not None:
            return found
    return None


def _is_immutable(node: Any, seen: set[Any]) -> bool:
    if isinstance(node, shape.Metadata):
        return _is_immutable(node.type, seen)
    if isinstance(node, _IMMUTABLE_LEAVES):
        return True
    if isinstance(node, (shape.TupleType, shape.VarTupleType, shape.FrozenSetType, shape.UnionType)):
        return all(_is_immutable(child, seen) for child in _children(node))
    if isinstance(node, shape.StructType):
        frozen = node.cls.__struct_config__.frozen
    elif isinstance(node, shape.DataclassType):
        frozen = bool(cast(Any, node.cls).__dataclass_params__.frozen)
    else:
        frozen = isinstance(node, shape.NamedTupleType)
    if not frozen:
        return False
    if _record_key(node) in seen:  # a recursive type is as immutable as its other fields
        return True
    seen.add(_record_key(node))
    return all(_is_immutable(child, seen) for child in _children(node))


def _constraints(node: Any) -> dict[str, Any]:
    names = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz")
    found = ((name, getattr(node, name, None)) for name in names)
    return {name: value for name, value in found if value is not None}


def _describe(node: Any, seen: set[Any]) -> Any:
    if isinstance(node, shape.Metadata):
        return _describe(node.type, seen)
    kind = type(node).__name__.removesuffix("Type").lower()
    if isinstance(node, _RECORDS):
        record = cast(Any, node)
        key = _record_key(record)
        if key in seen:
            return {"recursive": record.cls.__name__}
        inner = seen | {key}
        fields = [[f.encode_name, _describe(f.type, inner), bool(f.required)] for f in record.fields]
        return {
            "record": kind,
            "fields": fields,
            "array": bool(getattr(record, "array_like", False)),
            "tag": getattr(record, "tag", None),
            "tag_field": getattr(record, "tag_field", None),
            "closed": bool(getattr(record, "forbid_unknown_fields", False)),
        }
    if isinstance(node, shape.EnumType):
        return {"enum": [member.value for member in cast(Any, node.cls)]}
    if isinstance(node, shape.LiteralType):
        return {"literal": list(node.values)}
    if isinstance(node, shape.UnionType):
        parts = [_describe(child, seen) for child in node.types]
        return {"union": sorted(parts, key=lambda part: msgspec.json.encode(part))}
    children = [_describe(child, seen) for child in _children(node)]
    limits = _constraints(node)
    if not children and not limits:
        return kind
    return {kind: children, **limits}
