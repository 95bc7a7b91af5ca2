"""How a replica comes to be: forked from the zygote, spawned by exec, or a program in any language."""

import os
import shlex
import sys
from pathlib import Path

import msgspec

from fissile.formats import PROCESSES
from fissile.machine import process_secrets
from fissile.machine.programs import check_program
from fissile.machine.sockets import HOST, listen_handover, url
from fissile.machine.walls import Confinement
from fissile.machine.zygote import sealed_letters
from fissile.machine.zygote.client import ProcessHandle
from fissile.machine.zygote.protocol import Fork
from fissile.names import ServiceName
from fissile.orchestrator.replica import Replica
from fissile.releases.commands import SEARCHED, editable, environments, import_folders, in_copy
from fissile.releases.manifest import works_in
from fissile.rpc.access import token_digest
from fissile.runtime.control import ReplicaSpec
from fissile.supervisor.isolation import environment, raise_walls
from fissile.supervisor.listeners import Listeners
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.routes import rendered
from fissile.supervisor.service import Service
from fissile.supervisor.state import CONTROL_SOCKET, SupervisorState


class Launcher:
    """Makes the processes of replicas."""

    def __init__(self, state: SupervisorState, listeners: Listeners) -> None:
        self._state = state
        self._listeners = listeners

    async def launch(self, replica: Replica, out: int, err: int) -> ProcessHandle:
        """The process of a replica; out, err: what it writes to. Raises ForkError or ConfigError."""
        service = self._state.sets.service(replica.set)
        if service.settings.command:
            return await self._execute(service, replica, [out, err])
        return await self._fork(service, replica, [out, err])

    async def _fork(self, service: Service, replica: Replica, fds: list[int]) -> ProcessHandle:
        """A replica that speaks with us."""
        if service.settings.guest:
            fds = [*fds, service.public[service.name].fileno()]
        else:
            slot = await self._listeners.slot(service, replica.slot)
            assert service.gateway is not None
            public = [service.public[component].fileno() for component in service.http]
            fds = [*fds, slot.fileno(), service.gateway.fileno(), *public]
        handover = listen_handover(self._state.folder.handover_path(replica.serial), self._state.folder.socket_mode)
        try:
            return await self._fork_with(service, replica, [*fds, handover.fileno()])
        finally:
            handover.close()  # the replica has it

    async def _fork_with(self, service: Service, replica: Replica, fds: list[int]) -> ProcessHandle:
        spec = self._spec(service, replica)
        address = f"unix:{self._state.folder.socket_path(CONTROL_SOCKET)}"
        token = self._state.secrets.control[service.name]
        if not service.settings.spawn:
            confinement = self._confinement(replica, spec)
            return await self._state.releases.zygote_of(service.set).fork(
                spec,
                address,
                token,
                fds,
                environment=environment(confinement.walls) | service.settings.environment,
                confinement=confinement,
            )
        order = sealed_letters.seal(Fork(0, spec, address, token))
        try:
            # -P: nothing is imported from the folder that it happens to be started in.
            program = (sys.executable, "-P", "-m", "fissile.machine.zygote.spawn", str(PROCESSES.number))
            fds.insert(2, order)
            return await self._run_program(service, replica, spec, program, 0, spec.root, fds)
        finally:
            os.close(order)

    async def _execute(self, service: Service, replica: Replica, fds: list[int]) -> ProcessHandle:
        """A program that knows nothing of us."""
        settings = service.settings
        copy = Path(self._state.releases.zygote_of(service.set).application.root)
        given = self._state.releases.zygote_of(service.set).application.environment.general()
        check_program(service.name, settings, (copy, self._state.root), given)
        root = works_in(copy, self._state.root, service.name)
        folder = root / settings.folder
        arguments = _in_the_copy(shlex.split(settings.command), self._state.root, root, folder)
        port = service.port(replica.serial)
        if settings.ports == "inherited":
            fds = [*fds, service.public[service.name].fileno()]
        spec = msgspec.structs.replace(self._spec(service, replica), port=port)
        return await self._run_program(service, replica, spec, arguments, port, str(folder), fds)

    async def _run_program(
        self,
        service: Service,
        replica: Replica,
        spec: ReplicaSpec,
        arguments: tuple[str, ...],
        port: int,
        folder: str,
        fds: list[int],
    ) -> ProcessHandle:
        confinement = self._confinement(replica, spec)
        zygote = self._state.releases.zygote_of(replica.set)
        told = self._environment(service, port) | environment(confinement.walls) | service.settings.environment
        told = self._searched(service, told)
        return await zygote.execute(spec, arguments, told, folder, fds, confinement=confinement)

    async def migrate(
        self, loaded: LoadedRelease, service: ServiceName, names: tuple[str, ...], serial: int, out: int, err: int
    ) -> ProcessHandle:
        """A process that runs the migrations of a service's components in a release. Raises ForkError."""
        found = loaded.sets[loaded.spec.sets[service]]
        replica = Replica(serial, found.set, 0, 0, loaded.release.builds[service].name, 0.0)
        spec = msgspec.structs.replace(self._spec(found, replica, loaded), migrate=names, stacks="")
        address = f"unix:{self._state.folder.socket_path(CONTROL_SOCKET)}"
        token = self._state.secrets.control[service]
        walls = raise_walls(self._state, loaded, found, replica.key)
        confinement = Confinement(disk=walls.write if walls is not None else None, walls=walls)
        told = environment(walls) | found.settings.environment
        return await loaded.zygote.fork(spec, address, token, [out, err], environment=told, confinement=confinement)

    def _confinement(self, replica: Replica, spec: ReplicaSpec) -> Confinement:
        limits = self._state.releases.limits_of(replica)
        service, loaded = self._state.sets.service(replica.set), self._state.releases.of(replica.set)
        stacks = "" if service.settings.command else spec.stacks
        walls = raise_walls(self._state, loaded, service, replica.key, stacks)
        groups = self._state.limits.enforcement.prepare(replica.key, limits) if limits.grouped else ()
        return Confinement(groups, limits.files, walls.write if walls is not None else None, walls)

    def _environment(self, service: Service, port: int) -> dict[str, str]:
        """What a program is told: its port, its token, where its peers are; and nobody else's secrets."""
        loaded = self._state.releases.of(service.set)
        given = self._state.releases.zygote_of(service.set).application.environment
        names = [*loaded.imported.services, *loaded.service_of]
        found = given.general() | process_secrets.own(given.components(), service.name, names)
        if service.settings.user:
            found.pop("XDG_RUNTIME_DIR", None)  # of the supervisor's user
        found |= {"PORT": str(port), "HOST": HOST, "FISSILE_TOKEN": self._state.secrets.services[service.name]}
        called = set(loaded.spec.services[service.name].calls)
        for name, set_name in loaded.spec.sets.items():
            other = loaded.sets[set_name]
            if name == service.name:
                continue
            if other.gateway is not None and called.intersection(other.components):
                found[f"FISSILE_PEER_{name}".upper().replace("-", "_")] = url(other.gateway)
            elif other.settings.command and not other.components:
                peer = f"{HOST}:{self._state.sets.port_of(set_name)}"
                found[f"FISSILE_PEER_{name}".upper().replace("-", "_")] = peer
        return found

    def _searched(self, service: Service, environment: dict[str, str]) -> dict[str, str]:
        """The environment of a program, with which it finds its code in the copy of it."""
        state = self._state
        copy = Path(state.releases.zygote_of(service.set).application.root)
        roots, home, own = (state.root, Path(state.named)), works_in(copy, state.root, service.name), service.settings
        packages = environments(own.command, home / own.folder, state.root, environment)
        projects = editable(packages, roots) if home == copy else ()
        folders = [*import_folders(home, projects), environment.get("PYTHONPATH", "")]
        found = environment | ({"PYTHONPATH": path} if (path := os.pathsep.join(filter(None, folders))) else {})
        return found | {name: in_copy(found[name], roots, copy) for name in SEARCHED if name in found}

    def _spec(self, service: Service, replica: Replica, loaded: LoadedRelease | None = None) -> ReplicaSpec:
        zygote = self._state.releases.zygote_of(service.set) if loaded is None else loaded.zygote
        loaded = loaded or self._state.releases.of(service.set)
        settings, own = loaded.settings, loaded.settings.service(service.name)
        config, told = zygote.application.loaded.config, self._state.app.told(service.set)
        replica.routes = told.version
        source, root = zygote.application.load.source, zygote.application.root
        folder = str(Path(root) / own.folder)
        return ReplicaSpec(
            application=getattr(own, own.guest) if own.guest else settings.app,
            root=folder if own.guest else root,
            source=str(Path(source) / (own.folder if own.guest else "")) if source else "",
            service=service.name,
            set=service.set,
            slot=replica.slot,
            build=replica.build,
            release=loaded.release.name,
            components=service.components,
            routes=rendered(self._state, told),
            token=self._state.secrets.services[service.name],
            config={name: config[name] for name in service.components if name in config},
            gateway_token=token_digest(self._state.secrets.gateway),
            calls_timeout_seconds=settings.calls.timeout_seconds,
            concurrency=own.concurrency,
            queue=own.queue,
            http=service.http,
            serial=replica.serial,
            revision=replica.revision,
            stacks=str(self._state.folder.stacks(replica.key)),
            guest=own.guest,
            drain_seconds_max=own.drain_seconds,
            folder=folder,
        )


def _in_the_copy(words: list[str], root: Path, copy: Path, folder: Path) -> tuple[str, ...]:
    """The words of a command, with paths into the application's folder leading into the copy of it."""
    found: list[str] = []
    for word in words:
        inside = os.path.relpath(word, root) if os.path.isabs(word) else ".."
        moved = copy / inside
        found.append(str(moved) if not inside.startswith("..") and moved.is_file() and not moved.is_symlink() else word)
    program = folder / found[0]
    if program.is_file():
        found[0] = str(program)
    return tuple(found)
