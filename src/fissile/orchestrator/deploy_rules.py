"""What a deploy does: which sets there are to be, what they are like, where a rollback goes, and what people are told.

A release is what its `ReleaseSpec` says: names and numbers alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf

import msgspec

from fissile.errors import ConfigError, FissileError
from fissile.names import ServiceName, SetName, set_name
from fissile.orchestrator.acts import ScaleService
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout, Stage
from fissile.orchestrator.rollout import UNDECIDED, served_before, with_current_scale
from fissile.orchestrator.shutdown_order import stop_waves
from fissile.orchestrator.spec import ReleaseSpec, ServiceSpec
from fissile.releases.release import ContractBreak, Difference, Release, difference, parted
from fissile.runtime.control import WireDifference

DEFAULT_WATCH_SECONDS = 60.0
DEFAULT_CANARY = 0.1
# Of what would be different across a wire, a deploy shows so many.
DIFFERENCES_SHOWN = 20


class ContractBroken(FissileError):
    """A deploy that callers could not live with: its author's to mend. Nothing was touched."""


class DeployOrder(msgspec.Struct, frozen=True):
    """What is to be deployed, and how.

    topology: None: the one that runs. release: an earlier one, by its name or the beginning of it, instead of the
    code in the folder. canary: share of new requests that it gets while it is watched, in (0, 1); None: all at once.
    watch_seconds: how long it is watched. sticky: "cookie", or the header by which a client stays in a release.
    breaks: go on though callers cannot live with it. expect: the release that is thought to run; another is an error.
    plan: only say what would be done. force: all services start anew, though nothing may have changed. environment: of
    whoever orders it; "": as so far. packages: go back to a release though others are installed than it was made with.
    """

    topology: str | None = None
    release: str = ""
    canary: float | None = None
    watch_seconds: float | None = None
    sticky: str = ""
    breaks: bool = False
    expect: str = ""
    plan: bool = False
    force: bool = False
    environment: str = ""
    packages: bool = False
    who: str = "operator"
    why: str = ""


class Rollback(msgspec.Struct, frozen=True):
    """What a rollback does: it deploys a release. None ("") is deployed where a rollout is under way, which is given up
    instead if it still can be.
    """

    release: str = ""
    gives_up: bool = False


# -- a release's own sets ---------------------------------------------------------------------------


def sets_of(
    builds: Mapping[ServiceName, str], services: Mapping[ServiceName, ServiceSpec]
) -> dict[ServiceName, SetName]:
    """The replica set of each service; what cannot be there twice has one for all builds. builds: by service."""
    return {name: SetName(name) if spec.alone else set_name(name, builds[name]) for name, spec in services.items()}


def waves_of(release: ReleaseSpec) -> tuple[tuple[ServiceName, ...], ...]:
    """In which order services stop: callers before those whom they call, what all stand on last."""
    alone = tuple(name for name, spec in release.services.items() if spec.program and not spec.components)
    members = {name: spec.components for name, spec in release.services.items() if name not in alone}
    return (*stop_waves(members, {name: set(to) for name, to in release.references.items()}), alone)


def live_release(release: ReleaseSpec) -> LiveRelease:
    """A release as it is desired."""
    return LiveRelease(release.name, release.sets, waves_of(release))


def starting_order(release: ReleaseSpec, services: Iterable[ServiceName]) -> list[ServiceName]:
    """All its services, callees before their callers; then the others of these."""
    known = [service for wave in reversed(waves_of(release)) for service in wave]
    return list(dict.fromkeys([*known, *services]))


def set_spec(release: ReleaseSpec, service: ServiceName, zygote: str = "") -> DesiredSet:
    """How a service's replica set should be, by the release's own settings."""
    spec = release.services[service]
    low = high = spec.replicas
    if spec.scaling is not None:
        low, high = spec.scaling.replicas_min, spec.scaling.replicas_max
    return DesiredSet(
        replicas=min(max(spec.replicas, low, 1), high),
        replicas_min=low,
        replicas_max=high,
        start_seconds_max=spec.start_seconds,
        # A program that knows nothing of us gives no sign of life but that it is there.
        silent_seconds_max=inf if spec.program else spec.silent_seconds,
        drain_seconds_max=spec.drain_seconds,
        stuck_seconds_max=spec.stuck_seconds,
        stop_seconds_max=spec.stop_seconds,
        allow_overlap=spec.overlaps,
        release=release.name,
        most=spec.replicas_most,
        after=tuple(release.sets[other] for other in spec.after),
        zygote=zygote,
    )


def bounds(release: ReleaseSpec, service: ServiceName) -> tuple[int, int]:
    """Between which replica counts the settings let the autoscaler choose."""
    want = set_spec(release, service)
    return want.replicas_min, want.replicas_max


