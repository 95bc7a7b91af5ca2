"""A replica of components: it serves one service to callers, to HTTP/JSON clients and to visitors."""

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable
from pathlib import Path

from fissile.component.graph import Graph
from fissile.component.wiring import CELLS
from fissile.rpc.access import GatewayAccess
from fissile.rpc.deadline import environment
from fissile.rpc.http.gateway import Gateway
from fissile.rpc.server import Export, Server
from fissile.runtime.control import GATEWAY_DOOR, Drain, Heartbeat, Move, ReplicaSpec, Routes, Stuck
from fissile.runtime.doors import Doors
from fissile.runtime.host import Host
from fissile.runtime.loading import enter_folder, load_application
from fissile.runtime.reporter import Reporter
from fissile.runtime.unhandled import let_info_pass
from fissile.runtime.upstreams import Upstreams
from fissile.telemetry.pulse import Pulse
from fissile.telemetry.recorder import Recorder


class ComponentReplica:
    """The components of one service, served.

    sockets: listening sockets, as `process.run` has them. stop_requested: set once it is to end, as `order` says.
    """

    def __init__(self, spec: ReplicaSpec, sockets: list[socket.socket]) -> None:
        self.spec = spec
        self.reporter = Reporter(spec)
        self.stop_requested = asyncio.Event()
        self.order = Drain(spec.drain_seconds_max)
        self.recorder = Recorder(CELLS)
        self.pulse = Pulse()
        self.doors = Doors(spec.release, self.pulse)
        self._sockets = sockets
        self._gateway_access = GatewayAccess(spec.gateway_token)
        self._upstreams: Upstreams | None = None
        self._server: Server | None = None
        self._host: Host | None = None

    def __repr__(self) -> str:
        return f"<replica {self.spec.set} {self.spec.slot}: {self.busy()} calls and requests in flight>"

    def _make(self) -> Host:
        """Make and wire the components."""
        spec = self.spec
        enter_folder(spec.root)
        graph = load_application(spec.application, Path(spec.root))
        # After the import: code is found in the release's copy, files are found where they were written.
        enter_folder(spec.folder or spec.root)
        let_info_pass()
        self._upstreams = Upstreams(graph, spec, self.recorder)
        # Before the components are made: their references lead through these routes.
        self.apply_routes(spec.routes)
        self._host = Host(
            graph,
            spec.components,
            config=spec.config,
            environment=environment(
                observe=self.recorder.observe,
                on_undeclared_error=self.doors.stats.on_undeclared_error,
                report=self.reporter.differences.report,
                timeout_seconds=spec.calls_timeout_seconds,
            ),
            remote=self._upstreams.reference,
        )
        return self._host

    async def start(self) -> None:
        """Make, wire and start the components, then open the doors. Raises FissileError."""
        spec = self.spec
        host = self._make()
        await host.start(migrate=False)  # it was done before, once for all replicas
        graph, exports = host.graph, host.exports()
        self._server = Server(
            spec.service,
            exports,
            spec.routes.access,
            concurrency=spec.concurrency,
            queue=spec.queue,
            observe=self.recorder.observe,
            on_undeclared_error=self.doors.stats.on_undeclared_error,
            variables=graph.context,
        )
        self._server.pulse = self.pulse
        rpc, gateway, *public, handoff = self._sockets
        await self._server.start(rpc)
        await self.doors.open(GATEWAY_DOOR, self._gateway(graph, host, exports), [gateway])
        for name, sock in zip(spec.http, public, strict=True):
            await self.doors.open(name, host.asgi(name), [sock])
        self.doors.receive(handoff)

    def _gateway(self, graph: Graph, host: Host, exports: dict[str, Export]) -> Gateway:
        return Gateway(
            {name: Export(export.interface, host.reference(name, name)) for name, export in exports.items()},
            authorize=self._gateway_access.allows,
            title=f"{graph.name}: {self.spec.service}",
            variables=graph.context,
            outside=self._gateway_access.is_outside,
            called=self.reporter.outside.called,
        )

    def apply_routes(self, routes: Routes) -> None:
        """Call, and be called, as these routes say from now on."""
        self._gateway_access.peers = routes.gateway_peers
        # In this order, because a step may raise: then no request gets a release that no channel leads to, and
        # no supervisor counts on routes that were not applied.
        if self._upstreams is not None:
            self._upstreams.apply_routes(routes)
        if self._server is not None:
            self._server.access = routes.access
        self.doors.apply_routes(routes)
        self.reporter.routes_applied = routes.version

    async def migrate(self) -> None:
        """Run the components' migrations instead of serving. Raises FissileError."""
        await self._make().migrate(self.spec.migrate)

    def busy(self) -> int:
        """Calls and requests that are in flight or wait, here and from here."""
        server, upstreams = self._server, self._upstreams
        count = self.doors.stats.in_flight()
        if server is not None:
            count += server.running + len(server.waiting)
        return count + (sum(upstreams.in_flight().values()) if upstreams is not None else 0)

    def pinned(self) -> tuple[str, ...]:
        """Releases with requests in flight."""
        return self.doors.stats.pinned()

    def heartbeat(self, lag_seconds: float) -> Heartbeat:
        """The figures of now. lag_seconds: how late the event loop is."""
        server = self._server
        return self.reporter.heartbeat(
            lag_seconds,
            in_flight=server.running if server is not None else 0,
            queued=len(server.waiting) if server is not None else 0,
            requests=self.doors.stats.in_flight(),
            calls=self._upstreams.in_flight() if self._upstreams is not None else {},
            traffic=self.doors.stats.traffic(),
            stuck=self._stuck(),
            kept=self.doors.kept(),
        )

    def _stuck(self) -> Stuck | None:
        server = self._server
        seconds = server.stuck_seconds(time.monotonic()) if server is not None else 0.0
        return Stuck(seconds, server.holders()) if server is not None and seconds else None

    def move(self, order: Move) -> None:
        """Move kept connections to other replicas."""
        self.doors.move(order)

    def request_stop(self, order: Drain) -> None:
        """Drain within the order's limit, then stop. A later order gives less time, or heirs."""
        self.reporter.start_draining()
        self.order = order
        self.stop_requested.set()
        self.doors.hurry(order)

    async def stop(self) -> None:
        """Drain all doors at once, then stop the components in order."""
        # Before the drain counts connections: none may come in behind it.
        self.doors.stop_receiving()
        draining: list[Awaitable[object]] = [self.doors.drain(self.order)]
        if self._server is not None:
            draining.append(self._server.drain(self.order.seconds_max))
        await asyncio.gather(*draining, return_exceptions=True)
        # Calls before components: a component is never stopped under a call that still runs in it.
        if self._server is not None:
            await self._server.close()
        if self._host is not None:
            for error in await self._host.stop():
                print(f"while stopping: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        # Channels last: a component's `stop` may still call others.
        if self._upstreams is not None:
            await self._upstreams.close()
