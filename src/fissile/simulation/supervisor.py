"""A supervisor on a machine that is not there: the code that decides in production, on simulated ground.

Only what they stand on is simulated: the verbs of the machine, a journal that takes its time, a clock, and reports
that come late or never. What a supervisor knows dies with it.
"""

from math import inf
from typing import TYPE_CHECKING, Any

from fissile.errors import FissileError
from fissile.names import SetName, service_of
from fissile.orchestrator import invariants
from fissile.orchestrator.acts import Change, EndRollout, SetReplicas
from fissile.orchestrator.analysis import Analysis
from fissile.orchestrator.canary import CanaryWatch
from fissile.orchestrator.change_writer import ChangeWriter, Done
from fissile.orchestrator.demand import may_be_asleep, scale
from fissile.orchestrator.desired import Desired, LiveRelease, Rollout
from fissile.orchestrator.reasons import CannotStart, Reason, Said
from fissile.orchestrator.rebalance import handovers
from fissile.orchestrator.reconciler import Reconciler
from fissile.orchestrator.replica import (
    DRAINING,
    READY,
    Observation,
    Observed,
    Replica,
    ReplicaEnded,
    ReplicaReady,
    ReplicaReported,
    ReplicaState,
)
from fissile.orchestrator.rollout_status import next_step
from fissile.orchestrator.routing import DrainOrder, Told
from fissile.orchestrator.state import ApplicationState
from fissile.runtime.control import Heartbeat
from fissile.simulation.machine import Phase, Process
from fissile.simulation.promise import Broken, Promise

if TYPE_CHECKING:
    from fissile.simulation.world import World

HEARTBEAT_SECONDS = 1.0
WATCH_SECONDS = 0.5
SETTLE_SECONDS = 3.0
LOOK_SECONDS = 0.05
BALANCE_SECONDS = 2.0
STEPS_MAX = 1000
# Versions of routes that a supervisor may give before the next one's begin.
VERSIONS = 1_000_000


def _broken(broken: invariants.Broken, state: dict[str, Any]) -> None:
    raise Broken(Promise.NOTHING_IS_BROKEN, f"{broken.invariant} ({broken.what}): {state}")


class _Verdicts(CanaryWatch):
    """In place of a canary's answers: the world knows how good each release is."""

    def __init__(self, world: "World") -> None:
        super().__init__()
        self._world = world

    def look(self, rollout: Rollout, current: LiveRelease, observed: Observed) -> Analysis:
        return self._world.analysis(rollout.later.name)


