"""Timelines in, verbs of the machine out: what the reconciler has done, step by step."""

from typing import Any

import msgspec
import pytest

from fissile.errors import FissileError
from fissile.orchestrator.acts import Change, RestartService, ScaleService
from fissile.orchestrator.change_writer import ChangeWriter, Done
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout, Stage
from fissile.orchestrator.reconciler import TROUBLE_SECONDS, Reconciler
from fissile.orchestrator.replica import Replica, ReplicaEnded, ReplicaReady, ReplicaReported
from fissile.orchestrator.routing import DrainOrder, Told
from fissile.orchestrator.spec import ReleaseSpec, ServiceSpec
from fissile.orchestrator.state import ApplicationState
from fissile.runtime.control import Heartbeat, ReplicaHello, Stuck

FRONT, BACK = "front@1", "back@1"
RELEASE = LiveRelease("r1", {"front": FRONT, "back": BACK}, (("front",), ("back",)))
SPEC = ReleaseSpec(
    "r1",
    {
        "front": ServiceSpec(components=("Front",), calls=("Back",)),
        "back": ServiceSpec(components=("Back",), memory_bytes_max=100),
    },
    RELEASE.sets,
    {"Front": ("Back",), "Back": ()},
    builds={"front": "1", "back": "1"},
)


class Machine:
    """An Executor that writes down what it is to do. used: bytes, by serial. stuck: who wrote where it stands."""

    def __init__(self) -> None:
        self.verbs: list[str] = []
        self.used: dict[int, int] = {}
        self.stuck: set[int] = set()
        self.told: dict[int, Told] = {}

    def _do(self, verb: str, replica: Replica) -> None:
        self.verbs.append(f"{verb} {replica.set.partition('@')[0]}.{replica.slot}#{replica.serial}")

    def start(self, replica: Replica, reason: str) -> None:
        self._do("start", replica)

    def drain(self, replica: Replica, reason: str) -> None:
        self._do("drain", replica)

    def order(self, replica: Replica, order: DrainOrder) -> None:
        self._do("order", replica)

    def stop(self, replica: Replica, reason: str) -> None:
        self._do("stop", replica)

    def kill(self, replica: Replica, reason: str, *, fault: bool) -> None:
        self._do(f"kill ({reason})" if fault else "kill", replica)

    def explain(self, replica: Replica) -> str:
        return "nobody listens at its port"

    def push_routes(self, replica: Replica, told: Told) -> None:
        if self.told.get(replica.serial) != told:
            self.told[replica.serial] = told
            self._do("push", replica)

    def ask(self, replica: Replica) -> None:
        self._do("ask", replica)

    def answered(self, replica: Replica) -> bool:
        return replica.serial in self.stuck

    def memory_bytes(self, replica: Replica) -> int | None:
        return self.used.get(replica.serial)


class Timeline:
    """An application of a front and a back, on a machine that obeys, and a journal that can be full."""

    def __init__(self) -> None:
        self.now = 0.0
        self.machine = Machine()
        self.state = ApplicationState({"r1": SPEC}, 100)
        self.full = False
        self.complaints: list[str] = []
        self.writer = ChangeWriter(self.state, self)
        sets = {FRONT: DesiredSet(1, 1, 1, release="r1"), BACK: DesiredSet(1, 1, 3, release="r1")}
        self.writer.begin(Desired(sets, RELEASE))
        self.reconciler = Reconciler(self.state, self.machine, self.writer, self.complaints.append)

    def write(self, change: Change, desired: Desired, *, secrets: bool, done: Done) -> None:
        done(FissileError("the disk is full") if self.full else None, self.now)

    def at(self, now: float) -> list[str]:
        """Step until there is nothing to do; the verbs."""
        self.now = now
        self.machine.verbs.clear()
        for _ in range(20):
            if not self.reconciler.step(now).actions:
                return list(self.machine.verbs)
        raise AssertionError(f"it never ends: {self.machine.verbs}")

    def replica(self, serial: int) -> Replica:
        (found,) = [s.replicas[serial] for s in self.state.observed.sets.values() if serial in s.replicas]
        return found

    def ready(self, *serials: int) -> None:
        for serial in serials:
            self.replica(serial).pid = 1000 + serial
            self.reconciler.observe(self.replica(serial), ReplicaReady(), self.now)

    def ended(self, serial: int, mistake: bool = False) -> None:
        self.reconciler.observe(self.replica(serial), ReplicaEnded("it ended", mistake=mistake), self.now)

    def report(self, serial: int, **fields: Any) -> None:
        hello = ReplicaHello("", "", 0, serial, 1, "1", "r1")
        self.reconciler.observe(self.replica(serial), ReplicaReported(Heartbeat(hello, 0.0, 0, **fields)), self.now)

    def change(self, act: Any) -> None:
        self.writer.submit(Change("anna", act, "because"), lambda error, now: None, self.now)

    def up(self) -> "Timeline":
        assert self.at(0.0) == ["start front.0#1", "start back.0#2"]
        self.ready(1, 2)
        self.at(0.1)
        return self


def test_a_start_a_crash_and_what_callers_are_told():
    one = Timeline()
    assert one.at(0.0) == ["start front.0#1", "start back.0#2"]
    one.ready(1)
    assert one.at(0.1) == []
    one.ready(2)
    one.at(0.2)
    one.change(ScaleService(BACK, 2, 3))
    assert one.at(0.3) == ["start back.1#3"]
    one.ready(3)
    assert one.at(0.4) == ["push front.0#1"]  # it calls both
    one.ended(2)
    assert one.at(0.5) == ["start back.0#4", "push front.0#1"]
    assert [target.slot for target in one.machine.told[1].routes.callees[BACK].targets] == [1]


