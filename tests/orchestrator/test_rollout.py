"""What a rollout does next: a table of its stages, and what is desired in each."""

import msgspec
import pytest

from fissile.orchestrator.acts import (
    AbortRollout,
    Act,
    AdvanceRollout,
    AllKnow,
    BeginRollout,
    Change,
    ClearSets,
    EndRollout,
    LeaveSets,
    PromoteRollout,
    ScaleService,
    SetReplicas,
)
from fissile.orchestrator.change import ChangeRefused, apply
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout, Stage
from fissile.orchestrator.names import service_of, set_name
from fissile.orchestrator.rollout import Outlook, Seen, SetSeen, least, outlook, served_before
from fissile.orchestrator.verdict import Judgement, Verdict

WAVES = (("front",), ("back",))
OLD = LiveRelease("old", {"front": "front@1", "back": "back@1"}, WAVES)
NEW = LiveRelease("new", {"front": "front@1", "back": "back@2"}, WAVES)
WANT = DesiredSet(4, 1, 8, release="old")
DESIRED = Desired({"front@1": DesiredSet(release="old"), "back@1": WANT}, OLD)
WISH = msgspec.structs.replace(WANT, release="new")


def begun(**options: object) -> Desired:
    rollout = Rollout(1, NEW, {"back@2": WISH}, **options)  # pyright: ignore[reportArgumentType]
    return apply(DESIRED, Change("anna", BeginRollout(rollout), "a deploy"))


def at(stage: Stage, **options: object) -> Desired:
    """A rollout that has come to a stage at second 100."""
    return on(begun(**options), stage, 100.0)


def on(desired: Desired, stage: Stage, now: float = 0.0) -> Desired:
    """The same rollout in another stage."""
    assert desired.rollout is not None
    act = AdvanceRollout(stage, now, desired.rollout.number, desired.rollout.stage)
    return apply(desired, Change("fissile", act, "so it is"))


def by(desired: Desired, *acts: Act) -> Desired:
    """What is desired after somebody's acts."""
    for act in acts:
        desired = apply(desired, Change("anna", act, "because"))
    return desired


def seen(ready: int = 4, replicas: int = 4, **options: object) -> Seen:
    sets = {"front@1": SetSeen(1, 1), "back@1": SetSeen(4, 4), "back@2": SetSeen(replicas, ready)}
    return Seen(sets, **{"told": True, **options})  # pyright: ignore[reportArgumentType]


def step(found: Outlook) -> tuple[Stage | None, str]:
    """The stage that it goes on to, and why."""
    if found.change is None:
        return None, ""
    assert isinstance(found.change.what, AdvanceRollout)
    return found.change.what.stage, found.change.why


def act(found: Outlook) -> tuple[Act, str]:
    """What is altered next, and why."""
    assert found.change is not None
    return found.change.what, found.change.why


def test_names_of_replica_sets():
    assert service_of(set_name("cart", "0123456789ab")) == "cart"
    assert service_of("postgres") == "postgres"


@pytest.mark.parametrize(
    ("desired", "found", "now", "stage", "words"),
    [
        (begun(stage=Stage.MIGRATING), seen(), 0.0, None, "migrations run"),
        (begun(stage=Stage.MIGRATING), seen(migrated=True), 0.0, Stage.STARTING, "migrations are done"),
        (begun(stage=Stage.MIGRATING), seen(migrated=True, migration_trouble="locked"), 0.0, "back", "locked"),
        (begun(), seen(ready=3), 0.0, None, "back (3 of 4 ready)"),
        (begun(), seen(told=False), 0.0, None, "telling"),
        (begun(), seen(), 0.0, Stage.MOVED, "every new request"),
        (begun(share=0.1), seen(ready=1), 0.0, Stage.CANARY, "10 % of the requests"),
        (at(Stage.FILLING, share=0.1), seen(ready=3), 101.0, None, "3 of 4"),
        (at(Stage.FILLING, share=0.1), seen(), 101.0, Stage.MOVED, "every new request"),
    ],
)
def test_the_way_up(desired: Desired, found: Seen, now: float, stage: Stage | str | None, words: str):
    result = outlook(desired, found, now)
    if stage is None:
        assert result.change is None
        assert words in result.waits
    else:
        entered, why = step(result)
        assert entered is (Stage.RETREATING if stage == "back" else stage)
        assert words in why