def in_place(earlier: ReleaseSpec, later: ReleaseSpec) -> list[ServiceName]:
    """The services that are replaced where they are: their set is the same in both, and its build is not."""
    same = [service for service in sorted(later.sets) if later.sets[service] == earlier.sets.get(service)]
    return [service for service in same if earlier.builds[service] != later.builds[service]]


# -- a rollout --------------------------------------------------------------------------------------


def check_order(order: DeployOrder) -> None:
    """What no release could be deployed by. Raises ConfigError."""
    if order.canary is not None and not 0.0 < order.canary < 1.0:
        raise ConfigError(
            f"a canary of {order.canary:g} is not a share", remedy="say more than 0 % and less than 100 %"
        )
    if order.watch_seconds is not None and not 0.0 < order.watch_seconds < inf:
        raise ConfigError(
            f"{order.watch_seconds:g} s is not a time to watch for", remedy="say as many seconds as in --watch 60s"
        )


def check_expected(order: DeployOrder, serves: str) -> None:
    """Whether the release that serves is the one that is thought to. Raises ConfigError."""
    if order.expect and not serves.startswith(order.expect):
        raise ConfigError(
            f"release {serves} runs, not {order.expect}: somebody else has deployed in the meantime",
            remedy="see `fissile history`, and deploy again if you still want to",
        )


def check_contracts(order: DeployOrder, found: Difference, earlier: ReleaseSpec, later: ReleaseSpec) -> None:
    """Whether the callers that run can live with it; who goes back knows of it. Raises ContractBroken."""
    if found.refused and not (order.breaks or order.plan or order.release):
        raise ContractBroken(
            "\n".join(["callers that run now would break with this code:", *map(_told, found.refused)]),
            remedy=way_out(found, earlier, later),
        )


def gives_way(desired: Desired) -> int | None:
    """The number of the rollout that a newer deploy gives up; None: one that is decided is waited for."""
    rollout = desired.rollout
    return rollout.number if rollout is not None and rollout.stage in UNDECIDED else None


def newest_release(desired: Desired) -> str:
    """The release that a deploy is compared with: what serves, once the rollout under way has ended."""
    rollout = desired.rollout
    return rollout.later.name if rollout is not None and rollout.stage is Stage.PROMOTED else desired.current.name


def back_to(desired: Desired, release: str = "") -> Rollback:
    """Where a rollback goes. release: that a person named. Raises ConfigError where there is no earlier one."""
    rollout = desired.rollout
    if not release and rollout is not None and rollout.stage is not Stage.PROMOTED:
        return Rollback(gives_up=rollout.stage in UNDECIDED)
    name = release or served_before(desired)
    if not name:
        raise ConfigError(
            "there is no earlier release",
            remedy="say which: `fissile rollback RELEASE`; `fissile releases` lists them",
        )
    return Rollback(name)


def changed_specs(desired: Desired, earlier: ReleaseSpec, later: ReleaseSpec, zygote: str) -> dict[SetName, DesiredSet]:
    """How the sets of a later release should be that it alone has, or that it alters.

    earlier: the current release. zygote: by which replicas of the later one are made.
    """
    found: dict[SetName, DesiredSet] = {}
    for service, name in later.sets.items():
        want, before = set_spec(later, service, zygote), None
        if service in desired.current.sets:
            before = desired.sets.get(desired.current.sets[service])
        same = before is not None and bounds(later, service) == bounds(earlier, service)
        if before is not None and same:
            # What a person or the autoscaler found right goes on to hold.
            want = with_current_scale(want, before)
        there = desired.sets.get(name)
        if there is None:
            found[name] = want
        elif earlier.builds.get(service) != later.builds[service]:
            found[name] = want  # it cannot be there twice: replaced where it is
        elif not same:
            found[name] = msgspec.structs.replace(
                there,
                replicas=min(max(there.replicas, want.replicas_min), want.replicas_max),
                replicas_min=want.replicas_min,
                replicas_max=want.replicas_max,
            )
    return found


def rollout_to(
    later: ReleaseSpec,
    order: DeployOrder,
    desired: Desired,
    wanted: dict[SetName, DesiredSet],
    *,
    migrates: bool,
    now: float,
) -> Rollout:
    """The rollout that an order asks for.

    wanted: what `changed_specs` says. migrates: whether migrations are to run first. now: seconds since 1970.
    """
    share, seconds = order.canary, order.watch_seconds
    if share is None:
        share = DEFAULT_CANARY if seconds else 1.0
    if seconds is None:
        seconds = DEFAULT_WATCH_SECONDS if share < 1.0 else 0.0
    return Rollout(
        number=desired.rollouts + 1,
        later=live_release(later),
        specs=wanted,
        stage=Stage.MIGRATING if migrates else Stage.STARTING,
        share=share,
        watch_seconds=seconds,
        since=now,
        back_to=order.release if order.release in desired.revision_history else "",
        sticky=order.sticky.lower(),
        who=order.who,
        reason=order.why or ("a rollback was asked for" if order.release else "a deploy was asked for"),
        settle_seconds_max=max(want.drain_seconds_max for want in desired.sets.values()),
    )


