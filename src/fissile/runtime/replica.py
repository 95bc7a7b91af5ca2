"""One process of one service: serves its components to callers, the gateway and the public edge.

It gets its sockets from whoever made it, reports to the control stream, and goes on serving when
nobody listens there. It ends in three ways only: drained, told to stop, or unable to start.
"""

import asyncio
import gc
import hmac
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from itertools import count
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from fissile.component.graph import Graph
from fissile.component.wiring import CELLS, local_reference
from fissile.errors import CallError, ConfigError, FissileError, advises
from fissile.rpc.access import Access, token_digest
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.deadline import environment
from fissile.rpc.gateway import Gateway
from fissile.rpc.server import Export, Server
from fissile.rpc.stub import remote
from fissile.runtime.callees import Callees
from fissile.runtime.control import (
    CONTROL_CALLER,
    CONTROL_INTERFACE,
    HEARTBEAT_SECONDS,
    IDLE_SECONDS_MAX,
    Drain,
    Heartbeat,
    Move,
    ReplicaFailed,
    ReplicaHello,
    ReplicaReady,
    ReplicaSpec,
    Routes,
    Stuck,
)
from fissile.runtime.differences import Differences
from fissile.runtime.edge import GATEWAY_DOOR, Edge
from fissile.runtime.forked import disown
from fissile.runtime.guest import Guest
from fissile.runtime.handover import Handover
from fissile.runtime.host import Host
from fissile.runtime.ledger import Ledger
from fissile.runtime.loading import enter_folder, load_application
from fissile.runtime.outside import Outside
from fissile.runtime.places import authors, edited, runs_from
from fissile.runtime.stacks import Stacks
from fissile.runtime.unhandled import let_info_pass
from fissile.telemetry.pulse import Pulse
from fissile.telemetry.recorder import Recorder

EXIT_STOPPED = 0
EXIT_CANNOT_START = 3
REATTACH_SECONDS = 0.1
# How often the figures are looked at while anything is under way.
SAMPLE_SECONDS = 0.1
REATTACH_SECONDS_MAX = 2.0
# CPython looks at young objects whenever there are so many more than before: at every few requests at once. With
# seven times as many a page takes 7 % less CPU; with more the young ones leave the processor's caches.
YOUNG_OBJECTS = 5_000
YOUNG_OBJECTS_BY_DEFAULT = (700, 2000)


def run(
    spec: ReplicaSpec,
    sockets: list[socket.socket],
    control_address: str,
    control_token: str,
    loop: asyncio.AbstractEventLoop | None = None,
) -> int:
    """Serve until drained or stopped; the process's exit code.

    sockets: listening sockets: the service's rpc, its gateway, one per component in `spec.http`, and that at which
    it takes connections from other replicas.
    loop: what `rehearse` returned in this process.
    """
    young, *older = gc.get_threshold()
    if young in YOUNG_OBJECTS_BY_DEFAULT:  # else the application has an opinion of its own
        gc.set_threshold(YOUNG_OBJECTS, *older)
    runs_from(spec.root, spec.source)
    with asyncio.Runner(loop_factory=lambda: loop or uvloop.new_event_loop()) as runner:
        return runner.run(_serve(spec, sockets, control_address, control_token))


async def _serve(spec: ReplicaSpec, sockets: list[socket.socket], control_address: str, control_token: str) -> int:
    known = set(sys.modules)
    replica = Guest(spec, sockets) if spec.guest else Replica(spec, sockets)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _leave, replica)
    disown(sockets, folders=[os.path.dirname(control_address.removeprefix("unix:"))])
    try:
        if spec.migrate:
            assert isinstance(replica, Replica)
            return await _migrate(replica)
        if not await _started(replica):
            link = ControlLink(replica, control_address, control_token)
            await asyncio.gather(replica.stop(), link.leaving())  # else its end would count as a failure
            await link.close()
            return EXIT_STOPPED
    except FissileError as error:
        if error.__cause__ is not None:
            print(authors(error.__cause__), end="", file=sys.stderr)
        told = edited(str(error))
        print(f"cannot start: {told}", file=sys.stderr, flush=True)
        await ControlLink(replica, control_address, control_token).failed(told, error)
        return EXIT_CANNOT_START
    control = ControlLink(replica, control_address, control_token)
    control.imported = tuple(name for name in sys.modules if name not in known and _is_common(name, spec))
    control.start()
    await replica.ended.wait()
    await asyncio.gather(replica.stop(), control.leaving())
    await control.close()
    return EXIT_STOPPED


