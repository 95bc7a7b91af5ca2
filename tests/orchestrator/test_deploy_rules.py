"""What a deploy does, where the recorded decisions say nothing of it."""

from typing import Any

import msgspec
import pytest

from fissile.component.contract import Break
from fissile.errors import ConfigError
from fissile.orchestrator.awaited import NO_SLOT, cannot_start, may_stay, missing
from fissile.orchestrator.deploy_rules import (
    DEFAULT_CANARY,
    DEFAULT_WATCH_SECONDS,
    ContractBroken,
    DeployOrder,
    Rollback,
    back_to,
    bounds,
    changed_specs,
    check_contracts,
    check_order,
    deploy_warnings,
    in_place,
    live_release,
    rescalings,
    rollout_to,
    set_spec,
    sets_of,
    starting_order,
    strangeness,
    warnings_of,
)
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout, Stage
from fissile.orchestrator.replica import Observed, ReplicaReady
from fissile.orchestrator.spec import ReleaseSpec, ScalingSpec, ServiceSpec
from fissile.releases.release import ContractBreak, Difference, Release, ServiceChange, build_of

WEB = ServiceSpec(components=("Front",), doors=("Front",), after=("db",))
DATABASE = ServiceSpec(program=True, port=5432)


def release(name: str, services: dict[str, ServiceSpec] | None = None, **more: Any) -> ReleaseSpec:
    """One whose builds all have its own name."""
    services = services if services is not None else {"db": DATABASE, "web": WEB}
    builds = dict.fromkeys(services, f"{name}{name}")
    return ReleaseSpec(
        name, services, sets_of(builds, services), {"Front": ()}, topology="monolith", builds=builds, **more
    )


def desired(spec: ReleaseSpec, **more: Any) -> Desired:
    return Desired({name: set_spec(spec, service) for service, name in spec.sets.items()}, live_release(spec), **more)


OLD, NEW = release("old1"), release("new1")


@pytest.mark.parametrize("canary", [0.0, 1.0, -0.1, 7.0, float("nan")])
def test_a_canary_is_a_share(canary: float):
    with pytest.raises(ConfigError, match="is not a share"):
        check_order(DeployOrder(canary=canary))


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_watch_ends(seconds: float):
    with pytest.raises(ConfigError, match="is not a time to watch for"):
        check_order(DeployOrder(watch_seconds=seconds))


@pytest.mark.parametrize(
    ("spec", "alone"),
    [
        (ServiceSpec(), False),
        (ServiceSpec(port=80), False),
        (ServiceSpec(allow_overlap=False), True),
        (ServiceSpec(program=True), False),
        (ServiceSpec(program=True, port=80), True),
        (ServiceSpec(program=True, port=80, allow_overlap=True), True),
        (ServiceSpec(program=True, ports="inherited"), True),
        (ServiceSpec(program=True, ports="reuseport", allow_overlap=True), True),
    ],
)
def test_what_listens_at_one_port_or_must_not_overlap_has_one_set_for_all_builds(spec: ServiceSpec, alone: bool):
    assert sets_of({"app": "1234"}, {"app": spec}) == {"app": "app" if alone else "app@1234"}
    assert in_place(release("a", {"app": spec}), release("b", {"app": spec})) == (["app"] if alone else [])


@pytest.mark.parametrize(
    ("replicas", "scaling", "expected"),
    [
        (3, None, (3, 3, 3)),
        (1, ScalingSpec(replicas_min=2, replicas_max=4), (2, 2, 4)),
        (9, ScalingSpec(replicas_min=2, replicas_max=4), (4, 2, 4)),
        (1, ScalingSpec(replicas_min=0, replicas_max=4), (1, 0, 4)),
    ],
)
def test_replica_counts_by_the_settings(replicas: int, scaling: ScalingSpec | None, expected: tuple[int, int, int]):
    spec = release("a", {"app": ServiceSpec(replicas=replicas, scaling=scaling)})
    want = set_spec(spec, "app")
    assert (want.replicas, want.replicas_min, want.replicas_max) == expected
    assert bounds(spec, "app") == expected[1:]


def test_a_database_starts_first_stops_last_and_is_waited_for():
    assert starting_order(NEW, ["web", "gone"]) == ["db", "web", "gone"]
    assert live_release(NEW).waves[-1] == ("db",)
    assert set_spec(NEW, "web").after == ("db",)


def test_what_a_person_found_right_outlives_a_deploy_but_not_other_settings():
    before = desired(OLD)
    web = OLD.sets["web"]
    scaled = msgspec.structs.replace(before.sets[web], replicas=5, replicas_min=5, replicas_max=5)
    before = msgspec.structs.replace(before, sets={**before.sets, web: scaled})
    assert changed_specs(before, OLD, NEW, "z")[NEW.sets["web"]].replicas == 5
    more = release("new1", {"db": DATABASE, "web": msgspec.structs.replace(WEB, replicas=2)})
    assert changed_specs(before, OLD, more, "z")[more.sets["web"]].replicas == 2
    assert changed_specs(before, OLD, more, "z")["db"].zygote == "z"


def test_other_settings_of_the_same_builds_are_applied_to_what_runs():
    more = release("old1", {"db": DATABASE, "web": msgspec.structs.replace(WEB, replicas=2)})
    (act,) = rescalings(desired(OLD), OLD, more)
    assert (act.set, act.replicas_min, act.replicas_max) == (OLD.sets["web"], 2, 2)
    assert rescalings(desired(OLD), OLD, OLD) == []


