"""In which order services stop: callers before those whom they call.

So nobody is called after its end, and what is in flight is finished from the outside in.
"""

from collections.abc import Mapping, Sequence, Set


def stop_waves(services: Mapping[str, Sequence[str]], references: Mapping[str, Set[str]]) -> list[tuple[str, ...]]:
    """Services in waves: all of one wave may stop together once those before it have stopped.

    services: components by service. references: components that a component calls. Services that
    call each other in a circle stop in one wave.
    """
    service_of = {component: service for service, components in services.items() for component in components}
    calls: dict[str, set[str]] = {
        service: {
            service_of[target]
            for component in components
            for target in references.get(component, ())
            if target in service_of and service_of[target] != service
        }
        for service, components in services.items()
    }
    left = list(services)
    waves: list[tuple[str, ...]] = []
    while left:
        reached = {service: _reached(service, calls, left) for service in left}
        # Whoever still calls it, in however many steps, it calls as well: nobody, or its own circle.
        wave = tuple(s for s in left if all(other in reached[s] for other in left if s in reached[other]))
        waves.append(wave)
        left = [service for service in left if service not in wave]
    return waves


def _reached(start: str, calls: Mapping[str, Set[str]], among: Sequence[str]) -> set[str]:
    """Those that `start` calls, in any number of steps."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        new = {target for target in calls[todo.pop()] if target in among} - seen
        seen |= new
        todo.extend(new)
    return seen
