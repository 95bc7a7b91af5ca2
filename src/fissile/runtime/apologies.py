"""What a visitor is told in place of an answer that the application could not give."""

import logging
import math
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fissile.errors import CallError, DeadlineExceeded, Overloaded, Unavailable

SERVER_ERROR = 500
RETRY_SECONDS = 1.0

# The name under which people know such lines; their tracebacks are whole.
log = logging.getLogger("uvicorn.error")


def status_of(error: BaseException | None) -> HTTPStatus:
    """503 and 504 for what passes by itself, 500 for the rest."""
    if isinstance(error, (Overloaded, Unavailable)):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, DeadlineExceeded):
        return HTTPStatus.GATEWAY_TIMEOUT
    return HTTPStatus.INTERNAL_SERVER_ERROR


def better(message: Any) -> tuple[Any, Any]:
    """How an answer of the 500s begins, and its body, if it is another than the application's own.

    That is so for a 500 that a framework begins while it handles an error that passes.
    """
    error = sys.exc_info()[1] if message["status"] == SERVER_ERROR else None
    return (message, None) if status_of(error) == SERVER_ERROR else apology(error)


def apology(error: BaseException | None) -> tuple[Any, Any]:
    """Beginning and body of an answer for an exception that left the application."""
    status = status_of(error)
    body = status.phrase.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        seconds = getattr(error, "retry_after_seconds", RETRY_SECONDS)
        headers.append((b"retry-after", str(max(1, math.ceil(seconds))).encode()))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        headers.append((b"connection", b"close"))
    return (
        {"type": "http.response.start", "status": int(status), "headers": headers},
        {"type": "http.response.body", "body": body},
    )


async def apologise(
    cycle: Any, answer: Callable[[Any], Awaitable[None]], scope: Any, error: Exception, *, unsent: bool
) -> bool:
    """Answer for an exception; False if only the end of the connection can say it, in the middle of an answer.

    cycle: uvicorn's, of this request. unsent: whether its own beginning was refused, as a header with a line break is.
    An answer that is whole stays one, whatever is raised afterwards: its connection goes on.
    """
    if cycle.response_started and not cycle.response_complete and not unsent:
        return False
    told = status_of(error)
    if isinstance(error, CallError) and told != SERVER_ERROR:
        log.warning("%s %s: %d, %s: %s", scope["method"], scope["path"], told, type(error).__name__, error.message)
    else:
        log.error("Exception in ASGI application\n", exc_info=error)
    if not cycle.response_complete:
        cycle.response_started, cycle.chunked_encoding, cycle.expected_content_length = False, None, 0
        for message in apology(error):
            await answer(message)
    return True
