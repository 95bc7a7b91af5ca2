"""What a rollout does, as timelines: its stages, each way back, each death of who supervises it."""

from typing import Any

import pytest

from fissile.names import SetName, service_of, set_name
from fissile.orchestrator.acts import (
    AbortRollout,
    AcknowledgeRoutes,
    Act,
    AdvanceRollout,
    DrainSets,
    EndRollout,
    RetireSets,
    ScaleService,
    SetReplicas,
)
from fissile.orchestrator.desired import Stage
from tests.orchestrator.timeline import Timeline, service

# Lines that most rollouts have.
MOVED = "rollout promoted: all replicas are ready: every new request goes to the new release"
KNOWN = "rollout known to all: all replicas know of it"


def shop(replicas: Any = 1, *, quiet: str = "tell order", **more: Any) -> Timeline:
    """A front that calls a back, on a machine that does at once what it is told; it is second 1."""
    services = {"front": service(calls="back"), "back": service(replicas), **more}
    return Timeline(obedient=True, quiet=quiet, **services).at(1).started()


CLEARED = ["rollout leaves back: its requests are done", "rollout clears back: its requests are done"]


def left(*names: str, why: str = "its requests are done") -> list[str]:
    """What is done about sets that go, callers first."""
    lines: list[str] = []
    for name in names:
        lines += [] if "over" in why else [f"rollout leaves {name}: its requests are done"]
        lines += [f"rollout clears {name}: {why}", f"drain {name}.0: 0 wanted, and it is the least busy"]
    return lines


# -- the way there --------------------------------------------------------------------------------------


def test_all_at_once():
    one = shop(2).slow("back@2").deploy(back=service(2)).expect("start back@2.0", "start back@2.1")
    one.waits("waiting for back (0 of 2 ready)").ready("back@2.1").waits("waiting for back (1 of 2 ready)")
    one.deaf("front.0").ready("back@2.0").expect().waits("telling all replicas about the new ones")
    assert one.state.desired.shares() == {"r1": 1.0, "r2": 0.0}
    one.traffic("front.0", r1=3, r2=1).hears("front.0").deaf("back.0").expect(MOVED)
    assert one.state.desired.shares() == {"r1": 0.0, "r2": 1.0}
    one.waits("requests for the outgoing release may still arrive: telling all replicas").at(30).expect()
    one.hears("back.0").expect(KNOWN).waits("requests of the outgoing release are still in flight")
    one.at(35).traffic("front.0", r1=0, r2=9).slow("back").expect(
        "rollout leaves back: its requests are done",
        "rollout clears back: its requests are done",
        "drain back.0: 0 wanted, and it is the least busy",
        "drain back.1: 0 wanted, and it is the least busy",
    )
    one.waits("waiting for the end of back@1").ends("back.0").expect().ends("back.1")
    one.expect("rollout done: all of the earlier release has ended").at(99).expect()
    desired = one.state.desired
    assert (desired.current.name, desired.rollout, desired.revision_history) == ("r2", None, ("r1",))
    assert {name: want.release for name, want in desired.sets.items()} == {"front@1": "r2", "back@2": "r2"}
    assert set(one.state.observed.sets) == {"front@1", "back@2"}


def test_requests_that_do_not_end_are_not_waited_for_for_ever():
    one = shop().traffic("front.0", r1=3).deploy(back=service()).expect("start back@2.0", MOVED, KNOWN)
    one.at(10.9).expect().at(11).expect(
        *left("back", why="its time to finish is over"), "rollout done: all of the earlier release has ended"
    )


def test_callers_go_before_those_whom_they_call():
    one = shop().slow("front").deploy(front=service(calls="back"), back=service())
    one.expect("start front@2.0", "start back@2.0", MOVED, KNOWN, *left("front")).at(2).ends("front.0")
    one.expect(*left("back"), "rollout done").at(9).expect()


def test_migrations_run_first():
    one = shop()
    one.migration = None
    one.deploy(back=service(), migrates=True).at(60).expect().waits("migrations run")
    one.migration = ""
    one.expect(
        "rollout starting: all migrations are done", "start back@2.0", MOVED, KNOWN, *left("back"), "rollout done"
    )


