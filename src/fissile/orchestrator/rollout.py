"""What a rollout does next. It is asked again and again, and looks at the states alone.

So whoever asks may die at any instant: the journal has the stage, and the next one goes on from there. A
rollback is the same towards an earlier release, and giving a rollout up is the same with the two releases
exchanged: the requests go back first, then the replicas end, callers before those whom they call.
"""

from collections.abc import Mapping
from math import ceil, inf

import msgspec

from fissile.names import ServiceName, SetName, service_of
from fissile.orchestrator.acts import (
    ACTOR,
    AcknowledgeRoutes,
    AdvanceRollout,
    Change,
    DrainSets,
    EndRollout,
    RetireSets,
    RolloutAct,
)
from fissile.orchestrator.analysis import Analysis, Verdict
from fissile.orchestrator.desired import Desired, DesiredSet, Rollout, Stage
from fissile.orchestrator.reasons import (
    AllAreReady,
    AllKnowIt,
    CanaryBegins,
    Dies,
    DoesNotComeUp,
    EarlierEnded,
    FinishTimeOver,
    Migrated,
    MigrationFailed,
    MigrationsRun,
    Reason,
    RequestsDone,
    RequestsInFlight,
    RollbackDies,
    Undecided,
    WaitsForEnd,
    WaitsForFormer,
    WaitsForReplicas,
    WaitsForRoutes,
    Watched,
    WithoutFormer,
)

# Of a set that is watched: more than one death of a slot in a row is no accident.
DEATHS_MAX = 2
# Releases whose order is remembered, so that a rollback knows where to go.
REVISION_HISTORY_MAX = 100
UNDECIDED = (Stage.MIGRATING, Stage.STARTING, Stage.CANARY, Stage.SCALING_UP)


class SetProgress(msgspec.Struct, frozen=True):
    """A replica set as it is observed.

    ready: those of the wanted revision. deaths: in a row, of the slot that has most; trouble: the last one's.
    """

    replicas: int = 0
    ready: int = 0
    deaths: int = 0
    trouble: Reason | None = None


class RolloutProgress(msgspec.Struct, frozen=True):
    """What a rollout has to know.

    pinned: whether requests of the going release may still be under way. told: whether every replica knows the later
    release's routes; before, no request may have that release. migrated: whether all migrations are done;
    migration_trouble: why one failed. analysis: of the watch, if any.
    """

    sets: Mapping[SetName, SetProgress]
    pinned: bool = True
    told: bool = False
    migrated: bool = False
    migration_trouble: str = ""
    analysis: Analysis | None = None


class NextStep(msgspec.Struct, frozen=True):
    """What to change now, if anything; what it waits for; and when to ask again at the latest (wall clock).

    undecided: it waits for a person, or for something that may never come.
    """

    change: Change | None
    waits: Reason | None = None
    due: float = inf
    undecided: bool = False


def next_step(desired: Desired, seen: RolloutProgress, now: float) -> NextStep:
    """What the rollout does next, at `now` (seconds of the wall clock)."""
    rollout = desired.rollout
    assert rollout is not None
    if rollout.stage is Stage.MIGRATING:
        if seen.migration_trouble:
            return _enter(rollout, Stage.ROLLING_BACK, MigrationFailed(seen.migration_trouble), now)
        if not seen.migrated:
            return NextStep(None, MigrationsRun())
        return _enter(rollout, Stage.STARTING, Migrated(), now)
    if rollout.stage in (Stage.STARTING, Stage.SCALING_UP):
        return _coming_up(desired, rollout, seen, now)
    if rollout.stage is Stage.CANARY:
        return _watched(rollout, seen, now)
    return _leaving(desired, rollout, seen, now)


def _step(act: RolloutAct, reason: Reason | str) -> NextStep:
    return NextStep(Change(ACTOR, act, reason))


def _enter(rollout: Rollout, stage: Stage, reason: Reason | str, now: float) -> NextStep:
    """Go on to another stage."""
    return _step(AdvanceRollout(stage, now, rollout.number, rollout.stage), reason)


