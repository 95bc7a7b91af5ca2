"""Components over HTTP/JSON: for curl, for `fissile call`, for programs in any language.

`POST /rpc/<Component>/<method>` with the arguments as a JSON object; `GET /openapi.json` says which;
`GET /health` answers while the process serves. A plain ASGI app: a replica imports no web framework.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from math import inf
from typing import Any, cast

import msgspec

from fissile.component.context import CallContext, call_context
from fissile.component.failure import invalid_argument, to_failure
from fissile.component.interface import Method
from fissile.component.pydantic_models import decode_hook, encode_hook
from fissile.component.values import UNDECODABLE
from fissile.component.variables import Variables
from fissile.component.wiring import child_context
from fissile.errors import RemoteError
from fissile.rpc.deadline import enforce, environment, exceeded
from fissile.rpc.http.json import to_json
from fissile.rpc.http.openapi import HTTP_STATUS, openapi
from fissile.rpc.http.problems import problem_json, problem_of
from fissile.rpc.server import Export

BODY_BYTES_MAX = 16 * 1024 * 1024
TIMEOUT_HEADER = b"fissile-timeout-ms"
TIMEOUT_DIGITS_MAX = 15
# A person at a terminal says so: no program depends on the method then.
CALLER_HEADER = b"fissile-caller"
OPERATOR = b"operator"
# How long past its deadline a call has to end by itself, before it is answered for.
LET_GO_SECONDS = 0.1

# What monitors and tools ask for, without a token.
_OPEN = ("/health", "/openapi.json")
_JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
_PROBLEM: tuple[bytes, bytes] = (b"content-type", b"application/problem+json")
_LINES: tuple[bytes, bytes] = (b"content-type", b"application/x-ndjson")


class Problem(Exception):
    """Inside this room: a request that is answered with a problem document."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document["title"])
        self.status: int = document["status"]
        self.document = document
        self.allowed = ""


def _wrong(status: int, title: str, detail: str, remedy: str = "") -> Problem:
    """The request itself is wrong."""
    return Problem({"type": "about:blank", "title": title, "status": status, "detail": detail, "remedy": remedy})


def _not_with(verb: str, path: str, allowed: str) -> Problem:
    found = _wrong(405, "Method Not Allowed", f"{path} is called with {allowed}, not {verb}")
    found.allowed = allowed
    return found


class ClientGone(Exception):
    """Inside this room: the client closed its connection; there is nobody to answer."""


