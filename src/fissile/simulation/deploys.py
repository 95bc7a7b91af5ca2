"""Worlds in which releases follow each other, in the middle of crashes and supervisors' deaths.

People deploy, go back, promote, give up and scale; disks are slow, and clocks are set. What must never be so stands in
`promises`.
"""

from collections.abc import Callable, Iterator

import msgspec

from fissile.errors import ConfigError
from fissile.names import ServiceName, SetName, service_of
from fissile.orchestrator.acts import (
    AbortRollout,
    Act,
    BeginRollout,
    Change,
    ScaleService,
)
from fissile.orchestrator.analysis import Analysis, Verdict
from fissile.orchestrator.deploy_rules import (
    DeployOrder,
    back_to,
    changed_specs,
    live_release,
    rollout_to,
    set_spec,
    sets_of,
)
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout, Stage
from fissile.orchestrator.migration_rules import pending
from fissile.orchestrator.reasons import Said
from fissile.orchestrator.replica import Replica
from fissile.orchestrator.rollout import UNDECIDED
from fissile.orchestrator.routing import SetRoutes, Told
from fissile.orchestrator.spec import ReleaseSpec, ScalingSpec, ServiceSpec
from fissile.runtime.control import Heartbeat, Traffic
from fissile.runtime.traffic_split import TrafficSplitter
from fissile.simulation.clients import STICKY_HEADER, Clients
from fissile.simulation.dice import Chance, Dice
from fissile.simulation.invariants import (
    all_is_settled,
    change_is_wrong,
    replicas_know_less,
    step_is_wrong,
    watch_is_too_long,
)
from fissile.simulation.machine import Phase, Process
from fissile.simulation.migrations import Migrations
from fissile.simulation.supervisor import Supervisor
from fissile.simulation.workload import Visits
from fissile.simulation.world import FAULT_SECONDS, WHO, ServicePlan, World
from fissile.telemetry.aggregate import Answers

WHOLE = ServiceName("whole")
# Of the clock on the wall, when a world begins.
EPOCH_SECONDS = 1e6
FIRST = "r0"
# Before a deploy looks again whether the way is clear.
CLEAR_SECONDS = 0.3
TELL_SECONDS = 0.1
IDLE_SECONDS = 2.0


