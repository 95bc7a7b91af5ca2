"""Worlds in which releases follow each other, in the middle of crashes and supervisors' deaths.

Requests live for a while and hop from service to service, each in its release: whatever they come to must be
there. What replicas know of releases, and what is known of them, comes late.
"""

import random

import msgspec
from machine import Habits, Phase
from scenarios import FAULT_SECONDS, WHO, mend
from world import Broken, Loop, ServicePlan, World

from fissile.orchestrator.change import (
    AbortRollout,
    AdvanceRollout,
    BeginRollout,
    Change,
    ChangeRefused,
    ClearSets,
    EndRollout,
    LeaveSets,
    PromoteRollout,
    RestartService,
    ScaleService,
)
from fissile.orchestrator.desired import Desired, DesiredService, LiveRelease, Rollout, Stage
from fissile.orchestrator.replica import READY
from fissile.orchestrator.rollout import ClearSets as ClearStep
from fissile.orchestrator.rollout import EnterStage, Seen, SetSeen, outlook
from fissile.orchestrator.rollout import LeaveSets as LeaveStep
from fissile.orchestrator.verdict import Judgement, Verdict

LOOK_SECONDS = 0.05
WHOLE = "whole"
SETTLE_MAX = 4.0
HOP_SECONDS = (0.01, 0.01, 1.0)


class Routing(msgspec.Struct, frozen=True):
    """What replicas know of the releases. sets: by release and component."""

    version: int
    shares: dict[str, float]
    sets: dict[str, dict[str, str]]


class Request(msgspec.Struct, eq=False):
    """One request: in its release from the edge on, through all services in their order."""

    release: str
    hop: int = 0


