"""The pure decisions of a call: balancing, retries, breakers, access."""

from collections import Counter
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.rpc.access import Access, token_digest
from fissile.rpc.balancer import QUICK_SECONDS, choose, quickest
from fissile.rpc.breaker import FAILURES_MAX, PAUSE_SECONDS, PAUSE_SECONDS_MAX, Breaker, BreakerState
from fissile.rpc.liveness import Liveness, Sign
from fissile.rpc.retry import ATTEMPTS_MAX, BUDGET_RATIO, BUDGET_RETRIES_MAX, RetryBudget, may_retry


class Replica:
    def __init__(self, load: int) -> None:
        self._load = load

    def load(self) -> int:
        return self._load


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_busier_of_two_never_gets_the_call(loads: list[int], chance: object) -> None:
    draws: list[int] = []

    def draw(count: int) -> int:
        draws.append(chance.randrange(count))  # type: ignore[attr-defined]
        return draws[-1]

    replicas = [Replica(load) for load in loads]
    chosen = replicas.index(choose(replicas, draw))
    if len(loads) > 1:
        first = draws[0]
        second = (first + 1 + draws[1]) % len(loads)
        assert first != second
        assert loads[chosen] == min(loads[first], loads[second])


def test_two_choices_spread_evenly() -> None:
    import random

    chance = random.Random(1)
    replicas = [Replica(0) for _ in range(5)]
    for _ in range(5000):
        choose(replicas, chance.randrange)._load += 1
    counts = Counter(replica.load() for replica in replicas)
    assert max(counts) - min(counts) <= 20


@pytest.mark.parametrize(("others", "written", "shares"), [(0, 0, True), (1, 3, True), (0, 2, True), (0, 3, False)])
def test_the_next_calls_share_a_write_up_to_a_limit(others: int, written: int, shares: bool) -> None:
    candidates = [Replica(others), Replica(others), Replica(written)]
    chosen = choose(candidates, lambda count: 0, candidates[2])
    assert (chosen is candidates[2]) is shares


def test_the_quickest_call_is_forgotten_slowly() -> None:
    took = quickest(inf, 0.001)
    assert took == 0.001
    calls = 0
    while took < QUICK_SECONDS:
        took = quickest(took, 0.02)
        calls += 1
    assert 50 < calls < 200
    assert quickest(took, 0.0001) == 0.0001


# What was heard last, when a look is taken, and what follows: the sign, and whether the replica is silent.
TIMELINES = {
    "it answers": [(1, 0.0, Sign.NONE, False), (2, 0.5, Sign.NONE, False), (3, 1.0, Sign.NONE, False)],
    "it is asked and answers": [
        (1, 0.0, Sign.NONE, False),
        (1, 0.5, Sign.ASK, False),
        (2, 1.0, Sign.NONE, False),
        (2, 1.5, Sign.ASK, False),
    ],
    "it is silent and comes back": [
        (1, 0.0, Sign.NONE, False),
        (1, 0.5, Sign.ASK, False),
        (1, 1.0, Sign.NONE, False),
        (1, 1.5, Sign.NONE, True),
        (1, 3.0, Sign.NONE, True),
        (1, 3.5, Sign.DOUBT, True),
        (2, 4.0, Sign.NONE, False),
    ],
    "no call, and then one": [
        (1, 0.0, Sign.NONE, False),
        (1, "rest", Sign.NONE, False),
        (1, 60.0, Sign.NONE, False),
        (1, 60.5, Sign.ASK, False),
    ],
    "its calls are given up while it is silent": [
        (1, 0.0, Sign.NONE, False),
        (1, 0.5, Sign.ASK, False),
        (1, 1.5, Sign.NONE, True),
        (1, "rest", Sign.NONE, True),
        (1, 2.0, Sign.NONE, True),
        (2, 2.5, Sign.NONE, False),
    ],
}


