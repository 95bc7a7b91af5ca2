"""Serves an ASGI app on an inherited listening socket, and lets go of it without losing a request.

The HTTP protocol is uvicorn's; its way of shutting down is not used, because it closes keep-alive
connections on which a request may be on its way. The drain here: stop accepting (whoever shares the
listening socket takes what queues on it), answer `connection: close` on every response, leave idle
connections open until their clients have heard it or the idle limit has passed, then close.
"""

import asyncio
import random
import socket
import time
from email.utils import formatdate
from typing import Any

from uvicorn.config import Config
from uvicorn.lifespan.off import LifespanOff
from uvicorn.server import ServerState

from fissile.component.context import CallContext, call_context, parse_traceparent
from fissile.errors import CallError
from fissile.rpc.listening import accept_on, let_in
from fissile.runtime import apologies, websockets
from fissile.runtime.apologies import SERVER_ERROR
from fissile.runtime.control import Elsewhere
from fissile.runtime.handover import Passer
from fissile.runtime.ledger import Ledger
from fissile.runtime.lobby import KEEP_ALIVE_SECONDS, Lobby
from fissile.runtime.visitors import Visitor

CONNECTIONS_MAX = 1000
CLOSE_CHECK_SECONDS = 0.02
ACCEPTS_MAX = 64
# How long a connection that belongs to the other build waits here for one of its replicas.
HELD_SECONDS_MAX = 5.0
# The name of the public door that serves HTTP/JSON.
GATEWAY_DOOR = ""


class State(ServerState):
    """What the connections of a door share. The date of an answer is made when an answer is: at most once a second."""

    def __init__(self, door: str, connections_max: int) -> None:
        super().__init__()
        self.lobby = Lobby(door, self.connections, self.tasks, connections_max)
        self._second = 0
        self._headers: list[tuple[bytes, bytes]] = []

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._headers = [(b"date", formatdate(now, usegmt=True).encode())]
        return self._headers

    @default_headers.setter
    def default_headers(  # pyright: ignore[reportIncompatibleVariableOverride] -- a property is set and read as well
        self, _: list[tuple[bytes, bytes]]
    ) -> None:
        """Uvicorn sets the first ones; there are none."""


