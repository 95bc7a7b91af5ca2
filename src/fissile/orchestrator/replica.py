"""What is known of replicas: their one-way states, and the one door by which observations alter them.

A replica is one process in a slot of a service. It never goes back: a dead one is followed by another
with a serial of its own, and what its slot remembers of the deaths says when.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from math import inf

import msgspec

from fissile.names import ServiceName, SetName, service_of
from fissile.orchestrator.invariants import Broken, Invariant
from fissile.orchestrator.reasons import EndedAtFault, InPlace, PlacesHeld, Reason
from fissile.orchestrator.restart import DEFAULT_POLICY, Deaths, ReplicaExited, RestartPolicy, decide
from fissile.runtime.control import Heartbeat


class ReplicaState(StrEnum):
    """starting → ready → draining → stopped; failed is the end that nobody ordered."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


TRANSITIONS: Mapping[ReplicaState, frozenset[ReplicaState]] = {
    ReplicaState.STARTING: frozenset({ReplicaState.READY, ReplicaState.STOPPED, ReplicaState.FAILED}),
    ReplicaState.READY: frozenset({ReplicaState.DRAINING, ReplicaState.STOPPED, ReplicaState.FAILED}),
    ReplicaState.DRAINING: frozenset({ReplicaState.STOPPED}),
    ReplicaState.STOPPED: frozenset(),
    ReplicaState.FAILED: frozenset(),
}

# Hot in a plan of thousands of replicas: a global is found faster than an attribute of the class.
STARTING, READY, DRAINING = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING


class Replica(msgspec.Struct, eq=False):
    """One process as it is known. Times are monotonic seconds.

    set: that it belongs to. revision: of that, when it was started. since: when its state began. heard_at: its last
    sign of life. report: the newest that it has said of itself. stuck: why it is at fault, as that it hangs, if it is.
    ending: why it was ordered to end at once: it counts no more. routes: the version of those that it was started with.
    asked_at: when it was last asked where it stands.
    """

    serial: int
    set: SetName
    slot: int
    revision: int
    build: str
    since: float
    state: ReplicaState = ReplicaState.STARTING
    pid: int = 0
    heard_at: float = 0.0
    ready_at: float | None = None
    report: Heartbeat | None = None
    stuck: Reason | None = None
    ending: Reason | None = None
    told_to_stop: bool = False
    unheard: bool = False
    routes: int = 0
    asked_at: float = -inf

    @property
    def service(self) -> ServiceName:
        """Whose replica it is."""
        return service_of(self.set)

    @property
    def key(self) -> str:
        """Its name among all replicas that ever lived here."""
        return f"{self.set}.{self.slot}.{self.serial}"

    @property
    def load(self) -> float:
        """Calls and requests that run or wait at it, as far as it has said."""
        return self.report.load if self.report is not None else 0.0

    @property
    def end_is_wished(self) -> bool:
        """Whether it was ordered to end, and for no fault of its own."""
        return self.state is DRAINING or (self.ending is not None and self.stuck is None)

    def become(self, state: ReplicaState, now: float) -> Broken | None:
        """The one door by which the state changes. What is no step forward leaves it as it is, and is returned."""
        if state not in TRANSITIONS[self.state]:
            return Broken(Invariant.REPLICA_STATES, f"{self.key}: {self.state} → {state}", self.set)
        self.state = state
        self.since = now
        return None

    def lives(self) -> bool:
        """Whether it serves, or is about to."""
        return (self.state is READY or self.state is STARTING) and not self.ending


class SlotMemory(msgspec.Struct):
    """What outlives a slot's replicas: its deaths, when the next may start, and why there is a next.

    mistake: whether the last one could not start because of something that people have to mend.
    """

    deaths: Deaths = Deaths()
    not_before: float = -inf
    reason: Reason | None = None
    looping: bool = False
    failed_revision: int = 0
    last_trouble: Reason | None = None
    mistake: bool = False


