"""One process of one service: serves its components to callers, the gateway and the public edge.

It gets its sockets from whoever made it, reports to the control stream, and goes on serving when
nobody listens there. It ends in three ways only: drained, told to stop, or unable to start.
"""

import asyncio
import faulthandler
import hmac
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from fissile.component.graph import Graph
from fissile.component.wiring import CELLS, Ref, local_reference
from fissile.errors import CallError, FissileError
from fissile.rpc import foreign
from fissile.rpc.access import Access, token_digest
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.deadline import environment
from fissile.rpc.gateway import Gateway
from fissile.rpc.server import Export, Server
from fissile.rpc.stub import remote
from fissile.runtime.control import (
    CONTROL_CALLER,
    CONTROL_INTERFACE,
    HEARTBEAT_SECONDS,
    OPERATOR,
    Drain,
    Heartbeat,
    ReplicaFailed,
    ReplicaHello,
    ReplicaReady,
    ReplicaSpec,
    Routes,
)
from fissile.runtime.edge import Edge
from fissile.runtime.guest import Guest
from fissile.runtime.host import Host
from fissile.runtime.loading import load_application
from fissile.telemetry.recorder import Recorder

EXIT_STOPPED = 0
EXIT_CANNOT_START = 3
REATTACH_SECONDS = 0.1
SAMPLE_SECONDS = 0.1
# Later than the loop of a busy replica ever is, sooner than its supervisor gives it up.
STUCK_SECONDS = 2.5
REATTACH_SECONDS_MAX = 2.0


def run(
    spec: ReplicaSpec,
    sockets: list[socket.socket],
    control_address: str,
    control_token: str,
    loop: asyncio.AbstractEventLoop | None = None,
) -> int:
    """Serve until drained or stopped; the process's exit code.

    sockets: listening sockets: the service's rpc, its gateway, then one per component in `spec.http`.
    loop: what `rehearse` returned in this process.
    """
    with asyncio.Runner(loop_factory=lambda: loop or uvloop.new_event_loop()) as runner:
        return runner.run(_serve(spec, sockets, control_address, control_token))


async def _serve(spec: ReplicaSpec, sockets: list[socket.socket], control_address: str, control_token: str) -> int:
    known = set(sys.modules)
    replica = Guest(spec, sockets) if spec.guest else Replica(spec, sockets)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, replica.finish, Drain(spec.drain_seconds_max))
    try:
        await replica.start()
    except FissileError as error:
        print(f"cannot start: {error}", file=sys.stderr, flush=True)
        await ControlLink(replica, control_address, control_token).failed(str(error))
        return EXIT_CANNOT_START
    control = ControlLink(replica, control_address, control_token)
    control.imported = tuple(name for name in sys.modules if name not in known)
    control.start()
    await replica.ended.wait()
    await replica.stop()
    await control.close()
    return EXIT_STOPPED


def rehearse(graph: Graph) -> asyncio.AbstractEventLoop:
    """Do once what every replica of the application does first; an event loop that has run.

    In a zygote methods are compiled and protocols imported by it, for all that it forks; in a process
    that waits to become a replica the memory that is written to becomes its own. The classes stand in
    for their instances: their methods are looked up and never called.
    """
    real = environment(observe=Recorder(CELLS).observe)
    own = [component for component in graph.components.values() if not component.foreign]
    exports = {component.name: Export(component.interface, component.cls) for component in own}
    Server("rehearsal", exports, Access({}, {}, {}), observe=real.observe)
    interfaces = [*(export.interface for export in exports.values()), CONTROL_INTERFACE]
    channel = Channel("rehearsal", (), caller_service="", token="", callers=("",), contracts=contracts_of(interfaces))
    for export in exports.values():
        local_reference(export.interface, export.instance, real)
    for interface in interfaces:
        remote(interface, channel, caller="", observe=real.observe)
    Edge(None)
    loop = uvloop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    return loop


