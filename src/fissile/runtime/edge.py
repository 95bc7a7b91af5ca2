"""One public door of a process: an ASGI app on inherited listening sockets, drained without losing a request.

uvicorn speaks HTTP. Its shutdown is not used, because it closes keep-alive connections on which a request
may be on its way. A drain here stops accepting (processes that share the listening socket take what is in
its queue), answers `connection: close` on every response, and hands resting connections over to the
replicas that take over. Where there are none yet, connections stay until their clients have heard of the
close, or until the idle limit has passed.
"""

import asyncio
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

from fissile.runtime.acceptor import Acceptor
from fissile.runtime.connection_handoff import HandoffSender
from fissile.runtime.control import OtherBuild
from fissile.runtime.kept import Kept
from fissile.runtime.kept_pool import KeptPool
from fissile.runtime.lobby import KEEP_ALIVE_SECONDS, Lobby
from fissile.runtime.request_stats import RequestStats
from fissile.runtime.served_app import ServedApp
from fissile.runtime.traffic_split import TrafficSplitter

CONNECTIONS_MAX = 1000
CLOSE_CHECK_SECONDS = 0.02
# Of the time to drain, idle connections have this part to hear of it; what begins then has the rest to end.
IDLE_SHARE = 0.5


class DoorState(ServerState):
    """What uvicorn's connections of one door share.

    The date header is made when an answer is: at most once a second. on_answered: gets a connection that was
    told to leave, after each of its answers.
    """

    def __init__(self, door: str, connections_max: int, on_answered: Callable[[Kept], None]) -> None:
        super().__init__()
        self.on_answered = on_answered
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
    """One ASGI app at one public door.

    splitter: chooses the release of each request. stats: counts them. door: the name by which other
    processes know it. connections_max: beyond it the connection that waits longest is closed; if all have
    requests in flight, a further one gets 503.
    """

    def __init__(
        self,
        app: Any,
        splitter: TrafficSplitter | None = None,
        stats: RequestStats | None = None,
        *,
        door: str = "",
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._served = ServedApp(app, splitter or TrafficSplitter("", random.random), stats or RequestStats(), door)
        self._state = DoorState(door or "HTTP/JSON", connections_max, lambda one: self._kept.on_answered(one))
        self.lobby = self._state.lobby
        self._sender = HandoffSender()
        self._kept = KeptPool(door, self._state.connections, self._sender)
        self._acceptor = Acceptor(door, self.lobby, self._sender, self._protocol)
        # From the beginning of the drain, in seconds.
        self._drain_seconds = self._idle_seconds = inf
        self._heirs: tuple[str, ...] = ()
        websocket: Any = _websocket if _websockets_there() else "none"
        self._config = Config(
            self._served.serve,
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
        assert self._config.lifespan_class is LifespanOff, "the host runs the lifespan"

    def __repr__(self) -> str:
        state = "draining" if self._served.closing else "open"
        return f"<edge {state}: {len(self._state.connections)} connections, {len(self._state.tasks)} requests>"

    def _protocol(self) -> Kept:
        return Kept(config=self._config, server_state=self._state, app_state={})

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a listening socket, which this edge closes when it drains."""
        await self._acceptor.start(sock)

    def share(self, other: OtherBuild | None) -> None:
        """From now on give a share of new connections to the other build of this door; None: keep all."""
        self._acceptor.share(other)

    def take(self, connection: socket.socket, *, kept: bool = False) -> None:
        """Serve a connection that is accepted already. kept: another process has answered it before."""
        self._acceptor.take(connection, kept=kept)

    def kept(self) -> int:
        """Connections that were answered and go on; without websockets and long answers."""
        return len(self._kept)

    def move(self, away: Mapping[str, int]) -> None:
        """Move so many kept connections to the replicas at these addresses, each once it rests."""
        self._kept.move(away)

    def hurry(self, seconds_max: float, idle_seconds_max: float, heirs: tuple[str, ...]) -> None:
        """Give a running drain less time, and tell it who takes over; see `drain`."""
        self._drain_seconds = min(self._drain_seconds, seconds_max)
        self._idle_seconds = min(self._idle_seconds, idle_seconds_max, self._drain_seconds * IDLE_SHARE)
        self._heirs = heirs

    async def drain(
        self, seconds_max: float, *, idle_seconds_max: float = KEEP_ALIVE_SECONDS, heirs: tuple[str, ...] = ()
    ) -> bool:
        """Let go of all connections; whether every request was finished within the limit (seconds).

        idle_seconds_max: how long idle keep-alive connections may stay to hear of the close with their next
        answer, at most half of the limit; 0 if nobody takes over. heirs: addresses of replicas that take
        resting connections (see connection_handoff).
        """
        # First, so that every answer from now on says `connection: close`.
        self._served.closing = True
        self._kept.stop()
        # What was ordered before the drain began is not its limit.
        self._drain_seconds = self._idle_seconds = inf
        self.hurry(seconds_max, idle_seconds_max, heirs)
        # Before connections are counted: what was accepted meanwhile is served, too.
        await self._acceptor.stop()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        told: set[Any] = set()
        while self._state.connections and loop.time() - begun < self._drain_seconds:
            # Heirs first: a connection that moves is never closed, so its client notices nothing.
            if self._heirs:
                self._kept.hand_off_resting(self._heirs)
            if loop.time() - begun >= self._idle_seconds:
                self._say_farewell(told)
            await asyncio.sleep(CLOSE_CHECK_SECONDS)
        self._sender.close()
        unfinished = list(self._state.connections)
        for connection in unfinished:
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        # Also of clients that have gone: their requests are in no connection any more.
        for task in list(self._state.tasks):
            task.cancel()
        return not unfinished

    def _say_farewell(self, told: set[Any]) -> None:
        """Close what is idle, and have the others close when they are done. told: connections that know it."""
        for connection in list(self._state.connections):
            if connection in told:
                continue
            if not isinstance(connection, Kept):
                connection.shutdown()
            elif not connection.farewell():
                continue  # a request is on its way: its answer is to say so
            told.add(connection)


def _websockets_there() -> bool:
    """Whether one of the libraries that speak websockets is installed."""
    return any(PathFinder.find_spec(name) is not None for name in ("websockets", "wsproto"))


def _websocket(**given: Any) -> Any:
    """A connection that becomes a websocket. The first one imports the library, which most replicas never need."""
    from fissile.runtime.websockets import WebSocket

    return WebSocket(**given)