def test_a_canary_gets_its_share_is_compared_and_then_gets_all():
    one = shop(4).slow("back@2").deploy(back=service(4), canary=0.3, watch_seconds=20.0)
    one.expect("start back@2.0", "start back@2.1")  # as many as three tenths need
    one.ready("back@2.0", "back@2.1").expect("rollout canary: 30 % of the requests go to the new release")
    assert one.state.desired.shares() == {"r1": 0.7, "r2": 0.3}
    one.waits("watching for 20 s more: the new release answered 0 requests, 30 are needed")
    one.at(6).answers("front.0", r1=(70, 1), r2=(30, 0)).expect().waits(
        "watching for 15 s more: 0 of 30 requests failed…"
    )
    one.at(20.9).expect().at(21)
    one.expect(
        "rollout scaling-up: 0 of 30 requests failed (old release: 1 of 70)…", "start back@2.2", "start back@2.3"
    )
    one.waits("waiting for back (2 of 4 ready)")
    assert one.state.desired.shares() == {"r1": 0.7, "r2": 0.3}
    one.ready("back@2.2", "back@2.3").expect(
        MOVED, KNOWN, "…leaves back: …", "…clears back: …", *drained(4), "rollout done"
    )


def drained(count: int, name: str = "back") -> list[str]:
    """A set goes."""
    return [f"drain {name}.{slot}" for slot in range(count)]


def test_of_a_small_share_there_is_one_replica():
    shop(4).deploy(back=service(4), canary=0.01).expect("start back@2.0", "rollout canary: 1 % of …")


def test_a_canary_of_which_nothing_is_known_waits_for_a_person():
    one = shop().deploy(back=service(), canary=0.5, watch_seconds=5.0).expect("start back@2.0", "rollout canary")
    one.at(99).expect().waits("inconclusive, so it stops here: the new release answered 0 requests…")
    assert one.state.next_step is not None
    assert one.state.next_step[2].undecided
    one.promote().expect(MOVED, KNOWN, *left("back"), "rollout done: all of the earlier release has ended")


# -- the way back -----------------------------------------------------------------------------------------


def test_one_death_before_it_serves_takes_it_back():
    one = shop(2).slow("back@2").deploy(back=service(2)).expect("start back@2.0", "start back@2.1").ready("back@2.1")
    one.at(2).dies("back@2.0", "ended with exit code 3").expect(
        "start back@2.0#2: ended with exit code 3; starting again",
        "rollout rolling-back: back does not come up: ended with exit code 3",
        KNOWN,
        "rollout leaves back@2: its requests are done",
        "rollout clears back@2: its requests are done",
        "kill back@2.0#2: 0 wanted, and it serves nobody yet",
        "drain back@2.1: 0 wanted, and it is the least busy",
    )
    one.waits("waiting for the end of back@2").dies("back@2.0#2").ends("back@2.1")
    one.expect("rollout undone: back does not come up: ended with exit code 3").at(60).expect()
    desired = one.state.desired
    assert (desired.current.name, desired.revision_history, set(desired.sets)) == ("r1", (), {"front@1", "back@1"})


def test_two_deaths_while_it_has_requests_take_it_back():
    one = shop(4).deploy(back=service(4), canary=0.25).expect("start back@2.0", "rollout canary")
    one.at(2).dies("back@2.0").expect("start back@2.0#2").at(3).dies("back@2.0#2", "ended with exit code 3")
    one.expect(
        "rollout rolling-back: back ended with exit code 3",
        KNOWN,
        "rollout leaves back@2: its requests are done",
        "rollout clears back@2: its requests are done",
        "rollout undone: back ended with exit code 3",
    )


def test_two_deaths_of_what_is_to_fill_it_up_take_it_back_once_nobody_may_give_it_requests():
    one = shop(3).deploy(back=service(3), canary=0.1).expect("start back@2.0", "rollout canary").slow("back@2")
    one.promote().expect("start back@2.1", "start back@2.2").at(2).dies("back@2.1").expect("start back@2.1#2")
    one.at(3).dies("back@2.1#2").expect("rollout rolling-back: back does not come up: was killed by SIGKILL")
    # What starts was told of it when it began, and may serve before it hears anything else.
    one.waits("requests for the outgoing release may still arrive: telling all replicas").ready("back@2.2")
    one.expect(KNOWN, "rollout leaves back@2", "rollout clears back@2", "drain back@2.2", "drain back@2.0")


