"""The decision when a dead replica comes back, by table and by property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.orchestrator.restart import Deaths, ReplicaExited, RestartPolicy, decide, described

POLICY = RestartPolicy(pause_seconds=0.1, pause_seconds_max=3.0, stable_seconds=10.0, jitter=0.3, crash_loop_deaths=4)
YOUNG = ReplicaExited("was killed by SIGKILL", 0.0)


def pauses(count: int, chance: float = 0.0) -> list[float]:
    deaths, found = Deaths(), []
    for _ in range(count):
        deaths, order = decide(deaths, YOUNG, chance, POLICY)
        found.append(order.after_seconds)
    return found


def test_first_death_is_answered_at_once_and_later_ones_with_growing_pauses():
    assert pauses(8) == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0])


def test_a_replica_that_served_for_a_while_starts_with_a_clean_slate():
    deaths, order = decide(Deaths(9), ReplicaExited("ended", 10.0), 0.0, POLICY)
    assert (deaths, order.after_seconds, order.crash_loop) == (Deaths(1), 0.0, False)


def test_a_crash_loop_is_called_so_with_the_reason():
    _, third = decide(Deaths(2), YOUNG, 0.0, POLICY)
    _, fourth = decide(Deaths(3), YOUNG, 0.0, POLICY)
    assert not third.crash_loop
    assert fourth.crash_loop
    assert fourth.reason == "was killed by SIGKILL, 4 times in a row: it crashes in a loop; starting again in 0.4 s"


@given(
    deaths=st.integers(0, 10_000),
    served=st.floats(0, 1e9, allow_nan=False),
    chance=st.floats(0, 1, exclude_max=True, allow_nan=False),
)
def test_pauses_are_bounded_and_jitter_only_shortens(deaths: int, served: float, chance: float):
    exited = ReplicaExited("ended", served)
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