def _coming_up(desired: Desired, rollout: Rollout, seen: RolloutProgress, now: float) -> NextStep:
    missing: list[tuple[ServiceName, int, int]] = []
    for name in rollout.specs:
        found, want = seen.sets.get(name, SetProgress()), desired.sets[name]
        if _given_up(rollout, found):
            return _enter(rollout, Stage.ROLLING_BACK, DoesNotComeUp(service_of(name), found.trouble), now)
        if found.ready < want.replicas:
            missing.append((service_of(name), found.ready, want.replicas))
    if missing:
        return NextStep(None, WaitsForReplicas(tuple(missing)))
    if not seen.told:
        return NextStep(None, WaitsForRoutes())
    if rollout.stage is Stage.STARTING and rollout.share < 1.0:
        return _enter(rollout, Stage.CANARY, CanaryBegins(rollout.share), now)
    return _enter(rollout, Stage.PROMOTED, AllAreReady(), now)


def _given_up(rollout: Rollout, found: SetProgress) -> bool:
    """Whether a set's deaths give the rollout up. Where a rollback still serves, a person decides."""
    if rollout.stage is Stage.STARTING:
        return found.deaths > 0  # it has had no request so far, so nothing is lost by that
    return found.deaths >= DEATHS_MAX and not (rollout.back_to and found.ready)


def _watched(rollout: Rollout, seen: RolloutProgress, now: float) -> NextStep:
    dying: Dies | None = None
    for name in rollout.specs:
        found = seen.sets.get(name, SetProgress())
        if _given_up(rollout, found):
            return _enter(rollout, Stage.ROLLING_BACK, Dies(service_of(name), found.trouble), now)
        if found.deaths >= DEATHS_MAX:
            dying = Dies(service_of(name), found.trouble)
    if dying is not None:
        return NextStep(None, RollbackDies(dying), undecided=True)
    if rollout.since > now:
        # The clock was set back: it begins now, or it would last for longer by as much.
        return _enter(rollout, rollout.stage, rollout.reason, now)
    analysis = seen.analysis
    over = rollout.since + rollout.watch_seconds
    if analysis is not None and analysis.verdict is Verdict.FAILED and not rollout.back_to:
        return _enter(rollout, Stage.ROLLING_BACK, analysis.reason, now)
    if now < over:
        return NextStep(None, Watched(over - now, analysis.reason if analysis is not None else None), over)
    if analysis is not None and analysis.verdict is Verdict.PASSED:
        return _enter(rollout, Stage.SCALING_UP, analysis.reason, now)
    return NextStep(None, Undecided(analysis.reason if analysis is not None else None), undecided=True)


def _leaving(desired: Desired, rollout: Rollout, seen: RolloutProgress, now: float) -> NextStep:
    moved = rollout.stage is Stage.PROMOTED
    left = [name for name in desired.leaving() if _remains(desired, name, seen)]
    if not seen.told:
        # However long that takes: whoever has not heard of it goes on giving requests the release that goes.
        return NextStep(None, WaitsForRoutes(going=True))
    if not 0.0 < rollout.known_at <= now:  # not yet, or the clock was set back
        return _step(AcknowledgeRoutes(rollout.number, now), AllKnowIt())
    limit = rollout.known_at + rollout.settle_seconds_max
    if seen.pinned and now < limit:
        return NextStep(None, RequestsInFlight(), limit)
    if not left:
        # Those that sleep come up when they are called.
        awake = [name for name in rollout.previous_specs if desired.sets[name].replicas > 0]
        restored = [name for name in awake if seen.sets.get(name, SetProgress()).ready == 0]
        missing = tuple(map(service_of, restored)) if not moved else ()
        if missing:
            # A fix has to be deployed one day, so what does not come up is not waited for for ever.
            seconds_max = rollout.settle_seconds_max + max(desired.sets[n].start_seconds_max for n in restored)
            if now < rollout.known_at + seconds_max:
                return NextStep(None, WaitsForFormer(missing), rollout.known_at + seconds_max)
        # Of one that was given up, why it was is what people want to know.
        reason = EarlierEnded() if moved else rollout.reason
        if missing:
            reason = WithoutFormer(rollout.reason, missing)
        return _step(EndRollout(rollout.number, moved), reason)
    going = desired.going()
    assert going is not None
    for wave in going.waves:
        names = [name for service in wave if (name := going.sets[service]) in left]
        if names:
            fresh = tuple(name for name in names if desired.sets[name].replicas_max)
            if fresh:
                return _clear(rollout, fresh, seen)
            return NextStep(None, WaitsForEnd(tuple(names)))
    raise AssertionError("what is left is in some wave")


