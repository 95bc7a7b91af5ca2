"""Serves an ASGI app on an inherited listening socket, and lets go of it without losing a request.

The HTTP protocol is uvicorn's; its way of shutting down is not used, because it closes keep-alive
connections on which a request may be on its way. The drain here: stop accepting (whoever shares the
listening socket takes what queues on it), answer `connection: close` on every response, leave idle
connections open until their clients have heard it or the idle limit has passed, then close.
"""

import asyncio
import random
import socket
from email.utils import formatdate
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.lifespan.off import LifespanOff
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol
from uvicorn.server import ServerState

from fissile.component.context import CallContext, call_context, parse_traceparent

KEEP_ALIVE_SECONDS = 5
CONNECTIONS_MAX = 1000
CLOSE_CHECK_SECONDS = 0.02
DATE_SECONDS = 1.0


class Edge:
    """One ASGI app on listening sockets of this process.

    connections_max: beyond it a request gets 503 at once. release: what requests are pinned to.
    """

    def __init__(self, app: Any, *, connections_max: int = CONNECTIONS_MAX, release: str = "") -> None:
        self._app = app
        self._release = release
        self._state = ServerState()
        self._draining = False
        self._servers: list[asyncio.Server] = []
        self._clock: asyncio.TimerHandle | None = None
        self._config = Config(
            self._serve,
            # Classes, not names: a zygote has then imported all that its replicas need.
            http=HttpToolsProtocol,
            ws=cast(Any, AutoWebSocketsProtocol) or "none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            limit_concurrency=connections_max,
        )
        self._config.load()
        assert self._config.lifespan_class is LifespanOff, "the lifespan is the host's affair"

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a listening socket, which this edge closes when it drains."""
        loop = asyncio.get_running_loop()
        listen = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        self._servers.append(
            await listen(
                lambda: HttpToolsProtocol(config=self._config, server_state=self._state, app_state={}), sock=sock
            )
        )
        if self._clock is None:
            self._date()

    def in_flight(self) -> int:
        """Requests being answered."""
        return len(self._state.tasks)

    def _date(self) -> None:
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._clock = asyncio.get_running_loop().call_later(DATE_SECONDS, self._date)

    async def drain(self, seconds_max: float, *, idle_seconds_max: float = KEEP_ALIVE_SECONDS) -> bool:
        """Let go of all connections; whether every request was finished within the limit (seconds).

        idle_seconds_max: how long idle keep-alive connections may stay to hear of the closing with
        their next answer; 0 where nobody takes over.
        """
        self._draining = True
        for server in self._servers:
            server.close()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        told = False
        while self._state.connections and loop.time() - begun < seconds_max:
            if not told and loop.time() - begun >= idle_seconds_max:
                told = True
                for connection in list(self._state.connections):
                    connection.shutdown()
            await asyncio.sleep(CLOSE_CHECK_SECONDS)
        unfinished = list(self._state.connections)
        for connection in unfinished:
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        if self._clock is not None:
            self._clock.cancel()
        return not unfinished

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        """The app, in a call context, with `connection: close` on its answers while draining."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_of(scope, self._release)
        call_context.set(context)
        trace = (b"traceresponse", context.traceparent().encode())

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), trace]
                if self._draining:
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, answer)


def context_of(scope: Any, release: str = "") -> CallContext:
    """The context of an HTTP request: the trace of its `traceparent` header, or a new one."""
    span_id = random.getrandbits(64) or 1
    for name, value in scope["headers"]:
        if name == b"traceparent":
            found = parse_traceparent(value.decode("latin-1"))
            if found is not None:
                return CallContext(found[0], span_id, found[2], release)
    return CallContext(random.getrandbits(128) or 1, span_id, False, release)
