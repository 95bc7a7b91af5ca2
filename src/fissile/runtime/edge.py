"""Serves an ASGI app on an inherited listening socket, and lets go of it without losing a request.

The HTTP protocol is uvicorn's; its way of shutting down is not used, because it closes keep-alive
connections on which a request may be on its way. The drain here: stop accepting (whoever shares the
listening socket takes what queues on it), answer `connection: close` on every response, and hand those who rest
over to the replicas that take over. Where there are none yet, they stay until their clients have heard it or the idle
limit has passed.
"""

import asyncio
import errno
import random
import socket
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from importlib.machinery import PathFinder
from math import inf
from typing import Any

from uvicorn.config import Config
from uvicorn.lifespan.off import LifespanOff
from uvicorn.server import ServerState

from fissile.component.context import CallContext, call_context, parse_traceparent
from fissile.errors import CallError
from fissile.rpc.listening import accept_on, let_in, waiting
from fissile.runtime import apologies
from fissile.runtime.apologies import SERVER_ERROR
from fissile.runtime.control import GATEWAY_DOOR, Elsewhere
from fissile.runtime.handover import Passer
from fissile.runtime.kept import Kept
from fissile.runtime.ledger import Ledger
from fissile.runtime.lobby import KEEP_ALIVE_SECONDS, Lobby

CONNECTIONS_MAX = 1000
CLOSE_CHECK_SECONDS = 0.02
# Of the time to drain, who stays to hear of it has so much: what is under way then has the rest to end.
IDLE_SHARE = 0.5
# Who has not rested for so long stays, whatever was ordered.
MOVE_SECONDS_MAX = 5.0
ACCEPTS_MAX = 64
# How long a connection that belongs to the other build waits here for one of its replicas.
HELD_SECONDS_MAX = 5.0
# Connections that come so soon after one another may be a crowd, and are one if so many wait to be accepted.
CROWD_SECONDS = 0.05
CROWD_MIN = 16
CROWD_PART = 8
NO_DESCRIPTOR_SECONDS = 0.05