class Supervisor:
    """One of a world's supervisors. It is an Executor, and the journal of its ChangeWriter."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.begun = world.clock.now
        world.supervisors += 1
        self.state = ApplicationState(world.specs, world.supervisors * VERSIONS)
        self.state.on_broken = _broken
        self.state.canary = _Verdicts(world)
        self.writer = ChangeWriter(self.state, self)
        self.writer.begin(world.desired)
        self.reconciler = Reconciler(self.state, self, self.writer, lambda text: world.log("", text))
        self.by_serial: dict[int, tuple[Replica, Process | None]] = {}
        self.chances = {name: world.chance(f"{name} jitter") for name in world.services}
        # What is on its way to the disk.
        self.writing: tuple[Change, Desired] | None = None
        self._told: dict[int, int] = {}
        self._woken = False
        self._looking = False
        self._due = inf
        world.clock.after(HEARTBEAT_SECONDS, self._beat)
        world.clock.after(WATCH_SECONDS, self._watch)
        if world.door:
            world.clock.after(BALANCE_SECONDS, self._balance)
        self._adopt()
        world.taken_over(self)
        self.wake()
        world.clock.after(world.scale_seconds, self._scale)

    @property
    def alive(self) -> bool:
        """Whether it is still the one."""
        return self.world.loop is self

    @property
    def observed(self) -> Observed:
        """What it knows of replicas."""
        return self.state.observed

    def _adopt(self) -> None:
        world, now = self.world, self.world.clock.now
        for process in list(world.machine.processes.values()):
            if process.set not in self.state.desired.sets:
                world.machine.signal(process)  # of a release that nobody wants any more
                continue
            replica = self.observed.adopt(
                process.serial, process.set, process.slot, process.revision, process.build, process.pid, now
            )
            self.by_serial[process.serial] = (replica, process)
            if process.phase in (Phase.SERVING, Phase.DRAINING):
                world.clock.after(0.1 + max(0.0, process.mute_until - now), self._attached, process)
        self.observed.last_serial = max(self.observed.last_serial, world.last_serial)
        if self.by_serial:
            self.state.routed.take_over(now + SETTLE_SECONDS)
            world.log("", f"adopted {len(self.by_serial)}")

    def _attached(self, process: Process) -> None:
        """A replica has found its new supervisor, and says how it is."""
        if not self.alive or process.serial not in self.by_serial:
            return
        if process.phase in (Phase.SERVING, Phase.DRAINING):
            self._ready(process)
            self.world.clock.after(HEARTBEAT_SECONDS * self.world.dice.random(), self.world.beat, process)
        self.wake()

    def _ready(self, process: Process) -> None:
        replica = self.by_serial[process.serial][0]
        now = self.world.clock.now
        if process.phase is Phase.SERVING and process.set in self.state.desired.sets:
            self.reconciler.greet(replica, now)
        self.see(replica, ReplicaReady())
        if process.phase is Phase.DRAINING and replica.state is READY:
            self.observed.drain(replica, now)

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
        steps = 0
        while (step := self.reconciler.step(self.world.clock.now)).actions:
            self.world.check(self)
            steps += 1
            if steps == STEPS_MAX:
                raise Broken(Promise.PLAN_ENDS, f"the plan never ends: {step.actions}")
        self.world.check(self)
        self.world.routed(self)
        if self.state.desired.rollout is not None and not self._looking:
            self._looking = True
            self._look()
        self._due = step.due
        if step.due < inf:
            self.world.clock.at(step.due, self._wake_when_due, step.due)

    def _watch(self) -> None:
        if self.alive:
            if self.reconciler.watch(self.world.clock.now, 0.0):
                self.wake()
            self.world.clock.after(WATCH_SECONDS, self._watch)

    # -- the verbs of the machine -----------------------------------------------------------------------

    def start(self, replica: Replica, reason: Reason) -> None:
        """See Executor."""
        world = self.world
        world.last_serial = self.observed.last_serial
        world.starts(replica)
        self.by_serial[replica.serial] = (replica, None)
        world.log(replica.set, f"start in {replica.slot}: {reason}")
        told = self.state.told(replica.set)
        replica.routes = told.version
        world.begins_with[replica.serial] = told, replica.build
        world.machine.fork(
            replica.serial, replica.set, replica.slot, replica.revision, lambda p: self._born(replica, p)
        )

    def _born(self, replica: Replica, process: Process | None) -> None:
        if not self.alive:
            return
        if process is None:
            self.see(replica, ReplicaEnded(CannotStart("the zygote is away"), self._chance(replica.set)))
            return
        replica.pid = process.pid
        self.by_serial[replica.serial] = (replica, process)
        if process.phase is Phase.DEAD:
            self.hear(process, "ended")
        if replica.ending:
            self.world.machine.signal(process)

    def drain(self, replica: Replica, reason: Reason) -> None:
        """See Executor."""
        self.world.log(replica.set, f"drain {replica.slot}: {reason}")
        process = self.by_serial[replica.serial][1]
        if process is not None:
            self.world.machine.drain(process)

    def order(self, replica: Replica, order: DrainOrder) -> None:
        """See Executor."""
        process = self.by_serial[replica.serial][1]
        if process is not None:
            process.heirs = order.heirs.get(self.world.door, ())

    def stop(self, replica: Replica, reason: Reason) -> None:
        """See Executor."""
        process = self.by_serial[replica.serial][1]
        if process is not None:
            self.world.machine.terminate(process)

    def kill(self, replica: Replica, reason: Reason, *, fault: bool) -> None:
        """See Executor."""
        process = self.by_serial[replica.serial][1]
        cut_off = process is not None and process.phase is Phase.DRAINING and replica.state is not DRAINING
        if cut_off and not fault:
            raise Broken(Promise.WORK_IS_FINISHED, f"{replica.key}: it finishes its work, and is killed: {reason}")
        self.world.log(replica.set, f"kill {replica.slot}: {reason}")
        if process is not None:
            self.world.machine.signal(process)

    def explain(self, replica: Replica) -> str:
        """See Executor."""
        return ""

    def push_routes(self, replica: Replica, told: Told) -> None:
        """See Executor: each hears of it in its own time."""
        process = self.by_serial[replica.serial][1]
        if process is not None and self._told.get(replica.serial) != told.version:
            self._told[replica.serial] = told.version
            self.world.push(process, told)

    def ask(self, replica: Replica) -> None:
        """See Executor."""

    def answered(self, replica: Replica) -> bool:
        """See Executor: half of those that hang have a watchdog that lives."""
        process = self.by_serial[replica.serial][1]
        return process is not None and process.phase is Phase.HUNG and bool(process.pid % 2)

    def memory_bytes(self, replica: Replica) -> int | None:
        """See Executor."""
        return None

    # -- changes ----------------------------------------------------------------------------------------

    def submit(self, change: Change) -> None:
        """Somebody's wish, which may be refused when its turn comes."""

        def done(error: FissileError | None, now: float) -> None:
            if error is not None:
                self.world.log("", f"refused: {error}")

        self.writer.submit(change, done, self.world.clock.now)

    def write(self, change: Change, desired: Desired, *, secrets: bool, done: Done) -> None:
        """See ChangeJournal."""
        self.writing = change, desired
        seconds = self.world.write_seconds
        if not seconds:
            self._written(done)
        else:
            self.world.clock.after(seconds * 2 * self.world.dice.random(), self._written, done)

    def _written(self, done: Done) -> None:
        if self.alive and self.writing is not None:
            (change, desired), self.writing = self.writing, None
            gone = self.state.desired.leaving() if isinstance(change.what, EndRollout) else ()
            self.world.commit(change, desired)
            done(None, self.world.clock.now)
            self.state.forget(gone)
            self.wake()

    # -- rollouts ---------------------------------------------------------------------------------------

    def _look_later(self) -> None:
        self.world.clock.after(LOOK_SECONDS * self.world.dice.random(), self._look)

    def _look(self) -> None:
        world, rollout = self.world, self.state.desired.rollout
        if not self.alive:
            return
        if rollout is None:
            self._looking = False
            return
        change = next_step(self.state, world.migration(self, rollout), world.wall()).change
        if change is None:
            self._look_later()
            return
        world.step_is_decided(self, change)
        world.log("", f"rollout {rollout.number}: {change.what}")

        def done(error: FissileError | None, now: float) -> None:
            if error is not None:
                world.log("", f"refused: {error}")
            self._look_later()

        self.writer.submit(change, done, world.clock.now)

    # -- what it sees ---------------------------------------------------------------------------------

    def _chance(self, name: SetName) -> float:
        return self.chances[service_of(name)].random()

    def hear(self, process: Process, what: str) -> None:
        """A report has come."""
        known = self.by_serial.get(process.serial)
        if known is None or (known[1] is None and what == "ended"):
            return
        if what == "ready":
            self._ready(process)
        else:
            self.see(known[0], ReplicaEnded(Said("was killed"), self._chance(process.set)))

    def heard(self, serial: int, report: Heartbeat) -> None:
        """A heartbeat has come."""
        known = self.by_serial.get(serial)
        if known is not None:
            self.see(known[0], ReplicaReported(report))

    def see(self, replica: Replica, observation: Observation) -> None:
        """Something was observed."""
        self.reconciler.observe(replica, observation, self.world.clock.now)
        if replica.stuck or not isinstance(observation, ReplicaReported):
            self.wake()

    def _beat(self) -> None:
        """Once a second, all that live say so."""
        if not self.alive:
            return
        world = self.world
        for replica, process in list(self.by_serial.values()):
            if process is not None and process.phase is not Phase.DEAD and replica.state is not ReplicaState.STARTING:
                world.beat(process)
        for name in list(world.desired.sets):
            world.call(name)
        world.looked_at(self)
        world.clock.after(HEARTBEAT_SECONDS, self._beat)

    def _balance(self) -> None:
        """Have each replica of a door get its part of those who keep their connections."""
        if not self.alive:
            return
        world, now = self.world, self.world.clock.now
        for giver, orders in handovers(self.state.router().holders(), world.dice.random, now).items():
            process = self.by_serial[giver][1]
            if process is not None and process.serves:
                world.hand_over(process, orders.get(world.door, {}))
        world.clock.after(BALANCE_SECONDS, self._balance)

    # -- how many ---------------------------------------------------------------------------------------

    def _scale(self) -> None:
        if not self.alive:
            return
        world, under_way = self.world, [self.writing[0]] if self.writing is not None else []
        if any(isinstance(change.what, SetReplicas) for change in (*self.writer.pending, *under_way)):
            world.clock.after(LOOK_SECONDS, self._scale)  # its last decision is not written yet
            return
        counts = {name: want.replicas for name, want in self.state.desired.sets.items() if want.automatic}
        knocked = [name for name in may_be_asleep(self.state) if world.knocks(name)]
        changes, news = scale(self.state, knocked, cores=world.cores, now=world.clock.now)
        for held in news:
            world.log(held.set, f"{'freed' if held.over else 'held'} by {held.by}: {held.reason}")
        for change in changes:
            assert isinstance(change.what, SetReplicas)
            counts[change.what.set] = change.what.replicas
        for change in changes:
            assert isinstance(change.what, SetReplicas)
            world.is_scaled(self, change.what, counts)
            self.submit(change)
        world.check_cores(counts)
        world.clock.after(world.scale_seconds, self._scale)
