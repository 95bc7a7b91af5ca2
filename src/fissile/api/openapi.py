"""The API as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1.html), from the table of operations."""

from functools import cache
from typing import Any, cast

import msgspec

from fissile.api.operation import Operation
from fissile.api.problem import OPEN_STATUSES, PROBLEM, STATUSES
from fissile.api.schema import DIGITS_MAX, Problem
from fissile.api.table import OPERATIONS
from fissile.rpc.http.openapi import DOOR_PLAIN
from fissile.version import VERSION

PATH_PARAMETERS = ("service", "number")
TEXTS = ("service", "name")


def document() -> dict[str, Any]:
    """Make the document."""
    kinds = [one for operation in OPERATIONS.values() for one in (operation.answer, operation.body) if one is not None]
    schemas, components = msgspec.json.schema_components([*kinds, Problem], ref_template="#/components/schemas/{name}")
    schema_of = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=False)}
    paths: dict[str, dict[str, Any]] = {}
    for name, one in OPERATIONS.items():
        paths.setdefault(one.path, {})[one.verb.lower()] = _operation(name, one, schema_of)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Fissile: supervisor", "version": VERSION},
        "security": [{"token": cast(list[str], [])}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }
    return msgspec.json.decode(msgspec.json.encode(found))  # plain JSON, defaults of tuples too


@cache
def encoded() -> bytes:
    """The document as JSON. Made once: that takes some milliseconds, in which the supervisor does nothing else."""
    return msgspec.json.encode(document())


def _operation(name: str, one: Operation, schema_of: dict[int, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": name,
        "summary": one.summary,
        "parameters": [
            *(_parameter(part, "path") for part in PATH_PARAMETERS if f"{{{part}}}" in one.path),
            *(_parameter(part, "query") for part in one.query),
        ],
        "responses": {
            "200": {"description": "done", **_content(schema_of.get(id(one.answer)))},
            **{str(status): _refusal(status) for status in (OPEN_STATUSES if one.open else STATUSES)},
        },
    }
    if one.open:
        found["security"] = []
    if one.body is not None:
        found["requestBody"] = {"required": True, **_content(schema_of[id(one.body)])}
    return found


def _refusal(status: int) -> dict[str, Any]:
    content: dict[str, Any] = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if str(status) in DOOR_PLAIN:
        content = {"text/plain": {"schema": {"type": "string"}}}
    return {"description": STATUSES[status], "content": content}


def _parameter(name: str, place: str) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": "string"}
    if name not in TEXTS:
        kind = {"type": "integer", "minimum": 1 if name == "limit" else 0, "maximum": 10**DIGITS_MAX - 1}
    return {"name": name, "in": place, "required": place == "path", "schema": kind}


def _content(schema: Any) -> dict[str, Any]:
    return {} if schema is None else {"content": {"application/json": {"schema": schema}}}