async def _started(replica: "Replica | Guest") -> bool:
    """Start it; False where it was told to end before that was done."""
    starting, ended = asyncio.ensure_future(replica.start()), asyncio.ensure_future(replica.ended.wait())
    await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
    ended.cancel()
    if starting.cancelled():
        return False
    starting.result()
    return True


def _is_common(module: str, spec: ReplicaSpec) -> bool:
    """Whether a module is the same for every service: those of a guest may have read what is meant for it alone."""
    file = getattr(sys.modules[module], "__file__", None) or ""
    return not (spec.guest and Path(file).is_relative_to(spec.root))


def _leave(replica: "Replica | Guest") -> None:
    """Somebody ends this replica by a signal: as a restart does, for another one takes over. Once is enough."""
    if not replica.ended.is_set():
        replica.finish(Drain(replica.spec.drain_seconds_max, IDLE_SECONDS_MAX))


async def _migrate(replica: "Replica") -> int:
    """Run its migrations. Told to end, it gives up: what the author wrote for that case is still run."""
    work = asyncio.ensure_future(replica.migrate())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        print("the migration was given up", file=sys.stderr, flush=True)
        return EXIT_CANNOT_START
    return EXIT_STOPPED


def prewarm(graph: Graph) -> asyncio.AbstractEventLoop:
    """Do once what every replica of the application does first; an event loop that has run.

    In a zygote methods are compiled and protocols imported by it, for all that it forks; in a process
    that waits to become a replica the memory that is written to becomes its own. The classes stand in
    for their instances: their methods are looked up and never called.
    """
    real = environment(observe=Recorder(CELLS).observe, report=lambda _label, _sentence: None)
    own = [component for component in graph.components.values() if not component.foreign]
    exports = {component.name: Export(component.interface, component.cls) for component in own}
    Server("prewarm", exports, Access({}, {}, {}), observe=real.observe)
    interfaces = [*(export.interface for export in exports.values()), CONTROL_INTERFACE]
    channel = Channel("prewarm", (), caller_service="", token="", callers=("",), contracts=contracts_of(interfaces))
    for export in exports.values():
        local_reference(export.interface, export.instance, real)
    for interface in interfaces:
        remote(interface, channel, caller="", observe=real.observe)
    Edge(None)
    loop = uvloop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    return loop


