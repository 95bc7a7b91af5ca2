"""Which slots of a service its callers are told of.

Those with a ready replica. Where there is none, those that will have one: calls wait in the queue of
the slot's socket, for as long as their deadline allows, instead of failing.
"""

from collections.abc import Collection, Mapping
from math import inf
from typing import NamedTuple

from fissile.names import SetName
from fissile.orchestrator.desired import DesiredSet
from fissile.orchestrator.replica import DRAINING, READY, ObservedSet


class Target(NamedTuple):
    """Where calls go: a slot. serial: of the program in it, for its port is its own; 0: none, or no program."""

    slot: int
    serial: int = 0


def routes(want: DesiredSet, service: ObservedSet) -> tuple[int, ...]:
    """The slots, in order; never none: slot 0 is where a call wakes a service that sleeps."""
    ready = {r.slot for r in service.replicas.values() if r.state is READY and not r.ending}
    if ready:
        return tuple(sorted(ready))
    coming = {r.slot for r in service.replicas.values() if r.state is not DRAINING and not r.ending}
    coming |= {slot for slot, memory in service.slots.items() if memory.reason}
    return tuple(sorted(coming or range(want.replicas) or {0}))


def needed_slots(want: DesiredSet, found: ObservedSet) -> set[int]:
    """Those whose sockets stay open. Slot 0 is one of them: a call there wakes the service."""
    return {replica.slot for replica in found.replicas.values()} | set(routes(want, found)) | {0}


class RouteTable:
    """What callers were told last, by replica set: targets in order.

    A supervisor that takes over knows for a while less than the replicas do: of a set whose replicas have
    not all reported, others keep what they have, until the time is over.
    """

    def __init__(self) -> None:
        self.told: dict[SetName, tuple[Target, ...]] = {}
        self.changes = 0
        self.due = inf
        self._held_until = -inf

    def take_over(self, held_until: float) -> None:
        """What replicas know is not known. held_until: monotonic seconds."""
        self.told = {}
        self.changes += 1
        self._held_until = held_until

    def forget(self, name: SetName) -> None:
        """A set is no more."""
        self.told.pop(name, None)
        self.changes += 1

    def close(self) -> None:
        """Nothing is told any more."""
        self._held_until = inf

    def held(self, now: float) -> bool:
        """Whether what replicas know may be better than what is known here."""
        return now < self._held_until

    def update(
        self, current: Mapping[SetName, tuple[Target, ...]], unheard: Collection[SetName], now: float
    ) -> set[SetName]:
        """The sets whose callers are to be told; `due` says when to ask again at the latest.

        unheard: the sets of which not all replicas have said how they are.
        """
        self.due = inf
        if self._held_until == inf:
            return set()
        held = set(unheard) if self.held(now) else set[SetName]()
        if held:
            self.due = self._held_until
        changed = {name for name, to in current.items() if name not in held and self.told.get(name) != to}
        self.told.update((name, current[name]) for name in changed)
        self.changes += bool(changed)
        return changed
