"""Decisions are what they were when they were still made in the supervisor: recorded from it, over its own tests.

golden.msgpack.gz has, by decision, states of applications in the middle of rollouts, crashes and takeovers, and what
was decided of them then.
"""

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fissile.orchestrator.autoscale import Demand, ScalingPolicy
from fissile.orchestrator.demand import demands, policies
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.replica import Observed
from fissile.orchestrator.rollout import SetProgress
from fissile.orchestrator.rollout_status import all_applied, pinned, progress_of_sets
from fissile.orchestrator.routes import Target
from fissile.orchestrator.routing import Router, SetRoutes
from fissile.orchestrator.spec import ReleaseSpec, ServiceSpec
from tests.orchestrator.golden_reasons import typed

GOLDEN: dict[str, list[dict[str, Any]]] = msgspec.msgpack.decode(
    gzip.decompress((Path(__file__).parent / "golden.msgpack.gz").read_bytes()), strict=False
)


class State(msgspec.Struct):
    """What was known when something was decided."""

    desired: Desired = Desired()
    observed: Observed = msgspec.field(default_factory=Observed)
    releases: dict[str, ReleaseSpec] = {}
    told: dict[str, tuple[Target, ...]] = {}
    specs: dict[str, ServiceSpec] = {}
    knocked: list[str] = []
    versions: dict[str, int] = {}
    strays: list[int] = []
    name: str = ""

    def router(self) -> Router:
        return Router(self.desired, self.observed, self.releases, self.told)


def recorded(kind: str, out: Any) -> list[tuple[State, Any]]:
    """The states, and what was decided, as its type."""
    return [
        (msgspec.convert(typed(one["in"]), State, strict=False), msgspec.convert(typed(one["out"]), out, strict=False))
        for one in GOLDEN[kind]
    ]


@pytest.mark.parametrize("kind", GOLDEN)
def test_there_are_several_of_each(kind: str):
    assert len(GOLDEN[kind]) > 1


def test_routes_and_access():
    for state, routes in recorded("routes", SetRoutes):
        assert state.router().routes(state.name) == routes


def test_callees():
    for state, called in recorded("called", set[str]):
        assert state.router().called(state.name) == called


def test_who_serves_a_door():
    for state, holders in recorded("holders", list[tuple[tuple[str, str], list[tuple[int, float]]]]):
        found = state.router().holders()
        assert {door: [(one.serial, part) for one, part in to] for door, to in found.items()} == dict(holders)


def test_who_takes_the_connections_of_those_who_drain():
    for state, heirs in recorded("heirs", dict[str, tuple[int, ...]]):
        assert state.router().heirs(state.name) == heirs


def test_what_a_rollout_sees_of_its_sets():
    for state, seen in recorded("sets", dict[str, SetProgress]):
        assert state.desired.rollout is not None
        assert dict(progress_of_sets(state.desired, state.observed, state.desired.rollout)) == seen


def test_whether_all_have_applied_their_routes():
    for state, told in recorded("told", bool):
        assert state.desired.rollout is not None
        found = all_applied(state.desired, state.observed, state.desired.rollout, state.versions)
        assert (found and not state.strays) == told


def test_whether_a_request_of_the_going_release_is_under_way():
    for state, expected in recorded("pinned", bool):
        assert pinned(state.desired, state.observed, state.versions, state.strays) == expected


def test_demand():
    for state, expected in recorded("demand", dict[str, Demand]):
        assert demands(state.desired, state.observed, state.specs, state.knocked) == expected


def test_policies():
    for state, expected in recorded("policies", dict[str, ScalingPolicy]):
        assert policies(state.desired, state.specs) == expected
