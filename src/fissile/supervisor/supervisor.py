"""Slots and their replicas: starts them, hears from them, replaces them, stops them in order.

A slot is a place for one replica of a service, with listening sockets that outlive it. A replica is
starting, then ready, then draining or gone; never back.
"""

import asyncio
import contextlib
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from fissile.component.graph import Graph
from fissile.component.interface import component, interface, method, read_interface
from fissile.component.topology import Topology
from fissile.errors import ConfigError, InvalidArgument
from fissile.orchestrator.restart import Restarts, after_exit
from fissile.rpc.access import Access, token_digest
from fissile.rpc.server import Export, Server
from fissile.runtime.control import (
    CONTROL_CALLER,
    OPERATOR,
    Command,
    Control,
    Drain,
    Observed,
    ReplicaFailed,
    ReplicaHello,
    ReplicaReady,
    ReplicaSpec,
)
from fissile.runtime.edge import KEEP_ALIVE_SECONDS
from fissile.runtime.replica import EXIT_CANNOT_START
from fissile.runtime.settings import Settings
from fissile.supervisor.forker import Forker, ZygoteGone
from fissile.supervisor.logs import Merger
from fissile.supervisor.sockets import Endpoints, ServiceEndpoints, StateFolder, listen_tcp, url
from fissile.supervisor.zygote import Fork

READY_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0
KILL_GRACE_SECONDS = 2.0
TOKEN_BYTES = 24


class ReplicaStatus(msgspec.Struct, frozen=True):
    """One replica as people see it."""

    pid: int
    state: str
    slot: int


class ServiceStatus(msgspec.Struct, frozen=True):
    """One service as people see it."""

    name: str
    components: tuple[str, ...]
    replicas: tuple[ReplicaStatus, ...]
    restarts: int


@interface
class Admin:
    """What the command line asks of a running supervisor."""

    @method(idempotent=True)
    async def status(self) -> tuple[ServiceStatus, ...]:
        """All services."""
        raise NotImplementedError

    @method(timeout=120.0)
    async def restart(self, service: str) -> int:
        """Replace all replicas of a service without losing a request; how many were replaced."""
        raise NotImplementedError


class Replica:
    """One process of a slot."""

    def __init__(self, slot: "Slot") -> None:
        self.slot = slot
        self.pid = 0
        self.state = "starting"
        self.ready_at = 0.0
        self.failure = ""
        self.expected_to_end = False
        self.commands: asyncio.Queue[Command] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self.output: asyncio.Task[None] | None = None


class Slot:
    """A place for one replica of a service."""

    def __init__(self, service: str, number: int, sock: socket.socket, address: str) -> None:
        self.service = service
        self.number = number
        self.sock = sock
        self.address = address
        self.replica: Replica | None = None
        self.retiring: list[Replica] = []
        self.record = Restarts()
        self.restarts = 0
        self.work: asyncio.Task[None] | None = None


class Service:
    """One service: its components, slots, and the sockets that its replicas share."""

    def __init__(self, name: str, components: tuple[str, ...], gateway: socket.socket) -> None:
        self.name = name
        self.components = components
        self.gateway = gateway
        self.public: dict[str, socket.socket] = {}
        self.slots: list[Slot] = []
        self.token = secrets.token_urlsafe(TOKEN_BYTES)


@component(name="Control", implements=Control)
class ControlService:
    """The control stream's end at the supervisor."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor

    async def attach(self, hello: ReplicaHello) -> AsyncIterator[Command]:
        """Yields a replica's commands as they are given."""
        replica = self._supervisor.replica_of(hello.pid)
        while replica is not None:
            yield await replica.commands.get()

    async def report(self, observation: Observed) -> None:
        """Takes in what a replica observed."""
        self._supervisor.observe(observation)