class Gateway:
    """The exports of a service as an ASGI app.

    exports: references by component. authorize: whether a bearer token may call. variables: those of the context
    that travel with each call; a `baggage` header sets them. outside: whether a token that may call is nobody's of the
    application itself; called: gets the labels of methods that such callers call, unless a person does.
    """

    def __init__(
        self,
        exports: Mapping[str, Export],
        *,
        authorize: Callable[[str], bool],
        title: str,
        variables: Variables | None = None,
        outside: Callable[[str], bool] = lambda _: True,
        called: set[str] | None = None,
    ) -> None:
        self._outside = outside
        self._called = called if called is not None else set[str]()
        self._variables = variables or Variables()
        self._authorize = authorize
        self._title = title
        self._exports = exports
        self._document: bytes | None = None
        self._environment = environment()
        self._methods: dict[str, tuple[Method, Any, Any]] = {}
        for name, export in exports.items():
            for method in export.interface.methods.values():
                # Not strict: a string of digits is an integer.
                decoder = msgspec.json.Decoder(method.body, strict=False, dec_hook=decode_hook)
                function = getattr(export.instance, method.name)
                self._methods[f"/rpc/{name}/{method.name}"] = (method, function, decoder)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        try:
            await self._route(scope, receive, send)
        except ClientGone:
            return
        except Problem as problem:
            await _send_problem(send, problem)

    async def _route(self, scope: Any, receive: Any, send: Any) -> None:
        path, verb = scope["path"], scope["method"]
        if path in _OPEN and verb not in ("GET", "HEAD"):
            raise _not_with(verb, path, "GET, HEAD")
        if path == "/health":
            await _send(send, 200, [_JSON], b'{"status":"ok"}')
            return
        if path == "/openapi.json":
            if self._document is None:
                interfaces = [export.interface for export in self._exports.values()]
                self._document = msgspec.json.encode(openapi(self._title, interfaces))
            await _send(send, 200, [_JSON], self._document)
            return
        headers = dict(scope["headers"])
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not self._authorize(token.strip()):
            raise _wrong(401, "Unauthorized", "the token is missing or wrong", "send Authorization: Bearer TOKEN")
        found = self._methods.get(path)
        if found is None:
            raise _wrong(404, "Not Found", *self._missing(path))
        if verb != "POST":
            raise _not_with(verb, path, "POST")
        method, function, decoder = found
        if method.label not in self._called and headers.get(CALLER_HEADER) != OPERATOR and self._outside(token.strip()):
            self._called.add(method.label)
        body = await _read_body(receive)
        try:
            arguments = decoder.decode(body or b"{}")
        except UNDECODABLE as error:
            raise _problem(invalid_argument(error, method), method) from None
        context = self._context(headers, method)
        around = self._surroundings(scope["headers"])
        if method.streaming:
            around.run(call_context.set, context)
            await self._stream(method, method.call(function, arguments), context, around, receive, send)
            return
        work = enforce(method.call(function, arguments), context, method.label)
        call = asyncio.get_running_loop().create_task(work, context=around)
        if not await _until_gone(call, receive, context.deadline):
            # It does not let itself be cancelled, which is nothing to its caller. It is in flight until it has ended.
            await _send_problem(send, _problem(exceeded(method.label, context.timeout), method))
            await asyncio.wait({call})
            if not call.cancelled():
                call.exception()  # which nobody waits for any more
            return
        try:
            body = _body(call.result(), method)
        except BaseException as error:  # cancelled from inside, too: it is an answer like any other
            raise _blamed(error, method, arguments) from None
        await _send(send, 200, [_JSON], body)

    def _missing(self, path: str) -> tuple[str, str]:
        """What is not there, and what is; for a path that nobody serves."""
        component, _, method = path.removeprefix("/rpc/").partition("/")
        if not path.startswith("/rpc/") or not method:
            return f"there is no {path}", "see /openapi.json for what there is"
        if component not in self._exports:
            return f"there is no component {component!r} here", f"there are: {', '.join(self._exports)}"
        methods = ", ".join(self._exports[component].interface.methods)
        return f"{component} has no method {method!r}", f"it has: {methods}"

    def _surroundings(self, headers: list[tuple[bytes, bytes]]) -> Context:
        """The context in which the call runs: this one, with what its caller's baggage says."""
        around = copy_context()
        if self._variables:
            header = b",".join(value for name, value in headers if name == b"baggage").decode("latin-1")
            around.run(self._variables.apply, self._variables.from_baggage(header))
        return around

    def _context(self, headers: dict[bytes, bytes], method: Method) -> CallContext:
        """The request's context with its deadline: the caller's, where it names an earlier one."""
        seconds = method.timeout or self._environment.timeout_seconds
        raw = headers.get(TIMEOUT_HEADER)
        if raw is not None:
            if not raw.isdigit() or len(raw) > TIMEOUT_DIGITS_MAX:
                detail = f"{TIMEOUT_HEADER.decode()} is not a whole number of milliseconds"
                raise _wrong(400, "Bad Request", detail, "send the remaining time, as in 2000")
            seconds = min(seconds, int(raw) / 1000)
        return child_context(self._environment, seconds)

    async def _stream(
        self, method: Method, items: Any, context: CallContext, around: Context, receive: Any, send: Any
    ) -> None:
        async def pump() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [_LINES]})
            try:
                while True:
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        break
                    line = b'{"item":' + _body(item, method) + b"}\n"
                    await send({"type": "http.response.body", "body": line, "more_body": True})
            except Exception as error:
                late = context.deadline != inf and time.monotonic() >= context.deadline
                found = exceeded(method.label, context.timeout) if late else error
                line = b'{"error":' + problem_json(_problem(found, method).document) + b"}\n"
                await send({"type": "http.response.body", "body": line, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        call = asyncio.get_running_loop().create_task(pump(), context=around)
        try:
            await _until_gone(call, receive)
        finally:
            await items.aclose()
        if not call.cancelled():
            call.result()


def _body(value: Any, method: Method) -> bytes:
    """A result, or an item, as JSON. Raises one of `UNENCODABLE`."""
    return to_json(value if method.prepare_result is None else method.prepare_result(value))


def _problem(error: BaseException, method: Method) -> Problem:
    return Problem(problem_of(to_failure(error, method)))


def _blamed(error: BaseException, method: Method, arguments: Any) -> Problem:
    """An error of a call as a problem: the caller's, where the code failed at a number that no wire takes."""
    found = _problem(error, method)
    if found.status != HTTP_STATUS[RemoteError.code] or not _beyond(arguments):
        return found
    text = f"a number is beyond 64 bits, and the method failed: {found.document['detail']}"
    return _problem(invalid_argument(ValueError(text), method), method)


def _beyond(arguments: Any) -> bool:
    """Whether arguments hold an integer that msgpack cannot: one beyond 64 bits."""
    todo = [msgspec.to_builtins(arguments, enc_hook=encode_hook)]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            todo += [*cast("dict[Any, Any]", one), *cast("dict[Any, Any]", one).values()]
        elif isinstance(one, (list, tuple)):
            todo += cast("list[Any]", one)
        elif isinstance(one, int) and not -(2**63) <= one < 2**64:
            return True
    return False


async def _until_gone(call: "asyncio.Future[Any]", receive: Any, deadline: float = inf) -> bool:
    """Wait for the call; a client that goes away cancels it. False if it goes on past its deadline (time.monotonic)."""
    gone = asyncio.ensure_future(receive())
    limit = None if deadline == inf else max(0.0, deadline - time.monotonic()) + LET_GO_SECONDS
    late = False
    try:
        done, _ = await asyncio.wait({call, gone}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        late = not done
        if not late and not call.done():
            call.cancel()
            await asyncio.wait({call})
            raise ClientGone
        return not late
    finally:
        gone.cancel()
        if not late and not call.done():
            call.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def _read_body(receive: Any) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise _wrong(413, "Content Too Large", f"a body may have {BODY_BYTES_MAX} bytes")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _send_problem(send: Any, problem: Problem) -> None:
    headers = [_PROBLEM]
    if problem.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if problem.allowed:
        headers.append((b"allow", problem.allowed.encode()))
    if "retry_after_seconds" in problem.document:
        seconds = max(1, round(problem.document["retry_after_seconds"]))
        headers.append((b"retry-after", str(seconds).encode()))
    await _send(send, problem.status, headers, problem_json(problem.document))


async def _send(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