def test_a_mistake_in_it_counts_as_two_deaths():
    one = shop().slow("back@2").deploy(back=service(), canary=0.5).expect("start back@2.0").ready("back@2.0")
    one.expect("rollout canary").dies("back@2.0", "has no port", mistake=True)
    one.expect(
        "rollout rolling-back: back has no port",
        KNOWN,
        "rollout leaves back@2",
        "rollout clears back@2",
        "rollout undone",
    )


def test_worse_answers_take_it_back_at_once():
    one = shop().deploy(back=service(), canary=0.5).expect("start back@2.0", "rollout canary")
    one.at(3).answers("front.0", r1=(100, 0), r2=(100, 90)).expect(
        "rollout rolling-back: 90 of 100 requests failed, of the old release 0 of 100",
        KNOWN,
        *left("back@2"),
        "rollout undone: 90 of 100 requests failed, of the old release 0 of 100",
    )


def test_a_migration_that_fails_takes_it_back_before_anything_starts():
    one = shop()
    one.migration = "locked"
    one.deploy(back=service(), migrates=True).expect(
        "rollout rolling-back: a migration failed: locked", KNOWN, "rollout undone: a migration failed: locked"
    )


@pytest.mark.parametrize("stage", ["migrating", "starting", "canary", "scaling-up"])
def test_a_person_gives_it_up(stage: str):
    one = shop(2).slow("back@2").deploy(back=service(2), canary=0.5, migrates=True)
    if stage == "migrating":
        one = shop(2)
        one.migration = None
        one.deploy(back=service(2), migrates=True).expect()
    if stage in ("canary", "scaling-up"):
        one.prompt("back@2").at(2).slow("back@2")
    if stage == "scaling-up":
        one.promote().at(2.5).deaf("front.0").ready("back@2.1")
    one.at(3).started()
    assert one.stage == stage
    traffic = ["rollout leaves back@2", "rollout clears back@2"]
    ends = {
        "migrating": [],
        "starting": [*traffic, "kill back@2.0"],
        "canary": [*traffic, "drain back@2.0"],
        "scaling-up": [*traffic, "drain back@2.1", "drain back@2.0"],
    }
    one.abort().hears("front.0").expect(KNOWN, *ends[stage], *["rollout undone: because"] * (stage == "migrating"))
    if ends[stage]:
        one.prompt("back@2").expect("rollout undone: because")
    assert one.state.desired.current.name == "r1"


def test_what_comes_too_late_is_refused():
    one = shop().promote().expect("refuse: no rollout is under way").slow("back@2").deploy(back=service())
    one.promote().expect("refuse: rollout 1 is starting: only one that is watched can be promoted", "start back@2.0")
    one.by_anna(AbortRollout(0.0, 7)).expect("refuse: rollout 7 is over: 1 is under way")
    one.deploy(front=service(calls="back")).expect("refuse: rollout 1 is under way")
    one.traffic("front.0", r1=1).ready("back@2.0").expect(MOVED, KNOWN)
    one.abort().expect("refuse: rollout 1 cannot be aborted: it has all requests")
    one = shop().slow("back@2").deploy(back=service()).abort().started().abort()
    one.expect("refuse: rollout 1 cannot be aborted: its requests are already going back")


# -- a rollback ---------------------------------------------------------------------------------------------


def test_back_and_back_again_goes_further_back():
    one = shop()
    for _ in range(2):
        one.deploy(back=service()).at(one.now + 1)
    assert (one.state.desired.current.name, one.state.desired.revision_history) == ("r3", ("r1", "r2"))
    one.rollback().at(one.now + 1)
    assert (one.state.desired.current.name, one.state.desired.revision_history) == ("r2", ("r1",))
    one.deploy(back=service()).at(one.now + 1)
    assert one.state.desired.revision_history == ("r1", "r2")
    one.rollback().at(one.now + 1).rollback().at(one.now + 1)
    assert (one.state.desired.current.name, one.state.desired.revision_history) == ("r1", ())
    assert one.living("back") == ["back.0#2"]


def test_a_rollback_is_never_taken_back_while_it_serves():
    one = shop(2).deploy(back=service(2)).at(2).started().rollback(canary=0.5, watch_seconds=5.0)
    one.expect("start back.0#2", "rollout canary")
    one.answers("front.0", r2=(100, 0), r1=(100, 90)).at(20).expect().waits("inconclusive, so it stops here: 90 of …")
    one.slow("back").promote().expect("start back.1#2")
    one.dies("back.1#2").expect("start back.1#3").at(21).dies("back.1#3").at(22).expect("21.1 start back.1#4")
    one.waits("waiting for back (1 of 2 ready)").dies("back.0#2")
    one.expect("start back.0#3", "rollout rolling-back: back does not come up: was killed by SIGKILL")


