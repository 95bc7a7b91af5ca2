"""A supervisor's life on a machine that is not there: the real planner, restart, routes and autoscaler.

Only the shell is another: what it does in the world is done to a simulated machine, and what it sees comes
late, or not at all. Whatever must never be so is looked at after every step; what must become so, at the end.
"""

import random
from collections.abc import Set
from math import inf

import msgspec
from machine import Clock, Habits, Machine, Phase, Process

from fissile.orchestrator import change as changes
from fissile.orchestrator.acts import Change
from fissile.orchestrator.autoscale import Autoscaler, Demand, ScalingPolicy
from fissile.orchestrator.change import apply
from fissile.orchestrator.desired import Desired, DesiredService, service_of
from fissile.orchestrator.plan import (
    AbandonRestart,
    Action,
    DrainReplica,
    KillReplica,
    StartReplica,
    StopReplica,
    plan,
)
from fissile.orchestrator.replica import (
    DRAINING,
    READY,
    Observation,
    Observed,
    Replica,
    ReplicaEnded,
    ReplicaHung,
    ReplicaReady,
    ReplicaReported,
)
from fissile.orchestrator.routes import RouteTable, routes
from fissile.runtime.control import Heartbeat, ReplicaHello

HEARTBEAT_SECONDS = 1.0
STUCK_SECONDS = 3.0
SETTLE_SECONDS = 3.0
STEPS_MAX = 1000


HELLO = ReplicaHello("", "", 0, 0, 0, "", "")


def said(load: float) -> ReplicaReported:
    """By a replica, of calls that run at it."""
    return ReplicaReported(Heartbeat(HELLO, 0.0, load))  # type: ignore[arg-type]


class Broken(AssertionError):
    """What must never be so, is so."""


class ServicePlan(msgspec.Struct):
    """One service of a world. load: calls in flight at it, by time: (from when, how many), ascending."""

    want: DesiredService
    habits: Habits = msgspec.field(default_factory=Habits)
    target: float = 2.0
    weight: float = 1.0
    load: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    waits_for: str = ""

    def in_flight(self, now: float) -> float:
        """What its callers have in flight."""
        return next((load for since, load in reversed(self.load) if since <= now), 0.0)


