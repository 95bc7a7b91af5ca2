"""An application's services on this machine, each replica in a process of its own.

What is desired and what is observed meet in `plan`; this performs what it says, and tells it what came
of it. Sockets are made first, so that services can call each other in any order. The application's code
is never imported here: the zygote does that.

In the background (`keep`), a supervisor may die at any instant: replicas go on, the zygote keeps what
the next supervisor has to know, and the journal what was desired.
"""

import asyncio
import os
import random
import select
import shlex
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from fissile.errors import ConfigError, FissileError, InvalidArgument
from fissile.journal.journal import Entry, Journal, JournalError
from fissile.orchestrator import replica as known
from fissile.orchestrator.autoscale import Autoscaler, Decision, Demand, ScalingPolicy
from fissile.orchestrator.change import (
    Change,
    Desired,
    DesiredService,
    GiveUpRestart,
    RestartService,
    ScaleService,
    SetReplicas,
    apply,
)
from fissile.orchestrator.order import stop_waves
from fissile.orchestrator.plan import (
    AbandonRestart,
    Action,
    DrainReplica,
    KillReplica,
    StartReplica,
    StopReplica,
    plan,
)
from fissile.orchestrator.replica import DRAINING, READY, Replica, ReplicaEnded, ReplicaHeard, ReplicaState
from fissile.orchestrator.restart import described
from fissile.orchestrator.routes import routes
from fissile.rpc.access import token_digest
from fissile.rpc.server import Server
from fissile.runtime.control import (
    DRAIN_SECONDS_MAX,
    OPERATOR,
    Drain,
    Heartbeat,
    Observed,
    ReplicaReady,
    ReplicaSpec,
    Routes,
)
from fissile.runtime.settings import ScaleSettings, Settings
from fissile.supervisor.desk import Desk, Link
from fissile.supervisor.limits import Enforcement, Limits, detect, limits_of, over, resident_bytes, verdict
from fissile.supervisor.logfiles import LogFiles
from fissile.supervisor.logs import Logs
from fissile.supervisor.messages import Fork, Load, Loaded
from fissile.supervisor.nursery import Child, Found, Nursery
from fissile.supervisor.probe import until_it_serves
from fissile.supervisor.service import Secrets, Service
from fissile.supervisor.sockets import HOST, listen_public, listen_tcp, listen_unix, url
from fissile.supervisor.spawned import order_file
from fissile.supervisor.state import ZYGOTE_SOCKET, Endpoints, ServiceEndpoints, StateFolder, nothing_runs
from fissile.supervisor.status import ReplicaStatus, Scale, ServiceStatus, SupervisorProcess, SupervisorStatus

CONTROL_SOCKET = "supervisor"
JOURNAL = "journal.db"
OURSELVES = "fissile"
START_ATTEMPTS_MAX = 3
# Beyond the drain's own limit: time to stop the components after it.
STOP_SECONDS_MAX = 5.0
# How long idle keep-alive clients of the edge may stay to hear that their connection closes.
IDLE_SECONDS_MAX = 5.0
# After an adoption, routes stay as they are until all have reported, or for so long.
SETTLE_SECONDS_MAX = 3.0
SILENT_SECONDS_MAX = 10.0
# A stuck replica has written where it stands by then.
STUCK_SECONDS = 3.0
WATCH_SECONDS = 0.5
SCALE_SECONDS = 0.1
NO_LIMITS = Limits()
STACKS_CHARACTERS_MAX = 20_000


class StartError(FissileError):
    """A service never came up, so nothing was left running."""


class StartFailed(FissileError):
    """A replica did not become ready: most often its application's fault; the message has its own words."""


class Process(msgspec.Struct, frozen=True, eq=False):
    """What stands behind a replica: its process, and its reports."""

    child: Child
    link: Link


