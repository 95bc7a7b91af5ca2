"""What decisions have to know of a service beside its replicas: the part of its settings that they weigh."""

from collections.abc import Iterable, Mapping

import msgspec

from fissile.component.contract import Contracts, accepted
from fissile.names import ServiceName, SetName
from fissile.orchestrator.desired import REPLICAS_MAX


class ScalingSpec(msgspec.Struct, frozen=True):
    """By what a service is scaled. target: calls in flight for each replica. weight: of the cores that are shared out.
    idle_seconds: after so long without a call it may go to zero. replicas_min, replicas_max: what it is scaled between.
    """

    target: float = 10.0
    weight: float = 1.0
    idle_seconds: float = 60.0
    replicas_min: int = 1
    replicas_max: int = 1


class ServiceSpec(msgspec.Struct, frozen=True):
    """A service in one release.

    components: that it consists of. calls: components of others that it may call. doors: the names of its public
    doors, beside that of HTTP/JSON. program: whether it is a command that knows nothing of us. places: calls that a
    replica takes at once; 0 where that is not known. replicas: to begin with; replicas_most: so many may be at all.
    after: services that are to serve before it starts. port: where its program always listens, 0 for a free one; ports:
    a port for "each" replica, or one that all have ("inherited", "reuseport"). allow_overlap: whether a new replica may
    run beside the one that it replaces; None: where no fixed port forbids it. The seconds are limits, as of
    `DesiredSet`. memory_bytes_max: of a replica; None: as much as there is.
    """

    components: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    doors: tuple[str, ...] = ()
    program: bool = False
    places: int = 0
    scaling: ScalingSpec | None = None
    replicas: int = 1
    replicas_most: int = REPLICAS_MAX
    after: tuple[ServiceName, ...] = ()
    port: int = 0
    ports: str = "each"
    allow_overlap: bool | None = None
    start_seconds: float = 30.0
    drain_seconds: float = 10.0
    stuck_seconds: float = 30.0
    silent_seconds: float = 10.0
    stop_seconds: float = 5.0
    memory_bytes_max: int | None = None

    @property
    def overlaps(self) -> bool:
        """Whether a new replica may run beside the one that it replaces."""
        fixed = self.program and self.port and self.ports == "each"
        return not fixed if self.allow_overlap is None else self.allow_overlap

    @property
    def alone(self) -> bool:
        """Whether two builds of it cannot be there at once: they would listen at one port, or must not overlap."""
        shared_port = self.program and (self.ports != "each" or self.port)
        return bool(shared_port) or not self.overlaps


class ReleaseSpec(msgspec.Struct, frozen=True, eq=False):
    """A release: its services, the replica set of each, and who calls whom.

    references: components that a component calls. builds: their names, by service. volatile_state: what components
    keep in memory alone. warnings: of its import. unheld: services that the settings wall in, and the topology does
    not have. migrations: components that have some.
    """

    name: str
    services: dict[ServiceName, ServiceSpec] = {}
    sets: dict[ServiceName, SetName] = {}
    references: dict[str, tuple[str, ...]] = {}
    contracts: Contracts = {}
    topology: str = ""
    builds: dict[ServiceName, str] = {}
    volatile_state: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    unheld: tuple[ServiceName, ...] = ()
    migrations: frozenset[str] = frozenset()
    # Indices, and what was worked out already: a release never changes.
    _places: dict[str, ServiceName] = {}
    _made: dict[SetName, ServiceSpec] = {}
    # Services that call a component, each with its place in the order of all.
    _callers: dict[str, dict[ServiceName, int]] = {}
    _understood: dict[str, dict[str, frozenset[str]]] = {}

    def __post_init__(self) -> None:
        for place, (service, spec) in enumerate(self.services.items()):
            self._places.update(dict.fromkeys(spec.components, service))
            self._made[self.sets[service]] = spec
            for component in spec.calls:
                self._callers.setdefault(component, {})[service] = place

    def service_of(self, component: str) -> ServiceName | None:
        """The service that a component is in."""
        return self._places.get(component)

    def made(self, name: SetName) -> ServiceSpec | None:
        """What a replica set of this release is made of; None where it has no such set."""
        return self._made.get(name)

    def callers_of(self, components: Iterable[str]) -> tuple[ServiceName, ...]:
        """The services that call any of these components, in the order in which the release has them."""
        found: dict[ServiceName, int] = {}
        for component in components:
            found |= self._callers.get(component, {})
        return tuple(sorted(found, key=found.__getitem__))

    def understood(self, other: "ReleaseSpec") -> Mapping[str, frozenset[str]]:
        """Fingerprints with which callers of another release may call here, by the method's own fingerprint."""
        if other.name not in self._understood:
            self._understood[other.name] = accepted(other.contracts, self.contracts)
        return self._understood[other.name]