class Replica:
    """The components of one service, served."""

    def __init__(self, spec: ReplicaSpec, sockets: list[socket.socket]) -> None:
        self.spec = spec
        self.hello = ReplicaHello(spec.service, spec.set, spec.slot, spec.serial, os.getpid(), spec.build, spec.release)
        self.ended = asyncio.Event()
        self.order = Drain(spec.drain_seconds_max)
        self.recorder = Recorder(CELLS)
        self.pulse = Pulse()
        self.differences = Differences()
        self.outside = Outside()
        self._beats = count(1)
        self.ledger = Ledger(spec.release, self.pulse)
        self.applied = 0
        self._sockets = sockets
        self._gateway_peers: tuple[str, ...] = ()
        self._callees: Callees | None = None
        self._edges: dict[str, Edge] = {}
        self._handover: Handover | None = None
        self._server: Server | None = None
        self._host: Host | None = None

    def _make(self) -> Host:
        """The components, made and wired."""
        spec = self.spec
        enter_folder(spec.root)
        self._graph = graph = load_application(spec.application, Path(spec.root))
        enter_folder(spec.folder or spec.root)
        let_info_pass()
        self._callees = Callees(graph, spec, self.recorder)
        self.follow(spec.routes)
        self._environment = environment(
            observe=self.recorder.observe,
            witness=self.ledger.witness,
            report=self.differences.report,
            timeout_seconds=spec.calls_timeout_seconds,
        )
        self._host = Host(
            graph,
            spec.components,
            config=spec.config,
            environment=self._environment,
            remote=self._callees.reference,
        )
        return self._host

    async def start(self) -> None:
        """Make, wire and start the components, then open the doors. Raises FissileError."""
        spec = self.spec
        host = self._make()
        await host.start(migrate=False)  # it was done before, once for all replicas
        self._server = Server(
            spec.service,
            host.exports(),
            spec.routes.access,
            concurrency=spec.concurrency,
            queue=spec.queue,
            observe=self.recorder.observe,
            witness=self.ledger.witness,
            variables=self._graph.context,
        )
        self._server.pulse = self.pulse
        await self._server.start(self._sockets[0])
        references = {
            name: Export(export.interface, host.reference(name, name)) for name, export in host.exports().items()
        }
        gateway = Gateway(
            references,
            authorize=self._authorize,
            title=f"{self._graph.name}: {spec.service}",
            variables=self._graph.context,
            outside=lambda token: hmac.compare_digest(token_digest(token), self.spec.gateway_token),
            called=self.outside.called,
        )
        doors = {GATEWAY_DOOR: gateway, **{name: host.asgi(name) for name in spec.http}}
        *listening, handover = self._sockets[1:]
        for (door, app), sock in zip(doors.items(), listening, strict=True):
            self._edges[door] = edge = Edge(app, self.ledger, door=door)
            edge.share(spec.routes.elsewhere.get(door))
            await edge.start(sock)
        self._handover = Handover(handover, self._take)

    def _take(self, door: str, connection: socket.socket, kept: bool) -> None:
        """Another replica accepted this connection for us, or has answered it before."""
        edge = self._edges.get(door)
        if edge is None:
            connection.close()
        else:
            edge.take(connection, kept=kept)

    def _authorize(self, token: str) -> bool:
        digest = token_digest(token)
        return any(hmac.compare_digest(digest, one) for one in (self.spec.gateway_token, *self._gateway_peers))

    def follow(self, routes: Routes) -> None:
        """Call, and be called, as these routes say from now on."""
        self.applied = routes.version
        self._gateway_peers = routes.gateway_peers
        self.ledger.follow(routes)
        if self._callees is not None:
            self._callees.follow(routes)
        if self._server is not None:
            self._server.access = routes.access
        for door, edge in self._edges.items():
            edge.share(routes.elsewhere.get(door))

    async def migrate(self) -> None:
        """Bring what the components keep up to date with their code, instead of serving. Raises FissileError."""
        await self._make().migrate(self.spec.migrate)

    def busy(self) -> int:
        """Calls and requests that are under way or wait, here and from here."""
        server, callees = self._server, self._callees
        count = self.ledger.in_flight()
        if server is not None:
            count += server.running + len(server.waiting)
        return count + (sum(callees.in_flight().values()) if callees is not None else 0)

    def heartbeat(self, lag_seconds: float) -> Heartbeat:
        """What this replica does just now."""
        server = self._server
        return Heartbeat(
            self.hello,
            lag_seconds,
            server.running if server is not None else 0,
            len(server.waiting) if server is not None else 0,
            self.ledger.in_flight(),
            self._callees.in_flight() if self._callees is not None else {},
            self.applied,
            self.ledger.traffic(),
            self._stuck(),
            self.differences.news(),
            {door: edge.kept() for door, edge in self._edges.items()},
            self.outside.news(),
            next(self._beats),
        )

    def _stuck(self) -> Stuck | None:
        server = self._server
        seconds = server.stuck_seconds(time.monotonic()) if server is not None else 0.0
        return Stuck(seconds, server.holders()) if server is not None and seconds else None

    def move(self, order: Move) -> None:
        """Hand kept connections over."""
        for door, edge in self._edges.items():
            edge.move(order.away.get(door, {}))

    def finish(self, order: Drain) -> None:
        """End: drain within the order's limit, then stop. Said again: with less time, or with heirs."""
        self.hello = msgspec.structs.replace(self.hello, draining=True)
        self.order = order
        self.ended.set()
        for door, edge in self._edges.items():
            edge.hurry(order.seconds_max, order.idle_seconds_max, order.heirs.get(door, ()))

    async def stop(self) -> None:
        """Drain all doors at once, then stop the components in order."""
        limit, idle, heirs = self.order.seconds_max, self.order.idle_seconds_max, self.order.heirs
        if self._handover is not None:
            self._handover.close()
        doors = [
            edge.drain(limit, idle_seconds_max=idle, heirs=heirs.get(door, ())) for door, edge in self._edges.items()
        ]
        if self._server is not None:
            doors.append(self._server.drain(limit))
        await asyncio.gather(*doors, return_exceptions=True)
        if self._server is not None:
            await self._server.close()
        if self._host is not None:
            for error in await self._host.stop():
                print(f"while stopping: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        if self._callees is not None:
            await self._callees.close()


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
            look_seconds=inf,
        )
        self._control: Any = remote(CONTROL_INTERFACE, self._channel, caller=CONTROL_CALLER)
        self.imported: tuple[str, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()
        self._stacks: Stacks | None = None
        self._woken: asyncio.Future[None] | None = None
        self._hurried = False

    def start(self) -> None:
        """Attach, and begin to report."""
        self._stacks = Stacks(self._replica.spec.stacks)
        self._tasks = [self._loop.create_task(self._follow()), self._loop.create_task(self._beat())]

    async def _follow(self) -> None:
        pause = REATTACH_SECONDS
        while True:
            try:
                await self._control.report(ReplicaReady(self._replica.hello, self.imported))
                self._replica.differences.again()
                self._replica.outside.again()
                async for command in self._control.attach(self._replica.hello):
                    pause = REATTACH_SECONDS
                    self._obey(command)
            except CallError:
                pass  # nobody supervises just now: serve on, and look again
            await asyncio.sleep(pause)
            pause = min(pause * 2, REATTACH_SECONDS_MAX)

    def _obey(self, command: Any) -> None:
        if isinstance(command, Routes):
            self._replica.follow(command)
            self._hurry()
        elif isinstance(command, Move):
            self._replica.move(command)
        else:
            self._replica.finish(command if isinstance(command, Drain) else Drain(0.0))

    async def _beat(self) -> None:
        """Report every second; earlier, when there is suddenly more to do, or somebody waits for the report."""
        replica = self._replica
        reported = -HEARTBEAT_SECONDS
        last = 0
        pinned: tuple[str, ...] = ()
        lag = 0.0
        while True:
            left = max(0.0, reported + HEARTBEAT_SECONDS - time.monotonic())
            resting = not replica.busy()  # now, for much may have begun while the last report was under way
            lag = max(lag, await self._pause(left if resting else min(left, SAMPLE_SECONDS), resting=resting))
            now = time.monotonic()
            busy = replica.busy()
            sudden = abs(busy - last) > max(1, last // 4)
            releases = replica.ledger.pinned()
            if now - reported < HEARTBEAT_SECONDS and not (sudden or self._hurried or releases != pinned):
                continue
            self._hurried = False
            reported, last, pinned = now, busy, releases
            beat, lag = replica.heartbeat(lag), 0.0
            with suppress(CallError):
                await self._control.report(beat)
                replica.differences.told(beat.differences)
                replica.outside.told(beat.outside)

    async def _pause(self, seconds: float, *, resting: bool) -> float:
        """Wait so long, or until somebody hurries; how late it was (seconds). resting: look soon at what begins."""
        if self._hurried:
            return 0.0
        pulse = self._replica.pulse
        self._woken = self._loop.create_future()
        self._ring_after(seconds)
        if resting:
            pulse.rest(self._begun)
        try:
            await self._woken
        finally:
            pulse.stir()
            self._timer.cancel()
        return max(0.0, time.monotonic() - self._due)

    def _ring_after(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds
        self._timer = self._loop.call_later(seconds, self._ring)

    def _begun(self) -> None:
        """The first call after a rest: look at what is under way as soon as while others are."""
        if self._due - time.monotonic() > SAMPLE_SECONDS:
            self._timer.cancel()
            self._ring_after(SAMPLE_SECONDS)

    def _hurry(self) -> None:
        self._hurried = True
        self._ring()

    def _ring(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def leaving(self) -> None:
        """Report that the replica drains: whoever did not order it learns it before the end, and has another start."""
        with suppress(CallError):
            await self._control.report(ReplicaReady(self._replica.hello, self.imported))

    async def failed(self, message: str, error: FissileError) -> None:
        """Report that the replica cannot start. message: the error's, for people."""
        failed = ReplicaFailed(self._replica.hello, message, isinstance(error, ConfigError), advises(error))
        with suppress(CallError):
            await self._control.report(failed)
        await self._channel.close()

    async def close(self) -> None:
        """Detach."""
        if self._stacks is not None:
            self._stacks.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._replica.outside.news():  # nobody could say it later
            with suppress(CallError):
                await self._control.report(self._replica.heartbeat(0.0))
        await self._channel.close()