def test_a_rollback_that_dies_while_it_is_watched_waits_for_a_person_as_long_as_some_of_it_serves():
    one = shop(2).deploy(back=service(2)).at(2).started().rollback(canary=0.9, watch_seconds=5.0)
    one.expect("start back.0#2", "start back.1#2", "rollout canary").slow("back")
    one.dies("back.0#2").expect("start back.0#3").at(3).dies("back.0#3").at(9).expect("3.1 start back.0#4")
    one.waits("a rollback is not taken back by itself: back was killed by SIGKILL; `fissile promote` or …")
    one.dies("back.1#2").expect("start back.1#3", "rollout rolling-back: back was killed by SIGKILL")


# -- clocks, sleepers, and what cannot be there twice -------------------------------------------------------


def test_a_clock_that_is_set_back_prolongs_nothing():
    one = shop().deploy(back=service(), canary=0.5, watch_seconds=10.0).expect("start back@2.0", "rollout canary")
    one.at(5).clock_set(-1000.0).expect("rollout canary: 50 % of the requests go to the new release")
    one.at(6).waits("watching for 9 s more…").answers("front.0", r1=(50, 0), r2=(50, 0)).at(14.9).expect().at(15)
    one.expect("rollout scaling-up", MOVED, KNOWN, *left("back"), "rollout done")


def test_nor_does_it_where_requests_are_waited_for():
    one = shop().traffic("front.0", r1=1).deploy(back=service()).expect("start back@2.0", MOVED, KNOWN).at(5)
    one.clock_set(-1000.0).expect(KNOWN).at(14.9).expect().at(15).expect(
        *left("back", why="its time to finish is over"), "rollout done"
    )


def test_what_cannot_be_there_twice_is_replaced_where_it_is():
    one = shop(db=service(allow_overlap=False, start_seconds=3.0)).slow("db").deploy(db=service(allow_overlap=False))
    one.expect("drain db.0: a restart is wanted, and two must not run at once")
    one.at(2).ends("db.0").expect("start db.0#2").ready("db.0#2").expect(MOVED, KNOWN, "rollout done").at(9).expect()


def test_and_is_given_back_where_it_is():
    one = shop(db=service(allow_overlap=False)).slow("db").deploy(db=service(allow_overlap=False))
    one.expect("drain db.0").ends("db.0").expect("start db.0#2").at(2).dies("db.0#2", "ended")
    one.expect("start db.0#3: ended; starting again", "rollout rolling-back: db does not come up: ended", KNOWN)
    # The one that starts is of the code that goes.
    one.waits("waiting for db").at(3).ready("db.0#3").expect("drain db.0#3: a restart is wanted, and two must not …")
    one.ends("db.0#3").expect("start db.0#4").waits("waiting for db")
    one.ready("db.0#4").expect("rollout undone: db does not come up: ended").at(60).expect()


def test_what_does_not_come_up_again_is_not_waited_for_for_ever():
    one = shop(db=service(allow_overlap=False, start_seconds=3.0)).slow("db")
    one.deploy(db=service(allow_overlap=False, start_seconds=3.0)).expect("drain db.0")
    one.ends("db.0").expect("start db.0#2")
    one.abort().at(13.9).started().waits("waiting for db").at(14)
    one.expect("rollout undone: because; db did not come up again, and is started again and again")


def test_deaths_of_before_do_not_count_against_what_takes_its_place():
    one = (
        shop(db=service(allow_overlap=False))
        .dies("db.0")
        .expect("start db.0#2")
        .deploy(db=service(allow_overlap=False))
    )
    one.expect("drain db.0#2", "start db.0#3", MOVED, KNOWN, "rollout done: all of the earlier release has ended")


def test_nor_do_those_of_a_restart_in_a_set_whose_settings_alone_are_new():
    one = shop((1, 9), db=service()).slow("db@2").deploy(db=service(), back=service((1, 5)), settings="back")
    one.expect("start db@2.0").slow("back.0#2").restart("back").expect("start back.0#2").dies("back.0#2")
    one.expect("give up the restart of back").ready("db@2.0").expect(MOVED, KNOWN, *left("db"), "rollout done")