def test_whoever_asked_just_before_what_is_to_be_told_keeps_nobody_from_being_told():
    one = Timeline().up()
    one.change(ScaleService(BACK, 2, 3))
    one.at(0.3)
    one.ready(3)
    assert one.state.versions()  # a rollout looks, and so does each start
    assert one.at(0.4) == ["push front.0#1"]
    assert [target.slot for target in one.machine.told[1].routes.callees[BACK].targets] == [0, 1]


def test_what_drains_is_told_who_takes_over_until_it_has_ended():
    one = Timeline().up()
    one.change(RestartService(BACK, 2))
    assert one.at(1.0) == ["start back.0#3"]
    one.ready(3)
    assert one.at(1.1)[:2] == ["drain back.0#2", "order back.0#2"]
    assert "order back.0#2" in one.at(1.2)
    want = one.state.desired.sets[BACK]
    limit = 1.1 + want.drain_seconds_max + want.stop_seconds_max
    one.now = limit
    one.report(1)
    one.report(3)
    assert [verb for verb in one.at(limit) if verb.startswith("stop")] == ["stop back.0#2"]
    one.ended(2)
    assert not [verb for verb in one.at(limit + 0.1) if "#2" in verb]


def test_a_restart_that_fails_is_given_up_through_the_journal_however_often_that_is_tried():
    one = Timeline().up()
    one.change(RestartService(BACK, 2))
    one.at(1.0)
    one.full = True
    one.ended(3, mistake=True)
    one.at(1.1)
    assert one.complaints == ["back: its restart cannot be taken back: the disk is full"]
    step = one.reconciler.step(1.2)
    assert (step.actions, step.due) == ((), 1.1 + TROUBLE_SECONDS)
    one.full = False
    one.at(step.due)
    assert one.state.desired.sets[BACK].revision == 1
    assert one.at(3.0) == []
    assert len(one.complaints) == 1


def test_what_does_not_come_up_in_time_is_killed_and_it_is_said_what_is_missing():
    one = Timeline()
    one.at(0.0)
    one.ready(1)
    one.now = limit = one.state.desired.sets[BACK].start_seconds_max
    one.report(1)
    assert "kill (it was not ready within 30 s: nobody listens at its port) back.0#2" in one.at(limit)


@pytest.mark.parametrize(("late", "asked"), [(0.0, True), (2.0, False)])
def test_who_is_silent_is_asked_where_it_stands_but_our_own_lateness_is_nobodys_silence(late: float, asked: bool):
    one = Timeline().up()
    one.reconciler.watch(3.0, late)
    assert ("ask back.0#2" in one.machine.verbs) == asked


def test_who_has_written_where_it_stands_is_killed():
    one = Timeline().up()
    one.machine.verbs.clear()
    assert not one.reconciler.watch(2.7, 0.0)
    assert not one.reconciler.watch(3.4, 0.0)
    assert one.machine.verbs.count("ask back.0#2") == 1
    one.machine.stuck.add(2)
    assert one.reconciler.watch(3.5, 0.0)
    assert "kill (its event loop has been stuck for 3.5 s) back.0#2" in one.at(3.5)


def test_who_uses_more_memory_than_it_may_is_killed_once():
    one = Timeline().up()
    one.machine.used = {1: 10**9, 2: 100}  # the front has no limit
    assert not one.reconciler.watch(0.5, 0.0)
    one.machine.used[2] = 101
    one.machine.verbs.clear()
    assert one.reconciler.watch(1.0, 0.0)
    assert not one.reconciler.watch(1.5, 0.0)  # its end is on its way
    assert one.machine.verbs == ["kill (it ran out of memory: it uses 101 of 100) back.0#2"]


def test_who_holds_all_places_with_calls_that_are_over_is_killed():
    one = Timeline().up()
    one.report(2, stuck=Stuck(31.0, {"Back.slow": 64}))
    assert [verb for verb in one.at(0.5) if "Back.slow (64)" in verb]


def test_a_paused_set_has_no_replica():
    one = Timeline().up()
    one.state.paused.add(BACK)
    assert "drain back.0#2" in one.at(1.0)
    one.ended(2)
    assert [verb for verb in one.at(1.1) if verb.startswith("start")] == []
    one.state.paused.discard(BACK)
    assert "start back.0#3" in one.at(1.2)


def test_in_a_rollout_that_stands_still_nobody_is_told_anything_again():
    one = Timeline().up()
    asked = 0

    def pushed(replica: Replica, told: Told) -> None:
        nonlocal asked
        asked += 1

    rollout = Rollout(1, msgspec.structs.replace(RELEASE, name="r2"), {}, stage=Stage.CANARY, share=0.1)
    one.writer.begin(msgspec.structs.replace(one.state.desired, rollout=rollout))
    one.state.releases = {"r1": SPEC, "r2": msgspec.structs.replace(SPEC, name="r2")}
    one.machine.push_routes = pushed
    one.at(0.2)
    one.at(0.3)
    assert asked
    asked = 0
    one.at(0.4)
    assert asked == 0
    one.ended(2)
    one.at(0.5)
    assert asked