class DeployWorld(World):
    """Services that call each other in a row, the first of them from outside, and their releases."""

    def __init__(
        self,
        chance: Chance,
        services: dict[ServiceName, ServicePlan],
        rare: frozenset[str],
        *,
        cores: int,
        write_seconds: float,
    ) -> None:
        # One component in each service; or all in one, where the topology is the other.
        self.names = list(services)
        self.plans = {**services, WHOLE: services[self.names[0]]}
        self.count = self.changes_of_topology = self.rollbacks = 0
        # By release and service: the replica set that its requests are to meet.
        self.places: dict[str, dict[ServiceName, SetName]] = {}
        self.known: dict[str, LiveRelease] = {}
        self.specs: dict[str, ReleaseSpec] = {}
        self.builds: dict[str, dict[ServiceName, int]] = {}
        self.bounds: dict[str, dict[ServiceName, tuple[int, int]]] = {}
        self.broken: set[tuple[str, int]] = set()
        self.verdicts: dict[str, Verdict] = {}
        # Components that have migrations, at each new build.
        self.migrating = frozenset(name for name in self.names if chance(f"{name} migrates").random() < 0.3)
        self.migrations = Migrations(self, chance("migrations"))
        self.timeline: list[str] = []
        self.cut_off: set[str] = set()
        self.raised_at: dict[str, float] = {}
        self.ends: list[bool] = []
        self.preparing = False
        self.sticky = chance("sticky")
        self.clock_is_off = self.clock_set_at = self.staged_at = 0.0
        # How services were scaled by people since the rollout began.
        self.said: dict[ServiceName, tuple[int, int]] = {}
        self._reports: dict[int, float] = {}
        self._arrives: dict[int, float] = {}
        # Of replicas that know less than they should: since when, and what.
        self.stale: dict[int, tuple[float, SetRoutes]] = {}
        bounds = {name: (one.want.replicas_min, one.want.replicas_max) for name, one in self.plans.items()}
        first = self._release(FIRST, dict.fromkeys(self.names, 0), bounds)
        wants = {first.sets[name]: set_spec(self.specs[FIRST], name) for name in self.names}
        super().__init__(chance, self.plans, cores=cores, desired=Desired(wants, first), write_seconds=write_seconds)
        self.visits = Visits(self, self.names, rare)
        self.clients = Clients(self)
        self.machine.busy = self.visits.busy
        self.machine.doomed = self._doomed

    def first_group(self) -> set[SetName]:
        return set(self.desired.current.sets.values())

    def load_of(self, name: SetName) -> float:
        shares = self.desired.shares()
        return super().load_of(name) * sum(shares[r.name] for r in self.desired.releases() if name in r.sets.values())

    def wall(self) -> float:
        """The clock on the wall, which people set."""
        return EPOCH_SECONDS + self.clock.now + self.clock_is_off

    def set_clock(self, seconds: float) -> None:
        """Somebody sets the clock on the wall, by so much."""
        self.clock_is_off += seconds
        self.clock_set_at = self.clock.now

    def cores_used_up(self, name: SetName) -> bool:
        """Whether the sets of a rollout have all that they may have, so that one gets no more."""
        counts = {n: want.replicas for n, want in self.desired.sets.items() if want.automatic}
        return (
            self.desired.sets[name].automatic and self.extra(counts, counts.keys() - self.first_group()) >= self.cores
        )

    # -- the shell and its processes --------------------------------------------------------------------

    def commit(self, change: Change, desired: Desired) -> None:
        before = self.desired
        super().commit(change, desired)
        for name, want in self.desired.sets.items():
            if name not in before.sets or before.sets[name].replicas < want.replicas:
                self.raised_at[name] = self.clock.now
        self._remember(before, change.what)
        change_is_wrong(self, before, change.what)
        if before.rollout is not None and self.desired.rollout is None:
            self.ends.append(before.rollout.stage is Stage.PROMOTED)
            self.rollbacks += bool(before.rollout.back_to) and self.ends[-1]

    def _remember(self, before: Desired, act: Act) -> None:
        if isinstance(act, BeginRollout):
            self.said.clear()
        elif isinstance(act, ScaleService):
            self.said[service_of(act.set)] = act.replicas_min, act.replicas_max
        after = self.desired.rollout
        if after is not None and after.stage is Stage.ROLLING_BACK:
            self.migrations.goes_back(self.specs[self.desired.current.name], map(service_of, after.previous_specs))
        if after is not None and (before.rollout is None or before.rollout.stage is not after.stage):
            self.staged_at = self.clock.now

    def kill_supervisor(self) -> None:
        loop = self.loop
        super().kill_supervisor()
        self.stale.clear()
        if loop is not None and loop.writing is not None and self.dice.random() < 0.5:
            self.commit(*loop.writing)  # the journal had it already

    def prepare(self, process: Process) -> None:
        super().prepare(process)
        want = self.desired.sets.get(process.set)
        process.release = want.release if want is not None else ""
        process.split = TrafficSplitter(process.release, self.visits.dice.random)
        self._divide(process)

    def _divide(self, process: Process) -> None:
        routes = process.knows.routes
        process.split.divide(routes.shares, routes.release, routes.sticky, routes.rollout)

    @property
    def door(self) -> str:
        return self.names[0]

    def hand_over(self, giver: Process, takers: dict[int, int]) -> None:
        self.clients.move(giver, takers)

    def _doomed(self, process: Process) -> bool:
        service = service_of(process.set)
        return (service, self.builds.get(process.release, {}).get(service, 0)) in self.broken

    def push(self, process: Process, told: Told) -> None:
        """It hears of it in its own time, and of one after the other."""
        late = 0.002 + (TELL_SECONDS + self.report_late_seconds) * self.dice.random()
        when = self._arrives[process.serial] = max(self._arrives.get(process.serial, 0.0), self.clock.now + late)
        self.clock.at(when, self._learn, process, told)

    def _learn(self, process: Process, told: Told) -> None:
        if process.phase in (Phase.SERVING, Phase.DRAINING) and told.version > process.knows.version:
            process.knows = told
            self._divide(process)
            self.beat(process)

    def deliver(self, process: Process, report: Heartbeat) -> None:
        """Whoever supervises hears of it late, and of one after the other."""
        late = 0.002 + self.report_late_seconds * self.dice.random()
        when = self._reports[process.serial] = max(self._reports.get(process.serial, 0.0), self.clock.now + late)
        self.clock.at(when, super().deliver, process, report)

    def report(self, process: Process) -> Heartbeat:
        traffic = {release: Traffic(count, Answers()) for release, count in process.pinned.items()}
        kept = {self.door: count} if (count := self.clients.kept_at(process)) else {}
        return msgspec.structs.replace(super().report(process), traffic=traffic, kept=kept)

    def called(self, name: SetName) -> Iterator[SetName]:
        return iter(())  # visitors come to the door, and their calls end soon

    def knocks(self, name: SetName) -> bool:
        return name in self.visits.knocked

    def routed(self, loop: Supervisor) -> None:
        super().routed(loop)
        awake = [name for name, want in self.desired.sets.items() if want.replicas]
        self.visits.knocked.difference_update(awake)

    def kill_zygote(self, seconds: float) -> None:
        super().kill_zygote(seconds)
        self.migrations.zygote_dies()

    def starts(self, replica: Replica) -> None:
        want = self.desired.sets[replica.set]
        self.migrations.check_start(self.specs[want.release], service_of(replica.set))

    def taken_over(self, loop: Supervisor) -> None:
        self.migrations.take_over(loop)
        self.migrations.hold(loop)

    def migration(self, loop: Supervisor, rollout: Rollout) -> str | None:
        return self.migrations.look(loop, rollout)

    def analysis(self, release: str) -> Analysis:
        return Analysis(self.verdicts[release], Said("so it is"))

    def step_is_decided(self, loop: Supervisor, change: Change) -> None:
        step_is_wrong(self, loop, change)

    def looked_at(self, loop: Supervisor) -> None:
        replicas_know_less(self, loop)
        watch_is_too_long(self, loop)

    # -- what people do -------------------------------------------------------------------------------

    def try_to(self, act: Act, why: str) -> None:
        """A person's wish, which may come too late."""
        if self.loop is not None:
            self.change(Change(WHO, act, why))

    def scale(self, service: ServiceName, low: int, high: int) -> None:
        """All replica sets of a service that are not about to end."""
        for name, want in self.desired.sets.items():
            if service_of(name) == service and want.replicas_max:
                self.try_to(ScaleService(name, low, high), "asked for")

    def deploy(self, dice: Dice) -> None:
        """Some services get another build or other bounds; or all are grouped anew, which is the same to everybody."""
        self._when_clear(lambda: self._begin(self._next_release(dice), "", dice))

    def roll_back(self, dice: Dice) -> None:
        """To what served before."""
        try:
            found = back_to(self.desired)
        except ConfigError:
            return  # there is no earlier release
        rollout = self.desired.rollout
        if found.release:
            self._when_clear(lambda: self._begin(self.known[found.release], found.release, dice))
        elif rollout is not None:
            self.try_to(AbortRollout(self.wall(), rollout.number), "a rollback was asked for")

    def _when_clear(self, make: Callable[[], None], again: bool = False) -> None:
        """One rollout at a time: one that is undecided is given up, one that is decided is waited for."""
        if self.preparing and not again:
            return
        rollout = self.desired.rollout
        self.preparing = rollout is not None and self.clock.now < FAULT_SECONDS
        if rollout is None and self.loop is not None:
            make()
        elif self.preparing and rollout is not None:
            if rollout.stage in UNDECIDED and self.dice.random() < 0.5:
                self.try_to(AbortRollout(self.wall(), rollout.number), "a newer deploy takes its place")
            self.clock.after(CLEAR_SECONDS, self._when_clear, make, True)

    def _release(
        self, name: str, builds: dict[ServiceName, int], bounds: dict[ServiceName, tuple[int, int]]
    ) -> LiveRelease:
        specs = {service: _spec(self.plans[service].want, *bounds[service]) for service in builds}
        named = {service: str(build) for service, build in builds.items()}
        sets = sets_of(named, specs)
        specs = {
            service: msgspec.structs.replace(spec, components=self.inside(service), calls=self._after(service))
            for service, spec in specs.items()
        }
        specs = {
            service: msgspec.structs.replace(spec, doors=(self.names[0],) if self.names[0] in spec.components else ())
            for service, spec in specs.items()
        }
        references: dict[str, tuple[str, ...]] = {
            name: tuple(self.names[number + 1 :]) for number, name in enumerate(self.names)
        }
        spec = ReleaseSpec(name, specs, sets, references, builds=named, migrations=self.migrating)
        self.specs[name], found = spec, live_release(spec)
        self.known[name], self.builds[name], self.bounds[name] = found, builds, bounds
        self.places[name] = {service: sets.get(service) or sets[WHOLE] for service in self.names}
        self.verdicts.setdefault(name, Verdict.PASSED)
        return found

    def inside(self, service: ServiceName) -> tuple[str, ...]:
        """The components that a service consists of; each is named as the service that it has of its own."""
        return tuple(self.names) if service == WHOLE else (service,)

    def _after(self, service: ServiceName) -> tuple[str, ...]:
        """What a service may call: whatever comes after it in the row."""
        return () if service == WHOLE else tuple(self.names[self.names.index(service) + 1 :])

    def _next_release(self, dice: Dice) -> LiveRelease:
        self.count += 1
        current = self.desired.current.name
        builds, bounds = dict(self.builds[current]), dict(self.bounds[current])
        if dice.random() < 0.2:
            names = self.names if WHOLE in builds else [WHOLE]
            builds = dict.fromkeys(names, self.count)
            self.changes_of_topology += 1
        for name in builds:
            low, high = self.plans[name].want.replicas_min, self.plans[name].want.replicas_max
            if dice.random() < 0.5:
                builds[name] = self.count
            if dice.random() < 0.2 and high > 1:
                bounds[name] = (low, high + dice.randrange(3))
        if builds == self.builds[current] and bounds == self.bounds[current]:
            builds[next(iter(builds))] = self.count
        if dice.random() < 0.1:
            self.broken.add((dice.choice(list(builds)), self.count))
        return self._release(f"r{self.count}", builds, bounds)

    def _begin(self, later: LiveRelease, back_to: str, dice: Dice) -> None:
        if later.name == self.desired.current.name:
            return
        name = later.name
        self.verdicts[name] = dice.choice([Verdict.PASSED, Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE])
        share = dice.choice([None, None, 0.1, 0.5])
        order = DeployOrder(
            release=back_to,
            canary=share,
            watch_seconds=dice.random() * 4.0 if share is not None else None,
            sticky=self.sticky.choice(["", "cookie", STICKY_HEADER]),
            who=WHO,
        )
        earlier, spec = self.specs[self.desired.current.name], self.specs[name]
        wanted = changed_specs(self.desired, earlier, spec, "")
        migrates = bool(pending(spec, self.migrations.done))
        rollout = rollout_to(spec, order, self.desired, wanted, migrates=migrates, now=self.wall())
        self.try_to(BeginRollout(rollout), "asked for")

    def check_settled(self) -> None:
        all_is_settled(self)
        super().check_settled()


def _spec(want: DesiredSet, low: int, high: int) -> ServiceSpec:
    """The settings by which a service is as it is wanted, between these replica counts."""
    return ServiceSpec(
        scaling=ScalingSpec(2.0, 1.0, IDLE_SECONDS, replicas_min=low, replicas_max=high),
        replicas=want.replicas,
        allow_overlap=want.allow_overlap,
        start_seconds=want.start_seconds_max,
        silent_seconds=want.silent_seconds_max,
        stuck_seconds=want.stuck_seconds_max,
        drain_seconds=want.drain_seconds_max,
        stop_seconds=want.stop_seconds_max,
    )
