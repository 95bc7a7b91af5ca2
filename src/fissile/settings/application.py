"""Settings against the application: names of components and services, and in which order services start."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from fissile.component.graph import Graph
from fissile.component.topology import BUILT_IN, mistakes_in, topology_for
from fissile.runtime.host import field_names
from fissile.settings.check import listed, near
from fissile.settings.schema import Settings


def misnamed(settings: Settings, graph: Graph | None) -> Iterator[str]:
    """Mistakes that only the application shows."""
    components = list(graph.components) if graph is not None else []
    for name in settings.components:
        if name not in components:
            yield f"[components.{name}] is no component{near(name, components)}: {listed(components)}"
    services = _all_services(settings, graph)
    for name, service in settings.services.items():
        if name not in services and not service.foreign:
            yield f"[services.{name}] is a service of no topology{near(name, services)}: {listed(services)}"
        kinds = (
            ("calls", service.calls, "component", components),
            ("after", service.after, "service", [*dict.fromkeys([*services, *settings.services])]),
        )
        for key, others, kind, known in kinds:
            for other in others:
                if other not in known:
                    hint = near(other, known)
                    yield f"[services.{name}] has {key} = {other!r}, which is no {kind}{hint}: {listed(known)}"
    if settings.topology not in (*BUILT_IN, *settings.topologies):
        known = [*BUILT_IN, *settings.topologies]
        hint = near(settings.topology, known)
        yield f"`topology` is {settings.topology!r}, which does not exist{hint}: {listed(known)}"
    for name, grouping in settings.topologies.items():
        if graph is None:
            yield f"[topologies.{name}] groups components, but there is no `app` that has some"
        else:
            yield from (f"[topologies.{name}]: {mistake}" for mistake in mistakes_in(graph, grouping))
    yield from dict.fromkeys(_circles(settings, graph))


def _all_services(settings: Settings, graph: Graph | None) -> list[str]:
    """Those that consist of components in some topology."""
    found: dict[str, None] = {}
    if graph is not None:
        found |= dict.fromkeys(service for name in BUILT_IN for service in topology_for(graph, name, {}).services)
    for services in settings.topologies.values():
        found |= dict.fromkeys(services)
    return list(found)


def standing_alone(settings: Settings, graph: Graph | None) -> list[str]:
    """The services that consist of no components in any topology: databases, programs, applications of others."""
    grouped = set(_all_services(settings, graph)) if graph is not None else set[str]()
    return [name for name, one in settings.services.items() if one.foreign and name not in grouped]


def ready_before(settings: Settings, services: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """For each of these services, with their components, those that are to be ready before it starts.

    Programs that stand alone come before all others: a database has to be there before those who use it.
    """
    alone = [name for name, components in services.items() if not components and settings.service(name).command]
    found: dict[str, list[str]] = {}
    for name in services:
        after = [*settings.service(name).after, *(alone if name not in alone else ())]
        found[name] = [other for other in dict.fromkeys(after) if other in services and other != name]
    return found


def _circles(settings: Settings, graph: Graph | None) -> Iterator[str]:
    """Services that wait for each other in some topology, so that none of them would ever start."""
    alone = dict.fromkeys(standing_alone(settings, graph), ())
    groupings: list[Mapping[str, Iterable[str]]] = [alone]
    if graph is not None:
        named = [name for name, grouping in settings.topologies.items() if not mistakes_in(graph, grouping)]
        groupings = [topology_for(graph, name, settings.topologies).services for name in (*BUILT_IN, *named)]
    for services in groupings:
        circle = _circle(ready_before(settings, {**alone, **services}))
        if circle:
            waits = ", ".join(f"{name} after {other}" for name, other in pairwise([*circle, circle[0]]))
            yield f"none could start first: {waits}; programs without components start before all others: mend `after`"


def _circle(before: Mapping[str, Iterable[str]]) -> list[str]:
    """Names each of which has the next among those before it, and the last one the first; empty: there are none."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name not in done:
            for other in before.get(name, ()):
                if found := follow(other, [*path, name]):
                    return found
            done.add(name)
        return []

    for name in before:
        if found := follow(name, []):
            return found
    return []


def overrides(graph: Graph, environ: Mapping[str, str], mistakes: list[str]) -> dict[tuple[str, str], str]:
    """Values by component and field; a variable of a component that has no such field is a mistake."""
    variables = {
        f"FISSILE_{name}_{field}".upper(): (name, field)
        for name, component in graph.components.items()
        for config in component.configs
        for field in field_names(config.type)
    }
    prefixes = tuple({f"FISSILE_{name}_".upper() for name, _ in variables.values()})
    for variable in environ:
        if variable.startswith(prefixes) and variable not in variables:
            known = near(variable, variables)
            mistakes.append(f"the environment's {variable} is no component's field{known}: {listed(variables)}")
    return {where: environ[variable] for variable, where in variables.items() if variable in environ}
