"""Pydantic models as arguments and results: written as plain data, and validated again where they arrive.

A model is recognised by its methods, so nothing here imports pydantic, and an application without it pays nothing.
Only models of pydantic 2 count. They travel as `model_dump` writes them for JSON, by alias; `model_validate_json` reads
them.
"""

from typing import Any, cast

import msgspec
from msgspec import inspect as shape

# Limits of a field, as pydantic keeps them in objects of its own and as msgspec names them.
_LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")


def is_model(kind: Any) -> bool:
    """Whether a class is a pydantic model."""
    return isinstance(kind, type) and hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_validate_json")


def to_plain(value: Any) -> Any:
    """A model as plain data; any other value itself. Raises ValueError for a model that JSON cannot hold."""
    if not is_model(cast(Any, type(value))):
        return value
    return value.model_dump(mode="json", by_alias=True, round_trip=True)


def encode_hook(value: Any) -> Any:
    """See msgspec: a model as plain data. Raises TypeError for any other value that msgspec does not know."""
    found = to_plain(value)
    if found is value:
        raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")
    return found


def decode_hook(kind: Any, value: Any) -> Any:
    """See msgspec: a model made of plain data. Raises what pydantic raises where the data do not fit."""
    if not is_model(kind):
        raise TypeError(f"Decoding objects of type {kind.__name__} is unsupported")
    # As JSON: a strict model takes a date from a text of JSON, and refuses it from a str of Python.
    return kind.model_validate_json(msgspec.json.encode(value))


def schema_hook(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of a model; the models that it refers to are added to `definitions`."""
    if not is_model(kind):
        raise NotImplementedError
    found: dict[str, Any] = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions.update(found.pop("$defs", {}))
    return found


def fields(kind: Any) -> list[tuple[str, Any, bool, dict[str, Any], Any]]:
    """The fields of a model: name on the wire, msgspec's type, whether required, limits, default."""
    found: list[tuple[str, Any, bool, dict[str, Any], Any]] = []
    for name, field in kind.model_fields.items():
        limits = {
            limit: value
            for rule in field.metadata
            for limit in _LIMITS
            if (value := getattr(rule, limit, None)) is not None
        }
        default = msgspec.NODEFAULT if field.is_required() or field.default_factory else field.default
        found.append((field.alias or name, _type_info(field.annotation), field.is_required(), limits, default))
    return found


def is_closed(kind: Any) -> bool:
    """Whether a model refuses fields that it does not have."""
    return kind.model_config.get("extra") == "forbid"


def _type_info(annotation: Any) -> Any:
    """What msgspec says of a field's type; pydantic knows more types than msgspec does."""
    try:
        return shape.type_info(annotation)
    except Exception:  # msgspec raises several kinds
        return shape.CustomType(annotation)
