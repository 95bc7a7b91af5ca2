"""The API's two doors: a Unix socket in the application's folder, and loopback TCP with a token."""

import socket
from collections.abc import Callable

from fissile.api.app import Api
from fissile.runtime.edge import Edge
from fissile.supervisor.sockets import listen_tcp, listen_unix, remove_unix, url
from fissile.supervisor.state import API_SOCKET
from fissile.supervisor.supervisor import Supervisor

DRAIN_SECONDS_MAX = 2.0


class ApiServer:
    """Serves the API of one supervisor. down: asks the process to end. port: of the TCP door; 0 is any."""

    def __init__(self, supervisor: Supervisor, down: Callable[[], None], *, port: int = 0) -> None:
        self._supervisor = supervisor
        self._down = down
        self._port = port
        self._edges: list[Edge] = []
        self._path = ""

    async def start(self) -> None:
        """Open the doors, and have the supervisor publish where they are. Raises ConfigError if a port is taken."""
        token = self._supervisor.api_token
        self._path = self._supervisor.socket_path(API_SOCKET)
        tcp = listen_tcp(self._port, "the supervisor's API", "`api_port` under [machine]")
        await self._open(tcp, token)
        await self._open(listen_unix(self._path), None)
        self._supervisor.announce(url(tcp), self._path)

    async def _open(self, sock: socket.socket, token: str | None) -> None:
        edge = Edge(Api(self._supervisor, self._down, token).asgi())
        await edge.start(sock)
        self._edges.append(edge)

    async def close(self) -> None:
        """Answer what is asked, then close. Event streams end."""
        for edge in self._edges:
            await edge.drain(DRAIN_SECONDS_MAX, idle_seconds_max=0.0)
        remove_unix(self._path)
