"""All public doors of one replica: an edge for each, sharing one traffic split and one count of requests."""

import asyncio
import random
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from fissile.runtime.connection_handoff import HandoffReceiver
from fissile.runtime.control import Drain, Move, OtherBuild, Routes
from fissile.runtime.edge import Edge
from fissile.runtime.request_stats import RequestStats
from fissile.runtime.traffic_split import TrafficSplitter
from fissile.telemetry.pulse import Pulse


class Doors:
    """Edges by the names under which other processes know their doors.

    release: of every request, until routes say otherwise. pulse: woken by each new request.
    """

    def __init__(self, release: str, pulse: Pulse) -> None:
        self.stats = RequestStats(release, pulse)
        self._splitter = TrafficSplitter(release, random.random)
        self._edges: dict[str, Edge] = {}
        self._other_builds: Mapping[str, OtherBuild] = {}
        self._receiver: HandoffReceiver | None = None

    def __repr__(self) -> str:
        return f"<doors: {self._edges}>"

    async def open(self, door: str, app: Any, sockets: Iterable[socket.socket]) -> None:
        """Serve an ASGI app on these listening sockets."""
        self._edges[door] = edge = Edge(app, self._splitter, self.stats, door=door)
        # Before it accepts: the first connection may already belong to the other build.
        edge.share(self._other_builds.get(door))
        for sock in sockets:
            await edge.start(sock)

    def receive(self, sock: socket.socket) -> None:
        """Take connections that other replicas hand over. After `open`: each names its door."""
        self._receiver = HandoffReceiver(sock, self._take)

    def _take(self, door: str, connection: socket.socket, kept: bool) -> None:
        edge = self._edges.get(door)
        if edge is None:
            connection.close()
        else:
            edge.take(connection, kept=kept)

    def apply_routes(self, routes: Routes) -> None:
        """Split new requests and connections as these routes say."""
        self.stats.compare(routes.releases or (routes.release,))
        self._splitter.divide(routes.shares, routes.release, routes.sticky, routes.rollout)
        self._other_builds = routes.other_builds
        for door, edge in self._edges.items():
            edge.share(routes.other_builds.get(door))

    def kept(self) -> dict[str, int]:
        """Kept connections by door."""
        return {door: edge.kept() for door, edge in self._edges.items()}

    def move(self, order: Move) -> None:
        """Move kept connections to other replicas."""
        for door, edge in self._edges.items():
            edge.move(order.away.get(door, {}))

    def hurry(self, order: Drain) -> None:
        """Give a running drain less time, or heirs."""
        for door, edge in self._edges.items():
            edge.hurry(order.seconds_max, order.idle_seconds_max, order.heirs.get(door, ()))

    def stop_receiving(self) -> None:
        """Take no more connections from others; those that are sent already are still taken."""
        if self._receiver is not None:
            self._receiver.close()

    async def drain(self, order: Drain) -> None:
        """Let go of the connections of all doors at once. After `stop_receiving`: a drain counts what is there."""
        await asyncio.gather(
            *(
                edge.drain(
                    order.seconds_max,
                    idle_seconds_max=order.idle_seconds_max,
                    heirs=order.heirs.get(door, ()),
                )
                for door, edge in self._edges.items()
            ),
            return_exceptions=True,
        )