@pytest.mark.parametrize(
    ("order", "share", "seconds"),
    [
        (DeployOrder(), 1.0, 0.0),
        (DeployOrder(canary=0.3), 0.3, DEFAULT_WATCH_SECONDS),
        (DeployOrder(watch_seconds=7.0), DEFAULT_CANARY, 7.0),
        (DeployOrder(canary=0.3, watch_seconds=7.0), 0.3, 7.0),
    ],
)
def test_a_canary_is_watched_and_what_is_watched_is_a_canary(order: DeployOrder, share: float, seconds: float):
    rollout = rollout_to(NEW, order, desired(OLD, rollouts=4), {}, migrates=False, now=9.0)
    assert (rollout.share, rollout.watch_seconds) == (share, seconds)
    assert (rollout.number, rollout.stage, rollout.since) == (5, Stage.STARTING, 9.0)


def test_only_a_release_of_the_history_is_gone_back_to():
    before = desired(OLD, revision_history=("a", "b"))
    assert rollout_to(NEW, DeployOrder(release="b"), before, {}, migrates=True, now=0.0).back_to == "b"
    other = rollout_to(NEW, DeployOrder(release="c"), before, {}, migrates=True, now=0.0)
    assert (other.back_to, other.stage, other.reason) == ("", Stage.MIGRATING, "a rollback was asked for")


@pytest.mark.parametrize("stage", Stage)
def test_a_rollback_gives_up_what_is_under_way_if_it_still_can_be(stage: Stage):
    rollout = Rollout(1, LiveRelease("new1"), {}, stage=stage)
    before = desired(OLD, revision_history=("first",), rollout=rollout)
    if stage is Stage.PROMOTED:
        assert back_to(before) == Rollback(OLD.name)
    else:
        assert back_to(before) == Rollback(gives_up=stage is not Stage.ROLLING_BACK)
    assert back_to(before, "named") == Rollback("named")


BROKEN = ContractBreak(("Front",), Break("Front.show", "", "it is gone", "keep it"), ("Front calls it",))


def test_a_break_is_refused_with_what_to_do_about_it():
    found = Difference((), (), (BROKEN,))
    alone = {"web": msgspec.structs.replace(WEB, after=(), allow_overlap=False)}
    with pytest.raises(ContractBroken, match="called by Front: keep it") as refused:
        check_contracts(DeployOrder(), found, OLD, NEW)
    assert refused.value.remedy.startswith("keep the earlier form")
    with pytest.raises(ContractBroken) as refused:
        check_contracts(DeployOrder(), found, release("a", alone), release("b", alone))
    assert refused.value.remedy.startswith("deploy it in two steps: web cannot run twice at once")
    for order in (DeployOrder(breaks=True), DeployOrder(plan=True), DeployOrder(release="old1")):
        check_contracts(order, found, OLD, NEW)
    assert any("may be called" in told for told in deploy_warnings(DeployOrder(breaks=True), found, OLD, NEW))
    assert not any("may be called" in told for told in deploy_warnings(DeployOrder(plan=True), found, OLD, NEW))


def test_what_is_lost_in_memory_is_warned_of_where_it_starts_anew():
    later = release("new1", volatile_state={"Front": "carts"})
    anew = Difference((ServiceChange("web", "changed"),), (), ())
    assert "Front starts anew, and loses what it keeps in memory: carts" in [
        *deploy_warnings(DeployOrder(), anew, OLD, later)
    ]
    assert not any("carts" in told for told in deploy_warnings(DeployOrder(), Difference((), (), ()), OLD, later))


def test_sticky_does_nothing_at_a_door_whose_own_build_changes():
    order, none = DeployOrder(sticky="cookie"), Difference((), (), ())
    assert sum("--sticky does nothing at Front" in told for told in deploy_warnings(order, none, OLD, NEW)) == 1
    for same in (deploy_warnings(order, none, OLD, OLD), deploy_warnings(DeployOrder(), none, OLD, NEW)):
        assert not any("--sticky" in told for told in same)


def test_walls_around_nobody_are_told():
    (told,) = warnings_of(release("a", unheld=("cart",), warnings=("",)))
    assert told.startswith("monolith has no service cart: ")
    assert told.endswith("write them for db, web")


def test_what_is_not_as_it_was_when_an_earlier_release_ran():
    def kept(**parts: str) -> Release:
        return Release("shop", "monolith", {"app": ()}, {"app": build_of(parts)}, {}, {})

    now, before = {"installed packages": "2", "fissile.toml": "1"}, {"installed packages": "1", "fissile.toml": "1"}
    assert strangeness(kept(**before), kept(**now), "flask 2").endswith("when that ran: packages (flask 2)")


def ready(observed: Observed, name: str) -> None:
    replica = observed.begin(name, 0, 1, "build", 0.0)
    observed.observe(replica, ReplicaReady(), 0.0)


def test_who_is_missing_and_who_cannot_start():
    wanted, observed = Desired({"a": DesiredSet(), "b": DesiredSet()}), Observed()
    ready(observed, "a")
    assert missing(["a", "b"], wanted, observed) == ["b"]
    assert missing(["a", "b"], wanted, observed, {"a"}) == ["a", "b"]
    assert cannot_start(["b"], observed, {}) is None
    assert cannot_start(["a", "b"], observed, {"b": "no table"}) == ("b", NO_SLOT, "no table")


def test_strays_stay_where_others_may_come_up_beside_them():
    observed = Observed()
    alone = Desired({"db": DesiredSet(allow_overlap=False), "web": DesiredSet()})
    assert not may_stay(alone, observed)
    ready(observed, "db")
    assert may_stay(alone, observed)
