"""What an application starts with when nothing of it runs."""

import pytest

from fissile.errors import StartError
from fissile.names import SetName
from fissile.orchestrator.acts import EndRollout
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout, Stage
from fissile.orchestrator.resume import check_resumed, interrupted, only_served, release_to_resume, restored


@pytest.mark.parametrize(
    ("goes_on", "scaled", "expected"),
    [
        (True, DesiredSet(7, 2, 9), DesiredSet(7, 2, 9)),
        (True, DesiredSet(0, 0, 9), DesiredSet(1, 0, 9)),  # it slept: nobody knows whether somebody comes
        (True, DesiredSet(0, 2, 9, zero_by="anna"), DesiredSet(0, 2, 9, zero_by="anna")),
        (True, DesiredSet(7, 2, 9, release="r1", revision=5), DesiredSet(7, 2, 9)),
        (False, DesiredSet(7, 2, 9), DesiredSet(3, 1, 4)),
    ],
)
def test_a_release_that_goes_on_has_the_counts_that_it_had(goes_on: bool, scaled: DesiredSet, expected: DesiredSet):
    name, live = SetName("back@1"), LiveRelease("r2")
    before = Desired({name: scaled}, LiveRelease("r1"), revision_history=("r0",), rollouts=4)
    found = restored(before, live, {name: DesiredSet(3, 1, 4)}, goes_on=goes_on)
    assert found == Desired({name: expected}, live, revision_history=("r0", "r1"), rollouts=4)


def test_of_what_only_one_can_be_none_more_is_brought_back():
    name, live = SetName("db"), LiveRelease("r1")
    found = restored(Desired({name: DesiredSet(7, 2, 9)}, live), live, {name: DesiredSet(most=1)}, goes_on=True)
    assert found == Desired({name: DesiredSet(1, 1, 1, most=1)}, live)


@pytest.mark.parametrize(
    ("stage", "done"), [(Stage.CANARY, False), (Stage.ROLLING_BACK, False), (Stage.PROMOTED, True)]
)
def test_a_rollout_that_was_under_way_is_over(stage: Stage, done: bool):
    rollout = Rollout(3, LiveRelease("r2"), {}, stage)
    assert interrupted(Desired(current=LiveRelease("r1"), rollout=rollout)) == EndRollout(3, done)


def test_where_no_rollout_was_under_way_none_ends():
    assert interrupted(Desired(current=LiveRelease("r1"))) is None


def test_what_ran_last_goes_on_unless_somebody_has_stopped_it():
    before = Desired(current=LiveRelease("r1"))
    assert release_to_resume(before, stopped=False) == "r1"
    assert release_to_resume(before, stopped=True) == ""
    assert release_to_resume(Desired(), stopped=False) == ""


def test_no_rollback_goes_to_a_release_that_never_served():
    before = Desired(current=LiveRelease("r2"), revision_history=("r1",))
    assert only_served(before, {"r1", "r2"}) is before
    assert only_served(before, {"r1"}) == Desired(revision_history=("r1",))


def test_another_topology_than_the_one_that_ran_has_to_be_meant():
    check_resumed("shop", "split", "split", any_topology=False)
    check_resumed("shop", "split", "", any_topology=False)
    check_resumed("shop", "split", "monolith", any_topology=True)
    with pytest.raises(StartError, match="shop ran as split last"):
        check_resumed("shop", "split", "monolith", any_topology=False)
