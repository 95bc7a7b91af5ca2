"""Who has too many of the kept connections, and to whom they go."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.orchestrator.rebalance import COUNTED_SECONDS_MAX, Holder, Shift, counted, handovers, shifts
from fissile.orchestrator.replica import Observed, Replica, ReplicaReady, ReplicaReported
from fissile.orchestrator.routing import Door
from fissile.runtime.control import Heartbeat, ReplicaHello


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


PAGE, HTTP = Door("Shop"), Door("", "shop")


def replicas(*kept: dict[str, int] | None) -> list[tuple[Replica, float]]:
    """Of equal parts, each heard of at its own number (seconds). kept: by door; None: it has not reported."""
    observed = Observed()
    found = [observed.begin("shop", number, 1, "b", 0.0) for number in range(len(kept))]
    for number, (replica, doors) in enumerate(zip(found, kept, strict=True)):
        observed.observe(replica, ReplicaReady(), float(number))
        if doors is not None:
            hello = ReplicaHello("shop", "", number, replica.serial, 1, "b", "r")
            observed.observe(replica, ReplicaReported(Heartbeat(hello, 0.0, 0, kept=doors)), float(number))
    return [(replica, 1.0 / len(kept)) for replica in found]


def test_counts_are_taken_of_each_door_while_all_have_been_heard_of():
    found = replicas({"Shop": 7, "": 2}, {}, None)
    assert counted("Shop", found, 1.0) == [Holder(1, 7, 1 / 3), Holder(2, 0, 1 / 3)]
    assert counted("", found, 1.0) == [Holder(1, 2, 1 / 3), Holder(2, 0, 1 / 3)]
    assert counted("Shop", found, COUNTED_SECONDS_MAX - 0.1) != []
    assert counted("Shop", found, COUNTED_SECONDS_MAX) == []


def test_who_gives_is_told_by_door_whom_and_how_many():
    found = replicas({"Shop": 8, "": 1}, {"Shop": 0, "": 9})
    doors = {PAGE: found, HTTP: found}
    assert handovers(doors, lambda: 0.0, 1.0) == {1: {"Shop": {2: 4}}, 2: {"": {1: 4}}}
    assert handovers(doors, lambda: 0.0, 9.0) == {}
