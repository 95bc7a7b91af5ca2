"""The whole application in one process, served on sockets of its own.

No supervisor, no zygote, no wire: calls between components are plain calls, or as much like those of services as calls
within a process can be.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

from fissile.component.graph import Graph
from fissile.component.wiring import CELLS
from fissile.rpc.deadline import environment
from fissile.rpc.http.gateway import Gateway
from fissile.rpc.server import Export
from fissile.runtime.edge import Edge
from fissile.runtime.host import Host
from fissile.telemetry.recorder import Recorder


class Monolith:
    """An application served by this process.

    gateway: the listening socket of the HTTP/JSON API; public: one per component with `http()`. copied: calls between
    components pass values, errors and context exactly as a wire would.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        config: Mapping[str, Mapping[str, Any]],
        gateway: socket.socket,
        public: Mapping[str, socket.socket],
        authorize: Callable[[str], bool],
        timeout_seconds: float,
        copied: bool,
    ) -> None:
        self.recorder = Recorder(CELLS)
        real = environment(observe=self.recorder.observe, timeout_seconds=timeout_seconds, copy_always=copied)
        self.host = Host(graph, graph.components, config=config, environment=real)
        references = {
            name: Export(graph.components[name].interface, self.host.reference(name, name)) for name in graph.components
        }
        self._gateway = Gateway(references, authorize=authorize, title=graph.name, variables=graph.context)
        self._gateway_socket = gateway
        self._public = public
        self._edges: list[Edge] = []

    async def start(self) -> None:
        """Start the components, then open the doors."""
        await self.host.start()
        apps = [(self._gateway, self._gateway_socket)]
        apps += [(self.host.asgi(name), sock) for name, sock in self._public.items()]
        for app, sock in apps:
            edge = Edge(app)
            await edge.start(sock)
            self._edges.append(edge)

    async def stop(self, drain_seconds_max: float) -> list[Exception]:
        """Finish what is in flight within the limit, then stop the components."""
        await asyncio.gather(*(edge.drain(drain_seconds_max, idle_seconds_max=0.0) for edge in self._edges))
        return await self.host.stop()