def _clear(rollout: Rollout, names: tuple[SetName, ...], seen: RolloutProgress) -> NextStep:
    """End sets whose callers of their own release have ended; tasks that were begun in requests may still call them."""
    if not seen.pinned and not set(names) <= set(rollout.left):
        return _step(RetireSets(names, rollout.number), RequestsDone())
    return _step(
        DrainSets(names, rollout.number),
        RequestsDone() if not seen.pinned else FinishTimeOver(),
    )


def _remains(desired: Desired, name: SetName, seen: RolloutProgress) -> bool:
    """Whether a set that goes has replicas, or may get some."""
    want = desired.sets.get(name)
    return want is not None and (want.replicas_max > 0 or seen.sets.get(name, SetProgress()).replicas > 0)


# -- what is desired in each stage ------------------------------------------------------------------


def begun(desired: Desired, rollout: Rollout) -> Desired:
    """What is desired once a rollout has begun."""
    previous = {name: desired.sets[name] for name in rollout.specs if name in desired.sets}
    rollout = msgspec.structs.replace(rollout, previous_specs=previous)
    return msgspec.structs.replace(
        desired, sets=_sets(desired, rollout, rollout.stage), rollout=rollout, rollouts=rollout.number
    )


def entered(desired: Desired, stage: Stage, reason: str, now: float) -> Desired:
    """What is desired in a stage, from `now` on (seconds of the wall clock)."""
    rollout = desired.rollout
    assert rollout is not None
    sets = desired.sets if stage is rollout.stage else _sets(desired, rollout, stage)
    changed = msgspec.structs.replace(rollout, stage=stage, reason=reason, since=now)
    return msgspec.structs.replace(desired, sets=sets, rollout=changed)


def _sets(desired: Desired, rollout: Rollout, stage: Stage) -> dict[SetName, DesiredSet]:
    """How all sets should be once a rollout comes to a stage."""
    sets = dict(desired.sets)
    for name, spec in rollout.specs.items():
        before = sets.get(name)
        if name in rollout.previous_specs:
            assert before is not None
            if stage is Stage.STARTING:
                sets[name] = _anew(_raised(spec, before.replicas), before)
            elif stage is Stage.ROLLING_BACK:
                sets[name] = _anew(_raised(rollout.previous_specs[name], before.replicas), before)
        elif stage is Stage.STARTING:
            sets[name] = _canary(_raised(spec, _now(desired, name)), rollout.share)
        elif stage in (Stage.SCALING_UP, Stage.PROMOTED) and before is not None:
            sets[name] = _raised(before, spec.replicas, _now(desired, name))
    return sets


def _now(desired: Desired, name: SetName) -> int:
    """How many replicas the current release has by now of the service that a later set belongs to.

    Whoever raised it after the rollout began, a person or the autoscaler, knew what all requests need.
    """
    current = desired.current.sets.get(service_of(name))
    want = desired.sets.get(current) if current is not None else None
    return want.replicas if want is not None else 0


def _raised(want: DesiredSet, *replicas: int) -> DesiredSet:
    """At least so many, within its bounds; none where somebody has scaled it to zero."""
    if want.zero_by:
        return want
    return msgspec.structs.replace(want, replicas=min(max(want.replicas, *replicas), want.replicas_max))


