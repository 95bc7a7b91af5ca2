"""One operation of the API: a line of the table that routes and the OpenAPI document are both made of."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fissile.api.schema import BODY_BYTES_MAX, DIGITS_MAX
from fissile.component.values import UNDECODABLE

T = TypeVar("T")

Handler = Callable[[Request], Awaitable[Response]]


class TooLong(Exception):
    """Inside this room: a body of more than BODY_BYTES_MAX."""


class Operation(msgspec.Struct, frozen=True):
    """One line of the table. answer, body: their types, None for none. open: without a token."""

    verb: str
    path: str
    summary: str
    answer: Any
    body: Any = None
    query: tuple[str, ...] = ()
    open: bool = False


async def order(request: Request, kind: type[T]) -> T:
    """Read the body. Raises ValueError if it is malformed, and TooLong."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise TooLong
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except UNDECODABLE as error:
        raise ValueError(str(error)) from None


def whole(text: str, name: str, *, least: int = 0) -> int:
    """Read a number of a query or a path. Raises ValueError."""
    if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX and int(text) >= least:
        return int(text)
    raise ValueError(f"{name} is {text[:DIGITS_MAX]!r}: expected a whole number from {least} to {10**DIGITS_MAX - 1}")


def translated(value: object, kind: type[T]) -> T:
    """Translate between a struct of the supervisor's and the one of the schema that shows it, field by field."""
    return msgspec.convert(value, kind, from_attributes=True)


def answer(value: Any) -> Response:
    """Answer 200 with a struct, or structs, of the schema."""
    return Response(msgspec.json.encode(value), media_type="application/json")
