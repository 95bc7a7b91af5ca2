"""What decisions have to know of a service beside its replicas: the part of its settings that they weigh."""

from collections.abc import Mapping

import msgspec

from fissile.component.contract import Contracts, accepted


class ScalingSpec(msgspec.Struct, frozen=True):
    """By what a service is scaled. target: calls in flight for each replica. weight: of the cores that are shared out.
    idle_seconds: after so long without a call it may go to zero.
    """

    target: float = 10.0
    weight: float = 1.0
    idle_seconds: float = 60.0


class ServiceSpec(msgspec.Struct, frozen=True):
    """A service in one release.

    components: that it consists of. calls: components of others that it may call. doors: the names of its public
    doors, beside that of HTTP/JSON. program: whether it is a command that knows nothing of us. places: calls that a
    replica takes at once; 0 where that is not known.
    """

    components: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    doors: tuple[str, ...] = ()
    program: bool = False
    places: int = 0
    scaling: ScalingSpec | None = None


class ReleaseSpec(msgspec.Struct, frozen=True, eq=False):
    """A release: its services, the replica set of each, and who calls whom.

    references: components that a component calls.
    """

    name: str
    services: dict[str, ServiceSpec] = {}
    sets: dict[str, str] = {}
    references: dict[str, tuple[str, ...]] = {}
    contracts: Contracts = {}
    # Indices, and what was worked out already: a release never changes.
    _places: dict[str, str] = {}
    _made: dict[str, ServiceSpec] = {}
    _understood: dict[str, dict[str, frozenset[str]]] = {}

    def __post_init__(self) -> None:
        for service, spec in self.services.items():
            self._places.update(dict.fromkeys(spec.components, service))
            self._made[self.sets[service]] = spec

    def service_of(self, component: str) -> str | None:
        """The service that a component is in."""
        return self._places.get(component)

    def made(self, name: str) -> ServiceSpec | None:
        """What a replica set of this release is made of; None where it has no such set."""
        return self._made.get(name)

    def understood(self, other: "ReleaseSpec") -> Mapping[str, frozenset[str]]:
        """Fingerprints with which callers of another release may call here, by the method's own fingerprint."""
        if other.name not in self._understood:
            self._understood[other.name] = accepted(other.contracts, self.contracts)
        return self._understood[other.name]
