"""A supervisor that performs rollouts as `supervisor.rollouts` and `supervisor.fleet` do, on a simulated machine.

Three things go on at once, as in the real one: the loop plans and tells, the rollout is looked at, and changes are
written, one after the other, each for a while. So a look comes between two tells, and an abort is written while the
next step is decided. What replicas were told, and say that they know, comes late, from each for itself.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from machine import Process
from promises import replicas_know_less, step_is_wrong, watch_is_too_long
from routing import Beat, Routing
from world import HEARTBEAT_SECONDS, Loop

from fissile.orchestrator.acts import Change, EndRollout, SetReplicas
from fissile.orchestrator.autoscale import Demand, ScalingPolicy
from fissile.orchestrator.change import ChangeRefused, apply
from fissile.orchestrator.desired import Desired, DesiredService, Rollout, Stage
from fissile.orchestrator.plan import Action, StartReplica
from fissile.orchestrator.replica import READY, ReplicaState
from fissile.orchestrator.rollout import Seen, SetSeen, least, outlook
from fissile.orchestrator.verdict import Judgement

if TYPE_CHECKING:
    from releasing import DeployWorld

LOOK_SECONDS = 0.05
TELL_SECONDS = 0.1
IDLE_SECONDS = 2.0

Then = Callable[[], None]


class DeployLoop(Loop):
    """One supervisor."""

    world: "DeployWorld"

    def __init__(self, world: "DeployWorld") -> None:
        # Of replicas that know less than they should: since when, and what.
        self.stale: dict[int, tuple[float, Routing]] = {}
        self._sent: dict[str, Routing] = {}
        self._made: dict[str, tuple[Desired, tuple[int, ...], Routing]] = {}
        self._linked: dict[int, int] = {}
        self._arrives: dict[int, float] = {}
        self._beats: dict[int, Beat] = {}
        self._live: object = None
        self._looking = False
        self._waiting: list[tuple[Change, Then, Then]] = []
        self.writing: Change | None = None
        super().__init__(world)

    # -- changes take time ------------------------------------------------------------------------------

    def submit(self, change: Change, then: Then = lambda: None, refused: Then = lambda: None) -> None:
        """Write a change once those before it are written; or it is refused when its turn comes."""
        self._waiting.append((change, then, refused))
        self._write_next()

    def _write_next(self) -> None:
        while self._waiting and self.writing is None:
            change, then, refused = self._waiting.pop(0)
            try:
                apply(self.world.desired, change)
            except ChangeRefused as error:
                self.world.log("", f"refused: {error}")
                refused()
                continue
            self.writing = change
            seconds = self.world.write_seconds * 2 * self.world.chance.random()
            self.world.clock.after(seconds, self._written, then)

    def _written(self, then: Then) -> None:
        if self.alive and self.writing is not None:
            change, self.writing = self.writing, None
            self.world.commit(change)
            then()
            self._write_next()

    def _give_up(self, change: Change, name: str) -> None:
        def over() -> None:
            self.abandoning.discard(name)
            self.wake()

        self.submit(change, over, over)

    # -- who is told what -------------------------------------------------------------------------------

    def _doors(self) -> tuple[int, ...]:
        """Serials of the replicas at the public doors."""
        world = self.world
        sets = {world.places[release.name][world.names[0]] for release in world.desired.releases()}
        found = [self.observed.services[name] for name in sorted(sets) if name in self.observed.services]
        return tuple(
            r.serial for service in found for r in service.replicas.values() if r.state is READY and not r.ending
        )

    def content(self, name: str) -> Routing:
        """What the replicas of a set are to know now. version: 0."""
        desired, doors = self.world.desired, self._doors()
        known = self._made.get(name)
        if known is None or known[0] is not desired or known[1] != doors:
            known = self._made[name] = desired, doors, self._content(name, desired, doors)
        return known[2]

    def _content(self, name: str, desired: Desired, doors: tuple[int, ...]) -> Routing:
        places, rollout, shares = self.world.places, desired.rollout, desired.shares()
        members = [r for r in desired.releases() if name in r.sets.values()] or [desired.current]
        default = members[-1] if rollout is not None and rollout.stage is Stage.MOVED else members[0]
        ways = {release.name: places[release.name] for release in members}
        if rollout is not None and len(members) > 1:
            there = desired.services.keys() - set(rollout.left)
            ways = {release: {s: to for s, to in way.items() if to in there} for release, way in ways.items()}
        here = sum(shares[release.name] for release in members if release.name in shares)
        own = {release.name: shares.get(release.name, 0.0) / here for release in members} if here > 0 else {}
        share, elsewhere = 0.0, tuple[int, ...]()
        door = self.world.names[0]
        for release in desired.releases():
            if release not in members and any(places[member.name][door] == name for member in members):
                found = self.observed.services.get(places[release.name][door])
                serials = found.replicas if found is not None else ()
                share, elsewhere = shares[release.name], tuple(serial for serial in doors if serial in serials)
        return Routing(0, default.name, ways, own or {default.name: 1.0}, share, elsewhere)

    def told(self, name: str) -> Routing:
        """The same with the version by which replicas say that they know it."""
        found, before = self.content(name), self._sent.get(name)
        if before is None or msgspec.structs.replace(before, version=0) != found:
            self.world.versions += 1
            before = self._sent[name] = msgspec.structs.replace(found, version=self.world.versions)
        self.world.told_last[name] = before
        return before

    def _perform(self, action: Action) -> None:
        super()._perform(action)
        if isinstance(action, StartReplica):
            self.by_serial[self.observed.last_serial][0].routes = self.told(action.service).version

    def know(self, name: str) -> bool:
        """Whether all ready replicas of a set say that they know what they are to know now."""
        found = self.observed.services.get(name)
        version = self.told(name).version
        for replica in found.replicas.values() if found is not None else ():
            if replica.unheard and not replica.ending:
                return False
            if replica.state is ReplicaState.STARTING and not replica.ending and replica.routes != version:
                return False
            if replica.state is READY and not replica.ending:
                beat = self._beats.get(replica.serial)
                if beat is None or beat.version != version:
                    return False
        return True

    def _tell_one(self, process: Process) -> None:
        routing = self.told(process.service)
        if self._linked.get(process.serial) == routing.version:
            return
        self._linked[process.serial] = routing.version
        late = 0.002 + (TELL_SECONDS + self.world.report_late_seconds) * self.world.chance.random()
        when = max(self._arrives.get(process.serial, 0.0), self.world.clock.now + late)
        self._arrives[process.serial] = when
        self.world.clock.at(when, self.world.learn, process, routing)

    def _go_on(self) -> None:
        desired = self.world.desired
        live = (desired.current, desired.rollout)
        settled = not (self.table.held(self.world.clock.now) and self.observed.unheard())
        several = settled and (desired.rollout is not None or live != self._live)
        if settled:
            self._live = live
        if several:
            for found in list(self.observed.services.values()):
                for replica in found.replicas.values():
                    process = self.by_serial[replica.serial][1]
                    wanted = replica.service in desired.services
                    if process is not None and wanted and replica.state is not ReplicaState.STARTING:
                        self._tell_one(process)
        if desired.rollout is not None and not self._looking:
            self._looking = True
            self._look()

    def hear(self, process: Process, what: str) -> None:
        if what == "ready" and process.service in self.world.desired.services:
            self._tell_one(process)
        elif what == "ended":
            self._beats.pop(process.serial, None)
        super().hear(process, what)

    def _attached(self, process: Process) -> None:
        if not self.alive or process.serial not in self.by_serial:
            return
        replica = self.by_serial[process.serial][0]
        held = replica.unheard and self.table.held(self.world.clock.now)
        if process.serves and not held and process.service in self.world.desired.services:
            self._tell_one(process)
        super()._attached(process)
        self.world.clock.after(HEARTBEAT_SECONDS * self.world.chance.random(), self.world.beat, process)

    def heard_beat(self, serial: int, beat: Beat) -> None:
        """A report has come."""
        known = self.by_serial.get(serial)
        if known is not None and known[0].lives():
            self._beats[serial] = beat

    def _beat(self) -> None:
        super()._beat()
        if self.alive:
            if self.world.desired.rollout is not None:
                for _, process in list(self.by_serial.values()):
                    if process is not None and process.serves:
                        self.world.beat(process)
            replicas_know_less(self.world, self)
            watch_is_too_long(self.world, self)

    # -- what is next -----------------------------------------------------------------------------------

    def _look_later(self) -> None:
        self.world.clock.after(LOOK_SECONDS * self.world.chance.random(), self._look)

    def _look(self) -> None:
        world = self.world
        rollout = world.desired.rollout
        if not self.alive:
            return
        if rollout is None:
            self._looking = False
            return
        change = outlook(world.desired, self._seen(rollout), world.wall()).change
        if change is None:
            self._look_later()
            return
        step_is_wrong(world, self, change)
        world.log("", f"rollout {rollout.number}: {change.what}")
        gone = world.desired.leaving() if isinstance(change.what, EndRollout) else ()

        def then() -> None:
            for name in gone:
                self.observed.services.pop(name, None)
                self._sent.pop(name, None)
            self._look()

        self.submit(change, then, self._look_later)

    def _seen(self, rollout: Rollout) -> Seen:
        world, desired = self.world, self.world.desired
        sets = {*desired.current.sets.values(), *rollout.later.sets.values()}
        migrated = world.clock.now >= world.migrated_at[rollout.later.name]
        return Seen(
            {name: self._set_seen(name, rollout, want) for name, want in desired.services.items()},
            self._pinned(),
            all(self.know(name) for name in sets),
            migrated,
            world.migrations[rollout.later.name] if migrated else "",
            Judgement(world.verdicts[rollout.later.name], "so it is"),
        )

    def _pinned(self) -> bool:
        desired = self.world.desired
        going, leaving = desired.going(), set(desired.leaving())
        if going is None:
            return True
        for name, found in self.observed.services.items():
            if name in leaving or name not in desired.services:
                continue
            if not self.know(name):
                return True
            beats = [self._beats[serial] for serial in found.replicas if serial in self._beats]
            if any(going.name in beat.pinned for beat in beats):
                return True
        return False

    def _set_seen(self, name: str, rollout: Rollout, want: DesiredService) -> SetSeen:
        found = self.observed.services.get(name)
        if found is None:
            return SetSeen()
        ready = [r for r in found.replicas.values() if r.state is READY and not r.ending and not r.unheard]
        deaths, before = 0, rollout.kept.get(name)
        if before is None:
            deaths = max((memory.deaths.in_a_row for memory in found.slots.values()), default=0)
        elif before.release != rollout.wishes[name].release:
            failed = [m for m in found.slots.values() if m.failed_revision > before.revision]
            deaths = max((m.deaths.in_a_row for m in failed), default=0)
        return SetSeen(len(found.replicas), sum(r.revision >= want.revision for r in ready), deaths, "it died")

    # -- how many ---------------------------------------------------------------------------------------

    def _scale(self) -> None:
        changes = [*(change for change, _, _ in self._waiting), *([self.writing] if self.writing else [])]
        if self.alive and any(isinstance(change.what, SetReplicas) for change in changes):
            self.world.clock.after(LOOK_SECONDS, self._scale)  # its last decision is not written yet
        else:
            super()._scale()

    def _policy(self, name: str, want: DesiredService) -> ScalingPolicy:
        return msgspec.structs.replace(
            super()._policy(name, want),
            idle_seconds=IDLE_SECONDS,
            group="" if name in self.world.first_group() else "rollout",
            least=least(self.world.desired, name),
        )

    def _demand(self, name: str) -> Demand:
        wanted = self.world.desired.services[name].replicas
        wake = wanted == 0 and name in self.world.visits.knocked
        if wanted:
            self.world.visits.knocked.discard(name)
        return msgspec.structs.replace(super()._demand(name), wake=wake)
