"""What a start waits for, and in words; and whether it can still succeed."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from fissile.names import ServiceName, SetName, service_of
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.plan import awaits
from fissile.orchestrator.reasons import Reason
from fissile.orchestrator.replica import Observed, ObservedSet

# In a row, of one slot; then its service cannot be started.
START_ATTEMPTS_MAX = 3
# Of a process that runs migrations.
NO_SLOT = -1
# The others are counted.
NAMED_MAX = 3


class Awaited(msgspec.Struct, frozen=True):
    """A service whose replicas are waited for: how many are ready of how many that are wanted.

    held: its data is brought up to date first. program: how it is seen that its program serves, "" where it says so
    itself. trouble: how its last replica ended before it was ready, if one did. after: services that have to serve
    before it is started.
    """

    service: ServiceName
    ready: int
    wanted: int
    held: bool = False
    program: str = ""
    trouble: Reason | None = None
    after: tuple[ServiceName, ...] = ()


def awaited_sets(
    names: Iterable[SetName],
    desired: Desired,
    observed: Observed,
    held: Collection[SetName],
    how_ready: Callable[[SetName], str],
) -> list[Awaited]:
    """How far these sets have come, as far as anybody wants them. held, how_ready: `held` and `program` of Awaited."""

    def told(name: SetName, wanted: int) -> Awaited:
        seen = observed.sets.get(name) or ObservedSet()
        after = awaits(desired, observed, name)
        ready, trouble = seen.ready(), seen.last_trouble()
        return Awaited(service_of(name), ready, wanted, name in held, how_ready(name), trouble, after)

    return [told(name, desired.sets[name].replicas) for name in names if name in desired.sets]


def awaited(services: Sequence[Awaited]) -> str:
    """What is waited for; "" where all are there."""
    missing = [one for one in services if one.held or one.ready < one.wanted]
    missing.sort(key=lambda one: bool(one.after))  # what all wait for comes first
    told = [_told(one) for one in missing[:NAMED_MAX]]
    more = len(missing) - NAMED_MAX
    return "; ".join([*told, *([f"and {more} more"] if more > 0 else [])])


def _told(one: Awaited) -> str:
    if one.held:
        return f"migrating {one.service}"
    if one.after:
        return f"{one.service} waits for {', '.join(one.after)}"
    count = f" {one.ready}/{one.wanted}" if one.wanted > 1 else ""
    said = f"waiting until {one.service}{count} {one.program}" if one.program else f"starting {one.service}{count}"
    return f"{said}; the last attempt failed: {one.trouble.brief}" if one.trouble is not None else said


def missing(
    sets: Iterable[SetName], desired: Desired, observed: Observed, held: Collection[SetName] = ()
) -> list[SetName]:
    """Which of these replica sets have fewer ready replicas than are wanted. held: those that may not have any yet."""
    wanted = desired.sets
    return [name for name in sets if name in held or observed.replica_set(name).ready() < wanted[name].replicas]


def cannot_start(
    sets: Iterable[SetName], observed: Observed, failed: Mapping[SetName, Reason]
) -> tuple[SetName, int, Reason] | None:
    """The first of these replica sets that nobody waits for any more, its slot, and why; None where all may come up.

    failed: by replica set, why its migrations failed, which have no slot.
    """
    for name in sets:
        if name in failed:
            return name, NO_SLOT, failed[name]
        for slot, memory in observed.replica_set(name).slots.items():
            hopeless = memory.deaths.in_a_row >= START_ATTEMPTS_MAX or memory.mistake
            if hopeless and memory.last_trouble is not None:
                return name, slot, memory.last_trouble
    return None


def may_stay(desired: Desired, observed: Observed) -> bool:
    """Whether replicas that nobody could adopt may serve until others do in their place, and so beside them."""
    return all(want.allow_overlap for name, want in desired.sets.items() if _lives(observed, name) < want.replicas)


def _lives(observed: Observed, name: SetName) -> int:
    """How many replicas a set has, those included that have not reported yet."""
    return sum(1 for replica in observed.replica_set(name).replicas.values() if replica.lives())
