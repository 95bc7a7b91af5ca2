"""Each invariant is broken on purpose: it is told, once, with the state; and the loop goes on."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fissile.errors import FissileError
from fissile.names import ServiceName, SetName
from fissile.orchestrator import demand, reconciler
from fissile.orchestrator.acts import Change, RestartService
from fissile.orchestrator.autoscale import Decision, Demand, ScalingPolicy
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout, Stage
from fissile.orchestrator.invariant_checks import (
    STAGES,
    change_breaks,
    scaling_breaks,
    start_breaks,
    targets_break,
    unknown_set,
)
from fissile.orchestrator.invariants import Broken, Invariant
from fissile.orchestrator.plan import STARTING_MAX, DrainReplica, Plan, StartReplica
from fissile.orchestrator.reasons import BoundsAltered, NotWanted, RestartWanted, Said
from fissile.orchestrator.replica import DRAINING, Observed, ReplicaEnded, ReplicaReady
from fissile.orchestrator.routes import Target
from fissile.orchestrator.routing import Router
from tests.orchestrator.timeline import Timeline, service

NAME = SetName("cart@1")
TABLE = Path(__file__).parents[2] / "docs/reference/invariants.md"


def watched(shop: Timeline) -> list[tuple[Broken, dict[str, Any]]]:
    """What is told of a timeline's supervisor from now on."""
    told: list[tuple[Broken, dict[str, Any]]] = []
    shop.state.on_broken = lambda broken, state: told.append((broken, state))
    return told


def cart() -> Timeline:
    return Timeline(cart=service())


def the_set(shop: Timeline) -> SetName:
    (name,) = shop.state.desired.sets
    return name


def planned(monkeypatch: pytest.MonkeyPatch, *actions: Any) -> None:
    """From now on, the plan is this."""
    monkeypatch.setattr(reconciler, "plan", lambda *_: Plan(actions, 1e9))


# Broken at a caller, and told in the error of its call.
OF_CALLERS = {"RETRY_BUDGET"}


def test_each_is_in_the_table():
    told = re.findall(r"^\| `(\w+)` \|", TABLE.read_text(), re.MULTILINE)
    assert [name for name in told if name not in OF_CALLERS] == [one.name for one in Invariant]
    assert set(told) >= OF_CALLERS


def test_a_replica_never_goes_back(monkeypatch: pytest.MonkeyPatch):
    shop = cart().ready("cart.0")
    told = watched(shop)
    replica = shop.replica("cart.0")
    planned(monkeypatch, DrainReplica(replica, NotWanted()))
    first = shop.reconciler.step(shop.now)
    assert (len(first.actions), replica.state, told) == (1, DRAINING, [])
    second = shop.reconciler.step(shop.now)
    assert second.actions == ()
    assert shop.now < second.due <= shop.now + 1.0  # neither at once, again and again, nor never
    ((broken, state),) = told
    assert broken.invariant is Invariant.REPLICA_STATES
    assert (state["invariant"], state["set"]) == ("REPLICA_STATES", replica.set)
    assert "draining" in state["observed"][0]
    assert msgspec.json.encode(state)
    shop.reconciler.step(shop.now)
    assert len(told) == 1  # once


def test_one_whose_process_is_gone_is_removed_whatever_was_thought_of_it():
    observed = Observed()
    replica = observed.begin(NAME, 0, 1, "1", 0.0)
    replica.state = DRAINING
    replica.become(DRAINING.__class__.STOPPED, 0.0)
    observed.observe(replica, ReplicaEnded(Said("ended")), 1.0)
    assert observed.sets[NAME].replicas == {}
    assert [one.invariant for one in observed.broken] == [Invariant.REPLICA_STATES]


def test_no_serial_is_given_twice():
    observed = Observed()
    first = observed.adopt(7, NAME, 0, 1, "1", 11, 0.0)
    second = observed.adopt(7, SetName("back@1"), 0, 1, "1", 12, 0.0)
    assert observed.replica_set(NAME).replicas == {7: first}
    assert "back@1" not in observed.sets
    assert observed.observe(second, ReplicaReady(), 1.0) is None
    assert [one.invariant for one in observed.broken] == [Invariant.SERIALS]
    observed.broken.clear()
    observed.last_serial = 3  # as one that was forgotten over a takeover
    assert observed.begin(NAME, 1, 1, "1", 0.0).serial == 8
    assert [one.invariant for one in observed.broken] == [Invariant.SERIALS]


def test_what_is_observed_is_told_by_whoever_observes():
    shop = cart().ready("cart.0")
    told = watched(shop)
    shop.state.observed.last_serial = 0
    shop.restart("cart").expect("start cart.0", "start cart.0#2")
    assert [broken.invariant for broken, _ in told] == [Invariant.SERIALS]


CURRENT = LiveRelease("1", {ServiceName("cart"): NAME})
LATER = LiveRelease("2", {ServiceName("cart"): SetName("cart@2")})


def at(stage: Stage, number: int = 1) -> Desired:
    sets = {NAME: DesiredSet(), SetName("cart@2"): DesiredSet()}
    return Desired(sets, CURRENT, Rollout(number, LATER, {}, stage))