@pytest.mark.parametrize("stage", [Stage.STARTING, Stage.CANARY, Stage.FILLING])
def test_whoever_does_not_live_takes_the_release_back(stage: Stage):
    deaths = 1 if stage is Stage.STARTING else 2
    sets = {"back@2": SetSeen(1, 0, deaths, "it ended with exit code 3")}
    entered, why = step(outlook(at(stage, share=0.1), Seen(sets), 101.0))
    assert entered is Stage.RETREATING
    assert "exit code 3" in why


@pytest.mark.parametrize(
    ("judgement", "now", "back", "stage"),
    [
        (None, 101.0, False, None),
        (None, 200.0, False, None),
        (Verdict.INCONCLUSIVE, 200.0, False, None),
        (Verdict.AS_GOOD, 101.0, False, None),
        (Verdict.AS_GOOD, 200.0, False, Stage.FILLING),
        (Verdict.WORSE, 101.0, False, Stage.RETREATING),
        # Never a rollback of a rollback: a person decides.
        (Verdict.WORSE, 101.0, True, None),
        (Verdict.WORSE, 200.0, True, None),
    ],
)
def test_what_is_watched(judgement: Verdict | None, now: float, back: bool, stage: Stage | None):
    desired = at(Stage.CANARY, share=0.1, watch_seconds=60.0, back_to="old" if back else "")
    found = outlook(desired, seen(judgement=Judgement(judgement, "why") if judgement else None), now)
    assert step(found) == ((None, "") if stage is None else (stage, "why"))
    if stage is None:
        assert found.waits
        assert found.due == (160.0 if now < 160 else float("inf"))


@pytest.mark.parametrize("stage", [Stage.CANARY, Stage.FILLING])
def test_a_rollback_that_still_serves_is_not_taken_back_for_its_deaths(stage: Stage):
    desired = at(stage, share=0.5, watch_seconds=1.0, back_to="old")
    good = Judgement(Verdict.AS_GOOD, "why")
    dying = outlook(desired, Seen({"back@2": SetSeen(2, 1, 2, "it died")}, told=True, judgement=good), 200.0)
    assert dying.change is None
    assert "back" in dying.waits
    gone = outlook(desired, Seen({"back@2": SetSeen(2, 0, 2, "it died")}, told=True, judgement=good), 200.0)
    assert step(gone)[0] is Stage.RETREATING
    # Where it has not begun to serve, nothing is lost.
    starting = begun(share=0.5, back_to="old")
    entered, _ = step(outlook(starting, Seen({"back@2": SetSeen(2, 1, 1, "it died")}, told=True), 200.0))
    assert entered is Stage.RETREATING


def test_a_clock_that_was_set_back_prolongs_nothing():
    desired = at(Stage.CANARY, share=0.1, watch_seconds=60.0)
    assert step(outlook(desired, seen(), 40.0)) == (Stage.CANARY, "so it is")
    again = on(desired, Stage.CANARY, 40.0)
    assert again.sets == desired.sets
    assert outlook(again, seen(), 41.0).due == 100.0
    desired = by(at(Stage.MOVED), AllKnow(1, 100.0))
    assert act(outlook(desired, seen(), 40.0)) == (AllKnow(1, 40.0), "all replicas know of it")
    assert outlook(by(desired, AllKnow(1, 40.0)), seen(), 41.0).due == 50.0


def test_as_many_start_as_the_share_needs_and_then_as_all_need():
    assert begun(share=0.3).sets["back@2"].replicas == 2
    assert begun(share=0.01).sets["back@2"].replicas == 1
    assert begun().sets["back@2"].replicas == 4
    assert at(Stage.FILLING, share=0.3).sets["back@2"].replicas == 4
    assert begun(share=0.3).sets["back@1"] == WANT