class World:
    """Services on one machine, under one supervisor at a time."""

    def __init__(
        self,
        seed: int,
        services: dict[str, ServicePlan],
        *,
        cores: int,
        scale_seconds: float = 0.5,
        desired: Desired | None = None,
    ) -> None:
        self.seed = seed
        self.clock = Clock()
        self.services = services
        self.cores = cores
        self.machine = Machine(self.clock, seed, {name: one.habits for name, one in services.items()})
        self.machine.report = self._reported
        self.scale_seconds = scale_seconds
        # What a journal and a zygote keep, and what callers were told.
        self.desired = desired or Desired({name: one.want for name, one in services.items()})
        self.told: dict[str, tuple[str, ...]] = {}
        self.blind: dict[str, bool] = {}
        self.trail: list[tuple[float, str, str]] = []
        self.changed_at = 0.0
        self.calls_routed = 0
        self.last_serial = 0
        self.died_at: dict[tuple[str, int], float] = {}
        self.report_late_seconds = 0.0
        self.loop: Loop | None = None
        self.start_supervisor()

    def plan_of(self, name: str) -> ServicePlan:
        """Of the service that a replica set belongs to."""
        return self.services[service_of(name)]

    def load_of(self, name: str) -> float:
        """What a replica set's callers have in flight."""
        return self.plan_of(name).in_flight(self.clock.now)

    def first_group(self) -> set[str]:
        """The replica sets that share the cores with each other, and not with those that a rollout brings."""
        return set(self.desired.services)

    def log(self, service: str, what: str) -> None:
        """What was done, for people and for comparisons."""
        self.trail.append((self.clock.now, service, what))

    # -- what befalls it --------------------------------------------------------------------------

    def start_supervisor(self) -> None:
        """The first, or the successor of one that died."""
        if self.loop is None:
            self.loop = self.make_loop()

    def make_loop(self) -> "Loop":
        """A supervisor."""
        return Loop(self)

    def kill_supervisor(self) -> None:
        """All that it knew is gone."""
        self.loop = None

    def kill_zygote(self, seconds: float) -> None:
        """No forks until another one has come; what it gave birth to lives."""
        self.machine.zygote_returns_at = self.clock.now + seconds

    def _reported(self, process: Process, what: str) -> None:
        """From a process to whoever supervises at that time."""
        if what == "ended":
            self.died_at[process.service, process.slot] = self.clock.now
        late = self.report_late_seconds * self.machine.dice(process.service).random()
        if what == "ready" and process.mute_until > self.clock.now:
            late += process.mute_until - self.clock.now
        self.clock.after(late, self._deliver, process, what)

    def _deliver(self, process: Process, what: str) -> None:
        if self.loop is not None:
            self.loop.hear(process, what)

    def change(self, change: Change) -> None:
        """Through the one door; durable before it is acted on."""
        before = self.desired
        self.desired = apply(self.desired, change)
        if self.desired != before:
            self.changed_at = self.clock.now
            self.log(getattr(change.what, "service", ""), f"{change.who}: {change.what}")
        if self.loop is not None:
            self.loop.wake()

    def call(self, service: str) -> None:
        """One call by what its callers were told: only a replica that serves may get it.

        A replica that has just failed may be routed to until that could be noticed; where none was ready,
        calls wait at a socket on purpose.
        """
        told = self.told.get(service)
        if not told or self.blind.get(service, True):
            return
        slot = int(self.machine.dice(service).choice(told))
        self.calls_routed += 1
        here = [p for p in self.machine.processes.values() if p.service == service and p.slot == slot]
        if any(p.serves for p in here):
            return
        if self.loop is None or service not in self.loop.table.told:
            return  # nobody can notice, or not yet
        silent_seconds_max = self.plan_of(service).want.silent_seconds_max + HEARTBEAT_SECONDS
        unnoticed = self.clock.now - self.report_late_seconds - 0.1
        hangs = any(
            p.phase is Phase.HUNG and max(p.failed_at, p.mute_until, self.loop.begun) >= unnoticed - silent_seconds_max
            for p in here
        )
        if not hangs and self.died_at.get((service, slot), -inf) < unnoticed:
            raise Broken(f"{service}.{slot}: a call is routed to where nobody serves: {here}")

    # -- what must never be so ---------------------------------------------------------------------

    def check(self, loop: "Loop") -> None:
        """After every step of the loop."""
        for name, want in self.desired.services.items():
            found = loop.observed.service(name)
            # Those that were just found may be draining.
            lives = [r for r in found.replicas.values() if r.lives() and not r.unheard]
            surge = max(1, want.replicas // 4 + 1) if want.overlap else 0
            if len(lives) > want.replicas + surge:
                raise Broken(f"{name}: {len(lives)} replicas, {want.replicas} are wanted")
            slots = [(r.slot, r.revision) for r in lives if not r.unheard]
            if len(set(slots)) != len(slots):
                raise Broken(f"{name}: two replicas in a slot: {slots}")
            if not want.overlap and len({r.slot for r in found.replicas.values()}) != len(found.replicas):
                raise Broken(f"{name}: two processes in a slot though they must not overlap")

    def check_cores(self, counts: dict[str, int]) -> None:
        """After every decision of the autoscaler. One replica of a service that is awake counts as its minimum."""
        first = self.first_group()
        for group in (first, counts.keys() - first):
            extra = self.extra(counts, group)
            if extra > self.cores:
                raise Broken(f"{extra} replicas above the minima, {self.cores} cores")

    def extra(self, counts: dict[str, int], group: Set[str]) -> int:
        """How many replicas above the minima some sets have."""
        services = self.desired.services
        return sum(max(0, counts[name] - max(services[name].replicas_min, 1)) for name in counts if name in group)

    def check_settled(self) -> None:
        """When nothing befell it for a while: the world is as it is desired."""
        loop = self.loop
        if loop is None:
            raise Broken("nobody supervises")
        for name, want in self.desired.services.items():
            real = [p for p in self.machine.processes.values() if p.service == name]
            if sorted(p.phase for p in real) != [Phase.SERVING] * want.replicas:
                raise Broken(f"{name}: {want.replicas} are wanted, there are {real}")
            found = loop.observed.service(name)
            if {r.pid for r in found.replicas.values()} != {p.pid for p in real}:
                raise Broken(f"{name}: known are {found.replicas}, there are {real}")
            # A restart that was given up leaves what is there.
            if any(p.revision < want.revision for p in real):
                raise Broken(f"{name}: replicas of an old revision remain: {real}")
            if want.replicas and set(self.told[name]) != {str(p.slot) for p in real}:
                raise Broken(f"{name}: told are {self.told[name]}, there are {real}")
        actions = plan(self.desired, loop.observed, self.clock.now).actions
        if actions:
            raise Broken(f"there is still something to do: {actions}")


class Loop:
    """One supervisor: what it knows dies with it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.begun = world.clock.now
        self.observed = Observed()
        self.table = RouteTable()
        self.autoscaler = Autoscaler()
        self.by_serial: dict[int, tuple[Replica, Process | None]] = {}
        self.chances = {name: random.Random(f"{world.seed} {name} jitter") for name in world.services}
        self._woken = False
        self.abandoning: set[str] = set()
        self._due = inf
        world.clock.after(HEARTBEAT_SECONDS, self._beat)
        self._adopt()
        self.wake()
        world.clock.after(world.scale_seconds, self._scale)

    @property
    def alive(self) -> bool:
        """Whether it is still the one."""
        return self.world.loop is self

    def _adopt(self) -> None:
        now = self.world.clock.now
        for process in list(self.world.machine.processes.values()):
            if process.service not in self.world.desired.services:
                self.world.machine.signal(process)  # of a release that nobody wants any more
                continue
            replica = self.observed.adopt(
                process.serial, process.service, process.slot, process.revision, "build", process.pid, now
            )
            self.by_serial[process.serial] = (replica, process)
            if process.phase in (Phase.SERVING, Phase.DRAINING):
                self.world.clock.after(0.1 + max(0.0, process.mute_until - now), self._attached, process)
        self.observed.last_serial = max(self.observed.last_serial, self.world.last_serial)
        if self.by_serial:
            self.table.take_over(now + SETTLE_SECONDS)
            self.world.log("", f"adopted {len(self.by_serial)}")

    def _attached(self, process: Process) -> None:
        """A replica has found its new supervisor, and says how it is."""
        if not self.alive or process.serial not in self.by_serial:
            return
        replica, _ = self.by_serial[process.serial]
        if process.phase in (Phase.SERVING, Phase.DRAINING):
            self.see(replica, ReplicaReady())
        if process.phase is Phase.DRAINING and replica.state is READY:
            self.observed.drain(replica, self.world.clock.now)
        self.wake()

    # -- the loop -----------------------------------------------------------------------------------

    def wake(self) -> None:
        """Think again."""
        if not self._woken:
            self._woken = True
            self.world.clock.after(0.0, self._step)

    def _wake_when_due(self, due: float) -> None:
        if self.alive and due == self._due:
            self.wake()

    def _step(self) -> None:
        if not self.alive:
            return
        self._woken = False
        now = self.world.clock.now
        for _ in range(STEPS_MAX):
            found = plan(self.world.desired, self.observed, now)
            written = self.abandoning
            actions = [a for a in found.actions if not (isinstance(a, AbandonRestart) and a.service in written)]
            for action in actions:
                self._perform(action)
            self.world.check(self)
            if not actions:
                break
        else:
            raise Broken(f"the plan never ends: {found.actions}")
        self._tell()
        self._due = due = min(found.due, self.table.due)
        self._go_on()
        if due < inf:
            self.world.clock.at(due, self._wake_when_due, due)

    def _go_on(self) -> None:
        """Whatever else is next."""

    def _routes(self) -> dict[str, tuple[str, ...]]:
        desired = self.world.desired.services
        return {n: tuple(map(str, routes(want, self.observed.service(n)))) for n, want in desired.items()}

    def _tell(self) -> None:
        changed = self.table.update(self._routes(), self.observed.unheard(), self.world.clock.now)
        for name in changed:
            self.world.told[name] = self.table.told[name]
        for name, service in self.observed.services.items():
            ready = {str(r.slot) for r in service.replicas.values() if r.state is READY and not r.ending}
            if name in changed and ready and not ready.issuperset(self.table.told[name]):
                raise Broken(f"{name}: routes {self.table.told[name]}, ready are {ready}")
            self.world.blind[name] = not ready

    def _perform(self, action: Action) -> None:
        world, now = self.world, self.world.clock.now
        if isinstance(action, StartReplica):
            replica = self.observed.begin(action.service, action.slot, action.revision, "build", now)
            world.last_serial = self.observed.last_serial
            self.by_serial[replica.serial] = (replica, None)
            world.log(action.service, f"start in {action.slot}: {action.reason}")
            world.machine.fork(
                replica.serial, action.service, action.slot, action.revision, lambda p: self._born(replica, p)
            )
            return
        if isinstance(action, AbandonRestart):
            world.log(action.service, f"restart abandoned: {action.change.why}")
            self.abandoning.add(action.service)
            self._give_up(action.change, action.service)
            return
        replica = action.replica
        process = self.by_serial[replica.serial][1]
        if isinstance(action, DrainReplica):
            self.observed.drain(replica, now)
            world.log(replica.service, f"drain {replica.slot}: {action.reason}")
            if process is not None:
                world.machine.drain(process)
        elif isinstance(action, StopReplica):
            self.observed.stop(replica)
            if process is not None:
                world.machine.terminate(process)
        else:
            assert isinstance(action, KillReplica)
            cut_off = process is not None and process.phase is Phase.DRAINING and replica.state is not DRAINING
            if cut_off and not action.fault:
                raise Broken(f"{replica.key}: it finishes its work, and is killed: {action.reason}")
            world.log(replica.service, f"kill {replica.slot}: {action.reason}")
            self.observed.end(replica, action.reason, fault=action.fault)
            if process is not None:
                world.machine.signal(process)

    def _give_up(self, change: Change, name: str) -> None:
        """Through the one door."""
        self.world.change(change)
        self.abandoning.discard(name)

    def _born(self, replica: Replica, process: Process | None) -> None:
        if not self.alive:
            return
        if process is None:
            self.see(replica, ReplicaEnded("cannot start: the zygote is away", self._chance(replica.service)))
            return
        replica.pid = process.pid
        self.by_serial[replica.serial] = (replica, process)
        if process.phase is Phase.DEAD:
            self.hear(process, "ended")
        if replica.ending:
            self.world.machine.signal(process)

    # -- what it sees ---------------------------------------------------------------------------------

    def _chance(self, service: str) -> float:
        return self.chances[service_of(service)].random()

    def hear(self, process: Process, what: str) -> None:
        """A report has come."""
        known = self.by_serial.get(process.serial)
        if known is None or (known[1] is None and what == "ended"):
            return
        replica = known[0]
        if what == "ready":
            self.see(replica, ReplicaReady())
        else:
            self.see(replica, ReplicaEnded("was killed", self._chance(replica.service)))

    def see(self, replica: Replica, observation: Observation) -> None:
        """As the supervisor does."""
        self.observed.observe(replica, observation, self.world.clock.now)
        if not isinstance(observation, ReplicaReported):
            self.wake()

    def _beat(self) -> None:
        """Heartbeats of all, and the watchdogs' findings."""
        if not self.alive:
            return
        world = self.world
        now = world.clock.now
        for replica, process in list(self.by_serial.values()):
            if process is None or process.phase is Phase.DEAD:
                continue
            if process.phase in (Phase.SERVING, Phase.DRAINING) and process.mute_until <= now:
                self.see(replica, said(world.load_of(process.service)))
            elif process.phase is Phase.HUNG and process.pid % 2 and now - process.failed_at > STUCK_SECONDS:
                self.see(replica, ReplicaHung("its event loop is stuck"))
        for name in list(world.desired.services):
            world.call(name)
        world.clock.after(HEARTBEAT_SECONDS, self._beat)

    def _scale(self) -> None:
        if not self.alive:
            return
        world, now = self.world, self.world.clock.now
        wanted = {n: want for n, want in world.desired.services.items() if want.automatic}
        policies = {n: self._policy(n, w) for n, w in wanted.items()}
        demands = {n: self._demand(n) for n in world.desired.services}
        counts = {n: w.replicas for n, w in wanted.items()}
        everybody = {n: w.replicas for n, w in world.desired.services.items()}
        for decision in self.autoscaler.decide(policies, everybody, demands, cores=world.cores, now=now):
            act = changes.SetReplicas(decision.service, decision.replicas)
            world.change(Change("autoscaler", act, decision.reason))
            counts[decision.service] = decision.replicas
        for held in self.autoscaler.news():
            world.log(held.service, f"{'freed' if held.over else 'held'} by {held.by}: {held.reason}")
        world.check_cores(counts)
        world.clock.after(world.scale_seconds, self._scale)

    def _policy(self, name: str, want: DesiredService) -> ScalingPolicy:
        plan = self.world.plan_of(name)
        return ScalingPolicy(want.replicas_min, want.replicas_max, plan.target, plan.weight)

    def _demand(self, name: str) -> Demand:
        service, load = self.world.plan_of(name), self.world.load_of(name)
        waiting = {service.waits_for: load} if service.waits_for else {}
        return Demand(load, self.observed.service(name).ready(), waiting)
