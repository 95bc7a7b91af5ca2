"""Answers that refuse: problem documents (RFC 9457), and which error gives which."""

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fissile.api.operation import TooLong
from fissile.api.schema import BODY_BYTES_MAX, Problem
from fissile.errors import CallError, FissileError, InvalidArgument, StartError
from fissile.supervisor.restarter import StartFailed

PROBLEM = "application/problem+json"
PATH_CHARACTERS_SHOWN = 200
# Beside 200, for every operation.
STATUSES = {
    400: "The request makes no sense.",
    401: "The token is missing or wrong.",
    403: "The request comes from a replica of the application; see isolation.",
    404: "There is no such service, release or rollout.",
    408: "The head or the body of the request did not arrive in time.",
    409: "Refused, with the reason; nothing was changed.",
    413: "The body is too long.",
    431: "The head of the request is too long.",
    503: "It cannot be done at present.",
}
# For those without a token.
OPEN_STATUSES = (400, 403, 408, 431, 503)


def problem(
    status: int, title: str, detail: str, remedy: str, service: str = "", last_lines: tuple[str, ...] = ()
) -> Response:
    """Refuse."""
    body = msgspec.json.encode(Problem(title, detail, status, remedy, service, last_lines))
    return Response(body, status_code=status, media_type=PROBLEM)


def refusal(error: Exception) -> Response:
    """The answer to an order that failed with this error. Raises the error itself if it is not one of these."""
    if isinstance(error, ValueError):
        return problem(400, "Bad request", str(error), "see /openapi.json")
    if isinstance(error, TooLong):
        return problem(413, "Content Too Large", f"a body may have at most {BODY_BYTES_MAX} bytes", "send less")
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # nobody hears it
    if isinstance(error, InvalidArgument):
        return problem(404, "Not found", error.message, error.remedy)
    if isinstance(error, StartError):
        title = "Not restarted" if isinstance(error, StartFailed) else "Not started"
        return problem(409, title, error.message, error.remedy, error.service, error.last_lines)
    if isinstance(error, CallError):
        return problem(503, type(error).__name__, error.message, error.remedy)
    if isinstance(error, FissileError):
        return problem(409, "Refused", error.message, error.remedy)
    raise error


def stopped() -> Response:
    """The answer to an order that was under way when the supervisor ended."""
    return problem(
        503, "Stopped", "the application was stopped in the meantime", "see `fissile history` for who did it"
    )


def unauthorized() -> Response:
    """The answer without the token."""
    return problem(401, "Unauthorized", "the token is wrong", "send the api_token of .fissile/endpoints.json")


async def unknown_path(request: Request, _: Exception) -> Response:
    """Answer a request for something that the API does not have."""
    detail = f"there is no {request.url.path[:PATH_CHARACTERS_SHOWN]}"
    return problem(404, "Not found", detail, "see /openapi.json for what there is")


async def wrong_method(request: Request, error: Exception) -> Response:
    """Answer a request with a verb that its path does not take. Allow names those that it does (RFC 9110, 15.5.6)."""
    allowed: dict[str, str] = dict(getattr(error, "headers", None) or {})
    detail = f"{request.url.path[:PATH_CHARACTERS_SHOWN]} does not take {request.method}"
    found = problem(405, "Method Not Allowed", detail, f"use {allowed.get('Allow', 'another')}")
    found.headers.update(allowed)
    return found
