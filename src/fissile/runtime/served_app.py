"""An ASGI app as a door serves it: each request in its release and call context, counted, never left unanswered."""

import random
from typing import Any

from fissile.component.context import CallContext, call_context, parse_traceparent
from fissile.errors import CallError
from fissile.runtime import apologies
from fissile.runtime.apologies import SERVER_ERROR
from fissile.runtime.control import GATEWAY_DOOR
from fissile.runtime.request_stats import RequestStats
from fissile.runtime.traffic_split import TrafficSplitter


class ServedApp:
    """Wraps the app of one door.

    splitter: chooses the release of each request. stats: counts requests. door: its name among the doors of
    this process. closing: whether every answer ends its connection.
    """

    def __init__(self, app: Any, splitter: TrafficSplitter, stats: RequestStats, door: str) -> None:
        self._app = app
        self._splitter = splitter
        self._stats = stats
        self._door = door
        self.closing = False

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """The wrapped app, as uvicorn calls it."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        stats, splitter = self._stats, self._splitter
        release, cookie = splitter.release, b""
        if stats.comparing:
            # A program in another language calls the gateway while it serves a request: it passes on that
            # request's release, which may be one that gets no new requests any more.
            release, cookie = splitter.choose(scope["headers"], passed_on=self._door == GATEWAY_DOOR)
        context = context_of(scope, release)
        call_context.set(context)
        trace = (b"traceresponse", context.traceparent().encode())
        failed = broken = starting = replaced = False

        async def answer(message: Any) -> None:
            nonlocal failed, starting, replaced
            if message["type"] == "http.response.start":
                body = None
                if message["status"] >= SERVER_ERROR:
                    failed = True
                    message, body = apologies.better(message)
                headers = [*message.get("headers", ()), trace]
                # Looked at here and not when the request came: a drain may have begun meanwhile.
                if self.closing:
                    headers.append((b"connection", b"close"))
                if cookie:
                    headers.append((b"set-cookie", cookie))
                message = {**message, "headers": headers}
                stats.answered(release, number, failed=failed)
                # uvicorn may refuse these headers, and has then sent nothing: see `apologise`.
                starting = True
                await send(message)
                starting = False
                if body is not None:
                    replaced = True
                    await send(body)
                return
            if replaced:
                return  # the framework's own body: ours was sent in its place
            if message["type"] == "websocket.accept":
                stats.answered(release, number, failed=False)
            await send(message)

        number = stats.begin(release)
        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            broken = not failed
            if not isinstance(error, CallError):
                stats.on_undeclared_error(self._door or "HTTP/JSON", type(error).__name__)
            if kind != "http" or not await apologies.apologise(send.__self__, answer, scope, error, unsent=starting):
                raise
            # The apology has set `failed`: its answer counts as an error once.
            broken = not failed
        finally:
            stats.end(release, number, broken=broken)


def context_of(scope: Any, release: str = "") -> CallContext:
    """The call context of an HTTP request: the trace of its `traceparent` header, or a new one."""
    span_id = random.getrandbits(64) or 1
    for name, value in scope["headers"]:
        if name == b"traceparent":
            found = parse_traceparent(value.decode("latin-1"))
            if found is not None:
                return CallContext(found[0], span_id, found[2], release)
    return CallContext(random.getrandbits(128) or 1, span_id, False, release)
