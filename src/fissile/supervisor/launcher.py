"""How a replica comes to be: forked from the zygote, spawned by exec, or a program in any language."""

import os
import shlex
import shutil
import sys
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.orchestrator.replica import Replica
from fissile.rpc.access import token_digest
from fissile.runtime.control import OPERATOR, ReplicaSpec
from fissile.supervisor.doors import Doors
from fissile.supervisor.fleet import CONTROL_SOCKET, Fleet
from fissile.supervisor.messages import Confinement, Fork
from fissile.supervisor.nursery import Child, Nursery
from fissile.supervisor.service import Service
from fissile.supervisor.sockets import HOST, url
from fissile.supervisor.spawned import order_file


class Launcher:
    """Makes the processes of a fleet."""

    def __init__(self, fleet: Fleet, nursery: Nursery, doors: Doors) -> None:
        self._fleet = fleet
        self._nursery = nursery
        self._doors = doors

    async def launch(self, replica: Replica, out: int, err: int) -> Child:
        """The process of a replica; out, err: what it writes to. Raises ForkError or ConfigError."""
        service = self._fleet.services[replica.service]
        if service.settings.command:
            return await self._execute(service, replica, [out, err])
        return await self._fork(service, replica, [out, err])

    async def _fork(self, service: Service, replica: Replica, fds: list[int]) -> Child:
        """A replica that speaks with us."""
        if service.settings.guest:
            fds = [*fds, service.public[service.name].fileno()]
        else:
            slot = await self._doors.slot(service, replica.slot)
            assert service.gateway is not None
            public = [service.public[component].fileno() for component in service.http]
            fds = [*fds, slot.fileno(), service.gateway.fileno(), *public]
        spec = self._spec(service, replica)
        address = f"unix:{self._fleet.state.socket_path(CONTROL_SOCKET)}"
        token = self._fleet.secrets.control[service.name]
        if not service.settings.spawn:
            return await self._nursery.fork(
                spec,
                address,
                token,
                fds,
                environment=service.settings.environment,
                confinement=self._confinement(replica, spec),
            )
        order = order_file(Fork(0, spec, address, token))
        try:
            program = (sys.executable, "-m", "fissile.supervisor.spawned")
            fds.insert(2, order)
            environment = self._environment(service, 0)
            return await self._run_program(replica, spec, program, environment, self._fleet.settings.root, fds)
        finally:
            os.close(order)

    async def _execute(self, service: Service, replica: Replica, fds: list[int]) -> Child:
        """A program that knows nothing of us."""
        settings = service.settings
        arguments = tuple(shlex.split(settings.command))
        folder = Path(self._fleet.settings.root) / settings.folder
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
        confinement = self._confinement(replica, spec)
        return await self._nursery.execute(spec, arguments, environment, folder, fds, confinement=confinement)

    def _confinement(self, replica: Replica, spec: ReplicaSpec) -> Confinement:
        limits = self._fleet.limits_of(replica)
        disk = limits.disk
        if disk is not None and spec.stacks:
            Path(spec.stacks).touch(mode=0o600)
            disk = (*disk, spec.stacks)
        groups = self._fleet.enforcement.prepare(replica.key, limits) if limits.grouped else ()
        return Confinement(groups, limits.files, disk)

    def _environment(self, service: Service, port: int) -> dict[str, str]:
        """What a program is told: its port, its token, where its peers are; and nobody else's secrets."""
        own = f"FISSILE_{service.name}_".upper().replace("-", "_")
        found = {k: v for k, v in os.environ.items() if not k.startswith("FISSILE_") or k.startswith(own)}
        found |= {"PORT": str(port), "HOST": HOST, "FISSILE_TOKEN": self._fleet.secrets.services[service.name]}
        for other in self._fleet.services.values():
            if other is service:
                continue
            if other.gateway is not None and set(self._fleet.calls(service)).intersection(other.components):
                found[f"FISSILE_PEER_{other.name}".upper().replace("-", "_")] = url(other.gateway)
            elif other.settings.command and not other.components:
                found[f"FISSILE_PEER_{other.name}".upper().replace("-", "_")] = (
                    f"{HOST}:{self._fleet.port_of(other.name)}"
                )
        return found | service.settings.environment

    def _spec(self, service: Service, replica: Replica) -> ReplicaSpec:
        loaded = self._fleet.loaded
        assert loaded is not None
        settings = self._fleet.settings.service(service.name)
        tokens = {**self._fleet.secrets.services, OPERATOR: self._fleet.secrets.operator}
        guest = service.settings.guest
        return ReplicaSpec(
            application=getattr(service.settings, guest) if guest else self._fleet.settings.app,
            root=str(Path(self._fleet.settings.root) / service.settings.folder),
            service=service.name,
            slot=replica.slot,
            build=replica.build,
            release=self._fleet.release,
            components=service.components,
            topology=loaded.services,
            routes=self._fleet.routes_for(service.name).routes,
            token=self._fleet.secrets.services[service.name],
            peers={token_digest(token): name for name, token in tokens.items()},
            config={name: loaded.config[name] for name in service.components if name in loaded.config},
            gateway_token=token_digest(self._fleet.secrets.gateway),
            calls_timeout_seconds=self._fleet.settings.calls.timeout_seconds,
            concurrency=settings.concurrency,
            queue=settings.queue,
            http=service.http,
            serial=replica.serial,
            revision=replica.revision,
            stacks=str(self._fleet.stacks(replica)),
            foreign={
                name: self._fleet.secrets.services[name]
                for name in self._fleet.callees(service)
                if self._fleet.command(name)
            },
            gateway_peers=tuple(
                token_digest(self._fleet.secrets.services[other.name])
                for other in self._fleet.services.values()
                if other.settings.command and set(self._fleet.calls(other)).intersection(service.components)
            ),
            guest=guest,
            drain_seconds_max=service.settings.drain_seconds,
        )


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
