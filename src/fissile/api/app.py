"""The API of a supervisor: what runs, what happened, and the changes that people make.

Each route is one line of a table, of which its OpenAPI document is made too. On the Unix socket the
folder's permissions say who may ask; on TCP the token does.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from importlib.metadata import version
from typing import Annotated, Any, TypeVar, cast

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from fissile.component.values import UNDECODABLE
from fissile.errors import CallError, FissileError, InvalidArgument, StartError
from fissile.journal.journal import Entry
from fissile.machine.environment import sent
from fissile.orchestrator.acts import Named, Sent, Who, Why
from fissile.orchestrator.deploy_rules import DeployOrder
from fissile.releases.callers import Called
from fissile.releases.release import Release
from fissile.rpc.access import token_digest
from fissile.rpc.openapi import DOOR_PLAIN
from fissile.supervisor.restarts import Restarted, StartFailed
from fissile.supervisor.rollouts import Deploy, Outcome
from fissile.supervisor.status import SupervisorStatus
from fissile.supervisor.supervisor import Supervisor

T = TypeVar("T")

HISTORY_MAX = 10_000
EVENTS_POLL_SECONDS = 0.2
PROBLEM = "application/problem+json"


BODY_BYTES_MAX = 1024 * 1024
# A number from outside: it fits into the journal, and into every language's integers.
DIGITS_MAX = 18
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Number = Annotated[int, msgspec.Meta(ge=0, le=10**DIGITS_MAX - 1)]
# What is answered beside 200, everywhere.
STATUSES = {
    400: "The request makes no sense.",
    401: "The token is missing or wrong.",
    403: "A replica of the application asks; see isolation.",
    404: "There is no such service, release or rollout.",
    408: "Its head or its body did not come in time.",
    409: "Refused, with the reason; nothing was altered.",
    413: "The body is too long.",
    431: "The head of the request is too long.",
    503: "It cannot be done just now.",
}
OPEN_STATUSES = (400, 403, 408, 431, 503)


class TooLong(Exception):
    """Inside this room: a body of more than BODY_BYTES_MAX."""


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457, with the next step. service, last_lines: whose process did not come up, and what it had printed."""

    title: str
    detail: str
    status: int
    remedy: str = ""
    service: str = ""
    last_lines: tuple[str, ...] = ()


class ScaleOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """replicas: so many; or from min to max as the autoscaler finds right; or auto: as the file says."""

    replicas: Count | None = None
    min: Count | None = None
    max: Count | None = None
    auto: bool = False
    who: Who = "operator"
    why: Why = ""


class RestartOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who wants it, and why. environment: as of a deploy.

    packages: though others are installed than the release was made with.
    """

    environment: Sent = ""
    packages: bool = False
    who: Who = "operator"
    why: Why = ""


class RollbackOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """release: to which, by its name or the beginning of it; "": to the one before. The rest as of a deploy."""

    packages: bool = False

    release: Named = ""
    canary: float | None = None
    watch_seconds: float | None = None
    who: Who = "operator"
    why: Why = ""


class DecideOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who promotes or aborts a rollout, and why. rollout: its number; None: the one under way."""

    rollout: Number | None = None
    who: Who = "operator"
    why: Why = ""


class DownOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who wants it, and why."""

    who: Who = "operator"
    why: Why = ""


class ReleaseInfo(msgspec.Struct, frozen=True):
    """One release that is kept. made, deployed: when it was first and last begun with, seconds of the wall clock.

    state: live, or kept for a rollback.
    lost: packages that are not installed any more as it was made with them.
    """

    name: str
    made: float
    topology: str
    state: str
    builds: dict[str, str]
    deployed: float
    lost: tuple[str, ...] = ()


class Done(msgspec.Struct, frozen=True):
    """replicas: how many are wanted now."""

    replicas: int


class Operation(msgspec.Struct, frozen=True):
    """One line of the table. open: no token is asked for."""

    verb: str
    path: str
    summary: str
    answer: Any
    body: Any = None
    query: tuple[str, ...] = ()
    open: bool = False


OPERATIONS = {
    "health": Operation("GET", "/health", "Whether the supervisor answers; HEAD too", dict[str, str], open=True),
    "status": Operation("GET", "/status", "What runs now", SupervisorStatus),
    "history": Operation(
        "GET", "/history", "What happened, oldest first", list[Entry], query=("service", "after", "limit")
    ),
    "events": Operation("GET", "/events", "What happens, as server-sent events", None, query=("service", "after")),
    "release": Operation(
        "GET",
        "/release",
        "The builds that run, or those of a release that is kept, with their parts and contracts",
        Release,
        query=("name",),
    ),
    "releases": Operation("GET", "/releases", "The releases that are kept, newest first", list[ReleaseInfo]),
    "callers": Operation(
        "GET",
        "/callers",
        "When methods were called over HTTP/JSON from outside, by Component.method",
        dict[str, Called],
    ),
    "deploy": Operation("POST", "/deploy", "Move the requests to the code in the folder", Deploy, DeployOrder),
    "rollback": Operation("POST", "/rollback", "Move the requests to an earlier release", Deploy, RollbackOrder),
    "outcome": Operation("GET", "/rollouts/{number}", "How a rollout ended, or that it goes on", Outcome),
    "promote": Operation("POST", "/promote", "What is watched is good: go on", None, DecideOrder),
    "abort": Operation("POST", "/abort", "Give the rollout up", None, DecideOrder),
    "restart": Operation(
        "POST",
        "/services/{service}/restart",
        "New replicas of the same code, no request lost; what is read at import is read anew",
        Restarted,
        RestartOrder,
    ),
    "restart_all": Operation("POST", "/restart", "The same of all services in turn", Restarted, RestartOrder),
    "scale": Operation("POST", "/services/{service}/scale", "More or fewer replicas", Done, ScaleOrder),
    "down": Operation("POST", "/down", "Stop all, in order", None, DownOrder),
}


class Api:
    """The operations on one supervisor. down: asks the process to end. token: for TCP; None where none is asked for."""

    def __init__(self, supervisor: Supervisor, down: Callable[[], None], token: str | None) -> None:
        self._supervisor = supervisor
        self._down = down
        self._digest = None if token is None else token_digest(token)
        self._asked: set[asyncio.Future[Response]] = set()

    def end(self) -> None:
        """Whoever still waits for an answer is told that the application is stopped."""
        for task in list(self._asked):
            task.cancel()

    async def _unless_it_ends(self, operation: Awaitable[Response]) -> Response:
        task = asyncio.ensure_future(operation)
        self._asked.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            asking = asyncio.current_task()
            if asking is None or asking.cancelling():
                raise
            return problem(
                503, "Stopped", "the application was stopped in the meantime", "`fissile history` says by whom"
            )
        finally:
            self._asked.discard(task)

    def asgi(self) -> Starlette:
        """The ASGI app."""
        routes = [
            Route(one.path, self._guarded(getattr(self, name), one.open), methods=[one.verb])
            for name, one in OPERATIONS.items()
        ]
        return Starlette(
            routes=[*routes, Route("/openapi.json", self.openapi)],
            exception_handlers={404: _not_there, 405: _not_so},
        )

    def _guarded(
        self, operation: Callable[[Request], Awaitable[Response]], to_all: bool
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if self._digest is not None and not to_all:
                scheme, _, given = request.headers.get("authorization", "").partition(" ")
                known = hmac.compare_digest(token_digest(given.strip()), self._digest)
                if not known or scheme.lower() != "bearer":
                    return problem(
                        401, "Unauthorized", "the token is wrong", "send the api_token of .fissile/endpoints.json"
                    )
            try:
                return await self._unless_it_ends(operation(request))
            except ValueError as error:
                return problem(400, "Bad request", str(error), "see /openapi.json")
            except TooLong:
                return problem(413, "Content Too Large", f"a body may have {BODY_BYTES_MAX} bytes", "say less")
            except ClientDisconnect:
                return Response(status_code=400)  # nobody hears it
            except InvalidArgument as error:
                return problem(404, "Not found", error.message, error.remedy)
            except StartFailed as error:
                return problem(409, "Not restarted", error.message, error.remedy, error.service, error.last_lines)
            except StartError as error:
                return problem(409, "Not started", error.message, error.remedy, error.service, error.last_lines)
            except CallError as error:
                return problem(503, type(error).__name__, error.message, error.remedy)
            except FissileError as error:
                return problem(409, "Refused", error.message, error.remedy)

        return answer

    async def openapi(self, request: Request) -> Response:
        """This API's own document."""
        return Response(_document_as_json(), media_type="application/json")

    async def health(self, request: Request) -> Response:
        """See the table."""
        return _json({"status": "ok"})

    async def status(self, request: Request) -> Response:
        """See the table."""
        return _json(self._supervisor.status())

    async def history(self, request: Request) -> Response:
        """See the table."""
        query = request.query_params
        limit = min(_whole(query.get("limit", "100"), "limit", least=1), HISTORY_MAX)
        return _json(await self._entries(query.get("service", ""), _whole(query.get("after", "0"), "after"), limit))

    async def _entries(self, service: str, after: int, limit: int) -> list[Entry]:
        journal = self._supervisor.journal
        return await asyncio.to_thread(lambda: journal.history(service=service, after=after, limit=limit))

    async def events(self, request: Request) -> Response:
        """See the table."""
        service = request.query_params.get("service", "")
        after = request.query_params.get("after") or request.headers.get("last-event-id")
        if after is None:
            newest = await self._entries(service, 0, 1)
            after = str(newest[-1].id if newest else 0)
        return StreamingResponse(self._stream(service, _whole(after, "after")), media_type="text/event-stream")

    async def _stream(self, service: str, after: int) -> AsyncIterator[bytes]:
        yield b": what happens from now on\n\n"
        while True:
            for entry in await self._entries(service, after, HISTORY_MAX):
                after = entry.id
                yield b"id: %d\nevent: %s\ndata: %s\n\n" % (entry.id, entry.kind.encode(), msgspec.json.encode(entry))
            await asyncio.sleep(EVENTS_POLL_SECONDS)

    async def release(self, request: Request) -> Response:
        """See the table."""
        name = request.query_params.get("name", "")
        if name:
            return _json((await asyncio.to_thread(self._supervisor.rollouts.find, name)).release)
        return _json(self._supervisor.current_release)

    async def releases(self, request: Request) -> Response:
        """See the table."""
        live = set(self._supervisor.live_releases())
        lost = await self._supervisor.rollouts.lost()
        found = [
            ReleaseInfo(
                kept.name,
                kept.made,
                kept.release.topology,
                "live" if kept.name in live else "kept",
                {service: build.name for service, build in kept.release.builds.items()},
                kept.deployed,
                lost.get(kept.name, ()),
            )
            for kept in await asyncio.to_thread(self._supervisor.rollouts.kept)
        ]
        return _json(found)

    async def callers(self, request: Request) -> Response:
        """See the table."""
        return _json(self._supervisor.callers())

    async def deploy(self, request: Request) -> Response:
        """See the table."""
        order = await _order(request, DeployOrder)
        return _json(await self._supervisor.rollouts.deploy(order))

    async def rollback(self, request: Request) -> Response:
        """See the table."""
        order = await _order(request, RollbackOrder)
        asked = DeployOrder(**msgspec.structs.asdict(order))
        return _json(await self._supervisor.rollouts.rollback(asked) or {})

    async def outcome(self, request: Request) -> Response:
        """See the table."""
        number = _whole(request.path_params["number"], "the number of a rollout")
        return _json(await asyncio.to_thread(self._supervisor.rollouts.outcome, number))

    async def promote(self, request: Request) -> Response:
        """See the table."""
        order = await _order(request, DecideOrder)
        await self._supervisor.rollouts.promote(order.rollout, who=order.who, why=order.why)
        return _json({})

    async def abort(self, request: Request) -> Response:
        """See the table."""
        order = await _order(request, DecideOrder)
        await self._supervisor.rollouts.abort(order.rollout, who=order.who, why=order.why)
        return _json({})

    async def restart(self, request: Request) -> Response:
        """See the table."""
        order = await _order(request, RestartOrder)
        given = sent(order.environment, "restart --update-env")
        service = request.path_params.get("service", "")
        return _json(
            await self._supervisor.restart(
                service, who=order.who, why=order.why, environment=given, packages=order.packages
            )
        )

    async def restart_all(self, request: Request) -> Response:
        """See the table."""
        return await self.restart(request)

    async def scale(self, request: Request) -> Response:
        """See the table."""
        order = await _order(request, ScaleOrder)
        service = request.path_params["service"]
        low, high = order.min, order.max
        if order.auto:
            low, high = self._supervisor.bounds(service)
        elif order.replicas is not None:
            low = high = order.replicas
        if low is None or high is None:
            raise ValueError("say replicas, or min and max, or auto")
        await self._supervisor.scale(service, low, high, who=order.who, why=order.why)
        return _json(Done(self._supervisor.wanted(service)))

    async def down(self, request: Request) -> Response:
        """See the table."""
        order = await _order(request, DownOrder)
        await self._supervisor.lay_down(who=order.who, why=order.why)
        asyncio.get_running_loop().call_later(0.05, self._down)  # the answer goes first
        return _json({})


