"""A supervisor's life on a machine that is not there: what befalls it, and what must never be so.

The supervisor is the production code (`supervising`). What it sees comes late, or not at all. Whatever must never be
so is looked at after every step; what must become so, at the end.
"""

import itertools
from collections.abc import Iterator, Mapping, Set
from math import ceil, inf

import msgspec

from fissile.names import ServiceName, SetName, service_of
from fissile.orchestrator.acts import Change, SetReplicas
from fissile.orchestrator.analysis import Analysis
from fissile.orchestrator.autoscale import STABLE_SECONDS
from fissile.orchestrator.change import ChangeRefused, apply
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout
from fissile.orchestrator.plan import plan
from fissile.orchestrator.replica import READY, Replica
from fissile.orchestrator.routing import Target, Told
from fissile.orchestrator.spec import ReleaseSpec, ScalingSpec, ServiceSpec
from fissile.runtime.control import Heartbeat, ReplicaHello
from fissile.simulation.clock import Clock
from fissile.simulation.dice import Chance
from fissile.simulation.journal import MemoryJournal
from fissile.simulation.machine import Habits, Machine, Phase, Process
from fissile.simulation.promise import Broken, Promise
from fissile.simulation.supervisor import HEARTBEAT_SECONDS, Supervisor

HELLO = ReplicaHello("", "", 0, 0, 0, "", "")
RELEASE = "release"
# For how long faults befall it.
FAULT_SECONDS = 40.0
# The longest pause before a restart, and the limits of a start and of a drain, after the last fault.
RECOVERY_SECONDS = 60.0
QUIET_SECONDS = 15.0
WHO = "operator"


class ServicePlan(msgspec.Struct):
    """One service of a world. load: calls in flight at it, by time: (from when, how many), ascending."""

    want: DesiredSet
    habits: Habits = msgspec.field(default_factory=Habits)
    target: float = 2.0
    weight: float = 1.0
    load: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    waits_for: str = ""

    def in_flight(self, now: float) -> float:
        """What its callers have in flight."""
        return next((load for since, load in reversed(self.load) if since <= now), 0.0)

    def least(self, since: float, now: float) -> float:
        """The least that its callers had in flight between two times."""
        return min([self.in_flight(since), *(load for when, load in self.load if since <= when <= now)])


