"""What the plan says, by table; and by property: wherever it begins, an obedient world becomes as desired."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fissile.orchestrator.acts import Change, GiveUpRestart
from fissile.orchestrator.change import apply
from fissile.orchestrator.desired import Desired, DesiredSet
from fissile.orchestrator.plan import (
    TERMINATE_SECONDS_MAX,
    AbandonRestart,
    Action,
    DrainReplica,
    KillReplica,
    StartReplica,
    StopReplica,
    plan,
    waits_for,
)
from fissile.orchestrator.replica import (
    DRAINING,
    READY,
    STARTING,
    Observed,
    Replica,
    ReplicaEnded,
    ReplicaHung,
    ReplicaReady,
    ReplicaReported,
    ReplicaState,
)
from fissile.runtime.control import Heartbeat, ReplicaHello

NAME = "shop"
NOW = 1000.0


def reported(load: int, number: int = 0) -> ReplicaReported:
    """It lives. load: calls that run at it."""
    hello = ReplicaHello("shop", "shop", 0, 1, 0, "build", "release")
    return ReplicaReported(Heartbeat(hello, 0.0, load, number=number))


def wish(replicas: int = 1, **options: object) -> DesiredSet:
    return DesiredSet(**{"replicas": replicas, "replicas_min": 0, "replicas_max": 100, **options})  # type: ignore[arg-type]


def replica(observed: Observed, slot: int, state: ReplicaState = READY, *, revision: int = 1, load: int = 0) -> Replica:
    found = observed.begin(NAME, slot, revision, "build", NOW)
    if state is not STARTING:
        observed.observe(found, ReplicaReady(), NOW)
        observed.observe(found, reported(load), NOW)
    if state is DRAINING:
        observed.drain(found, NOW)
    return found


def planned(want: DesiredSet, observed: Observed, now: float = NOW) -> tuple[Action, ...]:
    return plan(Desired({NAME: want}), observed, now).actions


def said(actions: tuple[Action, ...]) -> list[str]:
    """In short: what, and where."""
    words: list[str] = []
    for action in actions:
        kind = type(action).__name__.removesuffix("Replica").lower()
        if isinstance(action, StartReplica):
            words.append(f"{kind} {action.slot} r{action.revision}")
        elif isinstance(action, AbandonRestart):
            words.append("abandon")
        else:
            words.append(f"{kind} {action.replica.slot}#{action.replica.serial}")
    return words


@pytest.mark.parametrize(
    ("want", "states", "expected"),
    [
        (wish(1), [], ["start 0 r1"]),
        (wish(3), [(0, READY)], ["start 1 r1", "start 2 r1"]),
        (wish(2), [(0, READY), (1, STARTING)], []),
        (wish(1), [(0, READY)], []),
        (wish(0), [(0, READY)], ["drain 0#1"]),
        (wish(0), [(0, STARTING)], ["kill 0#1"]),
        (wish(1), [(0, DRAINING)], ["start 1 r1"]),
        (wish(1, overlap=False), [(0, DRAINING)], []),
        (wish(1), [(0, STARTING), (1, READY)], ["kill 0#1"]),
        (wish(2), [(5, READY)], ["start 0 r1"]),
    ],
)
def test_counts(want: DesiredSet, states: list[tuple[int, ReplicaState]], expected: list[str]):
    observed = Observed()
    for slot, state in states:
        replica(observed, slot, state)
    assert said(planned(want, observed)) == expected


def test_the_idlest_goes_first_and_the_youngest_of_equals():
    observed = Observed()
    for slot, load in enumerate([3.0, 0.0, 1.0]):
        replica(observed, slot, load=load)
    assert said(planned(wish(2), observed)) == ["drain 1#2"]
    assert said(planned(wish(1), observed)) == ["drain 1#2", "drain 2#3"]


def test_a_restart_starts_first_and_drains_after_and_one_at_a_time():
    observed = Observed()
    old = [replica(observed, slot) for slot in range(3)]
    want = wish(3, revision=2)
    assert said(planned(want, observed)) == ["start 0 r2"]
    new = replica(observed, 0, STARTING, revision=2)
    assert planned(want, observed) == ()
    observed.observe(new, ReplicaReady(), NOW)
    (drained,) = planned(want, observed)
    assert isinstance(drained, DrainReplica)
    assert drained.replica is old[0]
    observed.drain(old[0], NOW)
    assert said(planned(want, observed)) == ["start 1 r2"]


def test_a_quarter_of_many_is_restarted_at_once():
    observed = Observed()
    for slot in range(12):
        replica(observed, slot)
    assert said(planned(wish(12, revision=2), observed)) == ["start 0 r2", "start 1 r2", "start 2 r2"]


def test_where_two_must_not_overlap_the_old_one_ends_first():
    observed = Observed()
    old = replica(observed, 0)
    want = wish(1, revision=2, overlap=False)
    assert said(planned(want, observed)) == ["drain 0#1"]
    observed.drain(old, NOW)
    assert planned(want, observed) == ()
    observed.observe(old, ReplicaEnded("ended"), NOW)
    assert said(planned(want, observed)) == ["start 0 r2"]


def test_a_restart_whose_replica_does_not_come_up_is_abandoned():
    observed = Observed()
    replica(observed, 0)
    replica(observed, 1)
    want = wish(2, revision=2)
    new = replica(observed, 0, STARTING, revision=2)
    observed.observe(new, ReplicaEnded("it ended with exit code 1 before it was ready"), NOW)
    (action,) = planned(want, observed)
    why = "it ended with exit code 1 before it was ready"
    assert action == AbandonRestart(NAME, Change("fissile", GiveUpRestart(NAME, 1, instead_of=2), why))


def test_of_two_in_a_slot_the_newest_that_serves_stays():
    observed = Observed()
    replica(observed, 0)
    later = replica(observed, 0, STARTING, revision=2)
    # The restart was given up meanwhile: what starts is not wanted any more.
    assert said(planned(wish(1, revision=1), observed)) == [f"kill 0#{later.serial}"]
    observed.observe(later, ReplicaReady(), NOW)
    assert said(planned(wish(1, revision=1), observed)) == ["drain 0#1"]


def test_one_that_was_found_is_left_alone_until_it_has_said_how_it_is():
    observed = Observed()
    found = observed.adopt(7, NAME, 0, 1, "build", 4711, NOW)
    assert planned(wish(0), observed) == ()
    replica(observed, 0, revision=2)
    assert planned(wish(1, revision=2), observed) == ()
    # It was draining.
    observed.drain(found, NOW) if found.state is READY else observed.observe(found, ReplicaReady(), NOW)
    assert said(planned(wish(1, revision=2), observed)) == ["drain 0#7"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(9.99, []), (10.0, ["kill 0#1", "start 0 r1"])],
)
def test_silence_ends_a_replica(seconds: float, expected: list[str]):
    observed = Observed()
    replica(observed, 0)
    found = plan(Desired({NAME: wish(1)}), observed, NOW + seconds)
    assert said(found.actions) == expected
    if not expected:
        assert found.due == NOW + 10.0


def test_a_stuck_replica_is_killed_by_its_fault_and_replaced():
    observed = Observed()
    stuck = replica(observed, 0)
    observed.observe(stuck, ReplicaHung("its event loop is stuck"), NOW)
    kill, start = planned(wish(1), observed)
    assert kill == KillReplica(stuck, "its event loop is stuck", fault=True)
    assert said((start,)) == ["start 0 r1"]


def test_a_start_that_takes_too_long():
    observed = Observed()
    replica(observed, 0, STARTING)
    kill, _ = planned(wish(1, start_seconds_max=5.0), observed, NOW + 5.0)
    assert isinstance(kill, KillReplica)
    assert (kill.reason, kill.fault) == ("it was not ready within 5 s", True)


def test_draining_has_an_end():
    observed = Observed()
    leaving = replica(observed, 0, DRAINING)
    want = wish(0, drain_seconds_max=2.0, stop_seconds_max=1.0)
    first = plan(Desired({NAME: want}), observed, NOW)
    assert (first.actions, first.due) == ((), NOW + 3.0)
    (stop,) = planned(want, observed, NOW + 3.0)
    assert isinstance(stop, StopReplica)
    observed.stop(leaving)
    assert planned(want, observed, NOW + 3.0) == ()
    (kill,) = planned(want, observed, NOW + 3.0 + TERMINATE_SECONDS_MAX)
    assert kill == KillReplica(leaving, "it does not end by itself", fault=False)


def test_after_a_death_the_slot_waits_for_its_pause():
    observed = Observed()
    want = wish(1)
    for _ in range(3):
        dead = replica(observed, 0, STARTING)
        observed.observe(dead, ReplicaEnded("ended with exit code 1"), NOW)
    found = plan(Desired({NAME: want}), observed, NOW)
    assert found.actions == ()
    assert found.due == pytest.approx(NOW + 0.2)
    (start,) = planned(want, observed, found.due)
    assert isinstance(start, StartReplica)
    assert start.reason == "ended with exit code 1, 3 times in a row; starting again in 0.2 s"


def test_a_service_that_is_not_desired_any_more_is_let_go():
    observed = Observed()
    replica(observed, 0)
    assert said(plan(Desired(), observed, NOW).actions) == ["drain 0#1"]


def test_a_burst_of_starts_is_bounded_over_all_services():
    desired = Desired({f"s{number}": wish(10) for number in range(10)})
    observed = Observed()
    first = plan(desired, observed, NOW, starting_max=32)
    assert len(first.actions) == 32
    for action in first.actions:
        assert isinstance(action, StartReplica)
        observed.begin(action.set, action.slot, action.revision, "build", NOW)
    assert plan(desired, observed, NOW, starting_max=32).actions == ()


STATES = st.sampled_from([STARTING, READY, DRAINING])


@st.composite
def worlds(draw: st.DrawFn) -> tuple[DesiredSet, Observed]:
    """Anything that may be found."""
    observed = Observed()
    for _ in range(draw(st.integers(0, 8))):
        state = draw(STATES)
        found = replica(
            observed, draw(st.integers(0, 4)), state, revision=draw(st.integers(1, 3)), load=draw(st.integers(0, 3))
        )
        if state is STARTING:
            found.unheard = draw(st.booleans())
        if draw(st.integers(0, 5)) == 0:
            observed.observe(found, ReplicaHung("stuck"), NOW)
    for _ in range(draw(st.integers(0, 3))):
        dead = replica(observed, draw(st.integers(0, 4)), STARTING, revision=draw(st.integers(1, 3)))
        observed.observe(dead, ReplicaEnded("ended"), NOW)
    want = wish(draw(st.integers(0, 5)), revision=draw(st.integers(1, 3)), overlap=draw(st.booleans()))
    return want, observed


@settings(max_examples=300)
@given(worlds())
def test_an_obedient_world_becomes_as_desired(world: tuple[DesiredSet, Observed]):
    want, observed = world
    found = observed.replica_set(NAME)
    now = NOW
    for _ in range(100):
        step = plan(Desired({NAME: want}), observed, now)
        if not step.actions and [r.state for r in found.replicas.values()] == [READY] * want.replicas:
            break
        for action in step.actions:
            if isinstance(action, StartReplica):
                begun = observed.begin(NAME, action.slot, action.revision, "build", now)
                observed.observe(begun, ReplicaReady(), now)
            elif isinstance(action, AbandonRestart):
                want = apply(Desired({NAME: want}), action.change).sets[NAME]
            elif isinstance(action, DrainReplica):
                observed.drain(action.replica, now)
                observed.observe(action.replica, ReplicaEnded("ended"), now)
            else:
                if isinstance(action, KillReplica):
                    observed.end(action.replica, action.reason, fault=action.fault)
                observed.observe(action.replica, ReplicaEnded("ended"), now)
        if not step.actions:
            assert step.due < inf, "there is something to do, and it says never to ask again"
            now = max(now, step.due)
        for one in found.replicas.values():
            observed.observe(one, ReplicaReady() if one.state is STARTING else reported(int(one.load)), now)
    assert [r.state for r in found.replicas.values()] == [READY] * want.replicas
    assert all(r.revision >= want.revision for r in found.replicas.values())
    assert len({r.slot for r in found.replicas.values()}) == want.replicas
    assert plan(Desired({NAME: want}), observed, now).actions == ()


def test_it_is_known_who_waits_for_whom():
    want, observed = DesiredSet(after=("db", "gone", "asleep")), Observed()
    desired = Desired({NAME: want, "db": DesiredSet(), "asleep": DesiredSet(0, 0, 0)})
    assert waits_for(desired, want, observed.sets) == ["db"]
    assert [action.set for action in plan(desired, observed, NOW).actions if isinstance(action, StartReplica)] == ["db"]
    observed.replica_set("db").served = True
    assert waits_for(desired, want, observed.sets) == []