async def _order(request: Request, kind: type[T]) -> T:
    """The body. Raises ValueError where it is none, and TooLong."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise TooLong
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except UNDECODABLE as error:
        raise ValueError(str(error)) from None


def _whole(text: str, name: str, *, least: int = 0) -> int:
    """A number of a query or a path. Raises ValueError."""
    if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX and int(text) >= least:
        return int(text)
    raise ValueError(f"{name} is {text[:DIGITS_MAX]!r}: a whole number from {least} to {10**DIGITS_MAX - 1} is wanted")


async def _not_there(request: Request, _: Exception) -> Response:
    return problem(404, "Not found", f"there is no {request.url.path[:200]}", "see /openapi.json for what there is")


async def _not_so(request: Request, error: Exception) -> Response:
    allowed: dict[str, str] = dict(getattr(error, "headers", None) or {})
    detail = f"{request.url.path[:200]} is not asked for with {request.method}"
    found = problem(405, "Method Not Allowed", detail, f"use {allowed.get('Allow', 'another')}")
    found.headers.update(allowed)
    return found


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def problem(
    status: int, title: str, detail: str, remedy: str, service: str = "", last_lines: tuple[str, ...] = ()
) -> Response:
    """An answer that refuses."""
    body = msgspec.json.encode(Problem(title, detail, status, remedy, service, last_lines))
    return Response(body, status_code=status, media_type=PROBLEM)


def document() -> dict[str, Any]:
    """The API as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1.html)."""
    kinds = [one for operation in OPERATIONS.values() for one in (operation.answer, operation.body) if one is not None]
    schemas, components = msgspec.json.schema_components([*kinds, Problem], ref_template="#/components/schemas/{name}")
    schema_of = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=False)}
    paths: dict[str, dict[str, Any]] = {}
    for name, one in OPERATIONS.items():
        found: dict[str, Any] = {
            "operationId": name,
            "summary": one.summary,
            "parameters": [
                *(_parameter(part, "path") for part in ("service", "number") if f"{{{part}}}" in one.path),
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
        paths.setdefault(one.path, {})[one.verb.lower()] = found
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Fissile: supervisor", "version": version("fissile")},
        "security": [{"token": cast(list[str], [])}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }
    return msgspec.json.decode(msgspec.json.encode(found))  # plain JSON, defaults of tuples too


@cache
def _document_as_json() -> bytes:
    """Made once: that takes some milliseconds, in which the supervisor does nothing else."""
    return msgspec.json.encode(document())


def _refusal(status: int) -> dict[str, Any]:
    content: dict[str, Any] = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if str(status) in DOOR_PLAIN:
        content = {"text/plain": {"schema": {"type": "string"}}}
    return {"description": STATUSES[status], "content": content}


def _parameter(name: str, place: str) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": "string"}
    if name not in ("service", "name"):
        kind = {"type": "integer", "minimum": 1 if name == "limit" else 0, "maximum": 10**DIGITS_MAX - 1}
    return {"name": name, "in": place, "required": place == "path", "schema": kind}


def _content(schema: Any) -> dict[str, Any]:
    return {} if schema is None else {"content": {"application/json": {"schema": schema}}}