class Supervisor:
    """Runs one application, once.

    port: of the first public listener (None: the usual or any free one). state: the folder in which
    .fissile is made, if not the application's own. logs: where replicas' output goes. keep: whether
    replicas outlive a supervisor that dies.
    """

    def __init__(
        self,
        settings: Settings,
        topology: str,
        *,
        port: int | None = None,
        state: Path | None = None,
        logs: Logs | LogFiles | None = None,
        keep: bool = False,
    ) -> None:
        self.desired = Desired()
        self.observed = known.Observed()
        self._settings = settings
        self._topology = topology
        self._port = port
        self._keep = keep
        self._state = StateFolder(state or Path(settings.root))
        self._logs = logs or Logs()
        self._secrets = Secrets.new()
        self._services: dict[str, Service] = {}
        self._processes: dict[int, Process] = {}
        self._journal: Journal | None = None
        self._nursery = Nursery(Load(settings, topology, keep), self._logs.pipes)
        self._desk = Desk(self._heard)
        self._server: Server | None = None
        self._control: socket.socket | None = None
        self._loaded: Loaded | None = None
        self._release = ""
        self._serving = False
        self._published: Endpoints | None = None
        self._told_routes: dict[str, tuple[str, ...]] = {}
        self._routes_wait_until = -inf
        self._woken = asyncio.Event()
        self._stepped: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._held: dict[str, DesiredService] = {}
        self._autoscaler = Autoscaler()
        self._limits: dict[str, Limits] = {}
        self._enforcement = Enforcement()
        self._api = self._api_socket = ""

    @property
    def operator_token(self) -> str:
        """By which people's tools call components."""
        return self._secrets.operator

    @property
    def api_token(self) -> str:
        """For the supervisor's own API."""
        return self._secrets.api

    def socket_path(self, name: str) -> str:
        """Where a Unix socket of this application is."""
        return self._state.socket_path(name)

    def announce(self, api: str, api_socket: str) -> None:
        """Publish where the supervisor's own API is."""
        self._api, self._api_socket = api, api_socket
        self._publish()

    @property
    def journal(self) -> Journal:
        """Of this application. Raises ConfigError when the supervisor does not run."""
        if self._journal is None:
            raise JournalError("the journal is closed")
        return self._journal

    async def start(self, *, adopt_only: bool = False) -> Endpoints:
        """Bring all up, or take over what a dead supervisor left. Raises FissileError.

        What was started is ended then; what ran before is left alone. adopt_only: start nothing.
        """
        self._state.open()
        adopted = False
        try:
            if self._keep:
                self._nursery = Nursery(
                    Load(self._settings, self._topology, True), self._logs.pipes, self._state.socket_path(ZYGOTE_SOCKET)
                )
            found = await self._nursery.adopt()
            adopted = found is not None
            journal = Journal(self._state.path / JOURNAL)
            await asyncio.to_thread(journal.open)
            self._journal = journal
            if found is None and adopt_only:
                raise nothing_runs(self._state.path.parent)
            if found is None:
                await self._begin()
            else:
                await self._take_over(found)
            self._serving = True
            self._loop = self._spawn(self._run())
            self._spawn(self._watch())
            self._spawn(self._scale())
            if not adopted:
                await self._all_ready(list(self._services))
            self._publish()
            return self.endpoints()
        except BaseException:
            if adopted:
                await self._let_go()
            else:
                await self.stop(drain_seconds_max=0.0)
            raise

    async def _begin(self) -> None:
        """Nothing runs yet."""
        self._state.clean()
        self._set_limits()
        loaded = self._loaded = await self._nursery.start()
        if loaded.warning:
            self._say(f"warning: {loaded.warning}")
        self._name_release(loaded)
        self.desired = Desired({name: self._wish(name) for name in loaded.services})
        for name in loaded.services:
            self._secrets.add(name)
        await self._open_sockets(loaded)
        self._hold_back(loaded)
        await self._open_desk()
        await self._record("ApplicationUp", f"{loaded.name} as {self._topology}")

    def _wish(self, name: str) -> DesiredService:
        settings = self._settings.service(name)
        scale = settings.scale
        low, high = (scale.min, scale.max) if scale is not None else (settings.replicas, settings.replicas)
        return DesiredService(
            replicas=min(max(settings.replicas, low, 1), high),
            replicas_min=low,
            replicas_max=high,
            start_seconds_max=settings.start_seconds,
            # A program that knows nothing of us gives no sign of life but that it is there.
            silent_seconds_max=inf if settings.command else SILENT_SECONDS_MAX,
            drain_seconds_max=settings.drain_seconds,
            overlap=Service(name, (), (), settings).overlap,
        )

    def _hold_back(self, loaded: Loaded) -> None:
        """Those that need others start after them: every service after the programs that stand alone."""
        alone = [name for name, components in loaded.services.items() if not components and self._command(name)]
        for name in loaded.services:
            after = [*self._settings.service(name).after, *(alone if name not in alone else ())]
            waits = [other for other in dict.fromkeys(after) if other in loaded.services and other != name]
            if waits:
                self._held[name] = self.desired.services[name]
                self._wish_for(name, msgspec.structs.replace(self.desired.services[name], replicas=0))
                self._spawn(self._start_after(name, waits))

    async def _start_after(self, name: str, others: list[str]) -> None:
        while any(other in self._held or not self.observed.service(other).ready() for other in others):
            await self._next_step()
        self._wish_for(name, self._held.pop(name))

    def _command(self, name: str) -> bool:
        return bool(self._settings.service(name).command)

    def _name_release(self, loaded: Loaded) -> None:
        self._release = token_digest(" ".join(loaded.builds.values()))[:12]
        self._logs.width = max(len(name) for name in [*loaded.services, OURSELVES])

    def _set_limits(self) -> None:
        """Raises ConfigError where they do not fit this machine."""
        settings = self._settings.services
        self._limits = {name: limits_of(name, one.limits) for name, one in settings.items()}
        if any(limits.grouped for limits in self._limits.values()):
            self._enforcement = detect(token_digest(str(self._state.path.resolve()))[:12])

    async def _take_over(self, found: Found) -> None:
        """Another supervisor died: be its successor."""
        self._topology = self._topology or found.load.topology
        if found.load.topology != self._topology:
            raise StartError(
                f"{found.loaded.name} runs as {found.load.topology} already, and not as {self._topology}",
                remedy="say that topology, or stop it first with `fissile down`",
            )
        journal = self.journal
        desired, kept = journal.kept("desired"), journal.kept("secrets")
        if desired is None or kept is None:
            raise StartError(
                f"{journal.file} does not know what runs here: it was replaced meanwhile",
                remedy=f"put the old file back, or end the zygote (pid {found.zygote}) and its replicas by hand",
            )
        loaded = self._loaded = found.loaded
        self._settings = found.load.settings
        self._set_limits()
        self.desired = msgspec.msgpack.decode(desired, type=Desired)
        self._secrets = msgspec.msgpack.decode(kept, type=Secrets)
        self._name_release(loaded)
        await self._open_sockets(loaded, found.sockets)
        now = time.monotonic()
        for child, spec in found.children:
            replica = Replica(spec.serial, spec.service, spec.slot, spec.revision, spec.build, now, pid=child.pid)
            if spec.port:
                self._services[spec.service].ports[spec.serial] = spec.port
            replica.heard_at = now
            self.observed.adopt(replica)
            self._settle_in(replica, child)
        for spec, status in found.buried:
            self._note("ReplicaExited", spec.service, f"pid of slot {spec.slot} {described(status)}, nobody supervised")
        self._enforcement.sweep({f"{spec.service}.{spec.slot}.{spec.serial}" for _, spec in found.children})
        self._routes_wait_until = now + SETTLE_SECONDS_MAX
        self._told_routes = {name: self._routes(name) for name in self._services}
        await self._open_desk()
        await self._record("SupervisorReturned", f"{len(found.children)} replicas adopted")

    async def _open_sockets(self, loaded: Loaded, kept: dict[str, socket.socket] | None = None) -> None:
        """Make all sockets, or take those that were kept."""
        kept = kept or {}
        for name, components in loaded.services.items():
            settings = self._settings.service(name)
            http = tuple(component for component in components if component in loaded.http)
            service = self._services[name] = Service(name, components, http, settings)
            if settings.guest or (settings.command and settings.ports == "inherited"):
                setting = f"`port` under [services.{name}]"
                sock = kept.get(f"public {name}") or listen_tcp(settings.port, name, setting)
                await self._public_socket(service, name, sock)
            if settings.foreign:
                continue
            service.gateway = kept.get(f"gateway {name}") or listen_tcp(
                settings.port, f"the HTTP/JSON API of {name}", f"`port` under [services.{name}]"
            )
            await self._nursery.keep(f"gateway {name}", service.gateway)
            for label, sock in kept.items():
                kind, _, rest = label.partition(" ")
                if kind == "slot" and rest.rpartition(".")[0] == name:
                    service.slots[int(rest.rpartition(".")[2])] = sock
            for number in range(max(1, self.desired.services[name].replicas)):
                await self._slot_socket(service, number)
        port = self._port
        # The page that people open is the last in start order: nobody else calls it.
        for component in reversed(loaded.http):
            service = next(s for s in self._services.values() if component in s.components)
            await self._public_socket(
                service, component, kept.get(f"public {component}") or listen_public(port, component)
            )
            port = 0

    async def _public_socket(self, service: Service, name: str, sock: socket.socket) -> None:
        service.public[name] = sock
        await self._nursery.keep(f"public {name}", sock)

    async def _slot_socket(self, service: Service, number: int) -> socket.socket:
        """The socket of a slot; it stays while the slot's replicas come and go."""
        found = service.slots.get(number)
        if found is None:
            found = service.slots[number] = listen_unix(self._state.socket_path(f"{service.name}.{number}"))
            await self._nursery.keep(f"slot {service.name}.{number}", found)
        return found

    def _address(self, service: str, slot: int) -> str:
        if self._command(service):
            return f"http://{HOST}:{self._port_of(service, slot)}"
        return f"unix:{self._state.socket_path(f'{service}.{slot}')}"

    def _port_of(self, service: str, slot: int = 0) -> int:
        """Where the program in a slot is called: the newest that is ready, or else the newest."""
        here = [r for r in self.observed.service(service).replicas.values() if r.slot == slot]
        newest = max(here, key=lambda r: (r.state is READY, r.serial), default=None)
        return self._services[service].port(slot, newest.serial if newest is not None else 0)

    async def _open_desk(self) -> None:
        self._server = self._desk.server(self._secrets.control)
        self._control = listen_unix(self._state.socket_path(CONTROL_SOCKET))
        await self._server.start(self._control)

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._say(f"a mistake of Fissile's own: {task.exception()!r}")

    # -- the loop ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Compare and act, whenever something was observed or is due."""
        while True:
            self._woken.clear()
            now = time.monotonic()
            step = plan(self.desired, self.observed, now)
            for action in step.actions:
                self._perform(action, now)
            if not step.actions:
                await self._tidy()
            self._tell_routes(now)
            self._publish()
            if self._stepped is not None:
                self._stepped.set_result(None)
                self._stepped = None
            if step.actions:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(None if step.due == inf else max(0.0, step.due - time.monotonic())):
                    await self._woken.wait()

    async def _next_step(self) -> None:
        """Wait until the loop has gone round once more."""
        if self._stepped is None:
            self._stepped = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._stepped)

    def _perform(self, action: Action, now: float) -> None:
        if isinstance(action, StartReplica):
            assert self._loaded is not None
            build = self._loaded.builds[action.service]
            replica = self.observed.begin(action.service, action.slot, action.revision, build, now)
            self._spawn(self._start(replica, action.reason))
        elif isinstance(action, DrainReplica):
            self._drain(action, now)
        elif isinstance(action, AbandonRestart):
            self._abandon(action)
        elif isinstance(action, StopReplica):
            action.replica.told_to_stop = True
            self._signal(action.replica, signal.SIGTERM)
        else:
            self._kill(action)

    async def _start(self, replica: Replica, reason: str) -> None:
        service = self._services[replica.service]
        name = replica.service if self.desired.services[replica.service].replicas_max == 1 else replica.key
        name = name.rpartition(".")[0] if name == replica.key else name
        self._desk.link(replica.serial)
        out, err = self._logs.pipes(name)
        try:
            if service.settings.command:
                child = await self._execute(service, replica, [out, err])
            else:
                child = await self._fork(service, replica, [out, err])
        except (FissileError, OSError) as error:
            self._desk.forget(replica.serial)
            self._see(replica, ReplicaEnded(f"cannot start: {error}", random.random()))
            return
        finally:
            os.close(out)
            os.close(err)
        replica.pid = child.pid
        self._note("ReplicaStarted", replica.service, reason, slot=replica.slot, pid=child.pid, build=replica.build)
        self._settle_in(replica, child)
        if replica.ending:
            child.signal(signal.SIGKILL)

    async def _fork(self, service: Service, replica: Replica, fds: list[int]) -> Child:
        """A replica that speaks with us."""
        if service.settings.guest:
            fds = [*fds, service.public[service.name].fileno()]
        else:
            slot = await self._slot_socket(service, replica.slot)
            assert service.gateway is not None
            public = [service.public[component].fileno() for component in service.http]
            fds = [*fds, slot.fileno(), service.gateway.fileno(), *public]
        spec = self._spec(service, replica)
        address = f"unix:{self._state.socket_path(CONTROL_SOCKET)}"
        token = self._secrets.control[service.name]
        if not service.settings.spawn:
            return await self._nursery.fork(
                spec,
                address,
                token,
                fds,
                environment=service.settings.environment,
                groups=self._groups(replica),
                files_max=self._limits_of(replica).files,
            )
        order = order_file(Fork(0, spec, address, token))
        try:
            program = (sys.executable, "-m", "fissile.supervisor.spawned")
            fds.insert(2, order)
            environment = self._environment(service, 0)
            return await self._run_program(replica, spec, program, environment, self._settings.root, fds)
        finally:
            os.close(order)

    async def _execute(self, service: Service, replica: Replica, fds: list[int]) -> Child:
        """A program that knows nothing of us."""
        settings = service.settings
        arguments = tuple(shlex.split(settings.command))
        folder = Path(self._settings.root) / settings.folder
        _check_program(service.name, arguments, folder)
        port = service.port(replica.slot, replica.serial)
        if settings.ports == "inherited":
            fds = [*fds, service.public[service.name].fileno()]
        spec = msgspec.structs.replace(self._spec(service, replica), port=port)
        return await self._run_program(replica, spec, arguments, self._environment(service, port), str(folder), fds)

    async def _run_program(
        self,
        replica: Replica,
        spec: ReplicaSpec,
        arguments: tuple[str, ...],
        environment: dict[str, str],
        folder: str,
        fds: list[int],
    ) -> Child:
        groups, files_max = self._groups(replica), self._limits_of(replica).files
        return await self._nursery.execute(
            spec, arguments, environment, folder, fds, groups=groups, files_max=files_max
        )

    def _limits_of(self, replica: Replica) -> Limits:
        return self._limits.get(replica.service, NO_LIMITS)

    def _groups(self, replica: Replica) -> tuple[str, ...]:
        limits = self._limits_of(replica)
        return self._enforcement.prepare(replica.key, limits) if limits.grouped else ()

    def _environment(self, service: Service, port: int) -> dict[str, str]:
        """What a program is told: its port, its token, where its peers are; and nobody else's secrets."""
        own = f"FISSILE_{service.name}_".upper().replace("-", "_")
        found = {k: v for k, v in os.environ.items() if not k.startswith("FISSILE_") or k.startswith(own)}
        found |= {"PORT": str(port), "HOST": HOST, "FISSILE_TOKEN": self._secrets.services[service.name]}
        for other in self._services.values():
            if other is service:
                continue
            if other.gateway is not None and set(self._calls(service)).intersection(other.components):
                found[f"FISSILE_PEER_{other.name}".upper().replace("-", "_")] = url(other.gateway)
            elif other.settings.command and not other.components:
                found[f"FISSILE_PEER_{other.name}".upper().replace("-", "_")] = f"{HOST}:{self._port_of(other.name)}"
        return found | service.settings.environment

    def _calls(self, service: Service) -> list[str]:
        """The components that a service may call."""
        assert self._loaded is not None
        called = [target for name in service.components for target in self._loaded.references[name]]
        return [*called, *service.settings.calls]

    async def _probe(self, replica: Replica, service: Service) -> None:
        await until_it_serves(HOST, service.port(replica.slot, replica.serial), service.ready())
        self._see(replica, known.ReplicaReady())

    def _settle_in(self, replica: Replica, child: Child) -> None:
        """From now on its end is noticed."""
        process = self._processes[replica.serial] = Process(child, self._desk.link(replica.serial))
        service = self._services[replica.service]
        probe = self._spawn(self._probe(replica, service)) if service.settings.command else None

        def exited(status: "asyncio.Future[int | None]") -> None:
            if probe is not None:
                probe.cancel()
            self._exited(replica, process, status.result())

        child.exited.add_done_callback(exited)

    def _exited(self, replica: Replica, process: Process, status: int | None) -> None:
        self._desk.forget(replica.serial)
        self._processes.pop(replica.serial, None)
        self._services[replica.service].ports.pop(replica.serial, None)
        if process.link.trouble:
            how = f"cannot start: {process.link.trouble}"
        elif replica.ready_at is None:
            how = f"it {described(status)} before it was ready"
        else:
            how = f"pid {replica.pid} {described(status)}"
        limits = self._limits_of(replica)
        if limits.grouped:
            memory = verdict(self._enforcement.usage(replica.key, replica.pid), limits)
            how = f"pid {replica.pid} {memory}" if memory else how
            self._spawn(asyncio.to_thread(self._enforcement.remove, replica.key))
        with suppress(OSError):
            self._stacks(replica).unlink(missing_ok=True)
        self._see(replica, ReplicaEnded(how, random.random()))

    def _see(self, replica: Replica, observation: known.Observation) -> None:
        """Something was observed: remember, record, and think again."""
        before = replica.state
        text = self.observed.observe(replica, observation, time.monotonic())
        if text and self._serving:
            self._say(f"{replica.service}.{replica.slot}: {text}")
        if replica.state is not before:
            what = {READY: "ReplicaReady", ReplicaState.STOPPED: "ReplicaStopped", ReplicaState.FAILED: "ReplicaExited"}
            self._note(what[replica.state], replica.service, text, slot=replica.slot, pid=replica.pid)
            self._woken.set()
        elif not isinstance(observation, ReplicaHeard):
            self._woken.set()

    def _heard(self, link: Link, report: Observed) -> None:
        process = self._processes.get(link.serial)
        replica = self._replica(link.serial)
        if replica is None:
            return
        if isinstance(report, ReplicaReady):
            if report.hello.draining and replica.state is not DRAINING and process is not None:
                if replica.state is not READY:
                    self._see(replica, known.ReplicaReady())
                replica.become(DRAINING, time.monotonic())
                self._woken.set()
            else:
                link.commands.put_nowait(self._routes_for(replica.service))
                self._see(replica, known.ReplicaReady())
                if report.imported and not self._services[replica.service].settings.spawn:
                    self._spawn(self._nursery.prepare(report.imported))
        elif isinstance(report, Heartbeat):
            self._see(replica, ReplicaHeard(float(report.in_flight + report.queued + report.requests)))

    def _replica(self, serial: int) -> Replica | None:
        for service in self.observed.services.values():
            if serial in service.replicas:
                return service.replicas[serial]
        return None

    def _signal(self, replica: Replica, number: signal.Signals) -> None:
        process = self._processes.get(replica.serial)
        if process is not None:
            process.child.signal(number)

    def _drain(self, action: DrainReplica, now: float) -> None:
        replica = action.replica
        replica.become(DRAINING, now)
        self._note("ReplicaDraining", replica.service, action.reason, slot=replica.slot, pid=replica.pid)
        process = self._processes.get(replica.serial)
        if process is not None:
            others = action.replaced or self.observed.service(replica.service).ready() > 0
            want = self.desired.services.get(replica.service, DesiredService())
            order = Drain(want.drain_seconds_max, idle_seconds_max=IDLE_SECONDS_MAX if others else 0.0)
            process.link.commands.put_nowait(order)
            if self._command(replica.service):
                process.child.signal(self._stop_signal(replica.service))

    def _stop_signal(self, service: str) -> signal.Signals:
        return signal.Signals[f"SIG{self._settings.service(service).stop_signal}"]

    def _kill(self, action: KillReplica) -> None:
        replica = action.replica
        self.observed.end(replica, action.reason, fault=action.fault)
        what = "ReplicaHung" if action.fault and replica.state is READY else "ReplicaKilled"
        stacks = self._read_stacks(replica) if action.fault else ""
        self._note(what, replica.service, action.reason, slot=replica.slot, pid=replica.pid, stacks=stacks)
        self._say(f"{replica.service}.{replica.slot}: killed: {action.reason}")
        self._signal(replica, signal.SIGKILL)

    def _abandon(self, action: AbandonRestart) -> None:
        """The restart is taken back: the replicas that are there are as good as any."""
        service = self.observed.service(action.service)
        oldest = min((r.revision for r in service.replicas.values() if r.lives()), default=1)
        change = Change(OURSELVES, GiveUpRestart(action.service, oldest), action.reason)
        self.desired = apply(self.desired, change)
        self._note("RestartFailed", action.service, action.reason)
        with suppress(JournalError):
            self.journal.keep("desired", msgspec.msgpack.encode(self.desired))

    async def _tidy(self) -> None:
        """Close the sockets of slots that nobody needs any more. Slot 0 stays: a call there wakes the service."""
        for name, service in self._services.items():
            if len(service.slots) <= 1:
                continue
            found = self.observed.service(name)
            used = {r.slot for r in found.replicas.values()} | set(routes(self.desired.services[name], found)) | {0}
            for slot in [slot for slot in service.slots if slot not in used]:
                del service.slots[slot]
                found.slots.pop(slot, None)
                await self._nursery.drop(f"slot {name}.{slot}")
                with suppress(OSError):
                    os.unlink(self._state.socket_path(f"{name}.{slot}"))

    async def _watch(self) -> None:
        """Look for replicas whose own watchdog says that they are stuck."""
        due = time.monotonic()
        while True:
            due += WATCH_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if isinstance(self._logs, LogFiles):
                self._logs.mark()
            now = time.monotonic()
            late, due = now - due, now
            for service in list(self.observed.services.values()):
                for replica in list(service.replicas.values()):
                    # Our own lateness is not theirs.
                    replica.heard_at += min(late, now - replica.heard_at)
                    silent = now - replica.heard_at
                    quiet = replica.state is READY and not replica.stuck and silent > STUCK_SECONDS
                    if quiet and self._read_stacks(replica):
                        self._see(replica, known.ReplicaHung(f"its event loop has been stuck for {silent:.1f} s"))
                    limits = self._limits_of(replica)
                    if limits.memory_bytes is not None and replica.pid and not replica.ending:
                        why = over(self._enforcement.usage(replica.key, replica.pid), limits)
                        if why:
                            self._kill(KillReplica(replica, why, fault=True))

    async def _scale(self) -> None:
        """Ask the autoscaler, again and again."""
        while True:
            await asyncio.sleep(SCALE_SECONDS)
            policies = {name: self._policy(name) for name, want in self.desired.services.items() if want.automatic}
            if not policies:
                continue
            decisions = self._autoscaler.decide(
                {name: policy for name, policy in policies.items() if name not in self._held},
                {name: self.desired.services[name].replicas for name in policies},
                {name: self._demand(name) for name in policies},
                cores=self._settings.machine.cores or os.cpu_count() or 1,
                now=time.monotonic(),
            )
            for decision in decisions:
                await self._rescale(decision)

    async def _rescale(self, decision: Decision) -> None:
        if decision.replicas == decision.previous:
            self._note("ScalingHeld", decision.service, decision.reason)
            return
        change = Change("autoscaler", SetReplicas(decision.service, decision.replicas), decision.reason)
        try:
            await self.change(change)
        except JournalError as error:
            # What nobody could account for later is not done; the load itself is answered by what runs.
            self._say(f"{decision.service}: not scaled: {error}")

    def _policy(self, service: str) -> ScalingPolicy:
        want, scale = self.desired.services[service], self._settings.service(service).scale or ScaleSettings()
        return ScalingPolicy(want.replicas_min, want.replicas_max, scale.target, scale.weight, scale.idle_seconds)

    def _demand(self, name: str) -> Demand:
        """What its callers, its public doors and its replicas say of a service."""
        called = running = requests = 0
        waiting: dict[str, float] = {}
        for process in self._processes.values():
            beat = process.link.heartbeat
            if beat is None:
                continue
            called += beat.calls.get(name, 0)
            if beat.hello.service == name:
                running += beat.in_flight + beat.queued
                requests += beat.requests
                for callee, count in beat.calls.items():
                    waiting[callee] = waiting.get(callee, 0.0) + count
        asleep = self.desired.services[name].replicas == 0
        return Demand(
            # Tools call too, and report nothing: what runs is the least that there is.
            in_flight=float(max(called, running) + requests),
            ready=self.observed.service(name).ready(),
            waiting=waiting,
            wake=asleep and _knocked(self._services[name]),
        )

    def _stacks(self, replica: Replica) -> Path:
        return self._state.path / f"{replica.key}.stacks"

    def _read_stacks(self, replica: Replica) -> str:
        try:
            return self._stacks(replica).read_text(errors="replace")[-STACKS_CHARACTERS_MAX:]
        except OSError:
            return ""

    # -- routes -----------------------------------------------------------------------------------

    def _routes(self, service: str) -> tuple[str, ...]:
        slots = routes(self.desired.services[service], self.observed.service(service))
        return tuple(self._address(service, slot) for slot in slots)

    def _callees(self, service: Service) -> list[str]:
        called = set(self._calls(service))
        return [s.name for s in self._services.values() if s is not service and called.intersection(s.components)]

    def _routes_for(self, service: str) -> Routes:
        callees = self._callees(self._services[service])
        return Routes({callee: self._told_routes.get(callee) or self._routes(callee) for callee in callees})

    def _tell_routes(self, now: float) -> None:
        if now < self._routes_wait_until:
            found = [r for service in self.observed.services.values() for r in service.replicas.values()]
            if any(replica.state is ReplicaState.STARTING for replica in found):
                return
        current = {name: self._routes(name) for name in self._services}
        changed = {name for name, addresses in current.items() if self._told_routes.get(name) != addresses}
        if not changed:
            return
        self._told_routes = current
        for service in self._services.values():
            if changed.intersection(self._callees(service)):
                order = self._routes_for(service.name)
                for replica in self.observed.service(service.name).replicas.values():
                    process = self._processes.get(replica.serial)
                    if process is not None and replica.state is not ReplicaState.STARTING:
                        process.link.commands.put_nowait(order)

    def _spec(self, service: Service, replica: Replica) -> ReplicaSpec:
        loaded = self._loaded
        assert loaded is not None
        settings = self._settings.service(service.name)
        tokens = {**self._secrets.services, OPERATOR: self._secrets.operator}
        guest = service.settings.guest
        return ReplicaSpec(
            application=getattr(service.settings, guest) if guest else self._settings.app,
            root=str(Path(self._settings.root) / service.settings.folder),
            service=service.name,
            slot=replica.slot,
            build=replica.build,
            release=self._release,
            components=service.components,
            topology=loaded.services,
            routes=self._routes_for(service.name).routes,
            token=self._secrets.services[service.name],
            peers={token_digest(token): name for name, token in tokens.items()},
            config={name: loaded.config[name] for name in service.components if name in loaded.config},
            gateway_token=token_digest(self._secrets.gateway),
            calls_timeout_seconds=self._settings.calls.timeout_seconds,
            concurrency=settings.concurrency,
            queue=settings.queue,
            http=service.http,
            serial=replica.serial,
            revision=replica.revision,
            stacks=str(self._stacks(replica)),
            foreign={name: self._secrets.services[name] for name in self._callees(service) if self._command(name)},
            gateway_peers=tuple(
                token_digest(self._secrets.services[other.name])
                for other in self._services.values()
                if other.settings.command and set(self._calls(other)).intersection(service.components)
            ),
            guest=guest,
            drain_seconds_max=service.settings.drain_seconds,
        )

    # -- what people ask for ----------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self._logs.say(OURSELVES, text)

    def _note(self, what: str, service: str, reason: str, **data: Any) -> None:
        """Record an observation."""
        if self._journal is not None:
            self._journal.observe(Entry("observation", OURSELVES, what, service, reason, data))

    async def _record(self, what: str, reason: str) -> None:
        """Record a change of the whole application, with all that a successor needs."""
        kept = {
            "desired": msgspec.msgpack.encode(self.desired),
            "secrets": msgspec.msgpack.encode(self._secrets),
        }
        entry = Entry("change", OURSELVES, what, "", reason, {"pid": os.getpid()})
        await asyncio.to_thread(self.journal.change, entry, kept)

    async def change(self, change: Change) -> None:
        """Alter what is desired: recorded first, then acted on.

        Raises ChangeRefused or JournalError, and then nothing was altered.
        """
        desired = apply(self.desired, change)
        act = change.what
        data = {key: value for key, value in msgspec.to_builtins(act).items() if key not in ("type", "service")}
        entry = Entry("change", change.who, type(act).__name__, act.service, change.why, data)
        await asyncio.to_thread(self.journal.change, entry, {"desired": msgspec.msgpack.encode(desired)})
        # Another change may have been made while this one was written.
        self.desired = apply(self.desired, change)
        self._woken.set()

    def addresses(self, service: str) -> tuple[str, ...]:
        """Where the replicas of a service are called."""
        return self._routes(service)

    def _known(self, service: str) -> Service:
        found = self._services.get(service)
        if found is None:
            known = ", ".join(self._services)
            raise InvalidArgument(f"there is no service {service!r}", remedy=f"those there are: {known}")
        return found

    async def restart(self, service: str, *, who: str = "operator", why: str = "") -> int:
        """Replace a service's replicas without losing a request; how many.

        Raises InvalidArgument, or StartFailed when a new one does not come up: the old ones serve on then.
        """
        self._known(service)
        found = self.observed.service(service)
        revision = max(self.desired.services[service].revision, found.newest_revision()) + 1
        await self.change(Change(who, RestartService(service, revision), why or "a restart was asked for"))
        while True:
            await self._next_step()
            want = self.desired.services[service]
            if want.revision < revision:
                raise StartFailed(
                    found.trouble_of(revision), remedy="mend that, and restart again; the old replica serves on"
                )
            if found.ready() >= want.replicas and all(r.revision >= revision for r in found.replicas.values()):
                return want.replicas

    async def scale(self, service: str, low: int, high: int, *, who: str = "operator", why: str = "") -> None:
        """Have so many replicas from now on. Raises InvalidArgument, ChangeRefused or JournalError."""
        self._known(service)
        await self.change(Change(who, ScaleService(service, low, high), why or "so many were asked for"))

    def bounds(self, service: str) -> tuple[int, int]:
        """Between which replica counts the file lets the autoscaler choose. Raises InvalidArgument."""
        self._known(service)
        wish = self._wish(service)
        return wish.replicas_min, wish.replicas_max

    async def _all_ready(self, services: list[str]) -> None:
        """Wait until all have the replicas that are wanted. Raises StartError."""
        while True:
            await self._next_step()
            missing = [
                n
                for n in services
                if n in self._held or self.observed.service(n).ready() < self.desired.services[n].replicas
            ]
            if not missing:
                return
            for name in missing:
                for memory in self.observed.service(name).slots.values():
                    if memory.deaths.in_a_row >= START_ATTEMPTS_MAX:
                        trouble = memory.last_trouble.removeprefix("cannot start: ")
                        raise StartError(f"{name} cannot be started: {trouble}")

    async def hold(self, service: str) -> None:
        """Kill a service's replicas and start no others until `release`."""
        self._held[service] = self.desired.services[service]
        self._wish_for(service, DesiredService(0, 0, 0))
        found = self.observed.service(service)
        for replica in found.replicas.values():
            self._kill(KillReplica(replica, "it is held"))
        while found.replicas:
            await self._next_step()

    async def release(self, service: str) -> None:
        """Start the replicas of a held service, and wait until they are ready."""
        self.observed.service(service).slots.clear()
        self._wish_for(service, self._held.pop(service))
        await self._all_ready([service])

    def _wish_for(self, service: str, want: DesiredService) -> None:
        self.desired = Desired({**self.desired.services, service: want})
        self._woken.set()

    def endpoints(self) -> Endpoints:
        """Where everything is reached now."""
        return Endpoints(
            pid=os.getpid(),
            application=self._loaded.name if self._loaded is not None else "",
            topology=self._topology,
            token=self._secrets.gateway,
            services={
                name: ServiceEndpoints(
                    gateway=self._gateway(service),
                    public=self._public(service),
                    token=self._secrets.services[name] if service.settings.command else "",
                    components=service.components,
                    pids=tuple(r.pid for r in self.observed.service(name).replicas.values() if r.state is READY),
                )
                for name, service in self._services.items()
            },
            zygote=self._nursery.pid or 0 if self._keep else 0,
            api=self._api,
            api_token=self._secrets.api if self._api else "",
            api_socket=self._api_socket,
        )

    def _public(self, service: Service) -> dict[str, str]:
        if service.settings.command and not service.components and not service.public:
            return {service.name: f"{HOST}:{self._port_of(service.name)}"}
        return {component: url(sock) for component, sock in service.public.items()}

    def _gateway(self, service: Service) -> str:
        if service.gateway is not None:
            return url(service.gateway)
        return "" if not service.components else f"http://{HOST}:{self._port_of(service.name)}"

    def _publish(self) -> None:
        if not self._serving:
            return
        endpoints = self.endpoints()
        if endpoints == self._published:
            return
        try:
            self._state.publish(endpoints)
            self._published = endpoints
        except OSError as error:  # a full disk must not take down what runs
            self._say(f"the endpoints cannot be written: {error}")

    def status(self) -> SupervisorStatus:
        """What runs now."""
        return SupervisorStatus(
            supervisor=SupervisorProcess(os.getpid(), self._nursery.pid),
            application=self._loaded.name if self._loaded is not None else "",
            topology=self._topology,
            release=self._release,
            services=tuple(self._service_status(service) for service in self._services.values()),
            journal=self._journal.trouble if self._journal is not None else "",
        )

    def _service_status(self, service: Service) -> ServiceStatus:
        want, found = self.desired.services[service.name], self.observed.service(service.name)
        settings = self._settings.service(service.name)
        broken = [memory.reason for memory in found.slots.values() if memory.reason]
        return ServiceStatus(
            name=service.name,
            topology=self._topology,
            components=service.components,
            scale=Scale(want.replicas, want.replicas_min, want.replicas_max),
            limits={
                "concurrency": settings.concurrency,
                **self._limits.get(service.name, NO_LIMITS).shown(),
                "enforced_by": self._enforced_by(service.name),
            },
            replicas=tuple(self._replica_status(replica) for replica in found.replicas.values()),
            restarts=found.restarts,
            trouble=broken[0] if broken else "",
        )

    def _enforced_by(self, service: str) -> str | None:
        if not self._limits.get(service, NO_LIMITS).grouped:
            return None
        missing = f" ({self._enforcement.missing})" if self._enforcement.missing else ""
        return f"{self._enforcement.name}{missing}"

    def _replica_status(self, replica: Replica) -> ReplicaStatus:
        process = self._processes.get(replica.serial)
        beat = process.link.heartbeat if process is not None else None
        return ReplicaStatus(
            slot=replica.slot,
            serial=replica.serial,
            pid=replica.pid,
            state=replica.state.value,
            build=replica.build,
            revision=replica.revision,
            lag_seconds=beat.lag_seconds if beat is not None else 0.0,
            in_flight=replica.load,
            memory_bytes=resident_bytes(replica.pid) if replica.pid else None,
            stuck=replica.stuck,
        )

    # -- the end ----------------------------------------------------------------------------------

    async def stop(self, *, drain_seconds_max: float = DRAIN_SECONDS_MAX) -> None:
        """End all, callers first, in the limit altogether (seconds); then close and remove every socket.

        Given up half way (cancelled), it kills what is left. May be called again.
        """
        self._serving = False
        self._routes_wait_until = inf
        try:
            await self._still()
            limit = time.monotonic() + drain_seconds_max
            for wave in self._waves():
                left = max(0.0, limit - time.monotonic())
                left += STOP_SECONDS_MAX if drain_seconds_max else 0.0
                await self._end(wave, left)
        finally:
            await self._close()

    async def _end(self, services: tuple[str, ...], seconds_max: float) -> None:
        """Ask their replicas to end by signal, and kill those that do not within the limit."""
        ending = [process for process in self._processes.values() if self._service_of(process) in services]
        children = [process.child for process in ending]
        for process in ending:
            replica = self._replica(process.link.serial)
            if replica is not None:
                self.observed.end(replica, "all is stopped", fault=False)
                process.child.signal(self._stop_signal(replica.service))
        if children:
            await asyncio.wait([child.exited for child in children], timeout=seconds_max)
        for child in children:
            child.signal(signal.SIGKILL)
        if children:
            await asyncio.wait([child.exited for child in children])

    def _service_of(self, process: Process) -> str:
        replica = self._replica(process.link.serial)
        return replica.service if replica is not None else ""

    async def _still(self) -> None:
        """Decide nothing any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._stepped is not None:
            self._stepped.cancel()
            self._stepped = None

    async def _let_go(self) -> None:
        """Leave what runs as it is, and be a supervisor no more."""
        self._serving = False
        await self._still()
        if self._server is not None:
            await self._server.close()
            self._server = None
        if self._control is not None:
            self._control.close()
            self._control = None
        self._nursery.let_go()
        self._processes.clear()
        self._services.clear()
        self._loaded = None
        if self._journal is not None:
            await asyncio.to_thread(self._journal.close)
        self._state.let_go()
        await asyncio.to_thread(self._logs.close)

    def _waves(self) -> list[tuple[str, ...]]:
        if self._loaded is None:
            return []
        alone = tuple(n for n, service in self._services.items() if self._command(n) and not service.components)
        members = {name: service.components for name, service in self._services.items() if name not in alone}
        waves = stop_waves(members, {name: set(to) for name, to in self._loaded.references.items()})
        return [*waves, alone]

    async def _close(self) -> None:
        await self._nursery.close()
        if self._server is not None:
            await self._server.close()
        sockets = [sock for service in self._services.values() for sock in service.sockets()]
        for sock in [*sockets, *([self._control] if self._control is not None else [])]:
            sock.close()
        self._services.clear()
        await asyncio.to_thread(self._enforcement.sweep, set[str]())
        if self._journal is not None:
            await asyncio.to_thread(self._journal.close)
        self._state.close()
        await asyncio.to_thread(self._logs.close)


def _check_program(service: str, arguments: tuple[str, ...], folder: Path) -> None:
    """Raises ConfigError where a program or its folder is not there."""
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}", remedy=f"mend `folder` under [services.{service}]")
    program = arguments[0]
    found = shutil.which(program) or (folder / program).is_file()
    if not found:
        raise ConfigError(
            f"there is no program {program!r}", remedy=f"install it, or mend `command` under [services.{service}]"
        )


def _knocked(service: Service) -> bool:
    """Whether a connection waits at one of its sockets, on which nobody accepts."""
    poll = select.poll()
    for sock in service.sockets():
        poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
