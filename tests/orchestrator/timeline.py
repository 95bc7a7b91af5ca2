"""Timelines: what happens to an application goes in, and what is done about it comes out.

    shop = Timeline(front=service(calls="cart"), cart=service(2))
    shop.at(0).expect("start front.0", "start cart.0", "start cart.1")
    shop.at(1).ready("cart.0", "cart.1").expect()
    shop.at(2).ready("front.0").expect("tell front.0: cart.0 cart.1")
    shop.at(3).dies("cart.0").expect("start cart.0#2: …; starting again", "tell front.0: cart.1")

What decides is production code: reconciler, writer of changes, rollouts, autoscaler. Time is a number, and the machine
does what the test says. "cart.0#2" is the second replica in slot 0 of the service cart; "cart@2" is its replica set in
the build that the second release brought. A line that is expected may begin with its time, if that is not now. It may
leave out the reason, or parts of it ("…"). What is missing fails, and so does what nobody expects.
"""

import re
from collections.abc import Collection
from itertools import zip_longest
from math import inf
from typing import Any

import msgspec

from fissile.errors import FissileError
from fissile.names import SetName, service_of
from fissile.orchestrator.acts import (
    ACTOR,
    AbortRollout,
    AcknowledgeRoutes,
    AdvanceRollout,
    BeginRollout,
    Change,
    DrainSets,
    EndRollout,
    GiveUpRestart,
    PromoteRollout,
    RestartService,
    RetireSets,
    ScaleService,
    SetReplicas,
)
from fissile.orchestrator.change_writer import ChangeWriter, Done
from fissile.orchestrator.demand import AUTOSCALER, may_be_asleep, scale
from fissile.orchestrator.deploy_rules import (
    DeployOrder,
    back_to,
    changed_specs,
    live_release,
    rollout_to,
    set_spec,
    sets_of,
)
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.reasons import Said
from fissile.orchestrator.reconciler import Reconciler
from fissile.orchestrator.replica import (
    DRAINING,
    STARTING,
    Observation,
    Replica,
    ReplicaDraining,
    ReplicaEnded,
    ReplicaReady,
    ReplicaReported,
)
from fissile.orchestrator.rollout_status import next_step
from fissile.orchestrator.routing import DrainOrder, SetRoutes, Told
from fissile.orchestrator.spec import ReleaseSpec, ScalingSpec, ServiceSpec
from fissile.orchestrator.state import ApplicationState
from fissile.runtime.control import Heartbeat, ReplicaHello, Stuck, Traffic
from fissile.telemetry.aggregate import Answers

BEAT_SECONDS, WATCH_SECONDS, SCALE_SECONDS = 1.0, 0.5, 0.1
# After a takeover, callers keep what they have for so long, unless all have reported.
SETTLE_SECONDS = 3.0
# Of the clock on the wall, at second 0.
EPOCH_SECONDS = 1e6
VERSIONS = 1000
TURNS_MAX = 500
KILLED = "was killed by SIGKILL"


def service(replicas: int | tuple[int, int] = 1, *, calls: str = "", target: float = 2.0, **spec: Any) -> ServiceSpec:
    """A service of one component, with so many replicas, or as many as the autoscaler finds right between two counts.

    calls: services, with a space between. target: calls in flight that one replica is meant for. Where there is a spec
    for scaling, `weight` and `idle_seconds` are its own.
    """
    scaling = None
    if isinstance(replicas, tuple):
        options = {name: spec.pop(name) for name in ("weight", "idle_seconds") if name in spec}
        scaling = ScalingSpec(target, replicas_min=replicas[0], replicas_max=replicas[1], **options)
        replicas = replicas[0]
    return ServiceSpec(calls=tuple(map(component, calls.split())), replicas=replicas, scaling=scaling, **spec)


def component(name: str) -> str:
    """The component that a service has."""
    return name.capitalize()


class Entry(msgspec.Struct):
    """A line of the transcript. given: it is what happened, and not what was done about it."""

    at: float
    text: str
    given: bool = False

    def __str__(self) -> str:
        return f"{round(self.at, 3):g} {'« ' if self.given else ''}{self.text}"


