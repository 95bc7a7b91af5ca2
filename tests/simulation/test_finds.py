"""The simulation finds what it is there to find: faults that once were, put back on purpose."""

from typing import Any

import pytest

from fissile.orchestrator import rollout, rollout_status, routes
from fissile.simulation.faults import deploying, settled
from fissile.simulation.promise import Broken, Promise
from tests.simulation.seeds import seeded

SEEDS_MAX = 60


def found(seeds: int = SEEDS_MAX) -> Promise | None:
    """The promise that is broken in the first world that breaks one; None if none does."""
    for seed in range(seeds):
        try:
            settled(deploying(seeded(seed)))
        except Broken as error:
            return error.promise
    return None


def knows_the_move(*_: Any) -> bool:
    """Without asking."""
    return True


def is_under_way(*_: Any) -> bool:
    """Without asking either."""
    return False


def one_too_far(desired: Any, under_way: Any) -> tuple[str, ...]:
    """Where a rollback forgets one release more than it goes back."""
    trail = desired.trail
    if under_way.back_to in trail:
        return trail[: max(0, len(trail) - 2 - trail[::-1].index(under_way.back_to))]
    return (*trail, desired.current.name)


def untold(under_way: Any, names: tuple[str, ...], seen: Any) -> Any:
    """Sets end before anybody hears that they are called no more."""
    return rollout._step(rollout.ClearSets(names, under_way.number), "at once")  # pyright: ignore[reportPrivateUsage]


def also_who_ends(want: Any, service: Any) -> tuple[int, ...]:
    """Callers are told of replicas that end."""
    return tuple(sorted({replica.slot for replica in service.replicas.values()} or {0}))


@pytest.mark.parametrize(
    ("module", "name", "fault", "promise"),
    [
        (rollout_status, "applied", knows_the_move, Promise.CALLEES_ARE_THERE),
        (rollout_status, "pinned", is_under_way, Promise.CALLEES_ARE_THERE),
        (rollout, "_trail", one_too_far, Promise.WAY_BACK),
        (rollout, "_clear", untold, Promise.TOLD_BEFORE_THE_END),
        (routes, "routes", also_who_ends, Promise.TARGETS_SERVE),
    ],
)
def test_a_fault_that_is_put_back_is_found(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, fault: Any, promise: Promise
):
    monkeypatch.setattr(module, name, fault)
    if module is routes:
        monkeypatch.setattr("fissile.orchestrator.routing.routed_slots", fault)
    assert found() is promise
