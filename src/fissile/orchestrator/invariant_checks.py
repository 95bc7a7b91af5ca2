"""The checks of invariants: each stands at a door that alters something, and costs nothing where nothing happens."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from fissile.names import SetName
from fissile.orchestrator.autoscale import Decision, Demand, ScalingPolicy
from fissile.orchestrator.desired import Desired, Stage
from fissile.orchestrator.invariants import Broken, Invariant
from fissile.orchestrator.replica import Observed, ObservedSet

# So many replicas of a set are shown with what was broken.
SHOWN_MAX = 20

# What each stage of a rollout may become, beside itself.
STAGES: Mapping[Stage, frozenset[Stage]] = {
    Stage.MIGRATING: frozenset({Stage.STARTING, Stage.ROLLING_BACK}),
    Stage.STARTING: frozenset({Stage.CANARY, Stage.PROMOTED, Stage.ROLLING_BACK}),
    Stage.CANARY: frozenset({Stage.SCALING_UP, Stage.ROLLING_BACK}),
    Stage.SCALING_UP: frozenset({Stage.PROMOTED, Stage.ROLLING_BACK}),
    Stage.PROMOTED: frozenset(),
    Stage.ROLLING_BACK: frozenset(),
}


def change_breaks(before: Desired, after: Desired) -> Broken | None:
    """Whether a change leads to what must not be desired."""
    old, new = before.rollout, after.rollout
    if new is not None:
        if old is not None and old.number == new.number:
            if old.stage is not new.stage and new.stage not in STAGES[old.stage]:
                what = f"rollout {new.number} is {old.stage}, and would become {new.stage}"
                return Broken(Invariant.ROLLOUT_STAGES, what)
        elif new.stage not in (Stage.MIGRATING, Stage.STARTING):
            return Broken(Invariant.ROLLOUT_STAGES, f"rollout {new.number} would begin as {new.stage}")
    return unknown_set(after)


def unknown_set(desired: Desired) -> Broken | None:
    """Whether there is a set that no live release has. Before there is a release, none is known."""
    if not desired.current.name:
        return None
    known = {name for release in desired.releases() for name in release.sets.values()}
    for name in desired.sets:
        if name not in known:
            return Broken(Invariant.KNOWN_SETS, f"{name} would belong to no live release", name)
    return None


def targets_break(name: SetName, slots: Collection[int], ready: Collection[int]) -> Broken | None:
    """Whether callers of a set would be led elsewhere than to its ready replicas, though there are some."""
    wrong = [slot for slot in slots if slot not in ready] if ready else []
    if not wrong:
        return None
    return Broken(
        Invariant.READY_TARGETS, f"callers of {name} are led to slots {wrong}, ready are {sorted(ready)}", name
    )


def start_breaks(name: SetName, found: ObservedSet | None, slot: int, starting: int, most: int) -> Broken | None:
    """Whether one more start would be too many. starting: how many start already, of all sets."""
    if starting >= most:
        return Broken(Invariant.START_BUDGET, f"{starting} replicas start already, {most} may", name)
    here = sum(one.slot == slot and one.lives() for one in found.replicas.values()) if found is not None else 0
    if here > 1:
        return Broken(Invariant.START_BUDGET, f"{here} replicas are in slot {slot} of {name} already", name)
    return None


def scaling_breaks(
    decisions: Iterable[Decision],
    policies: Mapping[SetName, ScalingPolicy],
    wanted: Mapping[SetName, int],
    demands: Mapping[SetName, Demand],
    cores: int,
) -> Broken | None:
    """Whether decisions of the autoscaler exceed what they may."""
    decided = {one.set: one.replicas for one in decisions}
    extras: dict[str, int] = {}
    for name, policy in policies.items():
        if name not in demands or name not in wanted:
            continue
        count = decided.get(name, wanted[name])
        if name in decided and not policy.replicas_min <= count <= policy.replicas_max:
            return Broken(Invariant.SCALE_BUDGET, f"{count} of {policy.replicas_min}..{policy.replicas_max}", name)
        extras[policy.group] = extras.get(policy.group, 0) + count - max(policy.replicas_min, min(1, count))
    for group, count in extras.items():
        if decided and count > cores:
            return Broken(
                Invariant.SCALE_BUDGET, f"{count} replicas above the minima of {group or 'all'}, {cores} cores"
            )
    return None


def shown(broken: Broken, desired: Desired, observed: Observed, decision: object) -> dict[str, Any]:
    """The state that something was found to be broken in, as plain data, for whoever has to find out why."""
    rollout, want = desired.rollout, desired.sets.get(broken.set)
    found = observed.sets.get(broken.set)
    replicas = list(found.replicas.values()) if found is not None else []
    return {
        "invariant": broken.invariant.name,
        "set": broken.set,
        "decision": str(decision)[:2_000],
        "release": desired.current.name,
        "rollout": f"{rollout.number} {rollout.stage} to {rollout.later.name}" if rollout is not None else "",
        "desired": msgspec.to_builtins(want) if want is not None else None,
        "observed": [
            f"{one.key} r{one.revision} {one.state}{' ends' if one.ending else ''}{' unheard' if one.unheard else ''}"
            for one in replicas[-SHOWN_MAX:]
        ],
        "last_serial": observed.last_serial,
    }