class State(ServerState):
    """What the connections of a door share. The date of an answer is made when an answer is: at most once a second.

    rests: told of a connection that is to go away, after each of its answers.
    """

    def __init__(self, door: str, connections_max: int, rests: Callable[[Kept], None]) -> None:
        super().__init__()
        self.rests = rests
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
        self._state = State(door or "HTTP/JSON", connections_max, self._move)
        self.lobby = self._state.lobby
        self._draining = False
        # From the beginning of the drain, in seconds.
        self._drain_seconds = self._idle_seconds = 0.0
        self._heirs: tuple[str, ...] = ()
        self._move_until = 0.0
        self._accepted = 0.0
        self._servers: list[asyncio.Server] = []
        websocket: Any = _websocket if _websockets_there() else "none"
        self._config = Config(
            self._serve,
            # A class, not its name: a zygote has then imported all that its replicas need.
            http=Kept,
            ws=websocket,
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

    def _protocol(self) -> Kept:
        return Kept(config=self._config, server_state=self._state, app_state={})

    def _taken_over(self) -> Kept:
        return self._protocol().taken_over()

    async def _listen(self, sock: socket.socket) -> None:
        def accepted() -> Kept:
            self._accept_crowd(sock)
            return self._protocol()

        # A copy: the socket itself stays when the way of accepting changes.
        server = await accept_on(sock.dup(), accepted)
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

    def _accept(self, sock: socket.socket, count: int = ACCEPTS_MAX) -> None:
        for _ in range(count):
            try:
                connection, _ = sock.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._accept_later(sock)
                return  # or nobody waits any more
            self._place(connection)

    def _accept_later(self, sock: socket.socket) -> None:
        """There is no descriptor left: have one given back, instead of hearing of it in each turn of the loop."""
        self.lobby.make_descriptor()
        loop = asyncio.get_running_loop()
        if self._elsewhere is not None and loop.remove_reader(sock.fileno()):
            loop.call_later(NO_DESCRIPTOR_SECONDS, self._accept_again, sock)

    def _accept_again(self, sock: socket.socket) -> None:
        if self._elsewhere is not None and not self._draining:
            self._accept_by_hand(sock)

    def _accept_crowd(self, sock: socket.socket) -> None:
        """The event loop accepts one connection in each of its turns. From a long queue this takes many at once.

        Only from a long one: where several replicas accept on one socket, each is to have its share. And only a part of
        those who are here, and of the descriptors that are left: whoever goes for a newcomer is there for a while.
        """
        before, self._accepted = self._accepted, self.lobby.time()
        if self._accepted - before < CROWD_SECONDS and waiting(sock) >= CROWD_MIN:
            self._accept(sock, min(ACCEPTS_MAX, self.lobby.spare() // CROWD_PART))

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

    def take(self, connection: socket.socket, *, kept: bool = False) -> None:
        """Serve a connection that was accepted already. kept: it was answered before."""
        connection.setblocking(False)
        loop = asyncio.get_running_loop()

        def taken(task: "asyncio.Task[None]") -> None:
            if task.cancelled() or task.exception() is not None:
                connection.close()  # its client has gone, or we go: maybe before the first step

        protocol = self._taken_over if kept else self._protocol
        task = loop.create_task(_serve_accepted(loop, protocol, connection))
        task.add_done_callback(taken)
        self._hold(task)

    def _hold(self, task: "asyncio.Task[Any]") -> None:
        self._taken.add(task)
        task.add_done_callback(self._taken.discard)

    def kept(self) -> int:
        """How many connections were answered and go on; without websockets and long answers."""
        return len(self._counted())

    def _counted(self) -> list[Kept]:
        now = asyncio.get_running_loop().time()
        return [one for one in self._state.connections if isinstance(one, Kept) and one.counts(now)]

    def move(self, away: Mapping[str, int]) -> None:
        """Hand so many kept connections over to the replicas at these addresses, each once it rests.

        What was ordered before is forgotten. Which ones go is left to chance, so that busy and quiet ones do.
        """
        for one in self._state.connections:
            if isinstance(one, Kept) and one.away:
                one.leave_for("")
        kept = self._counted()
        random.shuffle(kept)
        self._move_until = asyncio.get_running_loop().time() + MOVE_SECONDS_MAX
        for address, count in away.items():
            for one in kept[:count]:
                one.leave_for(address)
                self._move(one)
            del kept[:count]

    def _move(self, one: Kept) -> None:
        """Hand a connection over that is to go, if it rests."""
        loop = asyncio.get_running_loop()
        if not one.away or not one.stays() or self._draining:
            return
        if loop.time() >= self._move_until:
            one.leave_for("")
        elif one.rests():
            address = one.away
            one.leave_for("")
            self._hand_over(one, (address,))
        elif one.is_idle():
            loop.call_later(CLOSE_CHECK_SECONDS, self._move, one)  # its answer has not been sent yet

    def _hand_over(self, one: Kept, addresses: tuple[str, ...]) -> bool:
        """Whether one of those takes a connection that rests; it is none of ours then."""
        with one.descriptor() as connection:
            for address in random.sample(addresses, len(addresses)):
                if self._passer.hand_over(connection, self._door, address, kept=True):
                    one.expel()
                    return True
        return False

    def hurry(self, seconds_max: float, idle_seconds_max: float, heirs: tuple[str, ...]) -> None:
        """Give a drain that is under way less time, and tell it who takes over; see `drain`."""
        self._drain_seconds = min(self._drain_seconds, seconds_max)
        self._idle_seconds = min(self._idle_seconds, idle_seconds_max, self._drain_seconds * IDLE_SHARE)
        self._heirs = heirs

    async def drain(
        self, seconds_max: float, *, idle_seconds_max: float = KEEP_ALIVE_SECONDS, heirs: tuple[str, ...] = ()
    ) -> bool:
        """Let go of all connections; whether every request was finished within the limit (seconds).

        idle_seconds_max: how long idle keep-alive connections may stay to hear of the closing with
        their next answer, at most half of all the time; 0 where nobody takes over. heirs: addresses of replicas that
        take those who rest (see handover).
        """
        self._draining = True
        self._drain_seconds = self._idle_seconds = inf
        self.hurry(seconds_max, idle_seconds_max, heirs)
        loop = asyncio.get_running_loop()
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            if self._elsewhere is not None:
                loop.remove_reader(sock.fileno())
            sock.close()
        for connection in self._held:
            self.take(connection)
        self._held.clear()
        await let_in()
        await asyncio.gather(*self._taken, return_exceptions=True)
        begun = loop.time()
        told: set[Any] = set()
        while self._state.connections and loop.time() - begun < self._drain_seconds:
            if self._heirs:
                for one in [one for one in self._state.connections if isinstance(one, Kept) and one.rests()]:
                    if not self._hand_over(one, self._heirs):
                        break  # they are gone, or busy: look again
            if loop.time() - begun >= self._idle_seconds:
                self._say_farewell(told)
            await asyncio.sleep(CLOSE_CHECK_SECONDS)
        self._passer.close()
        unfinished = list(self._state.connections)
        for connection in unfinished:
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        return not unfinished

    def _say_farewell(self, told: set[Any]) -> None:
        """Close what is idle, and have the others close when they are done. told: to whom that was said."""
        for connection in list(self._state.connections):
            if connection in told:
                continue
            if not isinstance(connection, Kept):
                connection.shutdown()
            elif not connection.farewell():
                continue
            told.add(connection)

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


def _websockets_there() -> bool:
    """Whether one of the libraries that speak them is installed."""
    return any(PathFinder.find_spec(name) is not None for name in ("websockets", "wsproto"))


def _websocket(**given: Any) -> Any:
    """A connection that becomes a websocket. The first imports the library, which most replicas never need."""
    from fissile.runtime.websockets import WebSocket

    return WebSocket(**given)


def context_of(scope: Any, release: str = "") -> CallContext:
    """The context of an HTTP request: the trace of its `traceparent` header, or a new one."""
    span_id = random.getrandbits(64) or 1
    for name, value in scope["headers"]:
        if name == b"traceparent":
            found = parse_traceparent(value.decode("latin-1"))
            if found is not None:
                return CallContext(found[0], span_id, found[2], release)
    return CallContext(random.getrandbits(128) or 1, span_id, False, release)