class Timeline:
    """One application on one machine, and all that happens to it.

    obedient: what is started is ready at once, what drains ends at once, and a kill kills; but for those that were told
    to be `slow`. quiet: verbs that are not worth a line here, as "tell order"; only: those that are. cores: of the
    machine.
    """

    def __init__(
        self, *, obedient: bool = False, quiet: str = "", only: str = "", cores: int = 64, **services: ServiceSpec
    ) -> None:
        self.now = 0.0
        self.cores = cores
        self.clock_off = 0.0
        self.migration: str | None = ""
        self.journal_trouble = ""
        self.transcript: list[Entry] = []
        # What was said last of something that was seen.
        self.said = ""
        # How often anybody was to be told anything, be it new or not.
        self.pushed = 0
        self.releases: dict[str, ReleaseSpec] = {}
        self._obedient = obedient
        self._quiet = quiet.split()
        self._only = only.split()
        self._seen = 0
        self._names: dict[int, str] = {}
        self._births: dict[tuple[str, int], int] = {}
        self._slow: set[str] = set()
        self._silent: set[str] = set()
        self._deaf: set[str] = set()
        self._hung: set[str] = set()
        self._reports: dict[str, dict[str, Any]] = {}
        self._bytes: dict[str, int] = {}
        self._told: dict[int, Told] = {}
        self._ordered: dict[int, DrainOrder] = {}
        self._knocked: set[SetName] = set()
        self._ticks = {BEAT_SECONDS: 0, WATCH_SECONDS: 0, SCALE_SECONDS: 0}
        self._number = 0
        self._due = inf
        self._supervisors = 0
        self._unattached: set[int] = set()
        first = self._release(services)
        live = live_release(first)
        self._supervise(Desired({live.sets[name]: set_spec(first, name) for name in services}, live))

    def _supervise(self, desired: Desired) -> None:
        self._supervisors += 1
        self.state = ApplicationState(self.releases, self._supervisors * VERSIONS)
        self.writer = ChangeWriter(self.state, self)
        self.writer.begin(desired)
        self.reconciler = Reconciler(self.state, self, self.writer, lambda text: self._did("complain", "", text))

    def _release(
        self, services: dict[str, ServiceSpec], kept: ReleaseSpec | None = None, settings: Collection[str] = ()
    ) -> ReleaseSpec:
        """The next one: of these services, and of others as they were. settings: of whom these alone are new."""
        number = len(self.releases) + 1
        specs, builds = (dict(kept.services), dict(kept.builds)) if kept is not None else ({}, {})
        for name, one in services.items():
            names = () if one.program and not one.components else one.components or (component(name),)
            specs[name] = msgspec.structs.replace(one, components=names)
            builds[name] = str(number) if name not in settings else builds[name]
        references = {one: of.calls for of in specs.values() for one in of.components}
        release = ReleaseSpec(f"r{number}", specs, sets_of(builds, specs), references, builds=builds)
        self.releases[release.name] = release
        return release

    # -- time, and what is expected ---------------------------------------------------------------------

    def at(self, now: float) -> "Timeline":
        """Let time pass until then, with all that is due meanwhile."""
        assert now >= self.now - 1e-9, f"it is {self.now:g} already"
        self._settle()
        while True:
            tick, when = min(
                ((seconds, (count + 1) * seconds) for seconds, count in self._ticks.items()), key=lambda one: one[1]
            )
            when = min(when, self._due)
            if when > now + 1e-9:
                break
            self.now = max(self.now, when)
            if when == self._due:
                self._settle()
            else:
                self._ticks[tick] += 1
                self._tick(tick)
        self.now = max(self.now, now)
        return self

    def expect(self, *lines: str) -> "Timeline":
        """What was done since it was last asked, in order; see the top of this file."""
        self._settle()
        happened = [one for one in self.transcript[self._seen :] if not one.given]
        pairs = list(zip_longest(lines, happened))
        if not all(line is not None and one is not None and self._meant(line, one) for line, one in pairs):
            raise AssertionError(self._side_by_side(pairs))
        self._seen = len(self.transcript)
        return self

    def started(self) -> "Timeline":
        """What was done so far was to start all, and is not looked at."""
        self._settle()
        self._seen = len(self.transcript)
        return self

    def _meant(self, line: str, entry: Entry) -> bool:
        when, text = _timed(line)
        if abs((self.now if when is None else when) - entry.at) > 0.0006:
            return False
        if ": " not in text:
            return text == entry.text.partition(": ")[0]
        return re.fullmatch(".*".join(map(re.escape, text.split("…"))), entry.text, re.DOTALL) is not None

    def _side_by_side(self, pairs: list[tuple[str | None, Entry | None]]) -> str:
        rows = [("", "expected", "happened")]
        for line, one in pairs:
            same = line is not None and one is not None and self._meant(line, one)
            when, text = _timed(line) if line is not None else (None, "—")
            timed = f"{self.now if when is None else when:g} {text}" if line is not None else text
            rows.append(("  " if same else "≠ ", timed, str(one) if one is not None else "—"))
        width = max(len(expected) for _, expected, _ in rows)
        table = "\n".join(f"{mark:2}{expected:{width}}  {happened}" for mark, expected, happened in rows)
        return f"at {self.now:g}:\n{table}\n\nso far:\n" + "\n".join(f"  {one}" for one in self.transcript)

    def _settle(self) -> None:
        """Do what there is to do now, until there is nothing left."""
        for _ in range(TURNS_MAX):
            step = self.reconciler.step(self.now)
            if not step.actions and not self._look() and not self._react():
                self._due = step.due
                if self.state.desired.rollout is not None and self.state.next_step is not None:
                    self._due = min(self._due, self.state.next_step[2].due - EPOCH_SECONDS - self.clock_off)
                return
        raise AssertionError("it never ends:\n" + "\n".join(map(str, self.transcript[-30:])))

    def _tick(self, seconds: float) -> None:
        if seconds == BEAT_SECONDS:
            for replica in self._replicas():
                if replica.state is not STARTING and self.name(replica) not in self._silent:
                    self._report(replica)
        elif not (self.reconciler.watch(self.now, 0.0) if seconds == WATCH_SECONDS else self._autoscale()):
            return
        self._settle()

    # -- what happens -------------------------------------------------------------------------------------

    def _given(self, text: str) -> "Timeline":
        self.transcript.append(Entry(self.now, text, given=True))
        return self

    def ready(self, *names: str) -> "Timeline":
        """It serves."""
        for name in names:
            self._given(f"{name} is ready")
            self._attach(self.replica(name))
        return self

    def _attach(self, replica: Replica) -> None:
        self._unattached.discard(replica.serial)
        replica.pid = replica.pid or 1000 + replica.serial
        if replica.state is not DRAINING:
            self.reconciler.greet(replica, self.now)
        self._observe(replica, ReplicaReady())
        self._report(replica)

    def dies(self, name: str, how: str = KILLED, *, mistake: bool = False, chance: float = 0.0) -> "Timeline":
        """Its process is gone."""
        self._given(f"{name} {how}")
        self._observe(self.replica(name), ReplicaEnded(Said(how), chance, mistake))
        return self

    def ends(self, *names: str) -> "Timeline":
        """Its process is gone, as it was told to go."""
        for name in names:
            self.dies(name, "ended with exit code 0")
        return self

    def silent(self, *names: str) -> "Timeline":
        """No more reports."""
        self._silent.update(names)
        return self._given(f"{', '.join(names)} silent from now on")

    def heard(self, *names: str) -> "Timeline":
        """They report again."""
        self._silent.difference_update(names)
        self._hung.difference_update(names)
        for name in names:
            self._report(self.replica(name))
        return self._given(f"{', '.join(names)} reports again")

    def hangs(self, name: str) -> "Timeline":
        """Its event loop is stuck, which its watchdog says when it is asked."""
        self._hung.add(name)
        return self.silent(name)

    def holds(self, name: str, seconds: float, **holders: int) -> "Timeline":
        """All its places have been held for so long. holders: by method of its own component."""
        of = component(name.partition(".")[0])
        self._given(f"{name}: its places are held for {seconds:g} s")
        self._report(self.replica(name), stuck=Stuck(seconds, {f"{of}.{one}": n for one, n in holders.items()}))
        return self

    def drains(self, name: str) -> "Timeline":
        """It says that it drains, though nobody ordered that."""
        self._given(f"{name} drains by itself")
        self._unattached.discard(self.replica(name).serial)
        self._observe(self.replica(name), ReplicaDraining())
        return self

    def slow(self, *names: str) -> "Timeline":
        """These replica sets or replicas do nothing by themselves, though the machine is obedient."""
        self._slow.update(names)
        return self._given(f"{', '.join(names)} slow from now on")

    def prompt(self, *names: str) -> "Timeline":
        """They are obedient again."""
        self._slow.difference_update(names)
        return self._given(f"{', '.join(names)} prompt from now on")

    def deaf(self, *names: str) -> "Timeline":
        """They do not apply what they are told, until they are heard of again."""
        self._deaf.update(names)
        return self._given(f"{', '.join(names)} deaf from now on")

    def hears(self, *names: str) -> "Timeline":
        """They apply what they were told."""
        self._deaf.difference_update(names)
        return self._given(f"{', '.join(names)} hear again")

    def uses(self, name: str, count: int) -> "Timeline":
        """So many bytes."""
        self._bytes[name] = count
        return self._given(f"{name} uses {count} bytes")

    def load(self, name: str, running: int = 0, **calls: int) -> "Timeline":
        """Calls that run at a replica from now on, and its own calls that wait, by service."""
        sets = {str(self.set_of(callee)): count for callee, count in calls.items()}
        self._reports.setdefault(name, {}).update(in_flight=running, calls=sets)
        self._report(self.replica(name))
        return self._given(f"{name} runs {running} calls, and makes {calls or 'none'}")

    def traffic(self, name: str, **releases: int) -> "Timeline":
        """Requests in flight at a replica from now on, by release."""
        found = {release: Traffic(count, Answers()) for release, count in releases.items()}
        self._reports.setdefault(name, {})["traffic"] = found
        self._report(self.replica(name))
        return self._given(f"{name} has requests: {releases}")

    def answers(self, name: str, **releases: tuple[int, int]) -> "Timeline":
        """Answers and errors of a replica since it began, by release."""
        found = {release: Traffic(0, Answers(count, errors)) for release, (count, errors) in releases.items()}
        self._reports.setdefault(name, {})["traffic"] = found
        self._report(self.replica(name))
        return self._given(f"{name} has answered: {releases}")

    def knocks(self, name: str) -> "Timeline":
        """Somebody connects to a service that sleeps."""
        self._knocked.add(self.set_of(name))
        return self._given(f"somebody knocks at {name}")

    def clock_set(self, seconds: float) -> "Timeline":
        """Somebody sets the clock on the wall, by so much."""
        self.clock_off += seconds
        return self._given(f"the clock is set by {seconds:g} s")

    def supervisor_dies(self) -> "Timeline":
        """Another one takes over at once: it knows the processes and the journal, and nothing else."""
        self._given("the supervisor dies, and another one comes")
        living, before = self._replicas(), self.state
        self._supervise(msgspec.msgpack.decode(msgspec.msgpack.encode(before.desired), type=Desired))
        observed = self.state.observed
        for one in living:
            if one.set in self.state.desired.sets:
                observed.adopt(one.serial, one.set, one.slot, one.revision, one.build, one.pid, self.now)
                self._unattached.add(one.serial)
        observed.last_serial = max(observed.last_serial, before.observed.last_serial)
        self.state.routed.take_over(self.now + SETTLE_SECONDS)
        self.state.strays = before.strays
        return self

    # -- what people do -----------------------------------------------------------------------------------

    def by_anna(self, act: Any) -> "Timeline":
        """A person's change."""
        self._given(f"anna: {act}")
        self._submit(Change("anna", act, "because"))
        return self

    def scale(self, name: str, low: int, high: int | None = None) -> "Timeline":
        """So many, or between two counts."""
        return self.by_anna(ScaleService(self.set_of(name), low, low if high is None else high))

    def restart(self, name: str) -> "Timeline":
        """New replicas instead of those that are there."""
        found = self.state.observed.replica_set(self.set_of(name))
        want = self.state.desired.sets[self.set_of(name)]
        return self.by_anna(RestartService(self.set_of(name), max(found.newest_revision(), want.revision) + 1))

    def deploy(self, *, migrates: bool = False, settings: str = "", **options: Any) -> "Timeline":
        """Another release: services that are given are new, the rest is as it was. options: of the order.

        settings: the services of which the settings alone are new.
        """
        changed = {name: options.pop(name) for name in list(options) if isinstance(options[name], ServiceSpec)}
        earlier = self.releases[self.state.desired.current.name]
        later = self._release(changed, earlier, settings.split())
        return self._begin(later, DeployOrder(**options), migrates)

    def rollback(self, **options: Any) -> "Timeline":
        """To the release before."""
        found = back_to(self.state.desired)
        if not found.release:
            return self.abort()
        return self._begin(self.releases[found.release], DeployOrder(release=found.release, **options), False)

    def _begin(self, later: ReleaseSpec, order: DeployOrder, migrates: bool) -> "Timeline":
        desired = self.state.desired
        wanted = changed_specs(desired, self.releases[desired.current.name], later, "")
        act = BeginRollout(rollout_to(later, order, desired, wanted, migrates=migrates, now=self.wall))
        self._given(f"anna: deploy {later.name}")
        self._submit(Change("anna", act, act.rollout.reason))
        return self

    def promote(self) -> "Timeline":
        """What is watched is good."""
        return self.by_anna(PromoteRollout(self.wall))

    def abort(self) -> "Timeline":
        """Back to the earlier release."""
        return self.by_anna(AbortRollout(self.wall))

    # -- what there is ------------------------------------------------------------------------------------

    @property
    def done(self) -> list[str]:
        """All that was done so far."""
        return [one.text for one in self.transcript if not one.given]

    @property
    def wall(self) -> float:
        """The clock on the wall."""
        return EPOCH_SECONDS + self.now + self.clock_off

    @property
    def stage(self) -> str:
        """Of the rollout that is under way; "" if there is none."""
        rollout = self.state.desired.rollout
        return rollout.stage if rollout is not None else ""

    def waits(self, text: str) -> "Timeline":
        """What the rollout waits for."""
        self._settle()
        assert self.state.next_step is not None
        found = str(self.state.next_step[2].waits or "")
        assert re.fullmatch(".*".join(map(re.escape, text.split("…"))), found), f"it waits for: {found}"
        return self

    def access(self, name: str) -> dict[str, str]:
        """Who may call what at a replica, by what it was told: by the caller's component."""
        rules = self._told[self.replica(name).serial].routes.callers
        known = {one for components in rules.services.values() for one in components}
        return {one: " ".join(sorted(to)) for one, to in sorted(rules.references.items()) if one in known and to}

    def set_of(self, name: str) -> SetName:
        """The replica set of that name: "cart@2" as such, "cart" in its first build, or as the one that there is."""
        sets = self.state.desired.sets
        first = SetName(f"{name}@1")
        alone = [one for one in sets if service_of(one) == name]
        return first if first in sets else SetName(name) if SetName(name) in sets or not alone else alone[0]

    def replica(self, name: str) -> Replica:
        """Of that name; it lives."""
        if name not in map(self.name, self._replicas()):
            self._settle()  # it is started by what happened just now
        (found,) = [one for one in self._replicas() if self.name(one) == name] or [None]
        assert found is not None, f"no {name} among {[self.name(one) for one in self._replicas()]}"
        return found

    def living(self, name: str) -> list[str]:
        """A service's replicas."""
        return sorted(self.name(one) for one in self._replicas() if one.service == name)

    def name(self, replica: Replica) -> str:
        """Of a replica; see the top of this file."""
        found = self._names.get(replica.serial)
        if found is None:
            place = (replica.set, replica.slot)
            count = self._births[place] = self._births.get(place, 0) + 1
            found = f"{_short(replica.set)}.{replica.slot}{f'#{count}' if count > 1 else ''}"
            self._names[replica.serial] = found
        return found

    def _replicas(self) -> list[Replica]:
        return [one for found in self.state.observed.sets.values() for one in found.replicas.values()]

    def _observe(self, replica: Replica, observation: Observation) -> None:
        self.said = str(self.reconciler.observe(replica, observation, self.now) or "")

    def _report(self, replica: Replica, **more: Any) -> None:
        if replica.serial in self._unattached:
            return
        self._number += 1
        hello = ReplicaHello(replica.service, replica.set, replica.slot, replica.serial, replica.pid, "", "")
        told = self._told.get(replica.serial)
        routes = replica.report.routes if replica.report is not None else replica.routes
        if told is not None and not self._is(self._deaf, replica):
            routes = told.version
        fields = {"in_flight": 0, **self._reports.get(self.name(replica), {}), **more}
        beat = Heartbeat(hello, 0.0, routes=routes, number=self._number, **fields)
        self._observe(replica, ReplicaReported(beat))

    def _is(self, names: set[str], replica: Replica) -> bool:
        return not names.isdisjoint((self.name(replica), _short(replica.set)))

    # -- an obedient machine ------------------------------------------------------------------------------

    def _react(self) -> bool:
        """What replicas do by themselves. Whether any did something."""
        done = False
        for replica in self._replicas():
            told = self._told.get(replica.serial)
            if replica.state is not STARTING and told is not None and replica.serial not in self._unattached:
                known = replica.report.routes if replica.report is not None else 0
                if known != told.version and not self._is(self._deaf | self._silent, replica):
                    self._report(replica)
                    done = True
            if not self._obedient or self._is(self._slow, replica):
                continue
            if replica.ending:
                self._observe(replica, ReplicaEnded(Said(KILLED)))
            elif replica.serial in self._unattached or (replica.state is STARTING and not replica.unheard):
                self._attach(replica)
            elif replica.state is DRAINING:
                self._observe(replica, ReplicaEnded(Said("ended with exit code 0")))
            else:
                continue
            done = True
        return done

    # -- the verbs of a machine: see Executor ---------------------------------------------------------------

    def _did(self, verb: str, what: str, why: object = "") -> None:
        if verb in self._only or not (self._only or verb in self._quiet):
            head = f"{verb} {what}".strip()
            self.transcript.append(Entry(self.now, f"{head}: {why}" if f"{why}" else head))

    def start(self, replica: Replica, reason: object) -> None:
        told = self._told[replica.serial] = self.state.told(replica.set)
        replica.routes = told.version
        self._did("start", self.name(replica), reason)

    def drain(self, replica: Replica, reason: object) -> None:
        self._did("drain", self.name(replica), reason)

    def order(self, replica: Replica, order: DrainOrder) -> None:
        if self._ordered.get(replica.serial) != order:
            self._ordered[replica.serial] = order
            heirs = [self._names.get(one, "?") for to in order.heirs.values() for one in to]
            times = f"{order.seconds_max:g} s, idle {order.idle_seconds_max:g} s"
            self._did("order", self.name(replica), f"{times}, to {' '.join(heirs) or 'nobody'}")

    def stop(self, replica: Replica, reason: object) -> None:
        self._did("stop", self.name(replica), reason)

    def kill(self, replica: Replica, reason: object, *, fault: bool) -> None:
        self._did("kill", self.name(replica), reason)

    def explain(self, replica: Replica) -> str:
        return "nobody listens at its port" if self.releases["r1"].services[replica.service].program else ""

    def push_routes(self, replica: Replica, told: Told) -> None:
        self.pushed += 1
        before = self._told.get(replica.serial)
        if replica.serial in self._unattached or (before is not None and before.version == told.version):
            return
        self._told[replica.serial] = told
        self._did("tell", self.name(replica), self._said(told.routes, before.routes if before is not None else None))

    def ask(self, replica: Replica) -> None:
        self._did("ask", self.name(replica))

    def answered(self, replica: Replica) -> bool:
        return self.name(replica) in self._hung

    def memory_bytes(self, replica: Replica) -> int | None:
        return self._bytes.get(self.name(replica))

    def _said(self, routes: SetRoutes, before: SetRoutes | None) -> str:
        """What is new to those who are told it."""
        parts: list[str] = []
        for release in routes.targets or {routes.release: {}}:
            shares = f"{release} {routes.shares[release]:.0%} → " if len(routes.releases) > 1 and routes.shares else ""
            slots: list[str] = []
            for name in dict.fromkeys(routes.targets.get(release, {}).values()):
                to = routes.callees[name]
                slots += [
                    self._names.get(target.serial) or f"{_short(name)}.{target.slot}" for target in to.targets
                ] or [f"no {_short(name)}: {to.away}"]
            parts.append(f"{shares}{' '.join(slots) or 'nobody'}")
        for door, other in routes.other_builds.items():
            parts.append(f"door {door or 'http'} {other.share:.0%} → {' '.join(self._names[s] for s in other.serials)}")
        if before is not None and before.callers != routes.callers:
            parts.append(f"called by {' '.join(one for one in routes.callers.services if one != 'Operator')}")
        return "; ".join(parts)

    # -- changes ------------------------------------------------------------------------------------------

    def write(self, change: Change, desired: Desired, *, secrets: bool, done: Done) -> None:
        """See ChangeJournal."""
        gone = self.state.desired.leaving() if isinstance(change.what, EndRollout) else ()
        if not self.journal_trouble and change.who in (ACTOR, AUTOSCALER):
            self._did(*_altered(change.what), change.why)
        done(FissileError(self.journal_trouble) if self.journal_trouble else None, self.now)
        self.state.forget(gone)

    def _submit(self, change: Change) -> None:
        def done(error: FissileError | None, now: float) -> None:
            if error is not None:
                self._did("refuse", "", str(error).partition("\n")[0])

        self.writer.submit(change, done, self.now)

    def _look(self) -> bool:
        """At the rollout that is under way. Whether it was altered."""
        if self.state.desired.rollout is None:
            return False
        change = next_step(self.state, self.migration, self.wall).change
        if change is None:
            return False
        self._submit(change)
        return not self.journal_trouble

    def _autoscale(self) -> bool:
        """Whether anything was altered."""
        asleep = may_be_asleep(self.state)
        changes, news = scale(self.state, self._knocked.intersection(asleep), cores=self.cores, now=self.now)
        for held in news:
            self._did("free" if held.over else "hold", _short(held.set), held.reason)
        for change in changes:
            self._submit(change)
        awake = {name for name, want in self.state.desired.sets.items() if want.replicas}
        self._knocked -= awake
        return bool(changes)


def _timed(line: str) -> tuple[float | None, str]:
    """The time that a line begins with, if it does, and the rest."""
    found = re.match(r"(\d+(?:\.\d+)?) ", line)
    return (float(found[1]), line[found.end() :]) if found is not None else (None, line)


def _short(name: SetName) -> str:
    return name.removesuffix("@1")


def _altered(act: Any) -> tuple[str, str]:
    """A change in words: a verb, and of what."""
    if isinstance(act, SetReplicas):
        return "scale", f"{_short(act.set)} to {act.replicas}"
    if isinstance(act, GiveUpRestart):
        return "give up", f"the restart of {_short(act.set)}"
    if isinstance(act, AdvanceRollout):
        return "rollout", act.stage
    if isinstance(act, AcknowledgeRoutes):
        return "rollout", "known to all"
    if isinstance(act, RetireSets | DrainSets):
        return "rollout", f"{'leaves' if isinstance(act, RetireSets) else 'clears'} {' '.join(map(_short, act.sets))}"
    if isinstance(act, EndRollout):
        return "rollout", "done" if act.done else "undone"
    return "change", type(act).__name__
