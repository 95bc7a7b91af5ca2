"""Whether a new release answers as well as the one beside it: what is seen, and what chance may be."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.orchestrator.analysis import REQUESTS_MIN, Verdict, compare, interval
from fissile.telemetry.aggregate import Answers, bucket, seconds_of


def answers(dice: random.Random, count: int, *, errors: float = 0.0, slower: float = 0.0, kinds: int = 0) -> Answers:
    """So many, of which a share are errors, each some seconds slower than usual."""
    found = Answers(count, sum(dice.random() < errors for _ in range(count)))
    latencies: dict[int, int] = {}
    for _ in range(count):
        number = bucket(dice.lognormvariate(-4.0, 0.6) + slower)
        latencies[number] = latencies.get(number, 0) + 1
    found.latencies = latencies
    found.kinds = {"Back.version: ValueError": kinds} if kinds else {}
    return found


@pytest.mark.parametrize(
    ("new", "old", "verdict"),
    [
        ({"count": 400}, {"count": 3600}, Verdict.PASSED),
        ({"count": REQUESTS_MIN - 1}, {"count": 3600}, Verdict.INCONCLUSIVE),
        ({"count": 0}, {"count": 0}, Verdict.INCONCLUSIVE),
        ({"count": 400}, {"count": 3}, Verdict.INCONCLUSIVE),
        ({"count": 100, "errors": 0.3}, {"count": 900}, Verdict.FAILED),
        ({"count": 400, "errors": 0.1}, {"count": 3600}, Verdict.FAILED),
        ({"count": 400, "errors": 0.1}, {"count": 3600, "errors": 0.1}, Verdict.PASSED),
        ({"count": 400, "errors": 0.02}, {"count": 3600, "errors": 0.1}, Verdict.PASSED),
        # With nobody to compare with, only what is bad by itself.
        ({"count": 40, "errors": 1.0}, {"count": 0}, Verdict.FAILED),
        ({"count": 40, "slower": 0.2}, {"count": 360}, Verdict.FAILED),
        ({"count": 400, "slower": 0.002}, {"count": 3600}, Verdict.PASSED),
        ({"count": 400, "kinds": 5}, {"count": 3600}, Verdict.FAILED),
        ({"count": 400, "kinds": 2}, {"count": 3600}, Verdict.PASSED),
        ({"count": 400, "kinds": 5}, {"count": 3600, "kinds": 1}, Verdict.PASSED),
    ],
)
def test_verdicts(new: dict[str, float], old: dict[str, float], verdict: Verdict):
    for seed in range(20):
        dice = random.Random(seed)
        found = compare(answers(dice, **new), answers(dice, **old))  # pyright: ignore[reportArgumentType]
        assert found.verdict is verdict, found.reason
        assert found.reason


def test_chance_alone_hardly_ever_takes_a_release_back():
    """Looked at all the time, as a watch of a thousand requests is."""
    wrong = 0
    for seed in range(200):
        dice = random.Random(seed)
        new, old = Answers(), Answers()
        for _ in range(50):
            new.add(answers(dice, 20, errors=0.02))
            old.add(answers(dice, 180, errors=0.02))
            if compare(new, old).verdict is Verdict.FAILED:
                wrong += 1
                break
    assert wrong <= 2


TIMES: dict[str, Callable[[random.Random], float]] = {
    "one mode": lambda dice: dice.lognormvariate(-4.0, 1.5),
    "two modes": lambda dice: (
        dice.lognormvariate(-0.5, 0.2) if dice.random() < 0.15 else dice.lognormvariate(-4.0, 0.3)
    ),
}


def alarm(seed: str, *, times: str, rate: int, share: float, kinds: int, new_kinds: int = 0) -> float | None:
    """After how many seconds a release is taken back, looked at every half second for a minute. Both raise the same
    exceptions in a hundredth of their requests; new_kinds: those that only the new one raises."""
    dice = random.Random(seed)
    pool = [bucket(TIMES[times](dice)) for _ in range(2000)]
    new, old = Answers(), Answers()
    for look in range(120):
        for _ in range(rate // 2):
            found = new if dice.random() < share else old
            found.count += 1
            number = pool[int(dice.random() * len(pool))]
            found.latencies[number] = found.latencies.get(number, 0) + 1
            if dice.random() < 0.01:
                kind = f"Back: {int(dice.random() * kinds)}"
                found.kinds[kind] = found.kinds.get(kind, 0) + 1
            if found is new and new_kinds and dice.random() < 0.05:
                found.kinds["Back: new"] = found.kinds.get("Back: new", 0) + 1
        if compare(new, old).verdict is Verdict.FAILED:
            return (look + 1) / 2
    return None


@pytest.mark.parametrize("times", list(TIMES))
@pytest.mark.parametrize(("share", "kinds"), [(0.1, 1), (0.25, 5), (0.9, 5)])
def test_neither_times_nor_kinds_take_an_equal_release_back(times: str, share: float, kinds: int):
    alarms = [alarm(f"{times} {share} {seed}", times=times, rate=20, share=share, kinds=kinds) for seed in range(100)]
    assert len([one for one in alarms if one is not None]) <= 1


@pytest.mark.parametrize(("share", "seconds"), [(0.1, 15.0), (0.25, 10.0), (0.5, 12.0)])
def test_a_new_exception_is_found_soon(share: float, seconds: float):
    found = [
        alarm(f"{share} {seed}", times="one mode", rate=100, share=share, kinds=1, new_kinds=1) for seed in range(20)
    ]
    assert all(one is not None and one <= seconds for one in found), found


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_the_interval_holds_the_share(hits: int, others: int):
    low, high = interval(hits, hits + others)
    assert 0.0 <= low <= high <= 1.0
    if hits + others:
        assert low <= hits / (hits + others) + 1e-9
        assert high >= hits / (hits + others) - 1e-9


@given(st.floats(0.0, 1000.0))
def test_a_bucket_is_nine_percent_wide(seconds: float):
    number = bucket(seconds)
    assert seconds_of(number) >= min(seconds, seconds_of(192)) * 0.999
    if 0 < number < 192:
        assert seconds_of(number - 1) < seconds * 1.001


@given(st.dictionaries(st.integers(0, 9), st.integers(1, 5)), st.dictionaries(st.integers(0, 9), st.integers(1, 5)))
def test_what_came_since(one: dict[int, int], other: dict[int, int]):
    first, both = Answers(3, 1, one, {"a": 1}), Answers(3, 1, dict(one), {"a": 1})
    both.add(Answers(4, 2, other, {"b": 2}))
    assert both.since(first) == Answers(4, 2, other, {"b": 2})