def access_for(graph: Graph, topology: dict[str, tuple[str, ...]], peers: dict[str, str]) -> Access:
    """Who may call what in an application: by declared reference; the operator may call everything."""
    references = {
        name: frozenset(reference.target for reference in component.references)
        for name, component in graph.components.items()
    }
    references[OPERATOR] = frozenset(graph.components)
    return Access(peers, {**topology, OPERATOR: (OPERATOR,)}, references)


class Replica:
    """The components of one service, served."""

    def __init__(self, spec: ReplicaSpec, sockets: list[socket.socket]) -> None:
        self.spec = spec
        self.hello = ReplicaHello(spec.service, spec.slot, spec.serial, os.getpid(), spec.build, spec.release)
        self.ended = asyncio.Event()
        self.order = Drain(spec.drain_seconds_max)
        self.recorder = Recorder(CELLS)
        self.channels: dict[str, Channel | foreign.ForeignChannel] = {}
        self._sockets = sockets
        self._edges: list[Edge] = []
        self._server: Server | None = None
        self._host: Host | None = None

    async def start(self) -> None:
        """Make, wire and start the components, then open the doors. Raises FissileError."""
        spec = self.spec
        graph = load_application(spec.application, Path(spec.root))
        self._make_channels(graph)
        real = environment(observe=self.recorder.observe, timeout_seconds=spec.calls_timeout_seconds)
        host = self._host = Host(
            graph, spec.components, config=spec.config, environment=real, remote=self._remote_maker(graph)
        )
        await host.start()
        self._server = Server(
            spec.service,
            host.exports(),
            access_for(graph, spec.topology, spec.peers),
            concurrency=spec.concurrency,
            queue=spec.queue,
            observe=self.recorder.observe,
        )
        await self._server.start(self._sockets[0])
        references = {
            name: Export(export.interface, local_reference(export.interface, export.instance, real))
            for name, export in host.exports().items()
        }
        gateway = Gateway(references, authorize=self._authorize, title=f"{graph.name}: {spec.service}")
        for app, sock in zip([gateway, *(host.asgi(name) for name in spec.http)], self._sockets[1:], strict=True):
            edge = Edge(app, release=spec.release)
            await edge.start(sock)
            self._edges.append(edge)

    def _authorize(self, token: str) -> bool:
        digest = token_digest(token)
        return any(hmac.compare_digest(digest, one) for one in (self.spec.gateway_token, *self.spec.gateway_peers))

    def _make_channels(self, graph: Graph) -> None:
        spec = self.spec
        service_of = {name: service for service, names in spec.topology.items() for name in names}
        wanted: dict[str, dict[str, None]] = {}
        for caller in spec.components:
            for reference in graph.components[caller].references:
                if service_of[reference.target] != spec.service:
                    wanted.setdefault(service_of[reference.target], {})[reference.target] = None
        for service, targets in wanted.items():
            if service in spec.foreign:
                foreign.library()
                addresses = spec.routes.get(service, ())
                self.channels[service] = foreign.ForeignChannel(service, addresses, token=spec.foreign[service])
                continue
            self.channels[service] = Channel(
                service,
                spec.routes.get(service, ()),
                caller_service=spec.service,
                token=spec.token,
                callers=spec.components,
                contracts=contracts_of(graph.components[target].interface for target in targets),
            )
        self._service_of = service_of

    def _remote_maker(self, graph: Graph) -> Any:
        def make(caller: str, target: str) -> Ref:
            channel = self.channels[self._service_of[target]]
            if isinstance(channel, foreign.ForeignChannel):
                return foreign.foreign(
                    graph.components[target].interface,
                    channel,
                    timeout_seconds=self.spec.calls_timeout_seconds,
                    observe=self.recorder.observe,
                )
            return remote(
                graph.components[target].interface,
                channel,
                caller=caller,
                timeout_seconds=self.spec.calls_timeout_seconds,
                observe=self.recorder.observe,
            )

        return make

    def heartbeat(self, lag_seconds: float) -> Heartbeat:
        """What this replica does just now."""
        server = self._server
        return Heartbeat(
            self.hello,
            lag_seconds,
            server.running if server is not None else 0,
            len(server.waiting) if server is not None else 0,
            sum(edge.in_flight() for edge in self._edges),
            {service: count for service, channel in self.channels.items() if (count := channel.in_flight())},
        )

    def finish(self, order: Drain) -> None:
        """End: drain within the order's limit, then stop."""
        self.hello = msgspec.structs.replace(self.hello, draining=True)
        self.order = order
        self.ended.set()

    async def stop(self) -> None:
        """Drain all doors at once, then stop the components in order."""
        limit = self.order.seconds_max
        doors = [edge.drain(limit, idle_seconds_max=self.order.idle_seconds_max) for edge in self._edges]
        if self._server is not None:
            doors.append(self._server.drain(limit))
        await asyncio.gather(*doors, return_exceptions=True)
        if self._server is not None:
            await self._server.close()
        if self._host is not None:
            for error in await self._host.stop():
                print(f"while stopping: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        for channel in self.channels.values():
            await channel.close()


class Watchdog:
    """Writes all stacks to a file when it was not fed for a while: the event loop is stuck then.

    It is faulthandler's own thread, which needs neither the loop nor the interpreter's lock.
    """

    def __init__(self, path: str) -> None:
        self._file = None
        if path:
            with suppress(OSError):  # a full disk must not keep a replica from serving
                self._file = open(path, "w")  # noqa: SIM115 -- open for as long as the replica lives

    def feed(self) -> None:
        """All is well."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()  # what it wrote when it was late, and not stuck
            faulthandler.dump_traceback_later(STUCK_SECONDS, file=self._file)

    def rest(self) -> None:
        """Nobody feeds it any more."""
        if self._file is not None:
            faulthandler.cancel_dump_traceback_later()


class ControlLink:
    """The replica's connection to whoever supervises it now."""

    def __init__(self, replica: Replica | Guest, address: str, token: str) -> None:
        self._replica = replica
        self._channel = Channel(
            "supervisor",
            [address],
            caller_service=replica.spec.service,
            token=token,
            callers=(CONTROL_CALLER,),
            contracts=contracts_of([CONTROL_INTERFACE]),
        )
        self._control: Any = remote(CONTROL_INTERFACE, self._channel, caller=CONTROL_CALLER)
        self.imported: tuple[str, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Attach, and begin to report."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow()), loop.create_task(self._beat())]

    async def _follow(self) -> None:
        pause = REATTACH_SECONDS
        while True:
            try:
                await self._control.report(ReplicaReady(self._replica.hello, self.imported))
                async for command in self._control.attach(self._replica.hello):
                    pause = REATTACH_SECONDS
                    self._obey(command)
            except CallError:
                pass  # nobody supervises just now: serve on, and look again
            await asyncio.sleep(pause)
            pause = min(pause * 2, REATTACH_SECONDS_MAX)

    def _obey(self, command: Any) -> None:
        if isinstance(command, Routes):
            for service, channel in self._replica.channels.items():
                channel.route(command.routes.get(service, ()))
        else:
            self._replica.finish(command if isinstance(command, Drain) else Drain(0.0))

    async def _beat(self) -> None:
        """Report every second; earlier, when there is suddenly more to do."""
        watchdog = Watchdog(self._replica.spec.stacks)
        watchdog.feed()
        reported = -HEARTBEAT_SECONDS
        last = 0
        try:
            while True:
                due = time.monotonic() + SAMPLE_SECONDS
                await asyncio.sleep(SAMPLE_SECONDS)
                now = time.monotonic()
                beat = self._replica.heartbeat(max(0.0, now - due))
                busy = beat.in_flight + beat.queued + beat.requests + sum(beat.calls.values())
                if now - reported < HEARTBEAT_SECONDS and abs(busy - last) <= max(1, last // 4):
                    continue
                reported, last = now, busy
                watchdog.feed()
                with suppress(CallError):
                    await self._control.report(beat)
        finally:
            watchdog.rest()

    async def failed(self, message: str) -> None:
        """Report that the replica cannot start."""
        with suppress(CallError):
            await self._control.report(ReplicaFailed(self._replica.hello, message))
        await self._channel.close()

    async def close(self) -> None:
        """Detach."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()
