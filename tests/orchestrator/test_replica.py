"""Replicas go one way only, and what comes late changes nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.orchestrator.reasons import Said
from fissile.orchestrator.replica import (
    DRAINING,
    READY,
    STARTING,
    TRANSITIONS,
    Observation,
    Observed,
    ReplicaDraining,
    ReplicaEnded,
    ReplicaHung,
    ReplicaReady,
    ReplicaReported,
    ReplicaState,
    stuck_places,
)
from fissile.runtime.control import Heartbeat, ReplicaHello

ORDER = list(ReplicaState)


def reported(load: int, number: int = 0) -> ReplicaReported:
    """It lives. load: calls that run at it."""
    hello = ReplicaHello("shop", "shop", 0, 1, 0, "build", "release")
    return ReplicaReported(Heartbeat(hello, 0.0, load, number=number))


def test_there_is_no_way_back():
    for state, following in TRANSITIONS.items():
        assert all(ORDER.index(after) > ORDER.index(state) for after in following)
    ends = {state for state, following in TRANSITIONS.items() if not following}
    assert ends == {ReplicaState.STOPPED, ReplicaState.FAILED}


@pytest.mark.parametrize(
    ("before", "end", "state", "counted"),
    [
        ([], ReplicaEnded(Said("ended")), ReplicaState.FAILED, True),
        ([ReplicaReady()], ReplicaEnded(Said("ended")), ReplicaState.FAILED, True),
        ([ReplicaReady(), "drain"], ReplicaEnded(Said("ended")), ReplicaState.STOPPED, False),
        ([ReplicaReady(), "end"], ReplicaEnded(Said("ended")), ReplicaState.STOPPED, False),
        ([ReplicaReady(), ReplicaDraining()], ReplicaEnded(Said("ended")), ReplicaState.STOPPED, False),
        ([ReplicaDraining(), ReplicaDraining()], ReplicaEnded(Said("ended")), ReplicaState.STOPPED, False),
        (["fault", ReplicaDraining()], ReplicaEnded(Said("ended")), ReplicaState.FAILED, True),
        ([ReplicaReady(), ReplicaHung(Said("stuck")), "end"], ReplicaEnded(Said("ended")), ReplicaState.FAILED, True),
        (["fault"], ReplicaEnded(Said("ended")), ReplicaState.FAILED, True),
    ],
)
def test_an_end_is_a_failure_unless_it_was_ordered(
    before: list[Observation | str], end: ReplicaEnded, state: ReplicaState, counted: bool
):
    observed = Observed()
    replica = observed.begin("shop", 0, 1, "build", 0.0)
    for event in before:
        if event == "drain":
            observed.drain(replica, 0.0)
        elif event in ("end", "fault"):
            observed.end(replica, Said("why"), fault=event == "fault")
        else:
            assert not isinstance(event, str)
            observed.observe(replica, event, 0.0)
    observed.observe(replica, end, 1.0)
    service = observed.replica_set("shop")
    assert replica.state is state
    assert service.replicas == {}
    assert service.restarts == counted
    assert bool(service.memory(0).reason) == counted


@pytest.mark.parametrize("before", [[], [ReplicaReady()], [ReplicaReady(), ReplicaDraining()]])
def test_one_that_drains_by_itself_takes_no_new_work(before: list[Observation]):
    observed = Observed()
    replica = observed.adopt(7, "shop", 0, 1, "build", 70, 0.0)
    for event in before:
        observed.observe(replica, event, 1.0)
    changes = observed.changes
    observed.observe(replica, ReplicaDraining(), 2.0)
    assert (replica.state, replica.unheard, replica.ready_at) == (DRAINING, False, 1.0 if before else 2.0)
    assert replica.since == (1.0 if len(before) == 2 else 2.0)  # it drains since it began to
    assert observed.replica_set("shop").served
    assert observed.changes > changes


def test_the_reason_names_the_fault_and_how_it_ended():
    observed = Observed()
    replica = observed.begin("shop", 0, 1, "build", 0.0)
    observed.observe(replica, ReplicaHung(Said("its event loop is stuck")), 1.0)
    text = observed.observe(replica, ReplicaEnded(Said("pid 7 was killed by SIGKILL")), 2.0)
    assert str(text) == "its event loop is stuck; pid 7 was killed by SIGKILL; starting again"


def test_what_comes_late_changes_nothing():
    observed = Observed()
    dead = observed.begin("shop", 0, 1, "build", 0.0)
    observed.observe(dead, ReplicaEnded(Said("ended")), 1.0)
    following = observed.begin("shop", 0, 1, "build", 1.0)
    for late in (ReplicaReady(), reported(3), ReplicaHung(Said("stuck")), ReplicaEnded(Said("ended"))):
        assert observed.observe(dead, late, 2.0) is None
    assert following.state is STARTING
    assert observed.replica_set("shop").restarts == 1


def test_serials_grow_even_past_those_that_were_found():
    observed = Observed()
    observed.adopt(41, "shop", 0, 1, "build", 4711, 0.0)
    assert observed.begin("shop", 1, 1, "build", 0.0).key == "shop.1.42"
    assert observed.unheard() == {"shop"}


EVENTS = st.one_of(
    st.just(ReplicaReady()),
    st.builds(reported, st.integers(0, 100)),
    st.just(ReplicaHung(Said("stuck"))),
    st.builds(ReplicaEnded, st.just(Said("ended")), st.floats(0, 0.99)),
    st.sampled_from(["drain", "end"]),
)


@given(st.lists(EVENTS, max_size=20))
def test_no_sequence_of_events_breaks_a_replica(events: list[Observation | str]):
    observed = Observed()
    replica = observed.begin("shop", 0, 1, "build", 0.0)
    seen = [replica.state]
    for number, event in enumerate(events):
        if event == "drain":
            if replica.state is READY:
                observed.drain(replica, float(number))
        elif event == "end":
            observed.end(replica, Said("why"), fault=False)
        else:
            assert not isinstance(event, str)
            observed.observe(replica, event, float(number))
        seen.append(replica.state)
    assert [ORDER.index(state) for state in seen] == sorted(ORDER.index(state) for state in seen)
    assert observed.replica_set("shop").ready() == (replica.state is READY and not replica.ending)
    assert (replica.serial in observed.replica_set("shop").replicas) == (replica.state in (STARTING, READY, DRAINING))


@given(st.permutations([(ReplicaReady(), 1.0), *((reported(n, n), float(n)) for n in range(1, 6))]))
def test_reports_may_overtake_each_other(arrived: list[tuple[Observation, float]]):
    observed = Observed()
    replica = observed.begin("shop", 0, 1, "build", 0.0)
    for report, now in arrived:
        observed.observe(replica, report, now)
    assert (replica.state, replica.heard_at, replica.load) == (READY, 5.0, 5.0)


@pytest.mark.parametrize(
    ("seconds", "holders", "why"),
    [
        (29.9, {"A.a": 64}, ""),
        (30.0, {"A.a": 64}, "all its places (64) have been held for 30 s by calls whose time is up: A.a (64)"),
        (
            31.0,
            {"A.a": 1, "A.b": 5, "A.c": 2, "A.d": 1, "A.e": 1},
            "all its places (10) have been held for 31 s by calls whose time is up: "
            "A.b (5), A.c (2), A.a (1) and 2 more",
        ),
    ],
)
def test_places_that_are_held_for_too_long(seconds: float, holders: dict[str, int], why: str):
    assert str(stuck_places(seconds, holders, 30.0) or "") == why
