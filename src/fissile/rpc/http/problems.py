"""Errors over HTTP: failures as problem documents (RFC 9457), and back.

Beside the standard members: `origin` and `remedy`; `exception`, the type of one that was not declared; `fields`, `args`
and, for a group, `parts` of a declared one; `cause`, a problem document of its own. Programs in other languages write
them, too: whatever a document holds, an exception comes of it.
"""

from typing import Any, cast

import msgspec

from fissile.component.failure import DECLARED, Failure, from_failure, seconds
from fissile.component.interface import Method
from fissile.component.plain import text_of
from fissile.component.trace import MESSAGE_CHARACTERS_MAX
from fissile.component.values import UNDECODABLE, UNENCODABLE
from fissile.errors import CALL_ERRORS, RemoteError
from fissile.rpc.http.json import to_json
from fissile.rpc.http.openapi import HTTP_STATUS

DECLARED_KIND = f"urn:fissile:{DECLARED}:"
ERROR_KIND = "urn:fissile:error:"
NESTED_MAX = 8
PARTS_MAX = 64
# The members in which there is what an author's exception holds.
HOLDING = frozenset({"args", "fields", "parts", "cause"})


def problem_of(failure: Failure) -> dict[str, Any]:
    """The failure as a problem document."""
    declared = failure.code == DECLARED
    found: dict[str, Any] = {
        "type": f"{DECLARED_KIND}{failure.type_name}" if declared else f"{ERROR_KIND}{failure.code}",
        "title": failure.type_name if declared else failure.code.replace("_", " "),
        "status": HTTP_STATUS[failure.code],
        "detail": failure.message,
        "remedy": failure.remedy,
        "origin": failure.origin,
    }
    if declared:
        found |= {"fields": failure.fields, "args": failure.args}
    elif failure.type_name:
        found["exception"] = failure.type_name
    if failure.retry_after_seconds:
        found["retry_after_seconds"] = failure.retry_after_seconds
    if failure.parts:
        found["parts"] = [problem_of(part) for part in failure.parts]
    if failure.cause is not None:
        found["cause"] = problem_of(failure.cause)
    return found


def problem_json(problem: dict[str, Any]) -> bytes:
    """The document as JSON; without what it holds, where that is nested too deep to be written."""
    try:
        return to_json(problem)
    except UNENCODABLE as error:
        short = {name: value for name, value in problem.items() if name not in HOLDING}
        detail = f"{problem['detail']} (what it holds was left out: {type(error).__name__})"
        return to_json(short | {"detail": detail})


def error_of(data: bytes, method: Method, status: int | None) -> Exception:
    """The exception that an answer's body stands for. status: HTTP's, None where the document alone says it."""
    try:
        problem = msgspec.json.decode(data, type=dict[str, Any])
    except UNDECODABLE:  # no document, or one that is nested too deep
        text = text_of(data[:500].decode(errors="replace"), MESSAGE_CHARACTERS_MAX)
        return RemoteError(f"HTTP {status or 500}: {text}", origin=method.label, type_name="HTTP error")
    return from_failure(_failure(problem, status, method, NESTED_MAX), method)


def _failure(problem: dict[str, Any], status: int | None, method: Method, depth: int) -> Failure:
    def text(name: str) -> str:
        value = problem.get(name)
        return text_of(value, MESSAGE_CHARACTERS_MAX) if isinstance(value, (str, int, float)) else ""

    if status is None:
        told = problem.get("status")
        status = told if type(told) is int else HTTP_STATUS[RemoteError.code]
    kind = text("type")
    code = DECLARED if kind.startswith(DECLARED_KIND) else kind.removeprefix(ERROR_KIND)
    if code != DECLARED and code not in CALL_ERRORS:
        code = next((c for c, s in HTTP_STATUS.items() if s == status and c in CALL_ERRORS), RemoteError.code)
    message = text("detail") if "detail" in problem else text("title") or f"HTTP {status}"
    args, fields, cause = problem.get("args"), problem.get("fields"), problem.get("cause")
    return Failure(
        code,
        message,
        text("origin") or method.label,
        text("remedy"),
        kind.removeprefix(DECLARED_KIND) if code == DECLARED else text("exception"),
        retry_after_seconds=seconds(problem.get("retry_after_seconds")),
        args=cast(list[Any], args) if isinstance(args, list) and args else [message],
        fields=cast(dict[str, Any], fields) if isinstance(fields, dict) else {},
        cause=_failure(cast(dict[str, Any], cause), None, method, depth - 1)
        if isinstance(cause, dict) and depth
        else None,
        parts=_parts(problem.get("parts"), method, depth),
    )


def _parts(found: Any, method: Method, depth: int) -> list[Failure]:
    if not isinstance(found, list) or not depth:
        return []
    documents = [cast(object, one) for one in cast(list[Any], found)[:PARTS_MAX]]
    tables = [cast(dict[str, Any], one) for one in documents if isinstance(one, dict)]
    return [_failure(one, None, method, depth - 1) for one in tables]
