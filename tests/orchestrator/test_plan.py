"""What is started, drained and killed, as timelines; and by property: an obedient world becomes as desired."""

from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fissile.orchestrator.acts import GiveUpRestart
from fissile.orchestrator.change import apply
from fissile.orchestrator.desired import Desired, DesiredSet
from fissile.orchestrator.plan import AbandonRestart, DrainReplica, KillReplica, StartReplica, plan
from fissile.orchestrator.reasons import Said
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
from tests.orchestrator.timeline import Timeline, service


def processes(**services: Any) -> Timeline:
    """An application on a machine that does what the test says; what replicas are told is of no interest here."""
    return Timeline(quiet="tell order", **services)


def up(**services: Any) -> Timeline:
    """The same, once all its replicas are ready; it is second 1."""
    shop = processes(**services)
    for name, spec in services.items():
        shop.at(0).ready(*(f"{name}.{slot}" for slot in range(spec.replicas)))
    shop.at(1).started()
    return shop


# -- how many ---------------------------------------------------------------------------------------


def test_each_empty_slot_gets_a_replica():
    shop = processes(cart=service(2), front=service())
    shop.at(0).expect(
        "start cart.0: 2 replicas wanted, slot 0 is empty",
        "start cart.1: 2 replicas wanted, slot 1 is empty",
        "start front.0: 1 replica wanted, slot 0 is empty",
    )
    shop.at(29).ready("cart.0").expect()
    shop.scale("cart", 3).expect("start cart.2")


def test_the_idlest_goes_first_the_youngest_of_equals_before():
    shop = up(cart=service(4))
    shop.load("cart.0", 3).load("cart.1", 0).load("cart.2", 1).load("cart.3", 1)
    shop.at(2).scale("cart", 3).expect("drain cart.1: 3 wanted, and it is the least busy")
    shop.ends("cart.1")
    shop.at(3).restart("cart").expect("start cart.0#2")
    shop.ready("cart.0#2").expect("drain cart.0: a new replica has taken over", "start cart.2#2")


def test_of_equals_the_youngest_goes():
    shop = up(cart=service(1)).at(2).scale("cart", 2).expect("start cart.1")
    shop.at(3).ready("cart.1").at(4).scale("cart", 1).expect("drain cart.1")


def test_what_serves_nobody_yet_is_killed_rather_than_one_that_serves():
    shop = up(cart=service(2)).scale("cart", 4).expect("start cart.2", "start cart.3")
    shop.at(2).ready("cart.3").scale("cart", 3).expect("kill cart.2: 3 wanted, and it serves nobody yet")
    shop.dies("cart.2").expect()
    shop.scale("cart", 4).expect("start cart.2#2").at(3).scale("cart", 5).expect("start cart.4")
    shop.at(4).scale("cart", 4).expect("kill cart.4")  # of those that start, the youngest


def test_of_those_that_died_and_wait_for_their_time_the_first_to_go_has_no_replica():
    shop = up(cart=service(3)).dies("cart.0").expect("start cart.0#2").dies("cart.0#2").expect()
    shop.scale("cart", 2).expect()
    shop.at(2).expect()


def test_scaled_to_zero_and_back():
    shop = up(cart=service(2)).scale("cart", 0).expect("drain cart.0", "drain cart.1")
    shop.at(2).ends("cart.0", "cart.1").expect()
    shop.at(60).expect()
    shop.scale("cart", 1).expect("start cart.0#2")


def test_a_slot_whose_replica_drains_is_taken_by_nobody_else_meanwhile():
    shop = up(cart=service(2)).scale("cart", 1).expect("drain cart.0").scale("cart", 2).expect("start cart.2")
    shop.at(2).ends("cart.0").ready("cart.2").expect()


def test_one_that_must_not_be_there_twice_waits_for_the_end_of_the_one_before():
    shop = up(db=service(allow_overlap=False)).scale("db", 0).expect("drain db.0").scale("db", 1).expect()
    shop.at(2).ends("db.0").expect("start db.0#2")


