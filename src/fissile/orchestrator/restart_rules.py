"""Restarts that a person asks for: what is replaced, how far it has come, and who goes on with what was read before."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from fissile.names import ServiceName, SetName
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.reasons import Reason, TakenBack
from fissile.orchestrator.replica import Observed, ObservedSet


class Read(msgspec.Struct, frozen=True):
    """What an import has read. files: of settings, by path what tells one from what it was before. environment: the
    variables, as a block.
    """

    files: Mapping[str, str]
    environment: bytes


class RestartEnd(msgspec.Struct, frozen=True):
    """How a set's restart has ended. replicas: how many were replaced. trouble: why it was given up, if it was."""

    replicas: int
    trouble: Reason | None = None


def sleeps(desired: Desired, service: ServiceName) -> bool:
    """Whether somebody has scaled it to zero."""
    return any(desired.sets[name].zero_by for name in desired.sets_of(service))


def asleep(desired: Desired, services: Sequence[ServiceName]) -> list[ServiceName]:
    """Those that a restart of all of them leaves alone. One that is named alone is meant."""
    return [service for service in services if sleeps(desired, service)] if len(services) > 1 else []


def imported_anew(
    desired: Desired, services: Iterable[ServiceName], programs: Collection[SetName], *, moves: bool
) -> list[str]:
    """The releases that a restart of these services imports again: a program reads its files itself when it starts.

    moves: it gets another environment, which its zygote has.
    """
    sets = [name for service in services for name in desired.sets_of(service)]
    return list(dict.fromkeys(desired.sets[name].release for name in sets if moves or name not in programs))


def next_revision(desired: Desired, observed: Observed, name: SetName) -> int:
    """Above that of all replicas that a set has, had, or should have."""
    found = observed.sets.get(name)
    return max(desired.sets[name].revision, found.newest_revision() if found is not None else 0) + 1


def how_it_ended(desired: Desired, observed: Observed, name: SetName, revision: int) -> RestartEnd | None:
    """How the restart of a set to a revision has ended; None while it is under way."""
    want, found = desired.sets.get(name), observed.sets.get(name) or ObservedSet()
    if want is None or not want.replicas_max:
        return RestartEnd(0)  # it ends: a rollout has replaced it
    if want.revision < revision:
        return RestartEnd(0, found.trouble_of(revision) or TakenBack())
    renewed = all(replica.revision >= revision for replica in found.replicas.values())
    return RestartEnd(want.replicas) if renewed and found.ready() >= want.replicas else None


def behind(
    desired: Desired,
    services: Iterable[ServiceName],
    programs: Collection[SetName],
    own: Mapping[SetName, Read],
    fresh: Mapping[str, Read],
) -> list[ServiceName]:
    """Of these services, those that run with something else than was read just now; who sleeps starts with that anyway.

    own: by which each set is made. fresh: what was read, by release.
    """

    def is_behind(name: SetName) -> bool:
        new = fresh.get(desired.sets[name].release)
        if new is None:
            return False
        files = name not in programs and own[name].files != new.files
        return files or own[name].environment != new.environment

    return [s for s in services if not sleeps(desired, s) and any(map(is_behind, desired.sets_of(s)))]


def zygotes_in_use(desired: Desired, observed: Observed) -> Iterator[str]:
    """The zygotes by which replicas may still have to be made; "": any of the release."""
    for name, want in desired.sets.items():
        yield want.zygote
        found = observed.sets.get(name)
        if found is not None and any(one.revision < want.revision for one in found.replicas.values()):
            yield want.zygote_before  # as long as the restart may be given up
    if desired.rollout is not None:
        for want in (*desired.rollout.specs.values(), *desired.rollout.previous_specs.values()):
            yield want.zygote
