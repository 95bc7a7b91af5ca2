"""What to do now, so that what is observed becomes what is desired.

Level-triggered: it looks at the states alone, never at how they came about, so it may be asked again
at any time, and after any death of whoever asks. `Plan.due` says when to ask at the latest, should
nothing be observed before. In the steady state it is one quick look at each replica.
"""

from collections.abc import Iterable, Mapping
from math import inf

import msgspec

from fissile.names import OfSet, ServiceName, SetName, service_of
from fissile.orchestrator.acts import ACTOR, Change, GiveUpRestart
from fissile.orchestrator.desired import Desired, DesiredSet
from fissile.orchestrator.reasons import (
    DoesNotEnd,
    DrainTimeOver,
    LeastBusy,
    NotReadyInTime,
    NotWanted,
    Reason,
    Replaced,
    RestartWanted,
    ServesNobodyYet,
    Silent,
    SlotEmpty,
)
from fissile.orchestrator.replica import DRAINING, READY, STARTING, Observed, ObservedSet, Replica

# Between the polite signal and the other one.
TERMINATE_SECONDS_MAX = 2.0
# Of the whole application at once: a burst of starts must not starve what serves.
STARTING_MAX = 32


class StartReplica(OfSet, frozen=True):
    """Start a replica in a slot."""

    slot: int
    revision: int
    reason: Reason


class DrainReplica(msgspec.Struct, frozen=True):
    """Let it finish its work and end."""

    replica: Replica
    reason: Reason


class StopReplica(msgspec.Struct, frozen=True):
    """Tell it by signal to end: its time to drain is over."""

    replica: Replica
    reason: Reason


class KillReplica(msgspec.Struct, frozen=True):
    """End it at once. fault: it has not done what it should have, so its end counts as a death."""

    replica: Replica
    reason: Reason
    fault: bool = False


class AbandonRestart(OfSet, frozen=True):
    """Change what is desired: the new replicas of a set do not come up, and those that are there stay."""

    change: Change


Action = StartReplica | DrainReplica | StopReplica | KillReplica | AbandonRestart


class Plan(msgspec.Struct, frozen=True):
    """What to do now, and when to ask again (monotonic seconds)."""

    actions: tuple[Action, ...]
    due: float


def plan(desired: Desired, observed: Observed, now: float, *, starting_max: int = STARTING_MAX) -> Plan:
    """What to do at `now` (monotonic seconds)."""
    actions: list[Action] = []
    due = inf
    found = observed.sets
    for name, want in desired.sets.items():
        service = found.get(name)
        if service is None:
            service = ObservedSet()
        when = _steady(want, service, now)
        if when is None:
            step = _Step(name, want, service, now, not service.served and bool(waits_for(desired, want, found)))
            step.decide()
            actions += step.actions
            when = step.due
        if when < due:
            due = when
    for name, service in found.items():
        if name not in desired.sets and service.replicas:
            step = _Step(name, DesiredSet(replicas=0, replicas_min=0, replicas_max=0), service, now)
            step.decide()
            actions += step.actions
            due = min(due, step.due)
    if any(type(action) is StartReplica for action in actions):
        actions = _not_too_many(actions, found.values(), starting_max)
    return Plan(tuple(actions), due)


def _steady(want: DesiredSet, service: ObservedSet, now: float) -> float | None:
    """When to look again, if there is nothing to do and nothing is under way; else None."""
    replicas = service.replicas
    if len(replicas) != want.replicas:
        return None
    revision = want.revision
    oldest = inf
    for replica in replicas.values():
        if replica.state is not READY or replica.revision < revision or replica.stuck or replica.ending:
            return None
        if replica.heard_at < oldest:
            oldest = replica.heard_at
    if len({replica.slot for replica in replicas.values()}) != len(replicas):
        return None
    silent = oldest + want.silent_seconds_max
    return silent if silent > now else None