class ObservedSet(msgspec.Struct):
    """A replica set's replicas by serial, in the order of their starts, and its slots' memories.

    served: whether any replica was ever ready. changed: the `changes` of all that is observed when this changed last.
    """

    replicas: dict[int, Replica] = {}
    slots: dict[int, SlotMemory] = {}
    restarts: int = 0
    served: bool = False
    changed: int = 0

    def memory(self, slot: int) -> SlotMemory:
        """What a slot remembers; a new one, nothing."""
        return self.slots.setdefault(slot, SlotMemory())

    def newest(self, slot: int) -> Replica | None:
        """Who answers in a slot where each replica listens by itself: the newest that is ready, or else the newest."""
        here = (replica for replica in self.replicas.values() if replica.slot == slot)
        return max(here, key=lambda one: (one.state is READY, one.serial), default=None)

    def newest_revision(self) -> int:
        """The highest that any replica has or had, of those remembered."""
        return max(
            (
                *(replica.revision for replica in self.replicas.values()),
                *(memory.failed_revision for memory in self.slots.values()),
            ),
            default=0,
        )

    def trouble_of(self, revision: int) -> Reason | None:
        """Why a replica of a revision did not come up."""
        return next((m.last_trouble for m in self.slots.values() if m.failed_revision == revision), None)

    def last_trouble(self) -> Reason | None:
        """Why the last replica ended that served for a moment or never; None if none did since one served well."""
        return next((m.last_trouble for m in self.slots.values() if m.deaths.in_a_row), None)

    def ready(self) -> int:
        """How many replicas serve."""
        return sum(1 for replica in self.replicas.values() if replica.state is READY and not replica.ending)


class ReplicaReady(msgspec.Struct, frozen=True):
    """It serves."""


class ReplicaReported(msgspec.Struct, frozen=True):
    """It lives, and says how it is. Of reports that overtake each other, the newest counts."""

    report: Heartbeat


class ReplicaDraining(msgspec.Struct, frozen=True):
    """It finishes its work and ends, though nobody here has ordered that: a signal did, or a supervisor that died."""


class ReplicaHung(msgspec.Struct, frozen=True):
    """Its event loop is stuck, or all its places are."""

    why: Reason


class ReplicaEnded(msgspec.Struct, frozen=True):
    """Its process is gone, or never came to be. chance: in [0, 1), for the jitter.

    mistake: whether people have to mend something before one can start.
    """

    how: Reason
    chance: float = 0.0
    mistake: bool = False


Observation = ReplicaReady | ReplicaReported | ReplicaDraining | ReplicaHung | ReplicaEnded


def stuck_places(seconds: float, holders: Mapping[str, int], seconds_max: float) -> PlacesHeld | None:
    """Why a replica is stuck whose places are all held by calls whose time is up, None while it may recover.

    seconds: for how long. holders: how many places each method holds.
    """
    return PlacesHeld(seconds, holders) if seconds >= seconds_max else None