class World:
    """Services on one machine, under one supervisor at a time."""

    def __init__(
        self,
        chance: Chance,
        services: dict[ServiceName, ServicePlan],
        *,
        cores: int,
        scale_seconds: float = 0.5,
        desired: Desired | None = None,
        write_seconds: float = 0.0,
    ) -> None:
        self.chance = chance
        self.clock = Clock()
        self.dice = chance("shell")
        self.write_seconds = write_seconds
        self.services = services
        self.cores = cores
        self.machine = Machine(self.clock, chance, {name: one.habits for name, one in services.items()})
        self.machine.report = self._reported
        self.scale_seconds = scale_seconds
        # What a journal and a zygote keep, and what callers were told.
        self.specs: dict[str, ReleaseSpec] = self.__dict__.get("specs") or {RELEASE: _release(services)}
        self.journal = MemoryJournal(desired or _desired(services))
        self.told: dict[SetName, tuple[Target, ...]] = {}
        self.supervisors = 0
        # By serial: the routes that a process begins with, and its build.
        self.begins_with: dict[int, tuple[Told, str]] = {}
        self._beats = itertools.count(1)
        self.blind: dict[SetName, bool] = {}
        self.trail: list[tuple[float, str, str]] = []
        self.changed_at = 0.0
        self.calls_routed = 0
        self.last_serial = 0
        self.died_at: dict[tuple[SetName, int], float] = {}
        self.report_late_seconds = 0.0
        self.loop: Supervisor | None = None
        self.machine.prepare = self.prepare
        self.start_supervisor()

    @property
    def desired(self) -> Desired:
        """By what is written: a supervisor may not have heard of it yet."""
        return self.journal.kept

    def plan_of(self, name: SetName) -> ServicePlan:
        """Of the service that a replica set belongs to."""
        return self.services[service_of(name)]

    def load_of(self, name: SetName) -> float:
        """What a replica set's callers have in flight."""
        return self.plan_of(name).in_flight(self.clock.now)

    def first_group(self) -> set[SetName]:
        """The replica sets that share the cores with each other, and not with those that a rollout brings."""
        return set(self.desired.sets)

    def log(self, service: str, what: str) -> None:
        """What was done, for people and for comparisons."""
        self.trail.append((self.clock.now, service, what))

    # -- what befalls it --------------------------------------------------------------------------

    def start_supervisor(self) -> None:
        """The first, or the successor of one that died."""
        if self.loop is None:
            self.loop = Supervisor(self)

    def kill_supervisor(self) -> None:
        """All that it knew is gone."""
        self.loop = None

    def kill_zygote(self, seconds: float) -> None:
        """No forks until another one has come; what it gave birth to lives."""
        self.machine.zygote_returns_at = self.clock.now + seconds

    def _reported(self, process: Process, what: str) -> None:
        """From a process to whoever supervises at that time."""
        if what == "ended":
            self.died_at[process.set, process.slot] = self.clock.now
        late = self.report_late_seconds * self.machine.dice(process.set).random()
        if what == "ready" and process.mute_until > self.clock.now:
            late += process.mute_until - self.clock.now
        self.clock.after(late, self._deliver, process, what)

    def _deliver(self, process: Process, what: str) -> None:
        if self.loop is not None:
            self.loop.hear(process, what)

    def change(self, change: Change) -> None:
        """Somebody's wish; where nobody supervises, it is there for the next one."""
        if self.loop is not None:
            self.loop.submit(change)
            return
        try:
            self.commit(change, apply(self.desired, change))
        except ChangeRefused as error:
            self.log("", f"refused: {error}")

    def commit(self, change: Change, desired: Desired) -> None:
        """It is written, with what is desired from then on."""
        before = self.desired
        self.journal.append(change, desired, self.clock.now)
        if self.desired != before:
            self.changed_at = self.clock.now
            self.log(getattr(change.what, "service", ""), f"{change.who}: {change.what}")

    # -- what replicas are told, and say ------------------------------------------------------------

    def prepare(self, process: Process) -> None:
        """It is about to begin, with what it was told."""
        process.knows, process.build = self.begins_with.pop(process.serial)

    def push(self, process: Process, told: Told) -> None:
        """A supervisor tells a process of other routes."""
        process.knows = told

    def routed(self, loop: Supervisor) -> None:
        """After every step of the loop: what callers are told of now."""
        for name in self.desired.sets:
            found = loop.observed.replica_set(name)
            ready = {r.slot for r in found.replicas.values() if r.state is READY and not r.ending}
            told = loop.state.routed.told.get(name)
            if told is not None and told != self.told.get(name):
                self.told[name] = told
                if ready and not ready.issuperset(target.slot for target in told):
                    raise Broken(Promise.TARGETS_SERVE, f"{name}: routes {told}, ready are {ready}")
            self.blind[name] = not ready

    def beat(self, process: Process) -> None:
        """A process says how it is, unless it cannot."""
        if process.phase in (Phase.SERVING, Phase.DRAINING) and process.mute_until <= self.clock.now:
            self.deliver(process, self.report(process))

    def deliver(self, process: Process, report: Heartbeat) -> None:
        """A heartbeat is on its way to whoever supervises."""
        if self.loop is not None:
            self.loop.heard(process.serial, report)

    def report(self, process: Process) -> Heartbeat:
        """What a process does: its part of what there is for its set, and of what that waits for."""
        load, share = round(self.load_of(process.set)), 0
        serving = self.machine.serving(process.set) if load else []
        if process in serving:
            each = load // len(serving)
            share = load - each * (len(serving) - 1) if process is serving[0] else each
        calls: dict[str, int] = dict.fromkeys(self.called(process.set), share) if share else {}
        return Heartbeat(HELLO, 0.0, share, 0, 0, calls, process.knows.version, number=next(self._beats))

    def called(self, name: SetName) -> Iterator[SetName]:
        """The sets for which a set's calls wait."""
        waits_for = self.plan_of(name).waits_for
        if waits_for:
            yield SetName(waits_for)

    def knocks(self, name: SetName) -> bool:
        """Whether somebody wants a set that sleeps."""
        return self.load_of(name) > 0.0

    # -- of visitors: there are none ------------------------------------------------------------------

    @property
    def door(self) -> str:
        """The public door that clients come to; "" if there is none."""
        return ""

    def hand_over(self, giver: Process, takers: dict[int, int]) -> None:
        """A supervisor tells a replica to whom some of its clients are to go."""

    # -- of rollouts: there are none ------------------------------------------------------------------

    def wall(self) -> float:
        """The clock on the wall."""
        return self.clock.now

    def starts(self, replica: Replica) -> None:
        """A supervisor orders a process."""

    def taken_over(self, loop: Supervisor) -> None:
        """A supervisor begins, and has adopted what it has found."""

    def migration(self, loop: Supervisor, rollout: Rollout) -> str | None:
        """What became of a rollout's migrations: why they failed, "" if they are done, None: they run."""
        raise NotImplementedError

    def analysis(self, release: str) -> Analysis:
        """How good a release is."""
        raise NotImplementedError

    def step_is_decided(self, loop: Supervisor, change: Change) -> None:
        """Before a rollout's next step is written."""

    def looked_at(self, loop: Supervisor) -> None:
        """Once a second."""

    def call(self, service: SetName) -> None:
        """One call by what its callers were told: only a replica that serves may get it.

        A replica that has just failed may be routed to until that could be noticed; where none was ready,
        calls wait at a socket on purpose.
        """
        told = self.told.get(service)
        if not told or self.blind.get(service, True):
            return
        slot = self.machine.dice(service).choice(told).slot
        self.calls_routed += 1
        here = [p for p in self.machine.alive(service) if p.slot == slot]
        if any(p.serves for p in here):
            return
        if self.loop is None or service not in self.loop.state.routed.told:
            return  # nobody can notice, or not yet
        silent_seconds_max = self.plan_of(service).want.silent_seconds_max + HEARTBEAT_SECONDS
        unnoticed = self.clock.now - self.report_late_seconds - 0.1
        hangs = any(
            p.phase is Phase.HUNG and max(p.failed_at, p.mute_until, self.loop.begun) >= unnoticed - silent_seconds_max
            for p in here
        )
        if not hangs and self.died_at.get((service, slot), -inf) < unnoticed:
            raise Broken(Promise.TARGETS_SERVE, f"{service}.{slot}: a call is routed to where nobody serves: {here}")

    # -- what must never be so ---------------------------------------------------------------------

    def check(self, loop: Supervisor) -> None:
        """After every step of the loop."""
        for name, want in self.desired.sets.items():
            found = loop.observed.replica_set(name)
            if not found.replicas:
                continue
            # Those that were just found may be draining.
            lives = [r for r in found.replicas.values() if not r.unheard and r.lives()]
            surge = max(1, want.replicas // 4 + 1) if want.allow_overlap else 0
            if len(lives) > want.replicas + surge:
                raise Broken(Promise.AS_MANY_AS_WANTED, f"{name}: {len(lives)} replicas, {want.replicas} are wanted")
            slots = {(r.slot, r.revision) for r in lives}
            if len(slots) != len(lives):
                raise Broken(Promise.ONE_IN_A_SLOT, f"{name}: two replicas in a slot: {lives}")
            if not want.allow_overlap and len({r.slot for r in found.replicas.values()}) != len(found.replicas):
                raise Broken(Promise.ONE_IN_A_SLOT, f"{name}: two processes in a slot though they must not overlap")

    def is_scaled(self, loop: Supervisor, act: SetReplicas, counts: Mapping[SetName, int]) -> None:
        """Before a decision of the autoscaler: a successor knows of no load, and has seen none go.

        counts: after all that is decided at once. Where cores are scarce, one set gets what another gives.
        """
        want, one = self.desired.sets[act.set], self.plan_of(act.set)
        since = max(0.0, self.clock.now - STABLE_SECONDS)
        if loop.begun == 0.0 or loop.begun < since or act.replicas >= want.replicas:
            return
        load = one.least(since, self.clock.now)
        needed = min(ceil(load / one.target), want.replicas)
        if act.replicas < needed and self.extra(counts, self.first_group()) < self.cores:
            raise Broken(
                Promise.NOBODY_SHRINKS_BLIND,
                f"{act.set}: {act.replicas} instead of {want.replicas}, {load:g} are in flight",
            )

    def check_cores(self, counts: dict[SetName, int]) -> None:
        """After every decision of the autoscaler. One replica of a service that is awake counts as its minimum."""
        first = self.first_group()
        for group in (first, counts.keys() - first):
            extra = self.extra(counts, group)
            if extra > self.cores:
                raise Broken(Promise.CORES_ARE_SHARED, f"{extra} replicas above the minima, {self.cores} cores")

    def extra(self, counts: Mapping[SetName, int], group: Set[SetName]) -> int:
        """How many replicas above the minima some sets have."""
        services = self.desired.sets
        return sum(max(0, counts[name] - max(services[name].replicas_min, 1)) for name in counts if name in group)

    def check_settled(self) -> None:
        """When nothing befell it for a while: the world is as it is desired."""
        loop = self.loop
        if loop is None:
            raise Broken(Promise.SETTLES, "nobody supervises")
        for name, want in self.desired.sets.items():
            real = self.machine.alive(name)
            if sorted(p.phase for p in real) != [Phase.SERVING] * want.replicas:
                raise Broken(Promise.SETTLES, f"{name}: {want.replicas} are wanted, there are {real}")
            found = loop.observed.replica_set(name)
            if {r.pid for r in found.replicas.values()} != {p.pid for p in real}:
                raise Broken(Promise.SETTLES, f"{name}: known are {found.replicas}, there are {real}")
            # A restart that was given up leaves what is there.
            if any(p.revision < want.revision for p in real):
                raise Broken(Promise.SETTLES, f"{name}: replicas of an old revision remain: {real}")
            if want.replicas and {target.slot for target in self.told[name]} != {p.slot for p in real}:
                raise Broken(Promise.SETTLES, f"{name}: told are {self.told[name]}, there are {real}")
        actions = plan(self.desired, loop.observed, self.clock.now).actions
        if actions:
            raise Broken(Promise.SETTLES, f"there is still something to do: {actions}")


def _release(services: Mapping[ServiceName, ServicePlan]) -> ReleaseSpec:
    """One component in each service."""
    specs = {
        name: ServiceSpec(
            components=(str(name),),
            calls=(one.waits_for,) if one.waits_for else (),
            scaling=ScalingSpec(one.target, one.weight),
        )
        for name, one in services.items()
    }
    references = {str(name): spec.calls for name, spec in specs.items()}
    sets = {name: SetName(name) for name in services}
    return ReleaseSpec(
        RELEASE,
        specs,
        sets,
        references,
        builds=dict.fromkeys(services, "build"),
    )


def _desired(services: Mapping[ServiceName, ServicePlan]) -> Desired:
    wants = {SetName(name): msgspec.structs.replace(one.want, release=RELEASE) for name, one in services.items()}
    return Desired(wants, LiveRelease(RELEASE, {name: SetName(name) for name in services}, (tuple(services),)))
