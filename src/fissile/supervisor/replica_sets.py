"""The replica sets of all live releases: what each is made of, and where it is reached."""

import signal

from fissile.machine.probe import TCP
from fissile.machine.sockets import HOST, url
from fissile.names import ServiceName, SetName
from fissile.orchestrator.replica import Replica
from fissile.orchestrator.routing import Target
from fissile.orchestrator.state import ApplicationState
from fissile.supervisor.loaded_release import LoadedReleases
from fissile.supervisor.service import Service
from fissile.supervisor.state_folder import StateFolder


class ReplicaSets:
    """A service has one replica set, or two while a rollout replaces its build."""

    def __init__(self, app: ApplicationState, releases: LoadedReleases, folder: StateFolder) -> None:
        self._app = app
        self._releases = releases
        self._folder = folder

    def live(self) -> dict[SetName, Service]:
        """What the sets of all live releases are made of."""
        sets = [name for release in self._app.desired.releases() for name in self._releases.made(release.name)]
        return {name: self.service(name) for name in sets}

    def services(self) -> tuple[ServiceName, ...]:
        """All services, in the order in which they were made."""
        return tuple(dict.fromkeys(service.name for service in self.live().values()))

    def has_service(self, service: ServiceName) -> bool:
        """Whether a live release has this service."""
        return any(service in release.sets for release in self._app.desired.releases())

    def service(self, name: SetName) -> Service:
        """What a replica set is made of. Raises KeyError.

        A set that cannot be there twice is the same in each release; it is made of the release that is wanted now.
        """
        desired = self._app.desired
        want = desired.sets.get(name)
        for release in (want.release if want is not None else "", *(one.name for one in desired.releases())):
            found = self._releases.made(release).get(name)
            if found is not None:
                return found
        raise KeyError(name)

    def service_at(self, name: SetName, build: str) -> Service:
        """What a replica of this build is made of: it may have been started by an earlier release. Raises KeyError."""
        service = self.service(name)
        for release in self._releases.by_name.values():
            made = release.release.builds.get(service.name)
            if made is not None and made.name == build and name in release.sets:
                return release.sets[name]
        return service

    def is_program(self, name: SetName) -> bool:
        """Whether a set's replicas are programs that know nothing of Fissile."""
        return bool(self.service(name).settings.command)

    def programs(self) -> set[SetName]:
        """The live sets of programs."""
        return {name for name, service in self.live().items() if service.settings.command}

    def stop_signal(self, replica: Replica) -> signal.Signals:
        """The signal at which a program ends in order."""
        return signal.Signals[f"SIG{self.service_at(replica.set, replica.build).settings.stop_signal}"]

    # -- addresses ----------------------------------------------------------------------------------

    def port_of(self, name: SetName, slot: int = 0) -> int:
        """Where the program in a slot is called: the newest that is ready, or else the newest."""
        newest = self._app.observed.replica_set(name).newest(slot)
        return self.service(name).port(newest.serial if newest is not None else 0)

    def how_ready(self, name: SetName) -> str:
        """How it is seen that a set's program serves, as "answers at /health"; "" where replicas say so themselves."""
        if name not in self.live() or not self.is_program(name):
            return ""
        ready = self.service(name).ready()
        return f"listens at port {self.port_of(name)}" if ready == TCP else f"answers at {ready}"

    def gateway(self, service: Service) -> str:
        """The HTTP/JSON address of a service, "" if it has none."""
        if service.gateway is not None:
            return url(service.gateway)
        return "" if not service.components else f"http://{HOST}:{self.port_of(service.set)}"

    def public(self, service: Service) -> dict[str, str]:
        """Where people and other programs reach a service, by component or by its own name."""
        if service.settings.command and not service.components and not service.public:
            return {service.name: f"{HOST}:{self.port_of(service.set)}"}
        return {component: url(sock) for component, sock in service.public.items()}

    def addresses(self, name: SetName, targets: tuple[Target, ...]) -> tuple[str, ...]:
        """Where the replicas of a set are called."""
        if self.is_program(name):
            return tuple(f"http://{HOST}:{self.service(name).port(one.serial)}" for one in targets)
        return tuple(f"unix:{self._folder.socket_path(f'{name}.{one.slot}')}" for one in targets)