class Observed(msgspec.Struct):
    """All that is known of one application's replicas.

    broken: what must not be so, and was found to be, until somebody takes it from here.
    changes: how often something changed by which it is decided who is routed to. Reports are no such thing: heard says
    how many there were.
    """

    sets: dict[SetName, ObservedSet] = {}
    last_serial: int = 0
    changes: int = 0
    heard: int = 0
    broken: list[Broken] = []

    def replica_set(self, name: SetName) -> ObservedSet:
        """What is known of a replica set; at first, nothing."""
        return self.sets.setdefault(name, ObservedSet())

    def _changed(self, found: ObservedSet) -> None:
        self.changes += 1
        found.changed = self.changes

    def forget(self, name: SetName) -> None:
        """A set is no more."""
        self.sets.pop(name, None)
        self.changes += 1

    def forget_deaths(self, name: SetName) -> None:
        """Of a set whose replicas are to be started as if none had ever died."""
        found = self.replica_set(name)
        found.slots.clear()
        self._changed(found)

    def unheard(self) -> set[SetName]:
        """The sets of which not all replicas have said how they are."""
        return {name for name, found in self.sets.items() if any(r.unheard for r in found.replicas.values())}

    def reports(self) -> Iterator[tuple[int, Heartbeat]]:
        """What replicas have said last, by serial."""
        for found in self.sets.values():
            for serial, replica in found.replicas.items():
                if replica.report is not None:
                    yield serial, replica.report

    def next_serial(self) -> int:
        """No process has had it, and none will have it again."""
        self.last_serial += 1
        return self.last_serial

    def _become(self, replica: Replica, state: ReplicaState, now: float) -> bool:
        broken = replica.become(state, now)
        if broken is not None:
            self.broken.append(broken)
        return broken is None

    def count_on(self, serials: Iterable[int]) -> None:
        """These were given by a supervisor before."""
        self.last_serial = max(self.last_serial, *serials, 0)

    def begin(self, name: SetName, slot: int, revision: int, build: str, now: float) -> Replica:
        """A replica is about to be started: from now on it is reckoned with."""
        highest = max(self.replica_set(name).replicas, default=0)
        if highest > self.last_serial:
            broken = Broken(Invariant.SERIALS, f"{self.last_serial + 1} is next, and {name} has {highest}", name)
            self.broken.append(broken)
            self.count_on(serial for found in self.sets.values() for serial in found.replicas)
        replica = Replica(self.next_serial(), name, slot, revision, build, now, heard_at=now)
        self._enter(replica)
        return replica

    def adopt(self, serial: int, name: SetName, slot: int, revision: int, build: str, pid: int, now: float) -> Replica:
        """A replica that somebody else started is found."""
        replica = Replica(serial, name, slot, revision, build, now, pid=pid, heard_at=now, unheard=True)
        if any(serial in found.replicas for found in self.sets.values()):
            # Two processes cannot be told apart by it: the first one is known, and this one is nobody's.
            self.broken.append(Broken(Invariant.SERIALS, f"{replica.key} is found, and {serial} is there", name))
            return replica
        self._enter(replica)
        return replica

    def _enter(self, replica: Replica) -> None:
        found = self.replica_set(replica.set)
        found.replicas[replica.serial] = replica
        found.memory(replica.slot).reason = None
        self.count_on([replica.serial])
        self._changed(found)

    def drain(self, replica: Replica, now: float) -> bool:
        """A replica takes no new work from now on. False, and nothing altered, where it cannot."""
        if not self._become(replica, DRAINING, now):
            return False
        replica.unheard = False
        self._changed(self.replica_set(replica.set))
        return True

    def stop(self, replica: Replica) -> None:
        """A replica is about to be told by signal to end: its time to drain is over."""
        replica.told_to_stop = True

    def end(self, replica: Replica, reason: Reason, *, fault: bool) -> None:
        """A replica is about to be killed: from now on it counts no more."""
        replica.ending = reason
        self._changed(self.replica_set(replica.set))
        if fault:
            replica.stuck = replica.stuck or reason

    def observe(
        self, replica: Replica, observation: Observation, now: float, policy: RestartPolicy = DEFAULT_POLICY
    ) -> Reason | None:
        """Something was seen of a replica; what follows from its end, None where nothing is to be said.

        What comes late, as a report of a replica that is gone, changes nothing.
        """
        found = self.sets.get(replica.set)
        if found is None or found.replicas.get(replica.serial) is not replica:
            return None
        if not isinstance(observation, ReplicaReported):
            self._changed(found)
        if isinstance(observation, ReplicaEnded):
            return self._ended(found, replica, observation, now, policy)
        replica.heard_at = max(replica.heard_at, now)
        if isinstance(observation, ReplicaReady):
            self._serves(found, replica, now)
        elif isinstance(observation, ReplicaReported):
            self.heard += 1
            if replica.report is None or observation.report.number >= replica.report.number:
                replica.report = observation.report
        elif isinstance(observation, ReplicaDraining):
            if replica.lives():
                self._serves(found, replica, now)  # it did, if only for another supervisor
                self.drain(replica, now)
        else:
            replica.stuck = replica.stuck or observation.why
        return None

    def _serves(self, found: ObservedSet, replica: Replica, now: float) -> None:
        replica.unheard = False
        found.served = True
        if replica.state is STARTING:
            self._become(replica, READY, now)
            replica.ready_at = now

    def _ended(
        self, found: ObservedSet, replica: Replica, ended: ReplicaEnded, now: float, policy: RestartPolicy
    ) -> Reason | None:
        wished = replica.end_is_wished
        was_ready = replica.ready_at is not None
        # Its process is gone, whatever was thought of it.
        self._become(replica, ReplicaState.STOPPED if wished else ReplicaState.FAILED, now)
        del found.replicas[replica.serial]
        if wished:
            return None
        how = EndedAtFault(replica.stuck, ended.how) if replica.stuck is not None else ended.how
        memory = found.memory(replica.slot)
        memory.failed_revision = 0 if was_ready else replica.revision
        memory.last_trouble = how
        memory.mistake = ended.mistake
        served = now - replica.ready_at if replica.ready_at is not None else 0.0
        instead = _instead(found, replica)
        exited = ReplicaExited(how, served, ended.mistake, instead)
        memory.deaths, order = decide(memory.deaths, exited, ended.chance, policy)
        memory.not_before = now + order.after_seconds
        memory.reason = None if instead else order.reason
        memory.looping = order.crash_loop
        found.restarts += 1
        return order.reason


def _instead(found: ObservedSet, gone: Replica) -> InPlace:
    """Who is in the place of a replica that has ended."""
    others = [replica for replica in found.replicas.values() if replica.slot == gone.slot and replica.lives()]
    if not others:
        return InPlace.NOBODY
    if any(replica.state is READY and replica.revision < gone.revision for replica in others):
        return InPlace.FORMER
    serves = any(replica.state is READY for replica in others)
    return InPlace.READY if serves else InPlace.STARTING
