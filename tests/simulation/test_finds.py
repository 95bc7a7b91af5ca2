"""The simulation finds what it is there to find: faults that once were, put back on purpose."""

from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from fissile.orchestrator import autoscale, rollout, rollout_status, routes
from fissile.runtime.traffic_split import COOKIE, TrafficSplitter
from fissile.simulation.dice import Chance
from fissile.simulation.faults import deploying, settled, troubled
from fissile.simulation.promise import Broken, Promise
from fissile.simulation.world import World
from tests.simulation.seeds import seeded

SEEDS_MAX = 60


def found(make: Callable[[Chance], World] = deploying, seeds: int = SEEDS_MAX) -> Promise | None:
    """The promise that is broken in the first world that breaks one; None if none does."""
    for seed in range(seeds):
        try:
            settled(make(seeded(seed)))
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
    history = desired.revision_history
    if under_way.back_to in history:
        return history[: max(0, len(history) - 2 - history[::-1].index(under_way.back_to))]
    return (*history, desired.current.name)


def untold(under_way: Any, names: tuple[str, ...], seen: Any) -> Any:
    """Sets end before anybody hears that they are called no more."""
    return rollout._step(rollout.DrainSets(names, under_way.number), "at once")  # pyright: ignore[reportPrivateUsage]


def also_who_ends(want: Any, service: Any) -> tuple[int, ...]:
    """Callers are told of replicas that end."""
    return tuple(sorted({replica.slot for replica in service.replicas.values()} or {0}))


def as_if_alone(policies: Any, wishes: Any, cores: int) -> dict[str, int]:
    """Each service has the machine for itself."""
    return {name: wish for name, (wish, _) in wishes.items()}


@pytest.mark.parametrize(
    ("module", "name", "fault", "promises"),
    [
        (rollout_status, "applied", knows_the_move, {Promise.GOING_GETS_NOTHING, Promise.CALLEES_ARE_THERE}),
        (rollout_status, "pinned", is_under_way, {Promise.STAYS_IN_ITS_RELEASE, Promise.CALLEES_ARE_THERE}),
        (rollout, "_history", one_too_far, {Promise.WAY_BACK}),
        (rollout, "_clear", untold, {Promise.TOLD_BEFORE_THE_END}),
        (autoscale, "_share", as_if_alone, {Promise.CORES_ARE_SHARED, Promise.NOTHING_IS_BROKEN}),
        (routes, "routes", also_who_ends, {Promise.TARGETS_SERVE, Promise.NOTHING_IS_BROKEN}),
    ],
)
def test_a_fault_that_is_put_back_is_found(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, fault: Any, promises: set[Promise]
):
    monkeypatch.setattr(module, name, fault)
    if module is routes:
        monkeypatch.setattr("fissile.orchestrator.routing.routed_slots", fault)
    assert found() in promises


class KnowsOfNoLoad(autoscale._Memory):  # pyright: ignore[reportPrivateUsage]
    """A successor takes it that there was no load while nobody looked."""

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self.since = -inf


def test_a_shrink_after_a_takeover_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(autoscale, "_Memory", KnowsOfNoLoad)
    assert found(troubled) is Promise.NOBODY_SHRINKS_BLIND


@pytest.mark.parametrize("by", ["cookie", "name"])
def test_a_client_that_is_kept_in_a_release_that_goes_is_found(monkeypatch: pytest.MonkeyPatch, by: str):
    choose = TrafficSplitter.choose

    def kept(self: Any, headers: Any, *, passed_on: bool = False) -> tuple[str, bytes]:
        cookie = dict(headers).get(b"cookie", b"").decode().removeprefix(f"{COOKIE}={self._rollout}.")
        return (cookie, b"") if cookie in self._shares else choose(self, headers, passed_on=passed_on)

    if by == "cookie":
        monkeypatch.setattr(TrafficSplitter, "choose", kept)
    else:
        monkeypatch.setattr(TrafficSplitter, "_gets", lambda self, release: release in self._shares)
    assert found() is Promise.GOING_GETS_NOTHING
