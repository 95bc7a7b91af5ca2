"""What `make bench` measures of supervision, as behaviour: real processes, real kills, a real load.

Bounds are generous, so that a busy machine is no failure; counts of what must not be lost are not.
"""

import asyncio
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import autoscalers
import supervision

from fissile.bench.report import Figure


def measured(work: Awaitable[list[Figure]]) -> dict[str, float]:
    """Figures by the words after their topic, without what was counted on the way."""

    async def run() -> list[Figure]:
        return await work

    return {name(one): one.value for one in asyncio.run(run())}


def name(one: Figure) -> str:
    return one.name.partition(": ")[2].partition(" of ")[0]


@pytest.mark.alone
def test_a_new_replica_serves_soon_and_shares_its_memory():
    found = measured(supervision.starts(3))
    assert found["decision to first answer, shop's services, median"] <= 100
    assert found["decision to first answer, shop's services, p99"] <= 500
    assert found["memory"] <= 0.6


def test_a_crash_is_made_good_at_once_and_costs_no_idempotent_call():
    found = measured(supervision.crashes(6))
    assert found["to replacement ready, p99"] <= 1000
    assert found["idempotent calls failed"] == 0
    assert found["other calls failed"] == 0


def test_a_step_of_load_gets_its_replicas_and_moves_nobody_else():
    found = measured(supervision.step())
    assert found["until enough replicas are ready"] <= 3
    assert found["other services that moved"] == 0
    assert found["calls failed"] == 0


def test_a_memory_hog_harms_nobody_else_and_is_named():
    found = measured(supervision.hog())
    assert found["replicas lost by other services"] == 0
    assert found["requests lost by other services"] == 0
    assert found["deaths reported as out"] == 3


def test_a_killed_supervisor_costs_no_request_and_the_next_adopts_all():
    found = measured(supervision.killed_supervisor(5))
    assert found["requests failed"] == 0
    assert found["every replica adopted, times"] == 5


def test_planning_for_thousands_is_quick():
    # Ten times the goals: a test may stand beside others.
    assert [one.name for one in supervision.planning() if one.value > 200] == []


@pytest.mark.alone
@pytest.mark.timeout(240)
def test_many_idle_replicas_cost_little():
    everybody, supervisor = asyncio.run(supervision.idle(60))
    assert everybody.value <= 15
    assert supervisor.value <= 5


def test_the_autoscaler_lacks_no_more_than_its_models_and_swings_less():
    curves = autoscalers.curves()
    step = {who: autoscalers.replay(make, curves["step x10 and back"]) for who, make in autoscalers.SCALERS.items()}
    assert step["Fissile"].under <= 1.5
    assert step["Fissile"].under < step["KPA"].under < step["HPA"].under
    noisy = {who: autoscalers.replay(make, curves["steady, noisy"]) for who, make in autoscalers.SCALERS.items()}
    assert noisy["Fissile"].reversals == 0
    assert noisy["KPA"].reversals > 0
