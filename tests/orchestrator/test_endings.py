"""How replicas end and for how long they may, who hears no signal; and who is there, and waited for, till then."""

import msgspec
import pytest

from fissile.names import SetName
from fissile.orchestrator.awaited import Awaited, awaited_sets
from fissile.orchestrator.deploy_rules import gives_way
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout, Stage
from fissile.orchestrator.health import hears_no_signal
from fissile.orchestrator.plan import awaits, drained_by, seconds_left
from fissile.orchestrator.reasons import CannotStart, Exited, OutOfMemory, Reason
from fissile.orchestrator.replica import Observed, ReplicaEnded, ReplicaReady
from fissile.orchestrator.restart import Exit, how_it_ended
from fissile.orchestrator.routes import needed_slots

WEB, DB = SetName("web@1"), SetName("db")


NO_PORT, NO_MEMORY = CannotStart("no PORT"), OutOfMemory(7)


@pytest.mark.parametrize(
    ("found", "was_ready", "program", "how", "mistake"),
    [
        (Exit(0), True, False, Exited(0, 7), False),
        (Exit(-9), True, True, Exited(-9, 7), False),
        (Exit(None), False, False, Exited(None, 7, early=True), False),
        (Exit(1, NO_PORT, mistake=True), False, False, NO_PORT, True),
        (Exit(1, NO_PORT), False, False, NO_PORT, False),
        (Exit(127, nothing_to_run=True), False, True, Exited(127, 7, early=True), True),
        (Exit(127, nothing_to_run=True), True, True, Exited(127, 7), False),
        (Exit(127, nothing_to_run=True), False, False, Exited(127, 7, early=True), False),
        (Exit(-9, memory=NO_MEMORY), True, False, NO_MEMORY, False),
        (Exit(-9, NO_PORT, memory=NO_MEMORY), False, True, NO_MEMORY, False),
    ],
)
def test_how_a_replica_ended(found: Exit, was_ready: bool, program: bool, how: Reason, mistake: bool):
    assert how_it_ended(found, 7, was_ready=was_ready, program=program) == (how, mistake)


def test_who_drains_has_its_time_from_then_on():
    observed = Observed()
    replica = observed.begin(WEB, 0, 1, "1", 0.0)
    observed.observe(replica, ReplicaReady(), 1.0)
    observed.drain(replica, 10.0)
    want = DesiredSet(drain_seconds_max=3.0, stop_seconds_max=2.0)
    assert drained_by(replica, want) == 15.0
    assert seconds_left(replica, want, 0.0, 11.0) == 4.0
    assert seconds_left(replica, want, 12.0, 11.0) == 4.0, "one that drains already has its own time"
    assert seconds_left(replica, want, 0.0, 99.0) == 0.0


def test_who_ends_at_once_has_until_all_is_to_have_stopped():
    observed = Observed()
    replica = observed.begin(WEB, 0, 1, "1", 0.0)
    replica.ending = NO_PORT
    assert seconds_left(replica, DesiredSet(), 0.0, 1.0) == 0.0
    assert seconds_left(replica, DesiredSet(), 12.0, 11.0) == 1.0
    assert seconds_left(replica, DesiredSet(), 12.0, 13.0) == 0.0


def test_who_starts_may_hear_no_signal():
    observed = Observed()
    starting, adopted = observed.begin(WEB, 0, 1, "1", 0.0), observed.adopt(9, WEB, 1, 1, "1", 70, 0.0)
    assert hears_no_signal(starting, program=False)
    assert not hears_no_signal(starting, program=True)
    assert not hears_no_signal(adopted, program=False)
    observed.observe(starting, ReplicaReady(), 1.0)
    assert not hears_no_signal(starting, program=False)


def test_in_a_slot_the_newest_that_is_ready_answers():
    observed = Observed()
    assert observed.replica_set(WEB).newest(0) is None
    old, new = observed.begin(WEB, 0, 1, "1", 0.0), observed.begin(WEB, 0, 2, "1", 0.0)
    assert observed.replica_set(WEB).newest(0) is new
    observed.observe(old, ReplicaReady(), 1.0)
    assert observed.replica_set(WEB).newest(0) is old
    observed.observe(new, ReplicaReady(), 1.0)
    assert observed.replica_set(WEB).newest(0) is new
    assert observed.replica_set(WEB).newest(1) is None


def test_the_slots_of_those_that_live_are_called_or_may_be_woken_are_needed():
    observed = Observed()
    assert needed_slots(DesiredSet(), observed.replica_set(WEB)) == {0}
    observed.observe(observed.begin(WEB, 3, 1, "1", 0.0), ReplicaReady(), 0.0)
    draining = observed.begin(WEB, 5, 1, "1", 0.0)
    observed.observe(draining, ReplicaReady(), 0.0)
    observed.drain(draining, 1.0)
    assert needed_slots(DesiredSet(), observed.replica_set(WEB)) == {0, 3, 5}
    observed.observe(draining, ReplicaEnded(Exited(0)), 2.0)
    assert needed_slots(DesiredSet(), observed.replica_set(WEB)) == {0, 3}


def test_who_waits_for_whom_and_how_far_they_are():
    observed, desired = Observed(), Desired({WEB: DesiredSet(2, 1, 3, after=(DB,)), DB: DesiredSet()})
    assert awaits(desired, observed, WEB) == ("db",)
    found = awaited_sets([DB, WEB, SetName("gone")], desired, observed, {DB}, lambda name: f"{name} listens")
    assert found == [
        Awaited(found[0].service, 0, 1, held=True, program="db listens"),
        Awaited(found[1].service, 0, 2, program="web@1 listens", after=awaits(desired, observed, WEB)),
    ]
    assert not observed.sets
    observed.observe(observed.begin(DB, 0, 1, "1", 0.0), ReplicaReady(), 0.0)
    assert awaits(desired, observed, WEB) == ()


@pytest.mark.parametrize("stage", Stage)
def test_a_newer_deploy_takes_the_place_of_what_is_not_decided(stage: Stage):
    desired = Desired(rollout=Rollout(7, LiveRelease("r2"), {}, stage=stage))
    decided = stage in (Stage.PROMOTED, Stage.ROLLING_BACK)
    assert gives_way(desired) == (None if decided else 7)
    assert gives_way(msgspec.structs.replace(desired, rollout=None)) is None
