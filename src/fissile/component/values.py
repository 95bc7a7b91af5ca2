"""What may pass through a call: which types can be encoded, which are immutable, what they look like.

By value is promised in every topology, so a local call copies what its callee could mutate, through
the codec that a remote call uses: both then see the same conversions. A deeply immutable value needs
no copy. `describe` writes a type as plain data: fingerprints and contract comparisons are made of it.
"""

import enum
import types
import typing
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import inspect as shape

from fissile.component import pydantic_models
from fissile.component.misread import MISREAD, is_misread

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
# What the codec raises for a value that it cannot write, and for bytes that it cannot read as the declared type.
# The latter is wide because an author's own __post_init__ runs within it.
UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)
UNDECODABLE = (Exception,)
# What msgspec compares with the empty value that they make, where `omit_defaults` is set.
EMPTY_FACTORIES = (list, dict, set)
# Why a record may be written without a field: the type allows it, or it has its default.
UNSET, DEFAULT = "unset", "default"
RECORDS = (shape.StructType, shape.DataclassType, shape.TypedDictType, shape.NamedTupleType)


def unsupported(annotation: Any) -> str | None:
    """Why values of this type cannot be encoded, or None if they can."""
    if is_misread(annotation):
        return MISREAD
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
    """The type as plain JSON-able data. What is in it beside its `essence` is for comparisons, and for people."""
    return _describe(shape.type_info(annotation), ())


def essence(node: Any) -> Any:
    """The part of a description that says how values are encoded: equal parts, equal encoding.

    Names of classes are for people. The default of a field that is always written concerns its reader alone.
    """
    if isinstance(node, list):
        return [essence(part) for part in cast(list[Any], node)]
    if not isinstance(node, dict):
        return node
    table = cast(dict[str, Any], node)
    found = {key: essence(part) for key, part in table.items() if key not in ("class", "default")}
    if table.get("missing") == DEFAULT:
        found["default"] = table["default"]
    return found


def record_key(node: Any) -> Any:
    """What tells a record from others: its class, with its parameters."""
    return getattr(node, "cls", node)


def class_of(record: Any) -> Any:
    """The class itself, where the type is one of its parametrised forms, as Box[int]."""
    return typing.get_origin(record.cls) or record.cls


def children(node: Any) -> list[Any]:
    """The types that this one is made of."""
    if isinstance(node, RECORDS):
        return [field.type for field in cast(Any, node).fields]
    found: list[Any] = []
    for name in ("item_type", "key_type", "value_type"):
        child = getattr(node, name, None)
        if child is not None:
            found.append(child)
    for name in ("item_types", "types"):
        found.extend(getattr(node, name, ()))
    if isinstance(node, shape.Metadata):
        found.append(node.type)
    return found


def _find_foreign(node: Any, seen: set[Any]) -> Any:
    if isinstance(node, shape.CustomType):
        return None if pydantic_models.is_model(node.cls) else node.cls
    if isinstance(node, RECORDS):
        if record_key(node) in seen:
            return None
        seen.add(record_key(node))
    for child in children(node):
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
        return all(_is_immutable(child, seen) for child in children(node))
    if isinstance(node, shape.StructType):
        frozen = class_of(node).__struct_config__.frozen
    elif isinstance(node, shape.DataclassType):
        frozen = bool(class_of(node).__dataclass_params__.frozen)
    else:
        frozen = isinstance(node, shape.NamedTupleType)
    if not frozen:
        return False
    if record_key(node) in seen:  # a recursive type is as immutable as its other fields
        return True
    seen.add(record_key(node))
    return all(_is_immutable(child, seen) for child in children(node))


def _constraints(node: Any) -> dict[str, Any]:
    names = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz")
    found = ((name, getattr(node, name, None)) for name in names)
    return {name: value for name, value in found if value is not None}


def _describe(node: Any, path: tuple[Any, ...]) -> Any:
    """path: the records that this is in, outermost first."""
    if isinstance(node, shape.Metadata):
        return _describe(node.type, path)
    if isinstance(node, RECORDS):
        return _describe_record(cast(Any, node), path)
    if isinstance(node, shape.EnumType):
        return _describe_enum(cast(Any, node.cls))
    if isinstance(node, shape.LiteralType):
        return {"literal": list(node.values)}
    if isinstance(node, shape.UnionType):
        parts = [_describe(child, path) for child in node.types]
        return {"union": sorted(parts, key=lambda part: msgspec.json.encode(essence(part)))}
    if isinstance(node, shape.CustomType):
        return _describe_model(node.cls, path)
    kind = _kind(node)
    parts = [_describe(child, path) for child in children(node)]
    limits = _constraints(node)
    if not parts and not limits:
        return kind
    return {kind: parts, **limits}


