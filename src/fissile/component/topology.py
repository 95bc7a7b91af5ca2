"""Which component is in which service.

`monolith` and `microservices` are built in; others are named in the configuration. The code of an
application never mentions its topology: this is the only place where the two meet.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from fissile.component.graph import Graph
from fissile.errors import ConfigError

BUILT_IN = ("monolith", "microservices")
MONOLITH_SERVICE = "app"
REST = "*"


class Topology(msgspec.Struct, frozen=True):
    """Services by name, each with the components deployed together in it, in start order."""

    name: str
    services: dict[str, tuple[str, ...]]

    def service_of(self, component: str) -> str:
        """The service that a component is in. Raises KeyError for an unknown component."""
        for service, components in self.services.items():
            if component in components:
                return service
        raise KeyError(component)


def topology_for(graph: Graph, name: str, named: Mapping[str, Mapping[str, Sequence[str]]]) -> Topology:
    """The topology of this name for the application.

    Raises ConfigError with every mistake: an unknown topology or component, a component in two
    services or in none, two services that take the rest.
    """
    if name == "monolith":
        # What other programs implement cannot be in the one process.
        own = tuple(c.name for c in graph.components.values() if not c.foreign)
        others = {c.name.lower(): (c.name,) for c in graph.components.values() if c.foreign}
        return Topology(name, {MONOLITH_SERVICE: own, **others} if own else others)
    if name == "microservices":
        return Topology(name, {component.lower(): (component,) for component in graph.components})
    check_name(name, named)
    placed, mistakes = _placed(graph, named[name])
    if mistakes:
        raise ConfigError(f"topology {name!r} has mistakes:\n" + "\n".join(f"  - {m}" for m in mistakes))
    grouped = {s: tuple(c for c in graph.components if placed[c] == s) for s in named[name]}
    return Topology(name, {service: components for service, components in grouped.items() if components})


def check_name(name: str, named: Collection[str]) -> None:
    """Raises ConfigError where there is no topology of this name."""
    if name not in BUILT_IN and name not in named:
        known = ", ".join([*BUILT_IN, *named])
        raise ConfigError(
            f"there is no topology {name!r}", remedy=f"use one of {known}, or name it under [topologies.{name}]"
        )


def mistakes_in(graph: Graph, services: Mapping[str, Sequence[str]]) -> list[str]:
    """What is wrong with a grouping that somebody has named."""
    return _placed(graph, services)[1]


def _placed(graph: Graph, services: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], list[str]]:
    """The service of each component, and what is wrong with that."""
    mistakes: list[str] = []
    placed: dict[str, str] = {}
    for service, components in services.items():
        for component in components:
            if component == REST:
                continue
            if component not in graph.components:
                known = ", ".join(graph.components)
                mistakes.append(f"service {service!r} names an unknown component {component!r}: use one of {known}")
            elif component in placed:
                mistakes.append(f"{component} is in {placed[component]!r} and in {service!r}: leave it in one of them")
            else:
                placed[component] = service
    takers = [service for service, components in services.items() if REST in components]
    if len(takers) > 1:
        mistakes.append(f"{' and '.join(takers)} both take the rest ({REST!r}): leave it to one of them")
    rest = [component for component in graph.components if component not in placed]
    if rest and not takers:
        mistakes.append(f"{', '.join(rest)} in no service: add them, or {REST!r} to the service that takes the rest")
    if not mistakes:
        placed |= dict.fromkeys(rest, takers[0] if takers else "")
    return placed, mistakes