def test_what_the_current_release_has_by_now_is_what_all_requests_need():
    """The autoscaler, or a person, has raised it since the rollout began."""
    eight = SetReplicas("back@1", 8)
    assert by(at(Stage.CANARY, share=0.1), eight, PromoteRollout(0.0)).sets["back@2"].replicas == 8
    assert on(by(begun(), eight), Stage.MOVED).sets["back@2"].replicas == 8
    assert on(by(begun(stage=Stage.MIGRATING, share=0.5), eight), Stage.STARTING).sets["back@2"].replicas == 4
    narrow = msgspec.structs.replace(WISH, replicas_max=5)
    desired = by(DESIRED, BeginRollout(Rollout(1, NEW, {"back@2": narrow})), eight)
    assert on(desired, Stage.MOVED).sets["back@2"].replicas == 5


def test_a_person_who_scales_a_service_means_what_a_rollout_has_in_store_too():
    migrating = by(begun(stage=Stage.MIGRATING), ScaleService("back@1", 6, 6))
    starts = on(migrating, Stage.STARTING).sets["back@2"]
    assert (starts.replicas, starts.replicas_min, starts.replicas_max) == (6, 6, 6)
    # A set of both releases, whose bounds the later one alters: the person's last word holds either way.
    altered = msgspec.structs.replace(WANT, replicas_max=20)
    rollout = Rollout(1, LiveRelease("new", OLD.sets, WAVES), {"back@1": altered}, share=0.5)
    scaled = by(DESIRED, BeginRollout(rollout), ScaleService("back@1", 3, 3))
    assert on(scaled, Stage.MOVED).sets["back@1"].replicas_max == 3
    assert by(scaled, AbortRollout(0.0)).sets["back@1"].replicas_max == 3


def test_what_a_rollout_brings_is_kept_though_it_has_no_load_yet():
    eight = SetReplicas("back@1", 8)
    assert least(begun(share=0.25), "back@2") == 1
    assert least(by(begun(share=0.25), eight), "back@2") == 2
    assert least(begun(), "back@2") == 4
    assert least(by(at(Stage.FILLING, share=0.25), eight), "back@2") == 8
    assert least(at(Stage.MOVED), "back@2") == 4
    assert least(at(Stage.RETREATING), "back@2") == 0
    assert least(begun(), "back@1") == 0
    assert least(DESIRED, "back@1") == 0


def test_a_sleeping_service_does_not_keep_a_retreat_from_its_end():
    asleep = DesiredSet(0, 0, 3, release="old")
    desired = msgspec.structs.replace(DESIRED, sets={"front@1": asleep, "back@1": WANT})
    altered = msgspec.structs.replace(asleep, replicas_max=5)
    desired = by(desired, BeginRollout(Rollout(1, NEW, {"back@2": WISH, "front@1": altered})), AbortRollout(0.0))
    desired = by(desired, AllKnow(1, 1.0), ClearSets(("back@2",), 1))
    assert desired.sets["front@1"] == asleep
    assert isinstance(
        act(outlook(desired, Seen({"back@1": SetSeen(4, 4)}, pinned=False, told=True), 1.0))[0], EndRollout
    )
    # One that is awake by now stays so, and is waited for.
    awake = by(DESIRED, BeginRollout(Rollout(1, NEW, {"front@1": altered})), AbortRollout(0.0), AllKnow(1, 1.0))
    assert awake.sets["front@1"].replicas == 1
    assert outlook(awake, Seen({"back@1": SetSeen(4, 4)}, pinned=False, told=True), 1.0).waits == "waiting for front"


@pytest.mark.parametrize(
    ("stage", "share", "later"),
    [
        (Stage.MIGRATING, 0.1, 0.0),
        (Stage.STARTING, 0.1, 0.0),
        (Stage.CANARY, 0.1, 0.1),
        (Stage.FILLING, 0.1, 0.1),
        (Stage.MOVED, 0.1, 1.0),
        (Stage.RETREATING, 0.1, 0.0),
    ],
)
def test_shares_by_stage(stage: Stage, share: float, later: float):
    assert at(stage, share=share).shares() == {"old": 1.0 - later, "new": later}