@pytest.mark.parametrize("before", Stage)
@pytest.mark.parametrize("after", Stage)
def test_stages_follow_each_other(before: Stage, after: Stage):
    broken = change_breaks(at(before), at(after))
    assert (broken is None) == (before is after or after in STAGES[before])
    begun = change_breaks(at(before), at(after, number=2))
    assert (begun is None) == (after in (Stage.MIGRATING, Stage.STARTING))


def test_a_change_that_breaks_something_is_refused_and_the_next_one_is_made(monkeypatch: pytest.MonkeyPatch):
    shop = cart().ready("cart.0")
    told, became, name = watched(shop), list[FissileError | None](), the_set(shop)
    before = shop.state.desired
    with monkeypatch.context() as patch:
        wrong = msgspec.structs.replace(before, sets={**before.sets, SetName("cart@lost"): DesiredSet()})
        patch.setattr("fissile.orchestrator.change_writer.apply", lambda *_: wrong)
        shop.writer.submit(Change("anna", RestartService(name, 9), ""), lambda error, _: became.append(error), shop.now)
    assert shop.state.desired is before
    assert "internal error: cart@lost would belong to no live release" in str(became[0])
    assert [broken.invariant for broken, _ in told] == [Invariant.KNOWN_SETS]
    shop.writer.submit(Change("anna", RestartService(name, 9), ""), lambda error, _: became.append(error), shop.now)
    assert became[1:] == [None]
    assert shop.state.desired.sets[name].revision == 9


def test_before_there_is_a_release_no_set_is_known():
    assert unknown_set(Desired({NAME: DesiredSet()})) is None
    assert unknown_set(Desired({NAME: DesiredSet()}, CURRENT)) is None
    broken = unknown_set(Desired({NAME: DesiredSet()}, LATER))
    assert broken is not None
    assert broken.set == NAME


def test_callers_are_led_to_ready_replicas():
    assert targets_break(NAME, (0, 1), {0, 1, 2}) is None
    assert targets_break(NAME, (0, 1), ()) is None  # they wait at the sockets
    broken = targets_break(NAME, (0, 1), {1})
    assert broken is not None
    assert "slots [0], ready are [1]" in broken.what


def test_targets_that_are_not_ready_are_told_of(monkeypatch: pytest.MonkeyPatch):
    shop = cart().ready("cart.0")
    told = watched(shop)
    monkeypatch.setattr(Router, "targets", lambda *_: (Target(0), Target(5)))
    shop.restart("cart").expect("start cart.0", "start cart.0#2")
    assert Invariant.READY_TARGETS in [broken.invariant for broken, _ in told]


def test_a_start_too_many_waits(monkeypatch: pytest.MonkeyPatch):
    shop = cart().ready("cart.0")
    told, name = watched(shop), the_set(shop)
    starts = [StartReplica(name, 100 + slot, 1, RestartWanted()) for slot in range(STARTING_MAX + 2)]
    planned(monkeypatch, *starts)
    assert len(shop.reconciler.step(shop.now).actions) == STARTING_MAX
    ((broken, state),) = told
    assert broken.invariant is Invariant.START_BUDGET
    assert "StartReplica" in state["decision"]
    assert shop.reconciler.step(shop.now).due == shop.now + reconciler.TROUBLE_SECONDS
    assert len(told) == 1


def test_two_are_in_a_slot_at_most():
    observed = Observed()
    assert start_breaks(NAME, None, 0, 0, 32) is None
    for count in range(2):
        assert start_breaks(NAME, observed.sets.get(NAME), 0, 0, 32) is None, count
        observed.begin(NAME, 0, 1 + count, "1", 0.0)
    broken = start_breaks(NAME, observed.sets[NAME], 0, 0, 32)
    assert broken is not None
    assert broken.invariant is Invariant.START_BUDGET
    assert start_breaks(NAME, observed.sets[NAME], 1, 0, 32) is None


@pytest.mark.parametrize(("replicas", "cores", "sound"), [(5, 4, True), (6, 4, False), (21, 100, False), (0, 4, False)])
def test_the_autoscaler_has_bounds(replicas: int, cores: int, sound: bool):
    policies = {NAME: ScalingPolicy(1, 20)}
    found = scaling_breaks(
        [Decision(NAME, replicas, 1, BoundsAltered())], policies, {NAME: 1}, {NAME: Demand(0.0, 1)}, cores
    )
    assert (found is None) == sound
    assert scaling_breaks([], policies, {NAME: 9}, {NAME: Demand(0.0, 1)}, cores) is None  # nothing is decided


def test_what_the_autoscaler_may_not_is_not_done(monkeypatch: pytest.MonkeyPatch):
    shop = cart().ready("cart.0")
    told, name = watched(shop), the_set(shop)
    want = msgspec.structs.replace(shop.state.desired.sets[name], replicas_max=9)
    desired = msgspec.structs.replace(shop.state.desired, sets={name: want})
    shop.state.replace_desired(desired)
    monkeypatch.setattr(shop.state.autoscaler, "decide", lambda *_, **__: [Decision(name, 99, 1, BoundsAltered())])
    assert demand.scale(shop.state, (), cores=4, now=shop.now)[0] == []
    assert [broken.invariant for broken, _ in told] == [Invariant.SCALE_BUDGET]