def test_of_several_that_do_not_come_up_again_each_has_its_time():
    specs = {
        "db": service(allow_overlap=False, start_seconds=3.0),
        "cache": service(allow_overlap=False, start_seconds=6.0),
    }
    one = (
        shop(**specs).slow("db", "cache").deploy(**specs).at(2).ends("db.0", "cache.0").at(3).abort().at(18.9).started()
    )
    one.waits("waiting for db, cache").at(19).started()
    assert one.done[-1] == "rollout undone: because; db, cache did not come up again, and is started again and again"


def test_what_sleeps_keeps_no_retreat_from_its_end_and_what_is_awake_does():
    """Both releases have it: its bounds are altered, and given back."""
    one = shop((0, 3), db=service()).at(70).expect("60.1 scale back to 0: no calls for 60 s", "60.1 drain back.0")
    one.slow("db@2").deploy(db=service(), back=service((0, 5)), settings="back").expect("start db@2.0")
    assert counts(one, "back") == (0, 0, 5)
    one.abort().expect(KNOWN, "rollout leaves db@2", "rollout clears db@2", "kill db@2.0").dies("db@2.0")
    one.expect("rollout undone: because")
    assert counts(one, "back") == (0, 0, 3)
    one.slow("db@3", "back").deploy(db=service(), back=service((0, 5)), settings="back").knocks("back").at(71)
    one.expect("70 start db@3.0", "70.1 scale back to 1: a call came to it while it slept", "70.1 start back.0#2")
    one.abort().expect(KNOWN, "rollout leaves db@3", "rollout clears db@3", "kill db@3.0").dies("db@3.0")
    one.expect().waits("waiting for back").ready("back.0#2").expect("rollout undone: because")


# -- counts -----------------------------------------------------------------------------------------


def counts(one: Timeline, name: str) -> tuple[int, int, int]:
    """Wanted now, and the bounds."""
    want = one.state.desired.sets[one.set_of(name)]
    return want.replicas, want.replicas_min, want.replicas_max


def test_what_the_current_release_has_by_now_is_what_all_requests_need():
    """The autoscaler has raised it since the rollout began."""
    one = shop((1, 9), quiet="tell order drain")
    eight = SetReplicas(one.set_of("back"), 8)
    one.deploy(back=service((1, 9)), canary=0.5).expect("start back@2.0", "rollout canary").by_anna(eight)
    one.expect(*(f"start back.{slot}" for slot in range(1, 8))).at(1.1).expect(
        "scale back@2 to 4: the earlier release's requests are about to come to it",
        *(f"start back@2.{slot}" for slot in range(1, 4)),
    )
    one.promote().at(2).started()
    assert counts(one, "back@2") == (8, 1, 9)


def test_it_is_raised_within_its_bounds():
    one = shop((1, 9), quiet="tell order drain start").slow("back@2").deploy(back=service((1, 5)))
    one.by_anna(SetReplicas(one.set_of("back"), 8)).prompt("back@2").at(2).started()
    assert counts(one, "back@2") == (5, 1, 5)


def test_a_person_who_scales_a_service_means_what_a_rollout_has_in_store_too():
    one = shop()
    one.migration = None
    one.deploy(back=service(), migrates=True).scale("back", 3).expect("start back.1", "start back.2")
    one.migration = ""
    starts = [f"start back@2.{slot}" for slot in range(3)]
    one.expect(
        "rollout starting", *starts, MOVED, KNOWN, *CLEARED, *(f"drain back.{n}" for n in (1, 2, 0)), "rollout done"
    )
    assert counts(one, "back@2") == (3, 3, 3)


@pytest.mark.parametrize("back", [False, True])
def test_whatever_a_person_says_last_holds_whether_it_goes_on_or_back(back: bool):
    """Of a set of both releases, whose bounds the later one alters."""
    one = shop((1, 9), db=service(), quiet="tell order start drain").slow("db@2")
    one.deploy(db=service(), back=service((1, 20)), settings="back").scale("back", 3)
    if back:
        one.abort()
    one.prompt("db@2").at(9).started()
    assert one.stage == ""
    assert counts(one, "back") == (3, 3, 3)


# -- another supervisor -----------------------------------------------------------------------------


