"""When a dead replica comes back, as timelines and by property."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.orchestrator.reasons import Said
from fissile.orchestrator.reasons.reason import described
from fissile.orchestrator.restart import Deaths, ReplicaExited, RestartPolicy, decide
from tests.orchestrator.timeline import KILLED, Timeline, service

POLICY = RestartPolicy(pause_seconds=0.1, pause_seconds_max=3.0, stable_seconds=10.0, jitter=0.3, crash_loop_deaths=4)


def cart(**spec: Any) -> Timeline:
    """A service with one replica; what callers are told is of no interest here."""
    return Timeline(quiet="tell order", cart=service(**spec)).at(0).started()


def test_the_first_death_is_answered_at_once_and_later_ones_later_and_later():
    shop = cart().dies("cart.0").expect("start cart.0#2: was killed by SIGKILL; starting again")
    for number, pause in enumerate([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0], 2):
        often = f"{number} times in a row{': it crashes in a loop' if number >= 5 else ''}"
        began = shop.now + 1
        shop.at(began).dies(f"cart.0#{number}").at(began + pause - 0.001).expect().at(began + pause)
        shop.expect(f"start cart.0#{number + 1}: was killed by SIGKILL, {often}; starting again in {pause:.1f} s")


def test_who_has_served_for_a_while_has_a_clean_slate():
    shop = cart(replicas=2).ready("cart.0").dies("cart.0").expect("start cart.0#2").at(1).ready("cart.0#2")
    shop.at(10.9).dies("cart.0#2").at(11).expect("11 start cart.0#3: …, 2 times in a row; starting again in 0.1 s")
    shop.ready("cart.0#3").at(21).dies("cart.0#3").expect("start cart.0#4: was killed by SIGKILL; starting again")
    shop.at(22).dies("cart.0#4").at(22.1).expect("start cart.0#5: …, 2 times in a row; …")
    # Its neighbour has deaths of its own.
    shop.ready("cart.1").dies("cart.1").expect("start cart.1#2: was killed by SIGKILL; starting again")


def test_chance_shortens_a_pause():
    shop = cart().dies("cart.0", chance=0.5).expect("start cart.0#2").at(1).dies("cart.0#2", chance=0.5).at(2)
    shop.expect("1.085 start cart.0#3: …; starting again in 0.1 s").dies("cart.0#3").at(3).expect("2.2 start cart.0#4")


def test_a_mistake_that_people_have_to_mend_is_tried_seldom_from_the_first_time_on():
    shop = cart().dies("cart.0", "has no module 'pay'", mistake=True).at(4.9).expect()
    shop.at(5).expect("start cart.0#2: has no module 'pay'; starting again in 5.0 s")
    shop.dies("cart.0#2", "has no module 'pay'", mistake=True, chance=0.5).at(10)
    shop.expect("9.25 start cart.0#3: has no module 'pay', 2 times in a row; starting again in 4.2 s")


def test_an_end_that_was_ordered_is_no_death():
    shop = cart().ready("cart.0").scale("cart", 0).expect("drain cart.0").ends("cart.0").scale("cart", 1)
    shop.expect("start cart.0#2: 1 replica wanted, slot 0 is empty")


def test_one_that_hangs_and_is_killed_for_it_has_died():
    shop = cart().ready("cart.0").hangs("cart.0").at(3.5)
    shop.expect("3 ask cart.0", "3.5 kill cart.0", "3.5 start cart.0#2: 1 replica wanted, slot 0 is empty").dies(
        "cart.0"
    )
    assert shop.said == f"its event loop has been stuck for 3.5 s; {KILLED}; another one starts in its place already"
    shop.dies("cart.0#2").at(9).expect("3.6 start cart.0#3: was killed by SIGKILL, 2 times in a row; …")


def test_it_is_said_who_is_there_instead():
    shop = cart().ready("cart.0").restart("cart").expect("start cart.0#2").dies("cart.0#2")
    assert shop.said == f"{KILLED}; the replica that it was to replace serves on"
    shop.expect("give up the restart of cart: was killed by SIGKILL").restart("cart").expect("start cart.0#3")
    shop.ready("cart.0#3").dies("cart.0")
    assert shop.said == f"{KILLED}, 2 times in a row; another one serves in its place"
    shop.at(9).expect()


@given(
    deaths=st.integers(0, 10_000),
    served=st.floats(0, 1e9, allow_nan=False),
    chance=st.floats(0, 1, exclude_max=True, allow_nan=False),
)
def test_pauses_are_bounded_and_jitter_only_shortens(deaths: int, served: float, chance: float):
    exited = ReplicaExited(Said("ended"), served)
    state, order = decide(Deaths(deaths), exited, chance, POLICY)
    _, steady = decide(Deaths(deaths), exited, 0.0, POLICY)
    assert 0.0 <= order.after_seconds <= steady.after_seconds <= POLICY.pause_seconds_max
    assert order.after_seconds >= steady.after_seconds * (1 - POLICY.jitter)
    assert state.in_a_row == (1 if served >= POLICY.stable_seconds else deaths + 1)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (-9, "was killed by SIGKILL"),
        (-15, "was killed by SIGTERM"),
        (-200, "was killed by signal 200"),
        (None, "ended, nobody saw how"),
    ],
)
def test_an_exit_in_words(status: int | None, words: str):
    assert described(status) == words
