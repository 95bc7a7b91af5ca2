"""Whole systems by seed: what must never be so, and what must become so when the faults are over.

A few hundred seeds run here, and all that failed once. `python -m tests.simulation.run` runs thousands.
"""

import itertools

import pytest

from fissile.orchestrator.autoscale import STABLE_SECONDS
from fissile.orchestrator.desired import DesiredSet
from fissile.simulation.faults import deploying, settled, troubled
from fissile.simulation.machine import Habits
from fissile.simulation.world import FAULT_SECONDS, ServicePlan, World
from tests.simulation.scenarios import steady, with_neighbour
from tests.simulation.seeds import kept, seeded

SEEDS = 200
DEPLOYING_SEEDS = 100


def test_a_troubled_world_keeps_its_promises_and_recovers():
    routed = deaths = 0
    for seed in [*kept(), *range(SEEDS)]:
        world = troubled(seeded(seed))
        try:
            settled(world)
        except AssertionError as error:
            pytest.fail(f"seed {seed} at {world.clock.now:.3f} s: {error}")
        routed += world.calls_routed
        deaths += sum(what.startswith("adopted") for _, _, what in world.trail)
    # Worlds in which nothing happens prove nothing.
    assert routed > 100 * SEEDS
    assert deaths > SEEDS


def test_releases_follow_each_other_in_the_middle_of_trouble():
    requests = tasks = topologies = rollbacks = kept = moved = migrations = 0
    ends: list[bool] = []
    for seed in range(DEPLOYING_SEEDS):
        world = deploying(seeded(seed))
        try:
            settled(world)
        except AssertionError as error:
            pytest.fail(f"seed {seed} at {world.clock.now:.3f} s: {error}")
        requests += world.visits.finished
        tasks += world.visits.tasks
        rollbacks += world.rollbacks
        kept += world.clients.kept
        moved += world.clients.moved
        migrations += world.migrations.runs
        ends += world.ends
        topologies += world.changes_of_topology
    assert requests > 300 * DEPLOYING_SEEDS
    assert tasks > DEPLOYING_SEEDS
    assert topologies > DEPLOYING_SEEDS // 2
    assert rollbacks > DEPLOYING_SEEDS // 20
    assert kept > 100 * DEPLOYING_SEEDS
    assert moved > DEPLOYING_SEEDS
    assert migrations > DEPLOYING_SEEDS
    assert ends.count(True) > DEPLOYING_SEEDS
    assert ends.count(False) > DEPLOYING_SEEDS // 2


def test_the_same_seed_is_the_same_world():
    worlds = [troubled(seeded(4)), troubled(seeded(4))]
    for world in worlds:
        settled(world)
    assert worlds[0].trail == worlds[1].trail != []


def test_nothing_swings_under_a_load_that_does_not_change():
    for seed in range(40):
        world = steady(seeded(seed))
        world.clock.run(4 * STABLE_SECONDS)
        settled_at = len(world.trail)
        reversals = {name: _reversals(world.trail, name) for name in world.services}
        assert max(reversals.values()) <= 1, f"seed {seed}: {reversals}"
        world.clock.run(8 * STABLE_SECONDS)
        assert len(world.trail) == settled_at, f"seed {seed}: {world.trail[settled_at:]}"


def _reversals(trail: list[tuple[float, str, str]], service: str) -> int:
    """How often the autoscaler went the other way."""
    counts = [
        int(what.rsplit("replicas=", 1)[1].rstrip(")"))
        for _, name, what in trail
        if name == service and what.startswith("autoscaler")
    ]
    ways = [later > earlier for earlier, later in itertools.pairwise(counts)]
    return sum(one != other for one, other in itertools.pairwise(ways))


def test_a_crash_loop_changes_nothing_for_the_others():
    for seed in range(40):
        trails = []
        for broken in (False, True):
            world = with_neighbour(seeded(seed), broken=broken)
            world.clock.run(FAULT_SECONDS)
            trails.append([entry for entry in world.trail if entry[1] not in ("neighbour", "")])
        starts = sum(name == "neighbour" for _, name, _ in world.trail)
        assert trails[0] == trails[1] != [], f"seed {seed}"
        # Back-off keeps four looping slots from starving the machine: without it, they would start thousands.
        assert 20 < starts < 60, f"seed {seed}: {starts} starts"


def test_an_hour_of_what_is_bad_and_does_not_change_is_few_lines():
    waiting = ServicePlan(DesiredSet(1, 1, 8), load=((0.0, 20.0),), waits_for="slow")
    slow = ServicePlan(DesiredSet(1, 1, 1), load=((0.0, 20.0),))
    broken = ServicePlan(DesiredSet(1, 1, 1), Habits(0.05, stillborn_share=1.0))
    world = World(seeded(1), {"waiting": waiting, "slow": slow, "broken": broken}, cores=4)
    world.clock.run(3600.0)
    lines = {name: [what for _, one, what in world.trail if one == name] for name in world.services}
    (held,) = [what for what in lines["waiting"] if what.startswith("held")]
    assert "wait for slow, which has 1 replica, a fixed number" in held
    assert len(lines["waiting"]) == len(lines["slow"]) + 1 == 2
    # One start in half a minute, less the jitter: and never more, whatever it is that fails.
    assert 100 < len(lines["broken"]) < 200