class DeployWorld(World):
    """Services that call each other in a row, the first of them from outside, and their releases."""

    def __init__(self, seed: int, services: dict[str, ServicePlan], *, cores: int) -> None:
        # One component in each service; or all in one, where the topology is the other.
        self.names = list(services)
        first = LiveRelease("r0", {name: f"{name}@0" for name in services}, tuple((name,) for name in services))
        wants = {f"{n}@0": msgspec.structs.replace(one.want, release="r0") for n, one in services.items()}
        services = {**services, WHOLE: services[self.names[0]]}
        self.count = 0
        self.verdicts: dict[str, Verdict] = {"r0": Verdict.AS_GOOD}
        self.migrations: dict[str, str] = {}
        self.migrated_at: dict[str, float] = {}
        self.routings = dict.fromkeys(self.names, Routing(0, {"r0": 1.0}, {"r0": first.sets}))
        self.changes_of_topology = 0
        self.versions = 0
        self.in_flight: dict[str, int] = {}
        self.finished = self.begun = 0
        self.ends: list[bool] = []
        super().__init__(seed, services, cores=cores, desired=Desired(wants, first))
        self.visitors = random.Random(f"{seed} visitors")
        self.clock.after(1.0, self._visit)

    def make_loop(self) -> Loop:
        return DeployLoop(self)

    def first_group(self) -> set[str]:
        return set(self.desired.current.sets.values())

    @property
    def edge(self) -> Routing:
        """What those know who give requests their releases."""
        return self.routings[self.names[0]]

    def load_of(self, name: str) -> float:
        edge = self.edge
        share = sum(edge.shares.get(release, 0.0) for release, sets in edge.sets.items() if name in sets.values())
        return super().load_of(name) * share

    # -- requests -------------------------------------------------------------------------------------

    def _visit(self) -> None:
        self.clock.after(0.02 + 0.16 * self.visitors.random(), self._visit)
        number = self.visitors.random()
        for release, share in self.edge.shares.items():
            number -= share
            if number < 0:
                self.begun += 1
                self.in_flight[release] = self.in_flight.get(release, 0) + 1
                self._hop(Request(release))
                return

    def _hop(self, request: Request) -> None:
        caller = self.names[max(0, request.hop - 1)]
        sets = self.routings[caller].sets.get(request.release)
        if sets is None:
            self._lost(request, f"{caller} does not know its release")
        else:
            name = sets[self.names[request.hop]]
            want = self.desired.services.get(name)
            if want is None or not want.replicas_max:
                self._lost(request, f"{name} is gone")
        request.hop += 1
        if request.hop < len(self.names):
            self.clock.after(self.visitors.random() * self.visitors.choice(HOP_SECONDS), self._hop, request)
        else:
            self.in_flight[request.release] -= 1
            self.finished += 1

    def _lost(self, request: Request, why: str) -> None:
        """Only whoever has had its time to finish may be cut off."""
        rollout = self.desired.rollout
        moved = rollout is not None and rollout.stage in (Stage.MOVED, Stage.RETREATING)
        if rollout is not None and not (moved and self.clock.now >= rollout.since + rollout.settle_seconds_max):
            raise Broken(f"a request of {request.release} at hop {request.hop}: {why}")

    # -- releases -------------------------------------------------------------------------------------

    def deploy(self, dice: random.Random) -> None:
        """Some services get another build; or all are grouped anew, which is the same to everybody here."""
        if self.desired.rollout is not None:
            if dice.random() < 0.5:
                self.try_to(AbortRollout(self.clock.now), "a newer deploy takes its place")
            return
        self.count += 1
        release, current = f"r{self.count}", self.desired.current
        names = list(current.sets)
        if dice.random() < 0.25:
            names = self.names if WHOLE in names else [WHOLE]
            self.changes_of_topology += 1
        changed = [name for name in names if name not in current.sets or dice.random() < 0.5] or [names[-1]]
        sets = {name: f"{name}@{self.count}" if name in changed else current.sets[name] for name in names}
        later = LiveRelease(release, sets, tuple((name,) for name in names))
        wishes = {sets[name]: self._wish(name, release) for name in changed}
        if dice.random() < 0.2:
            self.machine.habits[sets[changed[0]]] = Habits(0.05, stillborn_share=1.0)
        self.verdicts[release] = dice.choice([Verdict.AS_GOOD, Verdict.WORSE, Verdict.INCONCLUSIVE])
        migrates = dice.random() < 0.3
        self.migrations[release] = "the table is locked" if dice.random() < 0.3 else ""
        rollout = Rollout(
            number=self.desired.rollouts + 1,
            later=later,
            wishes=wishes,
            stage=Stage.MIGRATING if migrates else Stage.STARTING,
            share=dice.choice([1.0, 1.0, 0.1, 0.5]),
            watch_seconds=dice.random() * 4.0,
            since=self.clock.now,
            back_to="r0" if dice.random() < 0.2 else "",
            settle_seconds_max=SETTLE_MAX,
        )
        self.migrated_at[release] = self.clock.now + dice.random() * 2.0
        self.try_to(BeginRollout(rollout), "asked for")

    def _wish(self, name: str, release: str) -> DesiredService:
        current = self.desired.current.sets
        want = self.desired.services[current[name]] if name in current else self.services[name].want
        return msgspec.structs.replace(want, release=release, revision=1)

    def try_to(self, act: object, why: str) -> None:
        """A person's wish, which may come too late."""
        try:
            self.change(Change(WHO, act, why))  # pyright: ignore[reportArgumentType]
        except ChangeRefused:
            self.log("", f"refused: {act}")

    def change(self, change: Change) -> None:
        act = change.what
        desired = self.desired
        loop = self.loop
        if isinstance(act, AdvanceRollout) and act.stage is Stage.MOVED and loop is not None:
            assert desired.rollout is not None
            for name in desired.rollout.wishes:
                ready, want = loop.observed.service(name).ready(), desired.services[name].replicas
                if ready < want:
                    raise Broken(f"all requests go to {name}, of which {ready} of {want} are ready")
        if isinstance(act, ClearSets):
            rollout, going = desired.rollout, desired.going()
            assert rollout is not None
            assert going is not None
            pinned = self.in_flight.get(going.name, 0)
            if pinned and self.clock.now < rollout.since + rollout.settle_seconds_max:
                raise Broken(f"{act.sets} are to end, {pinned} requests of {going.name} are under way")
        if isinstance(act, EndRollout):
            self.ends.append(act.done)
        super().change(change)
        shares = self.desired.shares()
        if abs(sum(shares.values()) - 1.0) > 1e-9 or min(shares.values()) < 0:
            raise Broken(f"the shares are {shares}")

    def check_settled(self) -> None:
        if self.desired.rollout is not None:
            raise Broken(f"the rollout never ends: {self.desired.rollout}")
        if set(self.desired.services) != set(self.desired.current.sets.values()):
            raise Broken(f"desired are {list(self.desired.services)}, the release has {self.desired.current.sets}")
        left = {p.service for p in self.machine.processes.values()} - set(self.desired.services)
        if left:
            raise Broken(f"processes of other releases are left: {left}")
        for name, routing in self.routings.items():
            if routing.shares != {self.desired.current.name: 1.0}:
                raise Broken(f"{name} believes in {routing.shares}")
        loop = self.loop
        if loop is not None and set(loop.observed.services) - set(self.desired.services):
            raise Broken(f"sets of other releases are remembered: {list(loop.observed.services)}")
        super().check_settled()