def test_a_slot_that_is_far_out_is_kept():
    shop = up(cart=service(6)).load("cart.5", 9).scale("cart", 1)
    shop.expect("drain cart.0", "drain cart.1", "drain cart.2", "drain cart.3", "drain cart.4")
    shop.ends(*(f"cart.{slot}" for slot in range(5))).scale("cart", 2).expect("start cart.0#2")


def test_a_burst_of_starts_is_bounded_over_all_services():
    shop = processes(a=service(20), b=service(20)).at(0)
    shop.expect(*(f"start a.{n}" for n in range(20)), *(f"start b.{n}" for n in range(12)))
    shop.at(1).ready("a.0", "b.0").expect("start b.12", "start b.13")
    shop.at(2).dies("a.1").expect("start a.1#2")


# -- one after the other ------------------------------------------------------------------------------


def test_who_stands_on_another_starts_once_that_has_served():
    shop = processes(cart=service(after=("db",)), db=service()).at(0).expect("start db.0")
    shop.at(1).dies("db.0").expect("start db.0#2")
    shop.at(2).ready("db.0#2").expect("start cart.0")
    # From then on it waits for nobody.
    shop.at(3).ready("cart.0").dies("db.0#2").dies("cart.0").expect("start cart.0#2").at(4).expect("3.1 start db.0#3")


def test_who_sleeps_is_waited_for_by_nobody():
    shop = processes(cart=service(after=("db", "cache")), db=service(), cache=service()).scale("cache", 0).at(0)
    shop.expect("start db.0").at(1).ready("db.0").expect("start cart.0")


def test_what_is_no_more_is_waited_for_by_nobody():
    """The settings of a set are those of its own build: they name another one's first build."""
    shop = (
        Timeline(obedient=True, quiet="tell order rollout", cart=service(after=("db",)), db=service()).at(0).started()
    )
    shop.deploy(db=service()).expect("start db@2.0", "drain db.0").scale("cart", 0).expect("drain cart.0")
    shop.supervisor_dies().at(1).scale("cart", 1).expect("start cart.0#2")


def test_what_nobody_wants_any_more_is_let_go():
    shop = up(cart=service(2))
    shop.writer.begin(Desired())
    shop.expect("drain cart.0", "drain cart.1").ends("cart.0", "cart.1").at(9).expect()


# -- a restart ------------------------------------------------------------------------------------------


def test_a_restart_starts_first_and_drains_after_and_one_at_a_time():
    shop = up(cart=service(2)).restart("cart").expect("start cart.0#2: a restart is wanted")
    shop.at(5).expect()
    shop.ready("cart.0#2").expect("drain cart.0: a new replica has taken over", "start cart.1#2: a restart is wanted")
    shop.at(6).ends("cart.0").ready("cart.1#2").expect("drain cart.1")
    shop.ends("cart.1").at(9).expect()


def test_a_quarter_of_many_is_restarted_at_once():
    shop = up(cart=service(12)).restart("cart").expect("start cart.0#2", "start cart.1#2", "start cart.2#2")
    shop.at(2).ready("cart.1#2").expect("drain cart.1", "start cart.3#2")


def test_where_two_must_not_overlap_the_old_one_ends_first():
    shop = up(db=service(2, allow_overlap=False)).restart("db")
    shop.expect("drain db.0: a restart is wanted, and two must not run at once")
    shop.at(2).ends("db.0").expect("start db.0#2")
    shop.at(3).ready("db.0#2").expect("drain db.1")
    shop.at(4).ends("db.1").expect("start db.1#2").restart("db")
    shop.expect().ready("db.1#2").expect("drain db.0#2")


def test_what_is_about_to_serve_counts_among_those_that_are_restarted_at_once():
    shop = processes(db=service(allow_overlap=False)).at(0).expect("start db.0").restart("db").expect()
    shop.at(2).ready("db.0").expect("drain db.0").ends("db.0").expect("start db.0#2")
    shop = up(db=service(8, allow_overlap=False)).dies("db.0").expect("start db.0#2").restart("db")
    shop.expect("kill db.0#2: a restart is wanted, and two must not run at once", "drain db.1")


