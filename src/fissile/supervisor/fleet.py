"""All that is known of one application while it is supervised: what decides nothing and does nothing.

The rooms of the supervisor share it: the loop alters it, the launcher, the doors and the status read it.
"""

import signal
from pathlib import Path

import msgspec

from fissile.orchestrator.change import Desired
from fissile.orchestrator.order import stop_waves
from fissile.orchestrator.replica import READY, Observed, Replica
from fissile.orchestrator.routes import RouteTable
from fissile.orchestrator.routes import routes as routed_slots
from fissile.rpc.access import token_digest
from fissile.runtime.control import Routes
from fissile.runtime.settings import Settings
from fissile.supervisor.desk import Link
from fissile.supervisor.limits import Enforcement, Limits, detect, limits_of
from fissile.supervisor.messages import Loaded
from fissile.supervisor.nursery import Child
from fissile.supervisor.service import Secrets, Service
from fissile.supervisor.sockets import HOST, url
from fissile.supervisor.state import StateFolder

CONTROL_SOCKET = "supervisor"
NO_LIMITS = Limits()
STACKS_CHARACTERS_MAX = 20_000


class Process(msgspec.Struct, frozen=True, eq=False):
    """What stands behind a replica: its process and when that began (see orphans), and its reports."""

    child: Child
    link: Link
    born: int | None


class Fleet:
    """One application's services, replicas and secrets. routed: the addresses, as replicas know them."""

    def __init__(self, settings: Settings, topology: str, state: StateFolder) -> None:
        self.settings = settings
        self.topology = topology
        self.state = state
        self.loaded: Loaded | None = None
        self.release = ""
        self.desired = Desired()
        self.observed = Observed()
        self.services: dict[str, Service] = {}
        self.processes: dict[int, Process] = {}
        self.secrets = Secrets.new()
        self.limits: dict[str, Limits] = {}
        self.enforcement = Enforcement()
        self.routed = RouteTable()

    def command(self, name: str) -> bool:
        """Whether a service is a program that knows nothing of us."""
        return bool(self.settings.service(name).command)

    def set_limits(self) -> None:
        """Raises ConfigError where they do not fit this machine."""
        settings = self.settings.services
        self.limits = {name: limits_of(name, one.limits, self.settings.root) for name, one in settings.items()}
        if any(limits.grouped for limits in self.limits.values()):
            self.enforcement = detect(token_digest(str(self.state.path.resolve()))[:12])

    def address(self, service: str, slot: int) -> str:
        """Where the replica in a slot is called."""
        if self.command(service):
            return f"http://{HOST}:{self.port_of(service, slot)}"
        return f"unix:{self.state.socket_path(f'{service}.{slot}')}"

    def port_of(self, service: str, slot: int = 0) -> int:
        """Where the program in a slot is called: the newest that is ready, or else the newest."""
        here = [r for r in self.observed.service(service).replicas.values() if r.slot == slot]
        newest = max(here, key=lambda r: (r.state is READY, r.serial), default=None)
        return self.services[service].port(slot, newest.serial if newest is not None else 0)

    def limits_of(self, replica: Replica) -> Limits:
        """What a replica may use."""
        return self.limits.get(replica.service, NO_LIMITS)

    def calls(self, service: Service) -> list[str]:
        """The components that a service may call."""
        assert self.loaded is not None
        called = [target for name in service.components for target in self.loaded.references[name]]
        return [*called, *service.settings.calls]

    def replica(self, serial: int) -> Replica | None:
        """A replica by its serial, if it is not gone."""
        for service in self.observed.services.values():
            if serial in service.replicas:
                return service.replicas[serial]
        return None

    def stop_signal(self, service: str) -> signal.Signals:
        """By which a service's program ends in order."""
        return signal.Signals[f"SIG{self.settings.service(service).stop_signal}"]

    def routes(self, service: str) -> tuple[str, ...]:
        """Where a service is called now."""
        slots = routed_slots(self.desired.services[service], self.observed.service(service))
        return tuple(self.address(service, slot) for slot in slots)

    def callees(self, service: Service) -> list[str]:
        """The services that a service may call."""
        called = set(self.calls(service))
        return [s.name for s in self.services.values() if s is not service and called.intersection(s.components)]

    def routes_for(self, service: str) -> Routes:
        """All that a service's replicas have to know of their callees."""
        callees = self.callees(self.services[service])
        return Routes({callee: self.routed.told.get(callee) or self.routes(callee) for callee in callees})

    def gateway(self, service: Service) -> str:
        """The HTTP/JSON address of a service, "" if it has none."""
        if service.gateway is not None:
            return url(service.gateway)
        return "" if not service.components else f"http://{HOST}:{self.port_of(service.name)}"

    def public(self, service: Service) -> dict[str, str]:
        """Where people and other programs reach a service, by component or by its own name."""
        if service.settings.command and not service.components and not service.public:
            return {service.name: f"{HOST}:{self.port_of(service.name)}"}
        return {component: url(sock) for component, sock in service.public.items()}

    def waves(self) -> list[tuple[str, ...]]:
        """In which order services stop: callers before those whom they call, what all stand on last."""
        if self.loaded is None:
            return []
        alone = tuple(n for n, service in self.services.items() if self.command(n) and not service.components)
        members = {name: service.components for name, service in self.services.items() if name not in alone}
        waves = stop_waves(members, {name: set(to) for name, to in self.loaded.references.items()})
        return [*waves, alone]

    def stacks(self, replica: Replica) -> Path:
        """The file in which a stuck replica writes where it stands."""
        return self.state.path / f"{replica.key}.stacks"

    def read_stacks(self, replica: Replica) -> str:
        """Where a stuck replica stood; "" if it has not said."""
        try:
            return self.stacks(replica).read_text(errors="replace")[-STACKS_CHARACTERS_MAX:]
        except OSError:
            return ""
