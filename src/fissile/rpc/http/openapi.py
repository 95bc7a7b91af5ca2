"""The HTTP/JSON form of interfaces as an OpenAPI 3.1 document, generated from their types.

Format: https://spec.openapis.org/oas/v3.1.0. Errors are problem documents (RFC 9457).
"""

from collections.abc import Iterable
from typing import Any, cast

import msgspec

from fissile.component.declared_errors import error_fields
from fissile.component.interface import Interface, Method
from fissile.component.pydantic_models import schema_hook
from fissile.errors import CALL_ERRORS
from fissile.rpc.http.json import exact

HTTP_STATUS: dict[str, int] = {
    "invalid_argument": 400,
    "permission_denied": 403,
    "incompatible_contract": 409,
    "declared": 422,
    "overloaded": 429,
    "cancelled": 499,
    "remote_error": 500,
    "unavailable": 503,
    "deadline_exceeded": 504,
}

# What a request may get before it is a call.
DOOR_STATUS = {
    "401": "The token is missing or wrong.",
    "408": "Its head or its body did not come in time.",
    "413": "The body is too long.",
    "431": "The head of the request is too long.",
}

# Said by the door in one line, before anything is known of what is asked.
DOOR_PLAIN = ("408", "431")

EXACTNESS = (
    "Values are exact. Decimal: a string. Bytes: base64 (RFC 4648, section 4). Date and time: RFC 3339. "
    "Integers beyond ±(2^53-1) are written as strings of digits, and strings of digits are accepted for "
    "any integer, because many JSON parsers round large numbers. NaN and the infinities, for which JSON has "
    'no number, are the strings "NaN", "Infinity" and "-Infinity" wherever a number with fractions is.'
)

_PROBLEM_REF: dict[str, Any] = {"$ref": "#/components/schemas/Problem"}
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "A problem document (RFC 9457).",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "description": "urn:fissile:error:CODE or urn:fissile:declared:NAME"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "origin": {"type": "string", "description": "Component.method where it arose"},
        "remedy": {"type": "string", "description": "the next step"},
        "fields": {"type": "object", "description": "fields of a declared error"},
        "args": {"type": "array", "description": "arguments of a declared error"},
        "parts": {"type": "array", "items": _PROBLEM_REF, "description": "what is in a declared group of errors"},
        "cause": {**_PROBLEM_REF, "description": "the problem that this one was raised from"},
    },
}


def openapi(title: str, interfaces: Iterable[Interface]) -> dict[str, Any]:
    """The document that describes these interfaces."""
    methods = [method for interface in interfaces for method in interface.methods.values()]
    kinds = [kind for method in methods for kind in (method.body, method.result)]
    models: dict[str, Any] = {}
    schemas, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}", schema_hook=lambda kind: schema_hook(kind, models)
    )
    components |= models
    parts = [_lenient(schema) for schema in schemas]
    paths = {
        f"/rpc/{method.component}/{method.name}": {"post": _operation(method, parts[2 * i], parts[2 * i + 1])}
        for i, method in enumerate(methods)
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": EXACTNESS},
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM, **_lenient(components)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(method: Method, body: Any, result: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "The result.", "content": {"application/json": {"schema": result}}}
    if method.streaming:
        line = {
            "type": "object",
            "properties": {"item": result, "error": {"$ref": "#/components/schemas/Problem"}},
        }
        answer = {
            "description": 'A line for each item, {"item": …}; a last line {"error": …} where it failed.',
            "content": {"application/x-ndjson": {"schema": line}},
        }
    first, _, rest = method.doc.partition("\n")
    operation: dict[str, Any] = {
        "operationId": f"{method.component}_{method.name}",
        "tags": [method.component],
        "summary": first or method.label,
        "requestBody": {
            "required": any(parameter.required for parameter in method.parameters),
            "content": {"application/json": {"schema": body}},
        },
        "responses": {"200": answer, **_problems(method)},
        "x-fissile-fingerprint": method.fingerprint,
        "x-fissile-idempotent": method.idempotent,
    }
    if rest.strip():
        operation["description"] = rest.strip()
    return operation


def _problems(method: Method) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {"application/problem+json": {"schema": schema}}
    found: dict[str, Any] = {}
    for code, kind in CALL_ERRORS.items():
        found[str(HTTP_STATUS[code])] = {"description": (kind.__doc__ or code).partition("\n")[0], "content": content}
    for status, description in DOOR_STATUS.items():
        said = {"text/plain": {"schema": {"type": "string"}}} if status in DOOR_PLAIN else content
        found[status] = {"description": description, "content": said}
    if method.raises:
        named = [f"{kind.__qualname__}({', '.join(error_fields(kind))})" for kind in method.raises]
        found["422"] = {"description": "A declared error: " + ", ".join(named), "content": content}
    return dict(sorted(found.items()))


def _lenient(schema: Any) -> Any:
    """Integers may also be strings of digits, and other numbers the names of those that JSON has not."""
    if isinstance(schema, list):
        return [_lenient(part) for part in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    known = cast(dict[str, Any], schema)
    walked = {key: value if key in ("enum", "const") else _lenient(value) for key, value in known.items()}
    if "default" in known:
        walked["default"] = exact(known["default"])
    if known.get("type") == "integer":
        rest = {key: walked.pop(key) for key in ("title", "description", "default") if key in walked}
        return {"anyOf": [walked, {"type": "string", "pattern": "^-?[0-9]+$"}], **rest}
    if known.get("type") == "number":
        rest = {key: walked.pop(key) for key in ("title", "description", "default") if key in walked}
        return {"anyOf": [walked, {"enum": ["NaN", "Infinity", "-Infinity"]}], **rest}
    return walked