def waits_for(desired: Desired, want: DesiredSet, found: Mapping[SetName, ObservedSet]) -> list[SetName]:
    """The sets that have to serve before the first replica of one that has not served yet."""
    # Who sleeps, or is scaled to zero, is waited for by nobody.
    others = [other for other in want.after if other in desired.sets and desired.sets[other].replicas]
    return [other for other in others if other not in found or not found[other].served]


def drained_by(replica: Replica, want: DesiredSet) -> float:
    """Until when one that drains may take its time (monotonic seconds)."""
    return replica.since + want.drain_seconds_max + want.stop_seconds_max


def seconds_left(replica: Replica, want: DesiredSet, stops_by: float, now: float) -> float:
    """For how long a replica that was told to end may still go on.

    stops_by: when all is to have stopped (monotonic seconds); 0: nothing stops as a whole.
    """
    if replica.ending and replica.state is not DRAINING:
        return max(0.0, stops_by - now) if stops_by else 0.0
    return max(0.0, drained_by(replica, want) - now)


def awaits(desired: Desired, observed: Observed, name: SetName) -> tuple[ServiceName, ...]:
    """The services that have to serve before the first replica of a replica set is started."""
    want, found = desired.sets.get(name), observed.sets
    if want is None or not want.replicas or (name in found and found[name].served):
        return ()
    return tuple(dict.fromkeys(map(service_of, waits_for(desired, want, found))))


def _not_too_many(actions: list[Action], services: Iterable[ObservedSet], starting_max: int) -> list[Action]:
    starting = sum(1 for service in services for replica in service.replicas.values() if replica.state is STARTING)
    left = starting_max - starting
    kept: list[Action] = []
    for action in actions:
        if type(action) is StartReplica:
            left -= 1
            if left < 0:
                continue  # asked again when one of those becomes ready
        kept.append(action)
    return kept


