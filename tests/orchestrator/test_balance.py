"""Who has too many of the kept connections, and to whom they go."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.orchestrator.balance import Holder, Shift, shifts


def holders(kept: Sequence[int], weights: Sequence[float] | None = None) -> list[Holder]:
    """Replicas with serials from 1 on."""
    parts = weights or [1.0] * len(kept)
    return [Holder(number, *one) for number, one in enumerate(zip(kept, parts, strict=True), 1)]


def after(found: Sequence[Holder], orders: Sequence[Shift]) -> list[int]:
    """How many each has when all is done."""
    count = {holder.serial: holder.kept for holder in found}
    for order in orders:
        assert order.count > 0
        count[order.giver] -= order.count
        count[order.taker] += order.count
    return list(count.values())


@pytest.mark.parametrize(
    ("kept", "weights", "then"),
    [
        ([30, 0, 0], None, [10, 10, 10]),
        ([10, 0, 0], None, [4, 3, 3]),
        ([15, 15, 0], [0.35, 0.35, 0.3], [11, 10, 9]),
        ([20, 0], [0.0, 1.0], [0, 20]),
        ([13, 10, 7], None, [10, 10, 10]),
        ([2, 0, 0], None, [1, 1, 0]),
        ([9, 8, 13], [0.35, 0.35, 0.3], [11, 10, 9]),
    ],
    ids=["scaled up", "odd", "a canary", "moved", "too far", "few", "too many at a canary"],
)
def test_each_gets_its_part(kept: list[int], weights: list[float] | None, then: list[int]):
    found = holders(kept, weights)
    assert after(found, shifts(found, 0.0)) == then


@pytest.mark.parametrize(
    ("kept", "weights"),
    [
        ([], None),
        ([7], None),
        ([0, 0], None),
        ([1, 0, 0], None),
        ([12, 10, 8], None),
        ([5, 5], [0.0, 0.0]),
        ([8, 0], [0.99, 0.01]),
    ],
    ids=["nobody", "alone", "none", "one", "near enough", "nobody gets any", "not even half a connection"],
)
def test_nothing_is_moved_for_little(kept: list[int], weights: list[float] | None):
    assert shifts(holders(kept, weights), 0.5) == ()


@given(
    st.lists(st.tuples(st.integers(0, 200), st.floats(0.0, 1.0)), max_size=12),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_no_connection_is_lost_and_it_comes_to_rest(rows: list[tuple[int, float]], chance: float):
    found = [Holder(number, kept, weight) for number, (kept, weight) in enumerate(rows)]
    then = after(found, shifts(found, chance))
    assert sum(then) == sum(holder.kept for holder in found)
    assert min(then, default=0) >= 0
    settled = [Holder(holder.serial, kept, holder.weight) for holder, kept in zip(found, then, strict=True)]
    assert shifts(settled, random.Random(1).random()) == ()


def test_odd_ones_are_dealt_out_by_chance():
    found = holders([30, 0, 0, 0])
    extra = {tuple(after(found, shifts(found, chance))) for chance in (0.0, 0.3, 0.6, 0.9)}
    assert len(extra) > 1
    assert all(sorted(one) == [7, 7, 8, 8] for one in extra)