def test_a_restart_whose_replica_does_not_come_up_is_given_up_through_the_journal():
    shop = up(cart=service(2)).restart("cart").expect("start cart.0#2")
    shop.at(2).dies("cart.0#2", "ended with exit code 1")
    shop.expect("give up the restart of cart: ended with exit code 1").at(30).expect()
    shop.restart("cart").expect("start cart.0#3")
    shop.ready("cart.0#3").expect("drain cart.0", "start cart.1#2")


def test_a_restart_that_somebody_wants_anew_takes_the_place_of_the_one_before():
    shop = up(cart=service()).restart("cart").expect("start cart.0#2").at(2).restart("cart")
    shop.expect("kill cart.0#2: it is not wanted any more", "start cart.0#3").dies("cart.0#2").expect()
    shop.at(3).ready("cart.0#3").expect("drain cart.0").ends("cart.0").at(9).expect()


def test_what_is_on_its_way_though_its_restart_was_given_up_is_killed():
    shop = up(cart=service(5)).restart("cart").expect("start cart.0#2").scale("cart", 8)
    shop.expect("start cart.1#2", "start cart.5", "start cart.6", "start cart.7")
    shop.at(2).dies("cart.1#2", "ended").expect(
        "give up the restart of cart", "kill cart.0#2: it is not wanted any more"
    )


def test_of_two_that_serve_in_one_slot_one_stays():
    shop = up(cart=service()).restart("cart").expect("start cart.0#2").by_anna(GiveUpRestart("cart@1", 1, 2))
    shop.scale("cart", 2).ready("cart.0#2").expect("drain cart.0: a new replica has taken over", "start cart.1")


# -- what is at fault -----------------------------------------------------------------------------------


def test_silence_ends_a_replica():
    shop = up(cart=service(silent_seconds=10.0)).silent("cart.0").at(10.5)
    shop.expect("4 ask cart.0").at(13)
    shop.expect("11 kill cart.0: it gave no sign of life for 10.0 s", "11 start cart.0#2")


def test_who_is_asked_and_has_written_where_it_stands_is_killed_at_once():
    shop = up(cart=service()).hangs("cart.0").at(9)
    shop.expect("4 ask cart.0", "4.5 kill cart.0: its event loop has been stuck for 3.5 s", "4.5 start cart.0#2")


def test_who_speaks_again_is_asked_again():
    shop = up(cart=service()).silent("cart.0").at(4).expect("ask cart.0").at(4.2).heard("cart.0")
    shop.silent("cart.0").at(7).expect("ask cart.0")


def test_who_holds_all_places_with_calls_that_are_over_is_killed():
    shop = up(cart=service()).holds("cart.0", 29.9, slow=64).expect()
    shop.at(2).holds("cart.0", 31, slow=60, fast=4)
    shop.expect(
        "kill cart.0: all its places (64) have been held for 31 s by …: Cart.slow (60), Cart.fast (4)", "start cart.0#2"
    )
    shop.at(3).dies("cart.0").expect()


def test_who_uses_more_memory_than_it_may_is_killed_once():
    shop = up(front=service(), cart=service(memory_bytes_max=100)).uses("front.0", 10**9).uses("cart.0", 100)
    shop.at(2).expect().uses("cart.0", 101).at(5)
    shop.expect("2.5 kill cart.0: it ran out of memory: it uses 101 of 100", "2.5 start cart.0#2")
    # What is counted before a process is known is nobody's.
    shop.dies("cart.0").uses("cart.0#2", 101).at(9).expect().ready("cart.0#2").at(10).expect(
        "9.5 kill cart.0#2", "9.5 start cart.0#3"
    )


def test_a_start_that_takes_too_long_is_ended_and_it_is_said_what_is_missing():
    shop = processes(cart=service(start_seconds=5.0), db=service(start_seconds=5.0, program=True)).at(4.9)
    shop.expect("0 start cart.0", "0 start db.0").at(5).expect(
        "kill cart.0: it was not ready within 5 s",
        "start cart.0#2",
        "kill db.0: it was not ready within 5 s: nobody listens at its port",
        "start db.0#2",
    )
    shop.dies("cart.0").expect()


