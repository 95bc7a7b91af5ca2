"""What a restart that a person asks for replaces, and how it ends."""

from typing import Any

import msgspec
import pytest

from fissile.names import ServiceName, SetName
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout
from fissile.orchestrator.reasons import Said, TakenBack
from fissile.orchestrator.replica import Observed, ReplicaEnded, ReplicaReady
from fissile.orchestrator.restart_rules import (
    Read,
    RestartEnd,
    asleep,
    behind,
    how_it_ended,
    imported_anew,
    next_revision,
    sleeps,
    zygotes_in_use,
)

WEB, CART, DB = map(ServiceName, ("web", "cart", "db"))
WEB_OLD, WEB_NEW, CART_SET, DB_SET = map(SetName, ("web@1", "web@2", "cart@1", "db"))
OLD = LiveRelease("r1", {WEB: WEB_OLD, CART: CART_SET, DB: DB_SET})
NEW = LiveRelease("r2", {WEB: WEB_NEW, CART: CART_SET, DB: DB_SET})


def desired(**more: Any) -> Desired:
    """Two releases: a web of each, and a cart and a database that both share."""
    sets = {
        WEB_OLD: DesiredSet(release="r1"),
        CART_SET: DesiredSet(release="r1"),
        DB_SET: DesiredSet(release="r1"),
        WEB_NEW: DesiredSet(release="r2"),
    }
    return Desired(sets, OLD, Rollout(1, NEW, {}), **more)


def altered(found: Desired, name: SetName, **values: Any) -> Desired:
    sets = found.sets | {name: msgspec.structs.replace(found.sets[name], **values)}
    return msgspec.structs.replace(found, sets=sets)


def test_who_is_scaled_to_zero_is_left_alone_unless_it_is_named():
    found = altered(desired(), CART_SET, zero_by="anna", replicas=0)
    assert [sleeps(found, one) for one in (WEB, CART, DB)] == [False, True, False]
    assert asleep(found, [WEB, CART, DB]) == [CART]
    assert asleep(found, [CART]) == []


@pytest.mark.parametrize(
    ("services", "moves", "expected"),
    [([WEB, CART], False, ["r1", "r2"]), ([DB], False, []), ([DB], True, ["r1"]), ([DB, WEB], False, ["r1", "r2"])],
)
def test_a_program_reads_its_files_itself(services: list[ServiceName], moves: bool, expected: list[str]):
    assert imported_anew(desired(), services, {DB_SET}, moves=moves) == expected


def test_a_revision_is_above_all_that_there_were():
    observed = Observed()
    assert next_revision(altered(desired(), WEB_OLD, revision=4), observed, WEB_OLD) == 5
    assert not observed.sets
    observed.begin(WEB_OLD, 0, 7, "1", 0.0)
    assert next_revision(desired(), observed, WEB_OLD) == 8


def test_a_restart_is_over_when_all_that_are_wanted_are_new_and_ready():
    observed, found = Observed(), altered(desired(), WEB_OLD, replicas=2, replicas_max=2, revision=2)
    old, new, more = (observed.begin(WEB_OLD, slot, revision, "1", 0.0) for slot, revision in ((0, 1), (0, 2), (1, 2)))
    observed.observe(old, ReplicaReady(), 0.0)
    observed.observe(new, ReplicaReady(), 0.0)
    assert how_it_ended(found, observed, WEB_OLD, 2) is None
    observed.observe(more, ReplicaReady(), 0.0)
    assert how_it_ended(found, observed, WEB_OLD, 2) is None
    observed.drain(old, 1.0)
    observed.observe(old, ReplicaEnded(Said("it ended")), 1.0)
    assert how_it_ended(found, observed, WEB_OLD, 2) == RestartEnd(2)


def test_a_restart_that_was_given_up_says_why_and_one_of_a_set_that_ends_is_over():
    observed, found = Observed(), desired()
    observed.observe(observed.begin(WEB_OLD, 0, 2, "1", 0.0), ReplicaEnded(Said("no database")), 0.0)
    assert how_it_ended(found, observed, WEB_OLD, 2) == RestartEnd(0, Said("no database"))
    assert how_it_ended(found, Observed(), WEB_OLD, 2) == RestartEnd(0, TakenBack())
    ending = altered(found, WEB_OLD, replicas=0, replicas_min=0, replicas_max=0)
    assert how_it_ended(ending, observed, WEB_OLD, 2) == RestartEnd(0)
    assert how_it_ended(Desired(), Observed(), WEB_OLD, 2) == RestartEnd(0)


BEFORE, FILES, MOVED = Read({".env": "1"}, b"A=1"), Read({".env": "2"}, b"A=1"), Read({".env": "1"}, b"A=2")


@pytest.mark.parametrize(
    ("fresh", "expected"),
    [
        ({}, []),
        ({"r1": BEFORE}, []),
        ({"r1": FILES}, [WEB, CART]),
        ({"r1": MOVED}, [WEB, CART, DB]),
        ({"r2": FILES}, [WEB]),
    ],
)
def test_others_of_the_release_may_go_on_with_what_was_read_before(fresh: dict[str, Read], expected: list[ServiceName]):
    own = dict.fromkeys(desired().sets, BEFORE)
    assert behind(desired(), [WEB, CART, DB], {DB_SET}, own, fresh) == expected
    sleeping = altered(desired(), CART_SET, zero_by="anna", replicas=0)
    assert behind(sleeping, [WEB, CART, DB], {DB_SET}, own, fresh) == [one for one in expected if one != CART]


def test_a_zygote_is_in_use_for_as_long_as_a_restart_may_be_given_up():
    observed = Observed()
    found = altered(desired(), WEB_OLD, revision=2, zygote="new", zygote_before="old")
    observed.begin(WEB_OLD, 0, 2, "1", 0.0)
    assert set(zygotes_in_use(found, observed)) == {"", "new"}
    observed.begin(WEB_OLD, 1, 1, "1", 0.0)
    assert set(zygotes_in_use(found, observed)) == {"", "new", "old"}
    wanted = {WEB_NEW: DesiredSet(zygote="wanted")}
    rollout = Rollout(1, NEW, wanted, previous_specs={CART_SET: DesiredSet(zygote="kept")})
    assert set(zygotes_in_use(msgspec.structs.replace(found, rollout=rollout), Observed())) >= {"wanted", "kept"}


def test_what_somebody_else_has_begun_goes_on_while_it_is_wanted():
    found = desired()
    assert found.wants(WEB_OLD, "r0", migrates=False)
    assert not found.wants(SetName("web@0"), "r1", migrates=False)
    assert [found.wants(WEB_OLD, release, migrates=True) for release in ("r0", "r1", "r2")] == [False, True, True]
    assert found.needed() == {"r1", "r2"}
    assert found.live_services() == {WEB, CART, DB}