def rescalings(desired: Desired, before: ReleaseSpec, after: ReleaseSpec) -> list[ScaleService]:
    """The same builds with other settings: what these say of replica counts is applied to what runs."""
    return [
        ScaleService(name, *bounds(after, service))
        for service, name in desired.current.sets.items()
        if bounds(after, service) != bounds(before, service)
    ]


# -- what people are told -----------------------------------------------------------------------------


def way_out(found: Difference, earlier: ReleaseSpec, later: ReleaseSpec) -> str:
    """What whoever deploys a break may do, and what that costs."""
    concerned = {name for one in found.refused for name in (one.found.method.partition(".")[0], *one.callers)}
    places = {side.service_of(name) or name for side in (earlier, later) for name in concerned}
    both = [service for service in in_place(earlier, later) if service in places]
    if not both:
        return "keep the earlier form until nobody calls it, or say --accept-breaks if nobody outside does"
    return (
        f"deploy it in two steps: {', '.join(both)} cannot run twice at once, so requests of both releases meet it. "
        "With --accept-breaks, such calls fail until the earlier release has ended"
    )


def warnings_of(release: ReleaseSpec) -> Iterator[str]:
    """What people should know of it, though it is no mistake: what its import leaves, and walls around nobody."""
    yield from filter(None, release.warnings)
    if release.unheld:
        yield (
            f"{release.topology} has no service {' or '.join(release.unheld)}: `isolate`, `user` and `disk` of it have "
            f"no effect; write them for {', '.join(release.services)}"
        )


def deploy_warnings(order: DeployOrder, found: Difference, earlier: ReleaseSpec, later: ReleaseSpec) -> Iterator[str]:
    """What is lost by a deploy, or not as it should be, though it is no mistake."""
    if not order.plan:  # which shows them as what would be refused
        yield from map(_met, found.refused)
    yield from warnings_of(later)
    anew = {change.service for change in found.changes}
    for component, what in later.volatile_state.items():
        if later.service_of(component) in anew or earlier.service_of(component) in anew:
            yield f"{component} starts anew, and loses what it keeps in memory: {what}"
    for one in found.noted:
        yield f"{one.found.method}: {one.found.what}, and nobody is left who calls it: {one.note}"
    for service in in_place(earlier, later):
        yield f"{service} cannot run twice at once: it is replaced in place, and requests of both releases meet it"
    if order.sticky:
        yield from _unsticky(earlier, later)


def _unsticky(earlier: ReleaseSpec, later: ReleaseSpec) -> Iterator[str]:
    """Where no client can be kept in its release: a door whose own build is new gets whole connections."""
    for service, spec in later.services.items():
        for door in spec.doors:
            old = earlier.sets.get(earlier.service_of(door) or ServiceName(door))
            if old is not None and old != later.sets[service]:
                yield (
                    f"--sticky does nothing at {door}: its own build changes, so each connection gets a release by "
                    "chance, and not each client"
                )


def _met(one: ContractBreak) -> str:
    """Of a break that is no reason to refuse, as in a rollback."""
    return f"{one.found.method}: {one.found.what}, and may be called: {', and '.join(one.reasons)}"


def _told(one: ContractBreak) -> str:
    where = f"{one.found.method}{f', {one.found.place}' if one.found.place else ''}"
    called = f"; called by {', '.join(one.callers)}" if one.callers else ""
    return f"  - {where}: {one.found.what}{called}: {one.found.remedy}\n    because {', and '.join(one.reasons)}"


def split_warnings(
    earlier: Release, later: Release, seen: Mapping[ServiceName, Sequence[WireDifference]]
) -> Iterator[str]:
    """What was seen in calls within a process that cross a wire from now on, and would be different then.

    seen: by service of the earlier release.
    """
    moved = parted(earlier, later)
    found = [one for of in seen.values() for one in of if one.method.partition(".")[0] in moved]
    for one in found[:DIFFERENCES_SHOWN]:
        yield f"{one.method}: {one.what}"
    if len(found) > DIFFERENCES_SHOWN:
        more = len(found) - DIFFERENCES_SHOWN
        yield f"and {more} more would be different across a wire: see `fissile status --json`"


def strangeness(kept: Release, later: Release, missing: str) -> str:
    """What has changed around the code of an earlier release since it ran. missing: packages, as people read them."""
    told = {"installed packages changed": f"packages ({missing})" if missing else "installed packages changed"}
    found = difference(kept, later)
    reasons = dict.fromkeys(told.get(reason, reason) for change in found.changes for reason in change.reasons)
    return f"this is the code of {kept.name}, but not all is as it was when that ran: {', '.join(reasons)}"