class _Step:
    """One set that is not as it should be."""

    def __init__(self, name: SetName, want: DesiredSet, service: ObservedSet, now: float, waits: bool = False) -> None:
        self.actions: list[Action] = []
        self.due = inf
        self._name = name
        self._want = want
        self._service = service
        self._now = now
        self._waits = waits
        self._in_slot: dict[int, list[Replica]] = {}
        self._abandoned = False

    def decide(self) -> None:
        """Fill `actions` and `due`."""
        for replica in self._service.replicas.values():
            if not self._overdue(replica) and replica.lives():
                self._in_slot.setdefault(replica.slot, []).append(replica)
        slots = self._slots()
        busy = sum(1 for slot in slots if len(self._in_slot.get(slot, ())) > 1)
        if not self._want.allow_overlap:
            busy = self._want.replicas - self._service.ready()
        surge = max(1, len(slots) // 4)
        for slot in slots:
            here = self._in_slot.get(slot, [])
            if not here:
                self._start_empty(slot)
            else:
                busy += self._replace(slot, here, busy < surge)

    def _at(self, when: float) -> bool:
        """Whether the time has come; if not, it is noted."""
        if when <= self._now:
            return True
        self.due = min(self.due, when)
        return False

    def _overdue(self, replica: Replica) -> bool:
        """Whether it has used up its time, and is therefore ended by force."""
        want = self._want
        if replica.state is DRAINING:
            limit = drained_by(replica, want)
            if not replica.told_to_stop:
                if self._at(limit):
                    self.actions.append(StopReplica(replica, DrainTimeOver()))
            elif not replica.ending and self._at(limit + TERMINATE_SECONDS_MAX):
                self.actions.append(KillReplica(replica, DoesNotEnd()))
            return True
        if replica.ending:
            return True
        why: Reason | None = replica.stuck
        if why is None and replica.state is STARTING and self._at(replica.since + want.start_seconds_max):
            why = NotReadyInTime(want.start_seconds_max)
        if why is None and replica.state is READY and self._at(replica.heard_at + want.silent_seconds_max):
            why = Silent(self._now - replica.heard_at)
        if why is not None:
            self.actions.append(KillReplica(replica, why, fault=True))
        return why is not None

    def _slots(self) -> list[int]:
        """The slots that are to have a replica; what is in others is let go."""
        want = self._want.replicas
        memories = self._service.slots
        waiting = [slot for slot, memory in memories.items() if slot not in self._in_slot and memory.reason]
        kept = sorted({*self._in_slot, *waiting})
        if len(kept) > want:
            leaving = sorted(kept, key=self._worth)[: len(kept) - want]
            for slot in leaving:
                self._let_go(slot)
            kept = [slot for slot in kept if slot not in leaving]
        draining = {replica.slot for replica in self._service.replicas.values() if replica.state is DRAINING}
        taken = {*kept, *draining} if self._want.allow_overlap else set(kept)
        number = 0
        while len(kept) < want:
            if number not in taken:
                kept.append(number)
            number += 1
        return sorted(kept)

    def _worth(self, slot: int) -> tuple[int, float, float]:
        """Least first: broken ones, then those that start, then the idlest, the youngest of equals."""
        here = self._in_slot.get(slot)
        if not here:
            return (0, 0.0, -slot)
        ready = [replica for replica in here if replica.state is READY]
        if not ready:
            return (1, 0.0, -here[0].since)
        return (2, sum(replica.load for replica in ready), -ready[0].since)

    def _let_go(self, slot: int) -> None:
        wanted = self._want.replicas
        for replica in self._in_slot.get(slot, ()):
            if replica.state is READY:
                self.actions.append(DrainReplica(replica, LeastBusy(wanted)))
            elif not replica.unheard:
                self.actions.append(KillReplica(replica, ServesNobodyYet(wanted)))

    def _start_empty(self, slot: int) -> None:
        memory = self._service.slots.get(slot)
        if self._waits or (memory is not None and not self._at(memory.not_before)):
            return
        if not self._want.allow_overlap and any(replica.slot == slot for replica in self._service.replicas.values()):
            return  # its end is observed
        reason = memory.reason if memory is not None else None
        if reason is None:
            reason = SlotEmpty(slot, self._want.replicas)
        self.actions.append(StartReplica(self._name, slot, self._want.revision, reason))

    def _replace(self, slot: int, here: list[Replica], may_start: bool) -> bool:
        """Start first, drain after: there is always somebody. Whether one more slot has two replicas now."""
        if len(here) > 1:
            self._one_stays(here)
            return False
        (only,) = here
        revision = self._want.revision
        if only.revision >= revision:
            return False
        memory = self._service.slots.get(slot)
        if not self._want.allow_overlap:
            if may_start and not only.unheard:
                reason = RestartWanted(alone=True)
                ready = only.state is READY
                self.actions.append(DrainReplica(only, reason) if ready else KillReplica(only, reason))
            return may_start
        if memory is not None and memory.failed_revision == revision:
            if not self._abandoned:
                # The replicas that are there are as good as any.
                oldest = min(replica.revision for replica in self._service.replicas.values() if replica.lives())
                act = GiveUpRestart(self._name, oldest, revision)
                self.actions.append(AbandonRestart(self._name, Change(ACTOR, act, memory.last_trouble or "")))
            self._abandoned = True
        elif may_start and not self._abandoned:
            self.actions.append(StartReplica(self._name, slot, revision, RestartWanted()))
            return True
        return False

    def _one_stays(self, here: list[Replica]) -> None:
        """Several live in one slot: the newest that serves, unless one that is wanted is on its way."""
        ready = [replica for replica in here if replica.state is READY]
        best = max(ready, key=lambda replica: (replica.revision, replica.serial), default=None)
        if best is None:
            return
        for replica in here:
            if replica is best or replica.unheard:
                continue
            if replica.state is READY:
                self.actions.append(DrainReplica(replica, Replaced()))
            elif replica.revision <= best.revision:
                self.actions.append(KillReplica(replica, Replaced()))
            elif replica.revision != self._want.revision:
                self.actions.append(KillReplica(replica, NotWanted()))
