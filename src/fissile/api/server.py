"""The API's two doors: a Unix socket in the application's folder, and loopback TCP with a token.

At the Unix socket it is looked who comes (see machine/peers): a replica, and what it has started, gets one answer
to all that it asks. Its token would be the operator's.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from fissile.api.app import Api
from fissile.api.problem import problem
from fissile.machine.peers import REMEDY, REPLICAS_MAY_NOT
from fissile.machine.sockets import listen_tcp, listen_unix, remove_unix, url
from fissile.runtime.edge import Edge
from fissile.supervisor.state_folder import API_SOCKET
from fissile.supervisor.supervisor import Supervisor

DRAIN_SECONDS_MAX = 2.0
# After that, orders that take longer, as a restart, are told that it ends.
ORDERS_SECONDS_MAX = 1.0
ACCEPTS_MAX = 64


class ApiServer:
    """Serves the API of one supervisor. down: asks the process to end. port: of the TCP door; 0 is any."""

    def __init__(self, supervisor: Supervisor, down: Callable[[], None], *, port: int = 0) -> None:
        self._supervisor = supervisor
        self._down = down
        self._port = port
        self._edges: list[Edge] = []
        self._apis: list[Api] = []
        self._path = ""
        self._listener: socket.socket | None = None

    async def start(self) -> None:
        """Open the doors, and have the supervisor publish where they are. Raises ConfigError if a port is taken."""
        token = self._supervisor.parts.state.secrets.api
        self._path = self._supervisor.parts.state.folder.socket_path(API_SOCKET)
        tcp = listen_tcp(self._port, "the supervisor's API", "`api_port` under [machine]")
        self._apis = [Api(self._supervisor, self._down, one) for one in (token, None)]
        await self._edge(self._apis[0].asgi()).start(tcp)
        self._inside = self._edge(self._apis[1].asgi())
        self._outside = self._edge(refuse)
        self._listen()
        self._supervisor.parts.publisher.announce(url(tcp), self._path, renew=self._listen)

    def _listen(self) -> None:
        """At a new socket, instead of one that somebody may have removed. Raises OSError."""
        listener = listen_unix(self._path)
        self._leave()
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    def _leave(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _edge(self, app: Any) -> Edge:
        edge = Edge(app)
        self._edges.append(edge)
        return edge

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # nobody waits any more, or the machine is out of descriptors
            (self._outside if self._supervisor.parts.guard.refuses(connection) else self._inside).take(connection)

    async def close(self) -> None:
        """Answer what is asked, then close. Event streams end. May be called again."""
        self._leave()
        loop = asyncio.get_running_loop()
        ends = [loop.call_later(ORDERS_SECONDS_MAX, api.end) for api in self._apis]
        for edge in self._edges:
            await edge.drain(DRAIN_SECONDS_MAX, idle_seconds_max=0.0)
        for end in ends:
            end.cancel()
        self._edges.clear()
        remove_unix(self._path)


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI app: the answer to whom the peer_policy refuses."""
    if scope["type"] == "http":
        await problem(403, "Forbidden", REPLICAS_MAY_NOT, REMEDY)(scope, receive, send)
    elif scope["type"] == "websocket":
        await send({"type": "websocket.close"})