class DeployLoop(Loop):
    """A supervisor that performs rollouts, as `supervisor.rollouts` does."""

    world: DeployWorld

    def __init__(self, world: DeployWorld) -> None:
        self._sent: Routing | None = None
        self._known: tuple[int, dict[str, int]] | None = None
        self._looking = False
        super().__init__(world)

    def _go_on(self) -> None:
        self._tell_releases()
        while self.world.desired.rollout is not None and self._look():
            self._tell_releases()
        if self.world.desired.rollout is not None and not self._looking:
            self._looking = True
            self.world.clock.after(LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._looking = False
        if self.alive:
            self.wake()

    def _tell_releases(self) -> None:
        world, desired = self.world, self.world.desired
        sets = {r.name: {name: r.sets.get(name) or r.sets[WHOLE] for name in world.names} for r in desired.releases()}
        found = Routing(0, desired.shares(), sets)
        if self._sent is not None and msgspec.structs.replace(self._sent, version=0) == found:
            return
        world.versions += 1
        self._sent = sent = msgspec.structs.replace(found, version=world.versions)
        for name in world.names:
            late = 0.005 + (0.3 + world.report_late_seconds) * world.visitors.random()
            world.clock.after(late, self._apply, name, sent)

    def _apply(self, name: str, sent: Routing) -> None:
        if sent.version > self.world.routings[name].version:
            self.world.routings[name] = sent
        self._report()

    def _report(self) -> None:
        """Replicas say what they know, and what is under way, in one message; it comes late."""
        version, pinned = min(r.version for r in self.world.routings.values()), dict(self.world.in_flight)

        def come() -> None:
            if self._known is None or version >= self._known[0]:
                self._known = version, pinned

        self.world.clock.after(0.005 + self.world.report_late_seconds * self.world.visitors.random(), come)

    def _look(self) -> bool:
        world, now = self.world, self.world.clock.now
        rollout = world.desired.rollout
        assert rollout is not None
        self._report()
        found = outlook(world.desired, self._seen(rollout), now)
        step = found.step
        if step is None:
            return False
        if isinstance(step, EnterStage):
            world.change(Change("fissile", AdvanceRollout(step.stage, now, rollout.number, rollout.stage), step.reason))
        elif isinstance(step, ClearStep):
            world.change(Change("fissile", ClearSets(step.sets, rollout.number), step.reason))
        elif isinstance(step, LeaveStep):
            world.change(Change("fissile", LeaveSets(step.sets, rollout.number), step.reason))
        else:
            gone = world.desired.leaving()
            world.change(Change("fissile", EndRollout(rollout.number, rollout.stage is Stage.MOVED), step.reason))
            for name in gone:
                self.observed.services.pop(name, None)
        world.log("", f"rollout {rollout.number}: {step}")
        return True

    def _seen(self, rollout: Rollout) -> Seen:
        world = self.world
        going = world.desired.going()
        told = self._known is not None and self._sent is not None and self._known[0] == self._sent.version
        assert self._known is not None or not told
        pinned = not told or going is None or bool(self._known and self._known[1].get(going.name, 0))
        migrated = world.clock.now >= world.migrated_at[rollout.later.name]
        return Seen(
            {name: self._set_seen(name, want) for name, want in world.desired.services.items()},
            pinned,
            told,
            migrated,
            world.migrations[rollout.later.name] if migrated else "",
            Judgement(world.verdicts[rollout.later.name], "so it is"),
        )

    def _set_seen(self, name: str, want: DesiredService) -> SetSeen:
        found = self.observed.services.get(name)
        if found is None:
            return SetSeen()
        ready = [r for r in found.replicas.values() if r.state is READY and not r.ending and not r.unheard]
        deaths = max((memory.deaths.in_a_row for memory in found.slots.values()), default=0)
        return SetSeen(len(found.replicas), sum(r.revision >= want.revision for r in ready), deaths, "it died")


def deploying(seed: int) -> DeployWorld:
    """A world in which everything happens for a while, deploys above all, and then nothing."""
    dice = random.Random(seed)
    services: dict[str, ServicePlan] = {}
    for number in range(dice.randint(2, 4)):
        low = dice.choice([1, 1, 2, 3])
        want = DesiredService(
            replicas=low,
            replicas_min=low,
            replicas_max=low + dice.choice([0, 0, 3]),
            start_seconds_max=4.0,
            silent_seconds_max=4.0,
            drain_seconds_max=3.0,
            stop_seconds_max=1.0,
        )
        habits = Habits(dice.choice([0.02, 0.1, 1.0]), dice.choice([0.1, 1.0]))
        load = ((0.0, dice.choice([0.0, 2.0, 8.0])),)
        services[f"s{number}"] = ServicePlan(want, habits, load=load)
    world = DeployWorld(seed, services, cores=dice.choice([0, 2, 8]))
    world.report_late_seconds = dice.choice([0.0, 0.01, 0.3, 2.0])
    rate = dice.choice([0.5, 2.0])
    now = 1.0
    while (now := now + dice.expovariate(rate)) < FAULT_SECONDS:
        world.clock.at(now, _befall, world, dice)
    world.clock.at(FAULT_SECONDS, mend, world)
    world.clock.at(FAULT_SECONDS + 10.0, _decide, world, dice)
    return world


def _befall(world: DeployWorld, dice: random.Random) -> None:
    kinds = ["deploy", "promote", "abort", "crash", "hang", "zygote", "supervisor", "scale", "restart"]
    kind = dice.choices(kinds, weights=[8, 1, 1, 3, 1, 1, 3, 1, 1])[0]
    name = dice.choice(list(world.desired.services))
    now = world.clock.now
    if kind == "deploy":
        world.deploy(dice)
    elif kind == "promote":
        world.try_to(PromoteRollout(now), "good")
    elif kind == "abort":
        world.try_to(AbortRollout(now), "bad")
    elif kind == "zygote":
        world.kill_zygote(dice.random())
    elif kind == "supervisor":
        world.kill_supervisor()
        world.clock.after(0.2 + dice.random() * 3.0, world.start_supervisor)
    elif kind == "scale":
        low = 1 + dice.randrange(3)
        if world.desired.services[name].replicas_max:
            world.try_to(ScaleService(name, low, low + dice.choice([0, 3])), "asked for")
    elif kind == "restart":
        newest = max([world.desired.services[name].revision, *(p.revision for p in world.machine.alive(name))])
        world.try_to(RestartService(name, newest + 1), "asked for")
    elif world.machine.processes:
        process = dice.choice(list(world.machine.processes.values()))
        if kind == "crash":
            world.machine.kill(process)
        elif process.phase is Phase.SERVING:
            world.machine.hang(process)


def _decide(world: DeployWorld, dice: random.Random) -> None:
    """Somebody comes and decides what is still watched."""
    rollout = world.desired.rollout
    if rollout is not None and rollout.stage is Stage.CANARY:
        act = PromoteRollout if dice.random() < 0.5 else AbortRollout
        world.try_to(act(world.clock.now), "it is time")
    if world.desired.rollout is not None:
        world.clock.after(5.0, _decide, world, dice)