class Edge:
    """One ASGI app on listening sockets of this process.

    ledger: says which release a request is pinned to, and counts them. door: the name by which other processes
    know it. connections_max: beyond it the connection that waits longest is closed, and where all have requests under
    way a further one gets 503.
    """

    def __init__(
        self, app: Any, ledger: Ledger | None = None, *, door: str = "", connections_max: int = CONNECTIONS_MAX
    ) -> None:
        self._app = app
        self._ledger = ledger or Ledger()
        self._door = door
        self._sockets: list[socket.socket] = []
        self._elsewhere: Elsewhere | None = None
        self._held: list[socket.socket] = []
        self._passer = Passer()
        self._taken: set[asyncio.Task[Any]] = set()
        self._state = State(door or "HTTP/JSON", connections_max)
        self.lobby = self._state.lobby
        self._draining = False
        self._servers: list[asyncio.Server] = []
        self._config = Config(
            self._serve,
            # Classes, not names: a zygote has then imported all that its replicas need.
            http=Visitor,
            ws=websockets.protocol or "none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        assert self._config.lifespan_class is LifespanOff, "the lifespan is the host's affair"

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a listening socket, which this edge closes when it drains."""
        self._sockets.append(sock)
        if self._elsewhere is None:
            await self._listen(sock)
        else:
            self._accept_by_hand(sock)

    def _protocol(self) -> Visitor:
        return Visitor(config=self._config, server_state=self._state, app_state={})

    async def _listen(self, sock: socket.socket) -> None:
        # A copy: the socket itself stays when the way of accepting changes.
        server = await accept_on(sock.dup(), self._protocol)
        if self._draining or self._elsewhere is not None:
            server.close()  # it changed again meanwhile
        else:
            self._servers.append(server)

    def share(self, elsewhere: Elsewhere | None) -> None:
        """From now on hand over this share of new connections to the other build of this door; None: keep all.

        Where all are the other build's, and it has no replica just now, none is accepted: they wait for one in the
        queue of the socket. This build's release may have no requests so far.
        """
        if elsewhere is not None and (elsewhere.share <= 0.0 or not (elsewhere.addresses or elsewhere.share >= 1.0)):
            elsewhere = None
        before, self._elsewhere = self._elsewhere, elsewhere
        if self._draining:
            return
        if elsewhere is not None:
            for sock in self._sockets:
                self._accept_by_hand(sock)
            for server in self._servers:
                server.close()
            self._servers.clear()
        elif before is not None:
            loop = asyncio.get_running_loop()
            for sock in self._sockets:
                loop.remove_reader(sock.fileno())
                self._hold(loop.create_task(self._listen(sock)))
            self._passer.close()
        held, self._held = self._held, []
        for connection in held:
            self._place(connection)

    def _accept_by_hand(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        if self._elsewhere is not None and self._elsewhere.addresses:
            loop.add_reader(sock.fileno(), self._accept, sock)
        else:
            loop.remove_reader(sock.fileno())

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                connection, _ = sock.accept()
            except OSError:
                return  # nobody waits any more, or the machine is out of descriptors
            self._place(connection)

    def _place(self, connection: socket.socket) -> None:
        """Serve a connection here, or hand it over. Whom nobody takes waits, if this build is to have none at all."""
        elsewhere = self._elsewhere
        if elsewhere is None or random.random() >= elsewhere.share:
            self.take(connection)
            return
        addresses = elsewhere.addresses
        if any(self._passer.hand_over(connection, self._door, a) for a in random.sample(addresses, len(addresses))):
            connection.close()
        elif elsewhere.share < 1.0 or self._draining:
            self.take(connection)
        else:
            self._held.append(connection)
            asyncio.get_running_loop().call_later(HELD_SECONDS_MAX, self._held_long, connection)

    def _held_long(self, connection: socket.socket) -> None:
        if connection in self._held:
            self._held.remove(connection)
            self.take(connection)

    def take(self, connection: socket.socket) -> None:
        """Serve a connection that was accepted already."""
        connection.setblocking(False)
        loop = asyncio.get_running_loop()

        def taken(task: "asyncio.Task[None]") -> None:
            if task.cancelled() or task.exception() is not None:
                connection.close()  # its client has gone, or we go: maybe before the first step

        task = loop.create_task(_serve_accepted(loop, self._protocol, connection))
        task.add_done_callback(taken)
        self._hold(task)

    def _hold(self, task: "asyncio.Task[Any]") -> None:
        self._taken.add(task)
        task.add_done_callback(self._taken.discard)

    async def drain(self, seconds_max: float, *, idle_seconds_max: float = KEEP_ALIVE_SECONDS) -> bool:
        """Let go of all connections; whether every request was finished within the limit (seconds).

        idle_seconds_max: how long idle keep-alive connections may stay to hear of the closing with
        their next answer; 0 where nobody takes over.
        """
        self._draining = True
        loop = asyncio.get_running_loop()
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            if self._elsewhere is not None:
                loop.remove_reader(sock.fileno())
            sock.close()
        self._passer.close()
        for connection in self._held:
            self.take(connection)
        self._held.clear()
        await let_in()
        await asyncio.gather(*self._taken, return_exceptions=True)
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
        return not unfinished

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        """The app, in a call context, with `connection: close` on its answers while draining."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        ledger = self._ledger
        release, cookie = ledger.release, b""
        if ledger.several:
            # Programs in other languages call here in the middle of a request.
            release, cookie = ledger.choose(scope["headers"], passed_on=self._door == GATEWAY_DOOR)
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
                if self._draining:
                    headers.append((b"connection", b"close"))
                if cookie:
                    headers.append((b"set-cookie", cookie))
                message = {**message, "headers": headers}
                ledger.answered(release, number, failed=failed)
                starting = True
                await send(message)
                starting = False
                if body is not None:
                    replaced = True
                    await send(body)
                return
            if replaced:
                return  # the framework's own words
            if message["type"] == "websocket.accept":
                ledger.answered(release, number, failed=False)
            await send(message)

        number = ledger.begin(release)
        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            broken = not failed
            if not isinstance(error, CallError):
                ledger.witness(self._door or "HTTP/JSON", type(error).__name__)
            if kind != "http" or not await apologies.apologise(send.__self__, answer, scope, error, unsent=starting):
                raise
            broken = not failed
        finally:
            ledger.end(release, number, broken=broken)


async def _serve_accepted(loop: asyncio.AbstractEventLoop, protocol: Any, connection: socket.socket) -> None:
    await loop.connect_accepted_socket(protocol, connection)


def context_of(scope: Any, release: str = "") -> CallContext:
    """The context of an HTTP request: the trace of its `traceparent` header, or a new one."""
    span_id = random.getrandbits(64) or 1
    for name, value in scope["headers"]:
        if name == b"traceparent":
            found = parse_traceparent(value.decode("latin-1"))
            if found is not None:
                return CallContext(found[0], span_id, found[2], release)
    return CallContext(random.getrandbits(128) or 1, span_id, False, release)