def _kind(node: Any) -> str:
    return type(node).__name__.removesuffix("Type").lower()


def _describe_enum(cls: type[enum.Enum]) -> dict[str, Any]:
    """Values are what travels, and names what they mean. combined: values may be members put together."""
    members = [[name, member.value] for name, member in cls.__members__.items()]
    return {"enum": members, "combined": issubclass(cls, enum.Flag), "class": cls.__name__}


def _describe_record(record: Any, path: tuple[Any, ...]) -> dict[str, Any]:
    key = record_key(record)
    name = class_of(record).__name__
    if key in path:
        # By its place: there may be several classes of one name.
        return {"recursive": len(path) - path.index(key), "class": name}
    missing = _missing(record)
    inner = (*path, key)
    return {
        "record": _kind(record),
        "class": name,
        "fields": [_describe_field(field, missing.get(field.name), inner) for field in record.fields],
        "array": bool(getattr(record, "array_like", False)),
        "tag": getattr(record, "tag", None),
        "tag_field": getattr(record, "tag_field", None),
        "closed": bool(getattr(record, "forbid_unknown_fields", False)),
    }


def _describe_model(cls: Any, path: tuple[Any, ...]) -> Any:
    """A pydantic model as the record that it is on the wire; another class, in a field of a model, by its name."""
    if not pydantic_models.is_model(cls):
        return {"custom": [], "of": getattr(cls, "__name__", str(cls))}
    if cls in path:
        return {"recursive": len(path) - path.index(cls), "class": cls.__name__}
    found: list[dict[str, Any]] = []
    for name, kind, required, limits, default in pydantic_models.fields(cls):
        described: Any = _describe(kind, (*path, cls))
        if limits:
            described = {described: [], **limits} if isinstance(described, str) else described | limits
        found.append({"name": name, "type": described, "required": required, **_written(default)})
    return {
        "record": "model",
        "class": cls.__name__,
        "fields": found,
        "array": False,
        "tag": None,
        "tag_field": None,
        "closed": pydantic_models.is_closed(cls),
    }


def _describe_field(field: Any, missing: str | None, path: tuple[Any, ...]) -> dict[str, Any]:
    """required: for its reader. missing: why its writer may leave it out. default: what it means then."""
    found: dict[str, Any] = {"name": field.encode_name, "type": _describe(field.type, path)}
    found["required"] = bool(field.required)
    default = _default(field)
    if missing == UNSET or (missing == DEFAULT and "default" in default):
        found["missing"] = missing
    return found | default


def _default(field: Any) -> dict[str, Any]:
    """The default of a field as it would be encoded; nothing where there is none, or none that can be known."""
    value = getattr(field, "default", msgspec.NODEFAULT)
    if getattr(field, "default_factory", None) in EMPTY_FACTORIES:
        value = field.default_factory()
    return _written(value)


def _written(value: Any) -> dict[str, Any]:
    if value is msgspec.NODEFAULT or value is msgspec.UNSET:
        return {}
    try:
        return {"default": msgspec.json.decode(msgspec.json.encode(value, order="deterministic"))}
    except (TypeError, ValueError):
        return {}


def _missing(record: Any) -> Mapping[str, str]:
    """Why a record may be written without some of its fields, by name."""
    if isinstance(record, shape.TypedDictType):
        return {field.name: UNSET for field in record.fields if not field.required}
    if isinstance(record, shape.NamedTupleType) or getattr(record, "array_like", False):
        return {}
    found = {name: UNSET for name, hint in hints_of(record).items() if _may_be_unset(hint)}
    if isinstance(record, shape.StructType) and class_of(record).__struct_config__.omit_defaults:
        found |= {field.name: DEFAULT for field in record.fields if not field.required and _default(field)}
    return found


def hints_of(record: Any) -> dict[str, Any]:
    """The annotations of a record's fields, by name."""
    if isinstance(record, shape.StructType):
        return {field.name: field.type for field in msgspec.structs.fields(record.cls)}
    return typing.get_type_hints(class_of(record), include_extras=True)


def _may_be_unset(hint: Any) -> bool:
    hint = getattr(hint, "__value__", hint)  # of a `type` statement
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_may_be_unset(part) for part in typing.get_args(hint))
    return hint is msgspec.UnsetType