def test_draining_has_an_end():
    shop = up(cart=service(drain_seconds=2.0, stop_seconds=1.0)).scale("cart", 0).expect("drain cart.0").at(8)
    shop.expect("4 stop cart.0: its time to drain is over", "6 kill cart.0: it does not end by itself")
    shop.dies("cart.0").at(60).expect()


def test_of_a_program_silence_says_nothing():
    up(db=service(program=True)).silent("db.0").at(60).expect()


# -- another supervisor -----------------------------------------------------------------------------------


def test_a_successor_starts_nothing_that_is_there():
    shop = up(cart=service(2)).supervisor_dies().at(2).expect()
    shop.ready("cart.0", "cart.1").at(20).expect()


def test_one_that_was_found_is_left_alone_until_it_has_said_how_it_is():
    shop = up(cart=service(2)).supervisor_dies().scale("cart", 1).expect()
    shop.at(2).ready("cart.0").expect()
    shop.at(3).ready("cart.1").expect("drain cart.1: 1 wanted, and it is the least busy")


def test_one_that_was_found_and_drains_is_replaced():
    shop = up(cart=service()).supervisor_dies().at(2).drains("cart.0").expect("start cart.1")
    shop.ends("cart.0").expect()


def test_one_that_was_found_and_says_nothing_is_replaced_in_its_time():
    shop = up(cart=service(start_seconds=3.0)).supervisor_dies().at(6)
    shop.expect("4 kill cart.0: it was not ready within 3 s", "4 start cart.0#2")


def test_a_successor_goes_on_with_a_restart():
    shop = up(cart=service()).restart("cart").expect("start cart.0#2").at(2).ready("cart.0#2").supervisor_dies()
    shop.expect().ready("cart.0#2").expect().ready("cart.0").expect("drain cart.0: a new replica has taken over")


def test_a_paused_set_has_no_replica():
    shop = up(cart=service())
    shop.state.paused.add(shop.set_of("cart"))
    shop.expect("drain cart.0").ends("cart.0").at(2).expect()
    shop.state.paused.clear()
    shop.expect("start cart.0#2")


# -- whatever may be found ----------------------------------------------------------------------------------

NAME = "shop"
NOW = 1000.0


def reported(load: int) -> ReplicaReported:
    """It lives. load: calls that run at it."""
    return ReplicaReported(Heartbeat(ReplicaHello("shop", "shop", 0, 1, 0, "build", "release"), 0.0, load))


def spec(replicas: int, **options: Any) -> DesiredSet:
    return DesiredSet(replicas, 0, 100, **options)


def replica(observed: Observed, slot: int, state: ReplicaState, *, revision: int, load: int = 0) -> Replica:
    found = observed.begin(NAME, slot, revision, "build", NOW)
    if state is not STARTING:
        observed.observe(found, ReplicaReady(), NOW)
        observed.observe(found, reported(load), NOW)
    if state is DRAINING:
        observed.drain(found, NOW)
    return found


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
            observed.observe(found, ReplicaHung(Said("stuck")), NOW)
    for _ in range(draw(st.integers(0, 3))):
        dead = replica(observed, draw(st.integers(0, 4)), STARTING, revision=draw(st.integers(1, 3)))
        observed.observe(dead, ReplicaEnded(Said("ended")), NOW)
    want = spec(draw(st.integers(0, 5)), revision=draw(st.integers(1, 3)), allow_overlap=draw(st.booleans()))
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
                observed.observe(action.replica, ReplicaEnded(Said("ended")), now)
            else:
                if isinstance(action, KillReplica):
                    observed.end(action.replica, action.reason, fault=action.fault)
                observed.observe(action.replica, ReplicaEnded(Said("ended")), now)
        if not step.actions:
            assert step.due < inf, "there is something to do, and it says never to ask again"
            now = max(now, step.due)
        for one in found.replicas.values():
            observed.observe(one, ReplicaReady() if one.state is STARTING else reported(int(one.load)), now)
    assert [r.state for r in found.replicas.values()] == [READY] * want.replicas
    assert all(r.revision >= want.revision for r in found.replicas.values())
    assert len({r.slot for r in found.replicas.values()}) == want.replicas
    assert plan(Desired({NAME: want}), observed, now).actions == ()
