"""An application's services on this machine, each replica in a process of its own.

`start` makes every socket first, so that services can call each other in any order, then all replicas
at once; `stop` ends them from the outside in and leaves no process and no socket. In between each
slot keeps itself running. The application's code is never imported here: the zygote does that.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from fissile.errors import FissileError, InvalidArgument
from fissile.orchestrator.order import stop_waves
from fissile.rpc.access import token_digest
from fissile.rpc.server import Server
from fissile.runtime.control import DRAIN_SECONDS_MAX, OPERATOR, ReplicaSpec
from fissile.runtime.settings import Settings
from fissile.supervisor.desk import Desk, ReplicaStatus, ServiceStatus, SupervisorStatus
from fissile.supervisor.logs import Logs
from fissile.supervisor.messages import Load, Loaded
from fissile.supervisor.nursery import Nursery
from fissile.supervisor.slot import STOP_SECONDS_MAX, Replica, Slot
from fissile.supervisor.sockets import listen_public, listen_tcp, listen_unix, url
from fissile.supervisor.state import Endpoints, ServiceEndpoints, StateFolder

CONTROL_SOCKET = "supervisor"
TOKEN_BYTES = 24
OURSELVES = "fissile"


class StartError(FissileError):
    """A service never came up, so nothing was left running."""


class Service:
    """What a service needs to be run: its sockets and tokens, kept for as long as the supervisor lives."""

    def __init__(self, name: str, components: tuple[str, ...], http: tuple[str, ...], gateway: socket.socket) -> None:
        self.name = name
        self.components = components
        self.http = http
        self.gateway = gateway
        self.public: dict[str, socket.socket] = {}
        self.slots: list[Slot] = []
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self.control_token = secrets.token_urlsafe(TOKEN_BYTES)

    def sockets(self) -> Iterator[socket.socket]:
        """All that listen for it."""
        yield from (slot.listener for slot in self.slots)
        yield self.gateway
        yield from self.public.values()


class Supervisor:
    """Runs one application, once.

    port: of the first public listener (None: the usual or any free one). state: the folder in which
    .fissile is made, if not the application's own. logs: where replicas' output goes.
    """

    def __init__(
        self,
        settings: Settings,
        topology: str,
        *,
        port: int | None = None,
        state: Path | None = None,
        logs: Logs | None = None,
    ) -> None:
        self.operator_token = secrets.token_urlsafe(TOKEN_BYTES)
        self._settings = settings
        self._topology = topology
        self._port = port
        self._state = StateFolder(state or Path(settings.root))
        self._logs = logs or Logs()
        self._services: dict[str, Service] = {}
        self._gateway_token = secrets.token_urlsafe(TOKEN_BYTES)
        self._nursery = Nursery(Load(settings, topology), self._logs.pipes)
        self._desk = Desk(self)
        self._server: Server | None = None
        self._control: socket.socket | None = None
        self._loaded: Loaded | None = None
        self._release = ""
        self._serving = False

    async def start(self) -> Endpoints:
        """Bring all up. Raises FissileError, and then nothing is left running."""
        self._state.open()
        try:
            loaded = self._loaded = await self._nursery.start()
            if loaded.warning:
                self._say(f"warning: {loaded.warning}")
            self._release = token_digest(" ".join(loaded.builds.values()))[:12]
            self._logs.width = max(len(name) for name in [*loaded.services, OURSELVES])
            self._open_sockets(loaded)
            await self._open_desk()
            await self._start_slots()
            self._serving = True
            self._publish()
            return self.endpoints()
        except BaseException:
            await self.stop(drain_seconds_max=0.0)
            raise

    def _open_sockets(self, loaded: Loaded) -> None:
        for name, components in loaded.services.items():
            settings = self._settings.service(name)
            gateway = listen_tcp(settings.port, f"the HTTP/JSON API of {name}", f"`port` under [services.{name}]")
            http = tuple(component for component in components if component in loaded.http)
            service = self._services[name] = Service(name, components, http, gateway)
            for number in range(settings.replicas):
                path = self._state.socket_path(f"{name}.{number}")
                slot = Slot(
                    name,
                    number,
                    listen_unix(path),
                    f"unix:{path}",
                    launch=self._launch,
                    say=lambda slot, text: self._say(f"{slot.service}.{slot.number}: {text}"),
                    changed=self._publish,
                )
                service.slots.append(slot)
        port = self._port
        # The page that people open is the last in start order: nobody else calls it.
        for component in reversed(loaded.http):
            service = next(s for s in self._services.values() if component in s.components)
            service.public[component] = listen_public(port, component)
            port = 0

    async def _open_desk(self) -> None:
        tokens = {service.name: service.control_token for service in self._services.values()}
        self._server = self._desk.server(tokens, self.operator_token)
        self._control = listen_unix(self._state.socket_path(CONTROL_SOCKET))
        await self._server.start(self._control)

    async def _start_slots(self) -> None:
        """All at once; the first that cannot be started ends it."""
        starts = {asyncio.create_task(slot.start()): slot for slot in self._slots()}
        try:
            for start in asyncio.as_completed(starts):
                await start
        except FissileError:
            failed = next(task for task in starts if task.done() and task.exception() is not None)
            raise StartError(f"{starts[failed].service} cannot be started: {failed.exception()}") from None
        finally:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)

    def _slots(self) -> Iterator[Slot]:
        for service in self._services.values():
            yield from service.slots

    async def _launch(self, slot: Slot) -> Replica:
        service = self._services[slot.service]
        spec = self._spec(service, slot)
        public = [service.public[name].fileno() for name in service.http]
        out, err = self._logs.pipes(slot.service if len(service.slots) == 1 else f"{slot.service}.{slot.number}")
        fds = [out, err, slot.listener.fileno(), service.gateway.fileno(), *public]
        address = f"unix:{self._state.socket_path(CONTROL_SOCKET)}"
        self._desk.expected += 1
        try:
            child = await self._nursery.fork(spec, address, service.control_token, fds)
            link = self._desk.link(child.pid)
        finally:
            self._desk.expected -= 1
            os.close(out)
            os.close(err)
        child.exited.add_done_callback(lambda _: self._desk.forget(child.pid))
        return Replica(child, link, spec.build)

    def _spec(self, service: Service, slot: Slot) -> ReplicaSpec:
        loaded = self._loaded
        assert loaded is not None
        settings = self._settings.service(service.name)
        called = {target for name in service.components for target in loaded.references[name]}
        callees = [s for s in self._services.values() if called.intersection(s.components)]
        tokens = {s.name: s.token for s in self._services.values()} | {OPERATOR: self.operator_token}
        return ReplicaSpec(
            application=self._settings.app,
            root=self._settings.root,
            service=service.name,
            slot=slot.number,
            build=loaded.builds[service.name],
            release=self._release,
            components=service.components,
            topology=loaded.services,
            routes={callee.name: tuple(slot.address for slot in callee.slots) for callee in callees},
            token=service.token,
            peers={token_digest(token): name for name, token in tokens.items()},
            config={name: loaded.config[name] for name in service.components if name in loaded.config},
            gateway_token=token_digest(self._gateway_token),
            calls_timeout_seconds=self._settings.calls.timeout_seconds,
            concurrency=settings.concurrency,
            queue=settings.queue,
            http=service.http,
        )

    def _say(self, text: str) -> None:
        self._logs.say(OURSELVES, text)

    def endpoints(self) -> Endpoints:
        """Where everything is reached now."""
        return Endpoints(
            pid=os.getpid(),
            application=self._loaded.name if self._loaded is not None else "",
            topology=self._topology,
            token=self._gateway_token,
            services={
                name: ServiceEndpoints(
                    gateway=url(service.gateway),
                    public={component: url(sock) for component, sock in service.public.items()},
                    components=service.components,
                    pids=tuple(slot.current.child.pid for slot in service.slots if slot.current is not None),
                )
                for name, service in self._services.items()
            },
            control=f"unix:{self._state.socket_path(CONTROL_SOCKET)}",
            control_token=self.operator_token,
        )

    def _publish(self) -> None:
        if not self._serving:
            return
        try:
            self._state.publish(self.endpoints())
        except OSError as error:  # a full disk must not take down what runs
            self._say(f"the endpoints cannot be written: {error}")

    def addresses(self, service: str) -> tuple[str, ...]:
        """Where the replicas of a service are called."""
        return tuple(slot.address for slot in self._services[service].slots)

    async def restart(self, service: str) -> int:
        """Replace a service's replicas one after the other; how many.

        Raises InvalidArgument, or StartFailed or ForkError when a new one does not come up: the old one
        serves on then.
        """
        found = self._services.get(service)
        if found is None:
            known = ", ".join(self._services)
            raise InvalidArgument(f"there is no service {service!r}", remedy=f"those there are: {known}")
        for slot in found.slots:
            await slot.restart()
        return len(found.slots)

    async def hold(self, service: str) -> None:
        """Kill a service's replicas and start no others until `release`."""
        await asyncio.gather(*(slot.kill() for slot in self._services[service].slots))

    async def release(self, service: str) -> None:
        """Start the replicas of a held service, and wait until they are ready."""
        await asyncio.gather(*(slot.start() for slot in self._services[service].slots))

    def status(self) -> SupervisorStatus:
        """What runs now."""
        return SupervisorStatus(
            pid=os.getpid(),
            zygote=self._nursery.pid,
            application=self._loaded.name if self._loaded is not None else "",
            topology=self._topology,
            services=tuple(
                ServiceStatus(
                    name=service.name,
                    components=service.components,
                    replicas=tuple(_status(slot, replica) for slot in service.slots for replica in slot.replicas()),
                    restarts=sum(slot.restarts for slot in service.slots),
                )
                for service in self._services.values()
            ),
        )

    async def stop(self, *, drain_seconds_max: float = DRAIN_SECONDS_MAX) -> None:
        """End all, callers first, in the limit altogether (seconds); then close and remove every socket.

        Given up half way (cancelled), it kills what is left. May be called again.
        """
        self._serving = False
        try:
            limit = time.monotonic() + drain_seconds_max
            for wave in self._waves():
                left = max(0.0, limit - time.monotonic())
                left += STOP_SECONDS_MAX if drain_seconds_max else 0.0
                await asyncio.gather(*(slot.stop(left) for name in wave for slot in self._services[name].slots))
        finally:
            await self._close()

    def _waves(self) -> list[tuple[str, ...]]:
        if self._loaded is None:
            return []
        members = {name: service.components for name, service in self._services.items()}
        return stop_waves(members, {name: set(to) for name, to in self._loaded.references.items()})

    async def _close(self) -> None:
        for slot in self._slots():
            await slot.kill()
        await self._nursery.close()
        if self._server is not None:
            await self._server.close()
        sockets = [sock for service in self._services.values() for sock in service.sockets()]
        for sock in [*sockets, *([self._control] if self._control is not None else [])]:
            sock.close()
        self._services.clear()
        self._state.close()
        await asyncio.to_thread(self._logs.close)


def _status(slot: Slot, replica: Replica) -> ReplicaStatus:
    beat = replica.link.heartbeat
    return ReplicaStatus(
        slot=slot.number,
        pid=replica.child.pid,
        state=replica.state,
        build=replica.build,
        lag_seconds=beat.lag_seconds if beat is not None else 0.0,
        in_flight=beat.in_flight if beat is not None else 0,
    )
