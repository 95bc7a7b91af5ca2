"""In which order services stop: callers before those whom they call.

So nobody is called after its end, and what is in flight is finished from the outside in.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence, Set

from fissile.names import ServiceName, SetName
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.replica import Observed


def stopping_order(desired: Desired, observed: Observed) -> list[tuple[SetName, ...]]:
    """All replica sets in waves, when everything is to end: all of one wave may stop together.

    While a rollout is under way, a set that both releases share outlives its callers in each of them. What no live
    release has comes last.
    """
    releases = desired.releases()
    waves = merged([[tuple(one.sets[service] for service in wave) for wave in one.waves] for one in releases])
    known = {name for wave in waves for name in wave}
    others = (*(name for one in releases for name in one.sets.values()), *observed.sets)
    rest = tuple(dict.fromkeys(name for name in others if name not in known))
    return [*waves, rest] if rest else waves


def merged(orders: Iterable[Sequence[Sequence[SetName]]]) -> list[tuple[SetName, ...]]:
    """One order that keeps to several, each in waves. Where they contradict each other, the former ones yield."""
    left = [[wave for wave in map(list, order) if wave] for order in orders]
    found: list[tuple[SetName, ...]] = []
    while left := list(filter(None, left)):
        heads = dict.fromkeys(name for waves in left for name in waves[0])
        later = {name for waves in left for wave in waves[1:] for name in wave}
        done = tuple(name for name in heads if name not in later) or tuple(heads)
        found.append(done)
        left = [_without(waves, done) for waves in left]
    return found


def _without(waves: list[list[SetName]], done: Collection[SetName]) -> list[list[SetName]]:
    rest = ([name for name in wave if name not in done] for wave in waves)
    return [wave for wave in rest if wave]


def stop_waves(
    services: Mapping[ServiceName, Sequence[str]], references: Mapping[str, Set[str]]
) -> list[tuple[ServiceName, ...]]:
    """Services in waves: all of one wave may stop together once those before it have stopped.

    services: components by service. references: components that a component calls. Services that
    call each other in a circle stop in one wave.
    """
    service_of = {component: service for service, components in services.items() for component in components}
    calls: dict[ServiceName, set[ServiceName]] = {
        service: {
            service_of[target]
            for component in components
            for target in references.get(component, ())
            if target in service_of and service_of[target] != service
        }
        for service, components in services.items()
    }
    left = list(services)
    waves: list[tuple[ServiceName, ...]] = []
    while left:
        reached = {service: _reached(service, calls, left) for service in left}
        # Whoever still calls it, in however many steps, it calls as well: nobody, or its own circle.
        wave = tuple(s for s in left if all(other in reached[s] for other in left if s in reached[other]))
        waves.append(wave)
        left = [service for service in left if service not in wave]
    return waves


def _reached(
    start: ServiceName, calls: Mapping[ServiceName, Set[ServiceName]], among: Sequence[ServiceName]
) -> set[ServiceName]:
    """Those that `start` calls, in any number of steps."""
    seen: set[ServiceName] = set()
    todo = [start]
    while todo:
        new = {target for target in calls[todo.pop()] if target in among} - seen
        seen |= new
        todo.extend(new)
    return seen
