"""Migrations of a simulated world: processes that may outlive the supervisor that began them.

Which are to run, and who waits for them, says `orchestrator.migration_rules`. How each ended is known to its zygote as
long as that lives, and to the journal once it was noted there.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from fissile.names import ServiceName
from fissile.orchestrator.desired import Rollout, Stage
from fissile.orchestrator.migration_rules import held, label, may_run, pending
from fissile.orchestrator.spec import ReleaseSpec
from fissile.simulation.dice import Dice
from fissile.simulation.promise import Broken, Promise

if TYPE_CHECKING:
    from fissile.simulation.deploys import DeployWorld
    from fissile.simulation.supervisor import Supervisor

SECONDS_MAX = 1.0
FAILED_SHARE = 0.15
LOOK_SECONDS = 0.1


class Migration(msgspec.Struct, eq=False):
    """A process that runs the migrations of a service at a build. orphan: its zygote is gone, so nobody sees its end.

    supervisor: who began it, or waits for it.
    """

    release: str
    label: str
    supervisor: "Supervisor"
    orphan: bool = False


class Migrations:
    """Of one world. done: labels, as the journal has them. running: the one process; there is never a second one."""

    def __init__(self, world: "DeployWorld", dice: Dice) -> None:
        self.world = world
        self.dice = dice
        self.done: list[str] = []
        self.running: Migration | None = None
        self.runs = self.failures = 0
        self.failed_share = FAILED_SHARE
        # Those that ended well and whose end was seen.
        self._seen: set[str] = set()
        # What ended while nobody supervised, and how.
        self._buried: list[tuple[str, bool]] = []
        self._trouble: dict[str, str] = {}
        self._given_back: set[str] = set()

    def take_over(self, loop: "Supervisor") -> None:
        """Another supervisor has come: it hears from the zygote what ended, and waits for what still runs."""
        for what, well in self._buried:
            self._note(what, well)
        self._buried.clear()
        self._trouble.clear()
        if self.running is not None:
            self.running.supervisor = loop

    def hold(self, loop: "Supervisor") -> None:
        """What a release needs that a supervisor begins with: its services wait for their migrations."""
        spec = self.world.specs[loop.state.desired.current.name]
        for service in held(loop.state.desired, spec, self.done):
            loop.state.paused.add(spec.sets[service])
            self.world.clock.after(0.0, self._run_first, loop, spec, service, False)

    def _run_first(self, loop: "Supervisor", spec: ReleaseSpec, service: ServiceName, tried: bool) -> None:
        """Once; after a failure, it is for a deploy to run them."""
        if not loop.alive:
            return
        name, what = spec.sets[service], label(service, spec.builds[service])
        if what in self.done or name not in loop.state.desired.sets:
            loop.state.paused.discard(name)
            loop.wake()
            return
        if not tried and self.running is None and may_run(loop.state.desired, loop.observed, name):
            self._begin(loop, spec, what)
            tried = True
        self.world.clock.after(LOOK_SECONDS, self._run_first, loop, spec, service, tried)

    def look(self, loop: "Supervisor", rollout: Rollout) -> str | None:
        """Run what a rollout needs; why that failed, "" if all is done, None while it is not."""
        spec = self.world.specs[rollout.later.name]
        if rollout.stage is not Stage.MIGRATING:
            self._give_up(spec.name)
            return None
        if self.running is not None:
            return None
        for service in pending(spec, self.done):
            what = label(service, spec.builds[service])
            if what not in self._trouble:
                self._begin(loop, spec, what)
                return None
            return self._trouble.pop(what)
        return ""

    def _begin(self, loop: "Supervisor", spec: ReleaseSpec, what: str) -> None:
        world = self.world
        if what in self._seen:
            raise Broken(Promise.MIGRATES_ONCE, f"{what} is migrated again")
        if world.machine.zygote_returns_at > world.clock.now:
            self._trouble[what] = "the zygote is away"
            return
        world.log("", f"migrates {what}")
        self.runs += 1
        self.running = Migration(spec.name, what, loop)
        world.clock.after(SECONDS_MAX * self.dice.random(), self._ended, self.running)

    def _give_up(self, release: str) -> None:
        """Nobody wants what it was for: it is ended, and has altered nothing."""
        if self.running is not None and self.running.release == release:
            self.running = None

    def zygote_dies(self) -> None:
        """Nobody will know how what runs has ended."""
        if self.running is not None:
            self.running.orphan = True

    def _ended(self, one: Migration) -> None:
        if self.running is not one:
            return
        self.running = None
        well = self.dice.random() >= self.failed_share
        self.failures += not well
        if not one.orphan and one.supervisor.alive:
            self._note(one.label, well)
            if not well:
                self._trouble[one.label] = "the table is locked"
        elif not one.orphan:
            self._buried.append((one.label, well))

    def _note(self, what: str, well: bool) -> None:
        if well:
            self._seen.add(what)
            self.done.append(what)

    def goes_back(self, spec: ReleaseSpec, services: Iterable[ServiceName]) -> None:
        """A release is given back what was replaced in place: its data is as it was when it served before."""
        self._given_back.update(label(service, spec.builds[service]) for service in services)

    def check_start(self, spec: ReleaseSpec, service: ServiceName) -> None:
        """Before a replica is started: its data is up to date."""
        if service in pending(spec, self.done) and label(service, spec.builds[service]) not in self._given_back:
            raise Broken(Promise.MIGRATES_FIRST, f"{service} of {spec.name} starts before its migrations")