@pytest.mark.parametrize("name", TIMELINES)
def test_signs_of_life(name: str) -> None:
    liveness = Liveness()
    for heard, now, sign, silent in TIMELINES[name]:
        if isinstance(now, str):
            liveness.rest()
        else:
            assert liveness.look(heard, now) is sign
        assert liveness.silent is silent


@pytest.mark.parametrize(
    ("sent", "idempotent", "attempt", "remaining", "allowed"),
    [
        (False, False, 1, 1.0, True),
        (True, True, 1, 1.0, True),
        (True, False, 1, 1.0, False),
        (False, True, ATTEMPTS_MAX, 1.0, False),
        (False, True, 1, 0.0, False),
    ],
)
def test_retry_only_where_it_is_safe(
    sent: bool, idempotent: bool, attempt: int, remaining: float, allowed: bool
) -> None:
    why_not = may_retry(
        sent=sent, idempotent=idempotent, attempt=attempt, remaining_seconds=remaining, budget=RetryBudget()
    )
    assert (why_not == "") is allowed


def test_retries_are_a_tenth_of_the_calls_at_most() -> None:
    budget = RetryBudget()
    made = 0
    for _ in range(1000):
        if budget.retries < BUDGET_RETRIES_MAX:  # as a stub does
            budget.retries += BUDGET_RATIO
        assert not budget.breaks()
        made += budget.spend()
    assert made <= 100 + BUDGET_RETRIES_MAX


@pytest.mark.parametrize("retries", [-0.1, BUDGET_RETRIES_MAX + 0.2, nan, inf])
def test_a_budget_beyond_its_bounds_is_an_internal_error_and_allows_no_retry(retries: float) -> None:
    budget = RetryBudget()
    budget.retries = retries
    told = [may_retry(sent=False, idempotent=True, attempt=1, remaining_seconds=1.0, budget=budget) for _ in range(2)]
    assert told[0].startswith("internal error, please report it: RETRY_BUDGET")
    assert told[1] == "the retry budget (10 % of calls) is used up"


def test_a_breaker_opens_probes_and_closes() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_MAX - 1):
        breaker.failed(0.0)
    assert breaker.admits(0.0)
    breaker.failed(0.0)
    assert breaker.state is BreakerState.OPEN
    assert not breaker.admits(PAUSE_SECONDS / 2)
    assert breaker.admits(PAUSE_SECONDS)
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.admits(PAUSE_SECONDS)  # one probe at a time
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.admits(PAUSE_SECONDS)


def test_a_failed_probe_doubles_the_pause_up_to_its_limit() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_MAX):
        breaker.failed(0.0)
    now = 0.0
    pauses: list[float] = []
    for _ in range(8):
        now = breaker.reopens_at
        assert breaker.admits(now)
        breaker.failed(now)
        pauses.append(breaker.reopens_at - now)
    assert pauses == sorted(pauses)
    assert pauses[-1] == PAUSE_SECONDS_MAX


def test_a_probe_that_is_never_heard_of_does_not_keep_the_breaker_shut() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_MAX):
        breaker.failed(0.0)
    assert breaker.admits(1.0)
    assert breaker.admits(1.0 + PAUSE_SECONDS)


ACCESS = Access(
    peers={token_digest("secret"): "web"},
    members={"web": ("Front",), "cart": ("Cart",)},
    references={"Front": frozenset({"Cart"})},
)


@pytest.mark.parametrize(
    ("token", "service", "callers", "why"),
    [
        ("secret", "web", ("Front",), ""),
        ("guess", "web", ("Front",), "not known"),
        ("secret", "cart", ("Cart",), "proves service 'web'"),
        ("secret", "web", ("Front", "Cart"), "'Cart' is not in service 'web'"),
    ],
)
def test_a_token_proves_the_service(token: str, service: str, callers: tuple[str, ...], why: str) -> None:
    refusal = ACCESS.refusal(token, service, callers)
    assert why in refusal
    assert bool(refusal) == bool(why)


def test_a_declared_reference_gives_the_permission() -> None:
    assert ACCESS.allows("Front", "Cart")
    assert not ACCESS.allows("Cart", "Front")