@pytest.mark.parametrize(("stage", "gone"), [(Stage.MOVED, "back@1"), (Stage.RETREATING, "back@2")])
def test_the_way_out_waits_for_requests_and_then_for_processes(stage: Stage, gone: str):
    desired = at(stage)
    # Their time begins when nobody gives new requests their release any more, however late that is.
    assert outlook(desired, seen(told=False), 111.0).change is None
    assert act(outlook(desired, seen(), 100.0)) == (AllKnow(1, 100.0), "all replicas know of it")
    desired = by(desired, AllKnow(1, 100.0))
    waiting = outlook(desired, seen(pinned=True), 101.0)
    assert waiting.change is None
    assert waiting.due == 110.0
    assert act(outlook(desired, seen(pinned=True), 110.0)) == (ClearSets((gone,), 1), "its time to finish is over")
    # All are told that nothing of it is under way, before anything of it ends.
    assert act(outlook(desired, seen(pinned=False), 101.0)) == (LeaveSets((gone,), 1), "its requests are done")
    desired = by(desired, LeaveSets((gone,), 1))
    assert outlook(desired, seen(pinned=True), 101.0).change is None
    assert outlook(desired, seen(pinned=False, told=False), 111.0).change is None
    assert act(outlook(desired, seen(pinned=False), 101.0)) == (ClearSets((gone,), 1), "its requests are done")
    desired = by(desired, ClearSets((gone,), 1))
    assert desired.sets[gone].replicas_max == 0
    assert outlook(desired, seen(pinned=False), 101.0).change is None
    # Whoever has just counted it in does not bring it back.
    assert by(desired, ScaleService(gone, 3, 3)).sets[gone] == desired.sets[gone]
    sets = {name: found for name, found in seen().sets.items() if name != gone}
    assert isinstance(act(outlook(desired, Seen(sets, pinned=False, told=True), 102.0))[0], EndRollout)
    desired = apply(desired, Change("fissile", EndRollout(1, stage is Stage.MOVED), ""))
    assert desired.rollout is None
    if stage is Stage.MOVED:
        assert desired.current == NEW
        assert desired.trail == ("old",)
        assert {want.release for want in desired.sets.values()} == {"new"}
    else:
        assert msgspec.structs.replace(desired, rollouts=0) == DESIRED


def test_callers_end_before_those_whom_they_call():
    both = LiveRelease("new", {"front": "front@2", "back": "back@2"}, WAVES)
    rollout = Rollout(1, both, {"front@2": WISH, "back@2": WISH})
    desired = apply(DESIRED, Change("anna", BeginRollout(rollout), ""))
    desired = by(on(desired, Stage.MOVED, 100.0), AllKnow(1, 100.0), LeaveSets(("front@1",), 1))
    found = Seen({"front@1": SetSeen(1, 1), "back@1": SetSeen(4, 4)}, pinned=False, told=True)
    assert act(outlook(desired, found, 101.0)) == (ClearSets(("front@1",), 1), "its requests are done")
    desired = by(desired, ClearSets(("front@1",), 1))
    assert outlook(desired, found, 101.0).change is None
    found = Seen({"back@1": SetSeen(4, 4)}, pinned=False, told=True)
    assert act(outlook(desired, found, 101.0)) == (LeaveSets(("back@1",), 1), "its requests are done")
    desired = by(desired, LeaveSets(("back@1",), 1))
    assert act(outlook(desired, found, 101.0)) == (ClearSets(("back@1",), 1), "its requests are done")


def test_back_and_back_again_goes_further_back():
    def moved(desired: Desired, name: str, back_to: str = "") -> Desired:
        later = LiveRelease(name, {"front": "front@1", "back": f"back@{name}"}, WAVES)
        rollout = Rollout(desired.rollouts + 1, later, {f"back@{name}": WISH}, back_to=back_to)
        desired = apply(desired, Change("anna", BeginRollout(rollout), ""))
        assert served_before(desired) == (desired.trail[-1] if desired.trail else "")
        desired = on(desired, Stage.MOVED)
        goes_to = served_before(desired)  # before its end as after it
        desired = apply(desired, Change("fissile", EndRollout(rollout.number, True), ""))
        assert served_before(desired) == goes_to
        return desired

    desired = moved(moved(DESIRED, "b"), "c")
    assert served_before(desired) == "b"
    desired = moved(desired, "b", back_to="b")
    assert desired.trail == ("old",)
    assert moved(desired, "d").trail == ("old", "b")
    assert moved(desired, "old", back_to="old").trail == ()
    # What it was made of has another name now, as after an upgrade of packages: the way back is the same.
    assert moved(desired, "old-again", back_to="old").trail == ()