@component(name="Admin", implements=Admin)
class AdminService:
    """The command line's end at the supervisor."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor

    async def status(self) -> tuple[ServiceStatus, ...]:
        """All services."""
        return self._supervisor.status()

    async def restart(self, service: str) -> int:
        """Replaces all replicas of a service."""
        return await self._supervisor.restart(service)


class Supervisor:
    """Runs an application, split by a topology, on this machine in the foreground.

    port: for the public listener that starts last. say: told what people should know. state: where the
    state folder is made; the application's own folder if not given.
    """

    def __init__(
        self,
        settings: Settings,
        graph: Graph,
        topology: Topology,
        *,
        port: int = 0,
        say: Callable[[str], None] = print,
        state: Path | None = None,
    ) -> None:
        self._settings = settings
        self._graph = graph
        self._topology = topology
        self._port = port
        self._say = say
        self._folder = StateFolder(state or Path(settings.root))
        self._services: dict[str, Service] = {}
        self._replicas: dict[int, Replica] = {}
        self._forker: Forker | None = None
        self._server: Server | None = None
        self._merger = Merger(list(topology.services))
        self._control_address = ""
        self._gateway_token = secrets.token_urlsafe(TOKEN_BYTES)
        self.operator_token = secrets.token_urlsafe(TOKEN_BYTES)
        self._stopping = False
        self._early_exits: dict[int, int] = {}
        self.broken = asyncio.Event()
        self.ended: dict[str, int] = {}

    # -- starting ---------------------------------------------------------------------------------

    async def start(self) -> Endpoints:
        """Start everything and wait until all is ready. Raises ConfigError; then nothing is left running."""
        self._folder.open()
        try:
            self._make_sockets()
            await self._serve_control()
            await self._start_zygote()
            slots = [slot for service in self._services.values() for slot in service.slots]
            await asyncio.gather(*(self._fill(slot) for slot in slots))
            endpoints = self._endpoints()
            self._folder.publish(endpoints)
            return endpoints
        except BaseException:
            await self.stop()
            raise

    def _make_sockets(self) -> None:
        listeners = [name for name, part in self._graph.components.items() if part.http]
        for name, components in self._topology.services.items():
            told = self._settings.service(name)
            service = Service(name, components, listen_tcp(told.port, f"the HTTP/JSON API of {name!r}"))
            self._services[name] = service
            for part in components:
                if part in listeners:
                    port = self._port if part == listeners[-1] else 0
                    service.public[part] = listen_tcp(port, part)
            for number in range(told.replicas):
                sock, address = self._folder.listen_unix(f"{name}.{number}")
                service.slots.append(Slot(name, number, sock, address))

    async def _serve_control(self) -> None:
        members = dict.fromkeys(self._services, (CONTROL_CALLER,)) | {OPERATOR: (OPERATOR,)}
        references = {CONTROL_CALLER: frozenset({"Control"}), OPERATOR: frozenset({"Admin"})}
        exports = {
            "Control": Export(read_interface(Control)[0], ControlService(self)),
            "Admin": Export(read_interface(Admin)[0], AdminService(self)),
        }
        # Every replica holds one call open: its stream of commands.
        slots = sum(len(service.slots) for service in self._services.values())
        self._server = Server(
            "supervisor", exports, Access(self._peers(), members, references), concurrency=4 * slots + 64
        )
        sock, self._control_address = self._folder.listen_unix("supervisor")
        await self._server.start(sock)

    def _peers(self) -> dict[str, str]:
        tokens = {name: service.token for name, service in self._services.items()} | {OPERATOR: self.operator_token}
        return {token_digest(token): name for name, token in tokens.items()}

    async def _start_zygote(self) -> None:
        self._forker = Forker(self._settings.app, Path(self._settings.root), self._on_exit, self._on_zygote_gone)
        await self._forker.start()

    async def _fill(self, slot: Slot) -> Replica:
        """Fork a replica into a slot and wait until it is ready. Raises ConfigError where it cannot start."""
        replica = await self._fork(slot)
        slot.replica = replica
        await self._until_ready(replica)
        return replica

    async def _until_ready(self, replica: Replica) -> None:
        name = f"{replica.slot.service}.{replica.slot.number}"
        await asyncio.wait({replica.ready, replica.ended}, timeout=READY_SECONDS_MAX, return_when="FIRST_COMPLETED")
        if replica.ready.done():
            return
        if not replica.ended.done():
            replica.expected_to_end = True
            self._signal(replica, signal.SIGKILL)
            raise ConfigError(f"{name} was not ready within {READY_SECONDS_MAX:g} s", remedy="its log above says more")
        why = replica.failure or f"it {_ending(replica.ended.result())}"
        raise ConfigError(f"{name} cannot start: {why}")

    async def _fork(self, slot: Slot) -> Replica:
        assert self._forker is not None
        service = self._services[slot.service]
        replica = Replica(slot)
        output, replica.output = self._merger.pipe(slot.service)
        sockets = [slot.sock, service.gateway, *service.public.values()]
        try:
            request = Fork(self._spec(service, slot), self._control_address, service.token)
            replica.pid = await self._forker.fork(request, output, sockets)
        finally:
            os.close(output)
        self._replicas[replica.pid] = replica
        early = self._early_exits.pop(replica.pid, None)
        if early is not None:
            self._on_exit(replica.pid, early)
        return replica

    def _spec(self, service: Service, slot: Slot) -> ReplicaSpec:
        told = self._settings.service(service.name)
        referenced = {
            reference.target for name in service.components for reference in self._graph.components[name].references
        }
        return ReplicaSpec(
            application=self._settings.app,
            root=self._settings.root,
            service=service.name,
            slot=slot.number,
            build="",
            release="",
            components=service.components,
            topology=self._topology.services,
            routes={
                name: tuple(slot.address for slot in other.slots)
                for name, other in self._services.items()
                if referenced.intersection(other.components)
            },
            token=service.token,
            peers=self._peers(),
            config={name: self._settings.components.get(name, {}) for name in service.components},
            gateway_token=token_digest(self._gateway_token),
            calls_timeout_seconds=self._settings.calls.timeout_seconds,
            concurrency=told.concurrency,
            queue=told.queue,
            http=tuple(service.public),
        )

    def _endpoints(self) -> Endpoints:
        services = {
            name: ServiceEndpoints(
                gateway=url(service.gateway),
                public={part: url(sock) for part, sock in service.public.items()},
                components=service.components,
            )
            for name, service in self._services.items()
        }
        return Endpoints(
            os.getpid(),
            self._graph.name,
            self._topology.name,
            self._gateway_token,
            services,
            self._control_address,
            self.operator_token,
        )

    # -- what is seen -----------------------------------------------------------------------------

    def replica_of(self, pid: int) -> Replica | None:
        """The replica that is this process."""
        return self._replicas.get(pid)

    def observe(self, observation: Observed) -> None:
        """Take in what a replica reported."""
        replica = self._replicas.get(observation.hello.pid)
        if replica is None:
            return
        if isinstance(observation, ReplicaReady):
            if replica.state == "starting":
                replica.state = "ready"
                replica.ready_at = time.monotonic()
            if not replica.ready.done():
                replica.ready.set_result(None)
        elif isinstance(observation, ReplicaFailed):
            replica.failure = observation.message

    def _on_exit(self, pid: int, code: int) -> None:
        replica = self._replicas.pop(pid, None)
        if replica is None:
            self._early_exits[pid] = code
            return
        slot = replica.slot
        if not replica.ended.done():
            replica.ended.set_result(code)
        was_current = slot.replica is replica
        if was_current:
            slot.replica = None
        elif replica in slot.retiring:
            slot.retiring.remove(replica)
        if self._stopping or replica.expected_to_end or not was_current:
            return
        if replica.state == "starting" and slot.work is None:
            return  # the first start of all: who waits for it reports it
        lived = time.monotonic() - replica.ready_at if replica.ready_at else 0.0
        slot.record, decision = after_exit(slot.record, lived_seconds=lived, chance=random.random())
        slot.restarts += 1
        self._say(f"{slot.service}.{slot.number} (pid {pid}) {_ending(code)}; {decision.reason}")
        slot.work = asyncio.get_running_loop().create_task(self._replace(slot, decision.pause_seconds))

    async def _replace(self, slot: Slot, pause_seconds: float) -> None:
        await asyncio.sleep(pause_seconds)
        try:
            await self._fill(slot)
            self._say(f"{slot.service}.{slot.number} is back (pid {slot.replica.pid if slot.replica else '?'})")
        except (ConfigError, ZygoteGone) as error:
            self._say(str(error) or "the zygote ended")

    def _on_zygote_gone(self) -> None:
        if not self._stopping:
            self._say("the zygote ended: starting everything anew")
            asyncio.get_running_loop().create_task(self._restart_all())

    async def _restart_all(self) -> None:
        """The kernel ended the replicas with their zygote: a new zygote, and every slot filled."""
        lost = list(self._replicas.values())
        for replica in lost:
            replica.expected_to_end = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(replica.pid, signal.SIGKILL)
            self._on_exit(replica.pid, -signal.SIGKILL)
        try:
            await self._start_zygote()
        except ConfigError as error:
            self._say(str(error))
            self.broken.set()
            return
        for service in self._services.values():
            for slot in service.slots:
                slot.work = asyncio.get_running_loop().create_task(self._replace(slot, 0.0))

    # -- what people ask for ----------------------------------------------------------------------

    def status(self) -> tuple[ServiceStatus, ...]:
        """All services as people see them."""
        found: list[ServiceStatus] = []
        for service in self._services.values():
            replicas = [
                ReplicaStatus(replica.pid, replica.state, slot.number)
                for slot in service.slots
                for replica in ([slot.replica] if slot.replica else []) + slot.retiring
            ]
            restarts = sum(slot.restarts for slot in service.slots)
            found.append(ServiceStatus(service.name, service.components, tuple(replicas), restarts))
        return tuple(found)

    async def restart(self, name: str) -> int:
        """Replace a service's replicas, one slot after the other: start first, drain after."""
        service = self._services.get(name)
        if service is None:
            raise InvalidArgument(f"there is no service {name!r}", remedy=f"use one of {', '.join(self._services)}")
        for slot in service.slots:
            old = slot.replica
            new = await self._fork(slot)
            slot.replica = new
            if old is not None:
                slot.retiring.append(old)
            try:
                await self._until_ready(new)
            except ConfigError:
                # The old replica serves on, as if nothing had been asked.
                if old is not None and not old.ended.done():
                    slot.retiring.remove(old)
                    slot.replica = old
                raise
            if old is not None:
                await self._drain(old)
        return len(service.slots)

    def addresses(self, service: str) -> tuple[str, ...]:
        """Where the replicas of a service are called."""
        return tuple(slot.address for slot in self._services[service].slots)

    async def hold(self, name: str) -> None:
        """Kill a service's replicas and start no others until `release`."""
        service = self._services[name]
        for slot in service.slots:
            if slot.work is not None:
                slot.work.cancel()
                slot.work = None
            if slot.replica is not None:
                replica = slot.replica
                replica.expected_to_end = True
                self._signal(replica, signal.SIGKILL)
                await replica.ended

    async def release(self, name: str) -> None:
        """Start the replicas of a held service, and wait until they are ready."""
        await asyncio.gather(*(self._fill(slot) for slot in self._services[name].slots if slot.replica is None))

    async def _drain(self, replica: Replica) -> None:
        replica.state = "draining"
        replica.expected_to_end = True
        replica.commands.put_nowait(Drain(STOP_SECONDS_MAX + KEEP_ALIVE_SECONDS, KEEP_ALIVE_SECONDS))
        await self._until_ended(replica, STOP_SECONDS_MAX + KEEP_ALIVE_SECONDS + KILL_GRACE_SECONDS)

    # -- stopping ---------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Stop all in order, callers before callees, and leave nothing behind."""
        self._stopping = True
        for service in self._services.values():
            for slot in service.slots:
                if slot.work is not None:
                    slot.work.cancel()
        position = {name: index for index, name in enumerate(self._graph.components)}
        order = sorted(
            self._services.values(), key=lambda s: max(position[name] for name in s.components), reverse=True
        )
        for service in order:
            await self._stop_service(service)
        for replica in list(self._replicas.values()):
            self._signal(replica, signal.SIGKILL)
            await replica.ended
        if self._forker is not None:
            await self._forker.stop()
        if self._server is not None:
            await self._server.close()
        for service in self._services.values():
            for sock in (service.gateway, *service.public.values(), *(slot.sock for slot in service.slots)):
                sock.close()
        self._folder.close()

    async def _stop_service(self, service: Service) -> None:
        replicas = [replica for replica in self._replicas.values() if replica.slot.service == service.name]
        for replica in replicas:
            replica.state = "draining"
            self._signal(replica, signal.SIGTERM)
        await asyncio.gather(
            *(self._until_ended(replica, STOP_SECONDS_MAX + KILL_GRACE_SECONDS) for replica in replicas)
        )
        outputs = [replica.output for replica in replicas if replica.output is not None]
        if outputs:
            await asyncio.wait(outputs, timeout=1.0)

    async def _until_ended(self, replica: Replica, seconds_max: float) -> None:
        done, _ = await asyncio.wait({replica.ended}, timeout=seconds_max)
        if not done:
            self._say(f"{replica.slot.service}.{replica.slot.number} did not stop in {seconds_max:g} s: killed")
            self._signal(replica, signal.SIGKILL)
            await replica.ended

    def _signal(self, replica: Replica, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(replica.pid, number)


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return "could not start" if code == EXIT_CANNOT_START else f"ended with exit code {code}"