@pytest.mark.parametrize("stage", list(Stage))
def test_a_successor_goes_on_from_each_stage(stage: Stage):
    one = shop(2).traffic("front.0", r1=1)
    one.migration = None if stage is Stage.MIGRATING else ""
    one.slow(*["back@2"] * (stage is Stage.STARTING))
    one.deploy(back=service(2), migrates=True, canary=0.5, watch_seconds=10.0).at(2)
    one.slow(*["back@2"] * (stage is Stage.SCALING_UP))
    if stage in (Stage.SCALING_UP, Stage.PROMOTED):
        one.promote()
    if stage is Stage.ROLLING_BACK:
        one.deaf("front.0").abort()
    one.at(3).started()
    assert one.stage == stage
    one.supervisor_dies().prompt("back@2").hears("front.0")
    one.migration = ""
    one.at(4).answers("front.0", r1=(50, 0), r2=(50, 0)).at(5).answers("front.0", r1=(90, 0), r2=(90, 0)).at(99)
    last = (
        "rollout undone: because"
        if stage is Stage.ROLLING_BACK
        else "rollout done: all of the earlier release has ended"
    )
    assert one.done[-1] == last
    assert one.living("back") == ([f"back.{n}" if stage is Stage.ROLLING_BACK else f"back@2.{n}" for n in range(2)])


def test_whoever_was_adopted_may_give_out_requests_until_it_has_said_what_it_knows():
    one = shop().slow("front").deaf("front.0").deploy(back=service()).expect("start back@2.0").supervisor_dies()
    one.at(2).waits("telling all replicas about the new ones")
    one.hears("front.0").ready("front.0").expect(MOVED, KNOWN, *left("back"), "rollout done")


def test_who_is_being_killed_is_not_waited_for():
    one = shop(2).slow("back.1").hangs("back.1").at(5).expect("4 ask back.1", "4.5 kill back.1", "4.5 start back.1#2")
    one.deaf("back.1").deploy(front=service(calls="back"))
    one.expect("start front@2.0", MOVED, KNOWN, *left("front"), "rollout done")


def test_programs_apply_no_routes_and_are_not_waited_for():
    one = shop(db=service(program=True, components=("Db",))).deaf("db").deploy(back=service())
    one.expect("start back@2.0", MOVED, KNOWN, *left("back"), "rollout done")


def test_who_cannot_be_told_may_go_on_giving_out_requests():
    one = shop().deaf("front.0").deploy(back=service()).expect("start back@2.0")
    one.state.strays[4711] = 1
    one.hears("front.0").at(60).expect().waits("telling all replicas about the new ones")
    one.state.strays.clear()
    one.expect(MOVED, KNOWN, *left("back"), "rollout done")


# -- what is decided of another state of things ---------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (
            AdvanceRollout(Stage.PROMOTED, 0.0, 1, Stage.STARTING),
            "rollout 1 is rolling-back, and not starting any more",
        ),
        (AdvanceRollout(Stage.ROLLING_BACK, 0.0, 7, Stage.ROLLING_BACK), "rollout 7 is over: 1 is under way"),
        (RetireSets((SetName("back@1"),), 7), "rollout 7 is over: 1 is under way"),
        (AcknowledgeRoutes(7, 0.0), "rollout 7 is over: 1 is under way"),
        (DrainSets((SetName("back@1"),), 7), "rollout 7 is over: 1 is under way"),
        (EndRollout(7, True), "rollout 7 is over: 1 is under way"),
    ],
)
def test_it_is_refused(act: Act, why: str):
    """A person gives a rollout up while its next step is being written: it stays given up."""
    one = shop().slow("back@2").deaf("front.0").deploy(back=service()).abort().started()
    one.by_anna(act).expect(f"refuse: {why}")
    assert one.stage == "rolling-back"


def test_what_was_scaled_in_the_moment_of_its_end_does_not_come_back():
    one = (
        shop(3)
        .slow("back")
        .deploy(back=service(3))
        .expect(*(f"start back@2.{n}" for n in range(3)), MOVED, KNOWN, *CLEARED, *drained(3))
    )
    one.by_anna(ScaleService(SetName("back@1"), 5, 5)).expect("start back@2.3", "start back@2.4")


def test_names_of_replica_sets():
    assert service_of(set_name("cart", "0123456789ab")) == "cart"
    assert service_of(SetName("postgres")) == "postgres"
