"""Which migrations are run, and when they may be."""

from collections.abc import Collection

import msgspec
import pytest

from fissile.orchestrator.deploy_rules import live_release, set_spec, sets_of
from fissile.orchestrator.desired import Desired, LiveRelease, Rollout, Stage
from fissile.orchestrator.migration_rules import held, may_run, pending
from fissile.orchestrator.replica import Observed, ReplicaReady
from fissile.orchestrator.spec import ReleaseSpec, ServiceSpec

BUILDS = {"db": "d1", "cart": "c1", "web": "w1"}
SERVICES = {
    "db": ServiceSpec(program=True, port=5432),
    "cart": ServiceSpec(components=("Cart", "Prices", "Stock"), after=("db",)),
    "web": ServiceSpec(components=("Web",), after=("db",)),
}
RELEASE = ReleaseSpec(
    "r1", SERVICES, sets_of(BUILDS, SERVICES), builds=BUILDS, migrations=frozenset({"Cart", "Stock", "Web"})
)
DESIRED = Desired({name: set_spec(RELEASE, service) for service, name in RELEASE.sets.items()}, live_release(RELEASE))
ALL = {"cart": ("Cart", "Stock"), "web": ("Web",)}


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ((), ALL),
        (("cart@c1",), {"web": ("Web",)}),
        (("cart@c0", "web@w1"), {"cart": ("Cart", "Stock")}),
        (("web@w1", "cart@c1"), {}),
    ],
)
def test_those_of_a_build_are_run_once(done: Collection[str], expected: dict[str, tuple[str, ...]]):
    assert pending(RELEASE, done) == expected
    assert held(DESIRED, RELEASE, done) == expected


def test_what_a_rollout_brings_is_not_held_and_what_serves_is_though_one_is_under_way():
    later = msgspec.structs.replace(live_release(RELEASE), name="r2")
    desired = msgspec.structs.replace(DESIRED, rollout=Rollout(1, later, {}))
    assert held(desired, RELEASE, ()) == ALL
    cart = RELEASE.sets["cart"]
    replaced = {**DESIRED.sets, cart: msgspec.structs.replace(DESIRED.sets[cart], release="r2")}
    assert held(msgspec.structs.replace(desired, sets=replaced), RELEASE, ()) == {"web": ("Web",)}
    assert held(DESIRED, None, ()) == {}


def test_those_of_a_release_that_goes_never_begin():
    later = LiveRelease("r2", {**RELEASE.sets, "cart": "cart@c2"}, live_release(RELEASE).waves)
    rollout = Rollout(1, later, {}, stage=Stage.PROMOTED)
    observed = Observed()
    observed.observe(observed.begin("db", 0, 1, "d1", 0.0), ReplicaReady(), 1.0)
    assert may_run(DESIRED, observed, RELEASE.sets["cart"])
    assert not may_run(msgspec.structs.replace(DESIRED, rollout=rollout), observed, RELEASE.sets["cart"])


def test_they_begin_once_the_database_serves_unless_nobody_wants_that():
    observed, cart = Observed(), RELEASE.sets["cart"]
    assert not may_run(DESIRED, observed, cart)
    asleep = msgspec.structs.replace(DESIRED, sets=DESIRED.sets | {"db": DESIRED.sets["db"].none()})
    assert may_run(asleep, observed, cart)
    replica = observed.begin("db", 0, 1, "d1", 0.0)
    assert not may_run(DESIRED, observed, cart)
    observed.observe(replica, ReplicaReady(), 1.0)
    assert may_run(DESIRED, observed, cart)
    assert may_run(Desired(), Observed(), cart)