def replica_floor(desired: Desired, name: SetName) -> int:
    """How many replicas a set is to have whatever its load is, because a rollout brings it: it has none yet, or not
    all of it. 0: its load decides."""
    rollout, want = desired.rollout, desired.sets.get(name)
    if rollout is None or want is None or name in rollout.previous_specs or name not in rollout.specs:
        return 0
    if rollout.stage is Stage.ROLLING_BACK:
        return 0
    needed = _raised(msgspec.structs.replace(want, replicas=0), rollout.specs[name].replicas, _now(desired, name))
    if rollout.stage in (Stage.STARTING, Stage.CANARY):
        needed = _canary(needed, rollout.share)
    return needed.replicas


def _canary(spec: DesiredSet, share: float) -> DesiredSet:
    """As many replicas as a share of the requests needs."""
    return msgspec.structs.replace(spec, replicas=min(spec.replicas, max(1, ceil(spec.replicas * share))))


def _anew(spec: DesiredSet, before: DesiredSet) -> DesiredSet:
    """A set of both releases: its replicas are replaced where they are, if their release is another."""
    return msgspec.structs.replace(spec, revision=before.revision + (before.release != spec.release))


def known(desired: Desired, now: float) -> Desired:
    """What is desired once all know that new requests do not get the release that goes."""
    rollout = desired.rollout
    assert rollout is not None
    return msgspec.structs.replace(desired, rollout=msgspec.structs.replace(rollout, known_at=now))


def left(desired: Desired, names: tuple[SetName, ...]) -> Desired:
    """What is desired once no request calls some sets of the release that goes any more."""
    rollout = desired.rollout
    assert rollout is not None
    return msgspec.structs.replace(desired, rollout=msgspec.structs.replace(rollout, left=(*rollout.left, *names)))


def cleared(desired: Desired, names: tuple[SetName, ...]) -> Desired:
    """What is desired once some sets are to end."""
    sets = {name: want.none() if name in names else want for name, want in desired.sets.items()}
    return msgspec.structs.replace(desired, sets=sets)


def ended(desired: Desired) -> Desired:
    """What is desired once the rollout is over."""
    rollout = desired.rollout
    assert rollout is not None
    moved = rollout.stage is Stage.PROMOTED
    leaving = set(desired.leaving())
    staying = rollout.later if moved else desired.current
    sets = {name: want for name, want in desired.sets.items() if name not in leaving}
    if moved:
        # The newest code of the same build: older code is then needed for a rollback alone.
        sets = {n: msgspec.structs.replace(want, release=staying.name) for n, want in sets.items()}
    history = _history(desired, rollout) if moved else desired.revision_history
    return msgspec.structs.replace(desired, sets=sets, current=staying, rollout=None, revision_history=history)


def _history(desired: Desired, rollout: Rollout) -> tuple[str, ...]:
    """Back to a release: what came after it is forgotten, so that the next step back goes further."""
    history = desired.revision_history
    if rollout.back_to in history:
        return history[: len(history) - 1 - history[::-1].index(rollout.back_to)]
    return (*history, desired.current.name)[-REVISION_HISTORY_MAX:]


def served_before(desired: Desired) -> str:
    """The release that served before the one that new requests get: where a rollback goes. "" if there is none."""
    rollout = desired.rollout
    moved = rollout is not None and rollout.stage is Stage.PROMOTED
    history = _history(desired, rollout) if rollout is not None and moved else desired.revision_history
    return history[-1] if history else ""


def with_current_scale(spec: DesiredSet, before: DesiredSet) -> DesiredSet:
    """As a release's own settings want it, with the replica counts that a person or the autoscaler found right."""
    awake = min(max(before.replicas, min(1, spec.replicas_max)), spec.most)
    return msgspec.structs.replace(
        spec,
        replicas=0 if before.zero_by else awake,
        replicas_min=min(before.replicas_min, spec.most),
        replicas_max=min(before.replicas_max, spec.most),
        zero_by=before.zero_by,
    )