def test_what_cannot_be_there_twice_is_replaced_where_it_is_and_back():
    database = DesiredSet(release="old", revision=3, overlap=False)
    desired = Desired({"database": database}, LiveRelease("old", {"database": "database"}, (("database",),)))
    wish = msgspec.structs.replace(database, release="new", revision=1)
    rollout = Rollout(1, LiveRelease("new", {"database": "database"}, (("database",),)), {"database": wish})
    during = apply(desired, Change("anna", BeginRollout(rollout), ""))
    assert during.sets["database"].revision == 4
    assert during.sets["database"].release == "new"
    undone = apply(during, Change("anna", AbortRollout(5.0), ""))
    assert undone.sets["database"].revision == 5
    assert undone.sets["database"].release == "old"
    undone = by(undone, AllKnow(1, 5.0))
    assert outlook(undone, Seen({"database": SetSeen(1, 0)}, pinned=False, told=True), 6.0).change is None
    assert isinstance(
        act(outlook(undone, Seen({"database": SetSeen(1, 1)}, pinned=False, told=True), 6.0))[0], EndRollout
    )


def test_who_comes_too_late_is_told():
    with pytest.raises(ChangeRefused, match="no rollout is under way"):
        apply(DESIRED, Change("anna", PromoteRollout(0.0), ""))
    with pytest.raises(ChangeRefused, match="only one that is watched"):
        apply(begun(), Change("anna", PromoteRollout(0.0), ""))
    with pytest.raises(ChangeRefused, match="it has all requests"):
        apply(at(Stage.MOVED), Change("anna", AbortRollout(0.0), ""))
    with pytest.raises(ChangeRefused, match="rollout 1 is under way"):
        apply(begun(), Change("anna", BeginRollout(Rollout(2, NEW, {})), ""))
    with pytest.raises(ChangeRefused, match="rollout 7 is over: 1 is under way"):
        apply(begun(), Change("anna", AbortRollout(0.0, 7), ""))


@pytest.mark.parametrize(
    "act",
    [
        AdvanceRollout(Stage.MOVED, 0.0, 1, Stage.STARTING),
        AdvanceRollout(Stage.RETREATING, 0.0, 7, Stage.RETREATING),
        LeaveSets(("back@1",), 7),
        AllKnow(7, 0.0),
        ClearSets(("back@1",), 7),
        EndRollout(7, True),
    ],
)
def test_what_was_decided_of_another_state_is_refused(act: Act):
    """A person gives it up while its next step is being written: it stays given up."""
    with pytest.raises(ChangeRefused):
        by(begun(), AbortRollout(0.0), act)


@pytest.mark.parametrize("stage", list(Stage))
def test_the_journal_alone_is_enough_to_go_on(stage: Stage):
    desired = at(stage, share=0.1)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(desired), type=Desired) == desired


def test_what_does_not_come_up_again_is_not_waited_for_for_ever():
    """A set that cannot be there twice: it is given back, and a fix has to be deployed one day."""
    old, new = LiveRelease("old", {"db": "db"}, (("db",),)), LiveRelease("new", {"db": "db"}, (("db",),))
    want = DesiredSet(start_seconds_max=3.0, overlap=False, release="old")
    rollout = Rollout(1, new, {"db": msgspec.structs.replace(want, release="new")}, settle_seconds_max=10.0)
    desired = on(by(Desired({"db": want}, old), BeginRollout(rollout)), Stage.RETREATING, 100.0)
    desired = by(desired, AllKnow(1, 100.0))

    def seen(found: SetSeen) -> Seen:
        return Seen({"db": found}, pinned=False, told=True)

    found = outlook(desired, seen(SetSeen()), 112.9)
    assert (found.change, found.waits, found.due) == (None, "waiting for db", 113.0)
    late = "so it is; db did not come up again, and is started again and again"
    assert act(outlook(desired, seen(SetSeen()), 113.0)) == (EndRollout(1, False), late)
    assert act(outlook(desired, seen(SetSeen(1, 1)), 100.0)) == (EndRollout(1, False), "so it is")
