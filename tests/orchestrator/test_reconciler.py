"""What the reconciler has done beside the plan, also where the journal or its own clock fails it: timelines."""

import pytest

from fissile.orchestrator.reconciler import TROUBLE_SECONDS
from tests.orchestrator.timeline import Timeline, service


def up(*, quiet: str = "") -> Timeline:
    """A front that calls a back; it is second 1, and both serve."""
    shop = Timeline(quiet=quiet, front=service(calls="back"), back=service())
    return shop.at(0).ready("front.0", "back.0").at(1).started()


def test_what_drains_is_told_who_takes_over_whenever_that_changes():
    shop = up(quiet="tell").scale("back", 2).expect("start back.1")
    shop.at(2).scale("back", 1).expect("kill back.1").dies("back.1").restart("back").expect("start back.0#2")
    shop.at(3).ready("back.0#2").expect("drain back.0", "order back.0: 10 s, idle 5 s, to back.0#2")
    shop.at(4).dies("back.0#2").expect("start back.0#3", "order back.0: 10 s, idle 5 s, to nobody")
    shop.at(5).ready("back.0#3").expect("order back.0: 10 s, idle 5 s, to back.0#3").ends("back.0").at(9).expect()


def test_a_restart_that_fails_is_given_up_through_the_journal_however_often_that_is_tried():
    shop = up(quiet="tell").restart("back").expect("start back.0#2")
    shop.journal_trouble = "the disk is full"
    trouble = "complain: back: its restart cannot be taken back: the disk is full"
    shop.dies("back.0#2", "has a mistake", mistake=True).expect(trouble)
    shop.at(1.9).expect().at(2).expect(trouble)
    shop.journal_trouble = ""
    shop.at(9).expect(f"{2 + TROUBLE_SECONDS:g} give up the restart of back: has a mistake")
    assert shop.state.desired.sets["back@1"].revision == 1


def test_a_restart_that_fails_while_somebody_wants_another_one_is_that_ones():
    shop = up(quiet="tell").restart("back").expect("start back.0#2")
    shop.dies("back.0#2").restart("back").expect("start back.0#3")


@pytest.mark.parametrize(("late", "asked"), [(0.0, True), (1.9, False)])
def test_who_is_silent_is_asked_where_it_stands_but_our_own_lateness_is_nobodys_silence(late: float, asked: bool):
    shop = up(quiet="tell").silent("back.0").at(3.4).expect()
    shop.reconciler.watch(3.6, late)
    shop.expect(*["ask back.0"] * asked)


def test_whoever_asked_just_before_what_is_to_be_told_keeps_nobody_from_being_told():
    shop = up().scale("back", 2).expect("start back.1")
    shop.ready("back.1")
    assert shop.state.versions()  # a rollout looks, and so does each start
    shop.expect("tell front.0: back.0 back.1")


def test_in_a_rollout_that_stands_still_nobody_is_told_anything_again():
    shop = Timeline(obedient=True, only="tell", front=service(calls="back"), back=service())
    shop.at(1).deploy(back=service(), canary=0.1).at(2).started()
    pushed = shop.pushed
    assert shop.at(9).pushed == pushed
    assert shop.slow("back.0#2").dies("back.0").at(10).pushed > pushed
