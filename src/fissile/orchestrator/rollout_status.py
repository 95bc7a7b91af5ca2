"""What a rollout sees of the replicas: who is ready, who knows the routes, and which requests are under way."""

from collections.abc import Collection, Iterator, Mapping

from fissile.names import SetName
from fissile.orchestrator import rollout as rules
from fissile.orchestrator.desired import Desired, Rollout, Stage
from fissile.orchestrator.reasons import Reason
from fissile.orchestrator.replica import DRAINING, READY, STARTING, Observed, ObservedSet
from fissile.orchestrator.rollout import DEATHS_MAX, NextStep, RolloutProgress, SetProgress
from fissile.orchestrator.state import ApplicationState


def next_step(state: ApplicationState, migration: str | None, now: float) -> NextStep:
    """What the rollout under way does next, at `now` (seconds of the wall clock).

    migration: why a migration failed, "" if all are done, None while they are not. It is asked many times a second, and
    mostly nothing has happened since: then what was decided holds, until it is due.
    """
    last = state.next_step
    seen = (state.router(), state.observed.heard, migration, bool(state.strays))
    if last is None or not last[1] <= now < last[2].due or last[0] != seen:
        last = state.next_step = seen, now, rules.next_step(state.desired, rollout_status(state, migration), now)
    return last[2]


def rollout_status(state: ApplicationState, migration: str | None) -> RolloutProgress:
    """What the rollout under way sees."""
    desired, observed, versions = state.desired, state.observed, state.versions()
    rollout = desired.rollout
    assert rollout is not None
    return RolloutProgress(
        sets=dict(progress_of_sets(desired, observed, rollout)),
        pinned=pinned(desired, observed, versions, state.strays),
        # Strays cannot be told.
        told=not state.strays and all_applied(desired, observed, rollout, versions),
        migrated=migration is not None,
        migration_trouble=migration or "",
        analysis=(state.canary.look(rollout, desired.current, observed) if rollout.stage is Stage.CANARY else None),
    )


def progress_of_sets(desired: Desired, observed: Observed, rollout: Rollout) -> Iterator[tuple[SetName, SetProgress]]:
    """Each replica set as it is observed."""
    for name, want in desired.sets.items():
        found = observed.sets.get(name)
        if found is None:
            continue
        ready = [r for r in found.replicas.values() if r.state is READY and not r.ending and not r.unheard]
        deaths, trouble = _deaths(found, rollout, name)
        yield name, SetProgress(len(found.replicas), sum(r.revision >= want.revision for r in ready), deaths, trouble)


def _deaths(found: ObservedSet, rollout: Rollout, name: SetName) -> tuple[int, Reason | None]:
    """How often replicas of the later release died in a row, and why the last one did."""
    before = rollout.previous_specs.get(name)
    deaths, trouble = 0, None
    if before is None:
        for memory in found.slots.values():
            died = max(memory.deaths.in_a_row, DEATHS_MAX if memory.mistake else 0)
            if died > deaths:
                deaths, trouble = died, memory.last_trouble
    elif before.release != rollout.specs[name].release:
        failed = [m for m in found.slots.values() if m.failed_revision > before.revision]
        if failed:
            deaths, trouble = max(m.deaths.in_a_row for m in failed), failed[0].last_trouble
    return deaths, trouble


def applied(found: ObservedSet, version: int) -> bool:
    """Whether all replicas of a set that serve have applied the routes of a version: it may not even be told yet.

    One that was adopted and has not reported yet may serve, and knows what a dead supervisor told it. One that
    starts may serve before it can be told anything, and knows what it was started with.
    """
    for replica in found.replicas.values():
        if replica.ending:
            continue
        if replica.unheard:
            return False
        if replica.state is STARTING and replica.routes != version:
            return False
        if replica.state is READY and (replica.report is None or replica.report.routes != version):
            return False
    return True


def all_applied(desired: Desired, observed: Observed, rollout: Rollout, versions: Mapping[SetName, int]) -> bool:
    """Whether all that may have requests know the routes of the later release.

    versions: of the routes that hold now, by replica set; of programs, which know none, there is none.
    """
    names = {*desired.current.sets.values(), *rollout.later.sets.values()}
    sets = observed.sets
    return all(applied(sets.get(name) or ObservedSet(), versions[name]) for name in names if name in versions)


def pinned(desired: Desired, observed: Observed, versions: Mapping[SetName, int], unreachable: Collection[int]) -> bool:
    """Whether a request of the going release may be under way, in one of the sets that stay.

    versions: as of `all_applied`. unreachable: processes that serve, and can neither be told nor asked.
    """
    going = desired.going()
    if going is None or unreachable:
        return True
    leaving = set(desired.leaving())
    for name, found in observed.sets.items():
        if name in leaving or name not in versions:
            continue
        if not applied(found, versions[name]):
            return True
        for replica in found.replicas.values():
            report = replica.report
            if report is None and replica.state is DRAINING:
                return True  # it was adopted, and has not said what it finishes
            traffic = report.traffic.get(going.name) if report is not None else None
            if traffic is not None and traffic.in_flight:
                return True
    return False
