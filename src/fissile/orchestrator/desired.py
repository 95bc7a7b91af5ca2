"""How everything should be: what the journal keeps, and `plan` compares with what is observed.

A service has one replica set, and two while a rollout replaces its build: they share nothing, so no request meets both.
"""

from collections.abc import Collection
from enum import StrEnum

import msgspec

from fissile.names import ServiceName, SetName, service_of

REPLICAS_MAX = 1000


class DesiredSet(msgspec.Struct, frozen=True):
    """How a replica set should be.

    replicas: wanted now, by a person or the autoscaler, within minimum and maximum. revision: replicas
    of a lower one are replaced. The seconds are limits: until ready; without a sign of life; for having all places
    held by calls whose time is up; for finishing what is in flight; and for stopping the components after that.
    allow_overlap: whether a new replica may run beside the one that it replaces. release: of whose code and settings it
    is made. after: sets that are to have served before its first replica starts. zero_by: who has scaled it to zero; it
    keeps its bounds, and nothing wakes it but whoever scales it again. most: so many may be at all, as one where a
    port is fixed. zygote: by which its replicas are made, so that all have read the same files and have the same
    environment; "": by the newest of its release. zygote_before: by which they were made before the last restart.
    """

    replicas: int = 1
    replicas_min: int = 1
    replicas_max: int = 1
    revision: int = 1
    start_seconds_max: float = 30.0
    silent_seconds_max: float = 10.0
    stuck_seconds_max: float = 30.0
    drain_seconds_max: float = 10.0
    stop_seconds_max: float = 5.0
    allow_overlap: bool = True
    release: str = ""
    after: tuple[SetName, ...] = ()
    zero_by: str = ""
    most: int = REPLICAS_MAX
    zygote: str = ""
    zygote_before: str = ""

    @property
    def automatic(self) -> bool:
        """Whether the autoscaler decides."""
        return self.replicas_min < self.replicas_max and not self.zero_by

    def none(self) -> "DesiredSet":
        """The same with no replica."""
        return msgspec.structs.replace(self, replicas=0, replicas_min=0, replicas_max=0)


class LiveRelease(msgspec.Struct, frozen=True):
    """A release that may have requests. sets: by service. waves: services in the order of stopping, callers first."""

    name: str = ""
    sets: dict[ServiceName, SetName] = {}
    waves: tuple[tuple[ServiceName, ...], ...] = ()


class Stage(StrEnum):
    """migrating → starting → canary → scaling up → promoted; rolling back instead, from each of the first four.

    Migrations run; the later release's replicas start; they get a share of the requests and are watched; as many
    start as are needed for all; they get all requests, and the earlier ones end. Rolling back: the earlier release
    gets all requests, and the later one's replicas end.
    """

    MIGRATING = "migrating"
    STARTING = "starting"
    CANARY = "canary"
    SCALING_UP = "scaling-up"
    PROMOTED = "promoted"
    ROLLING_BACK = "rolling-back"


class Rollout(msgspec.Struct, frozen=True):
    """Moving the requests from the release that is current to a later one.

    number: of all rollouts of this application. specs: how the later release's own sets should be when they
    take all requests; of sets that both releases share, those that are altered. previous_specs: how the latter were.
    share: of new requests that go to the later release while it is watched; 1: it is not. since: when the stage
    began, seconds of the wall clock. back_to: the release of the revision history that it goes back to, and then
    it is never taken back itself; "" if it goes forward.
    sticky: the header by which a client is always given the same release; "cookie" sets one. known_at: since when
    all replicas know that no new request gets the release that goes (wall clock; 0: not yet). left: its sets that no
    request calls any more.
    """

    number: int
    later: LiveRelease
    specs: dict[SetName, DesiredSet]
    stage: Stage = Stage.STARTING
    share: float = 1.0
    watch_seconds: float = 0.0
    since: float = 0.0
    back_to: str = ""
    sticky: str = ""
    who: str = ""
    reason: str = ""
    settle_seconds_max: float = 10.0
    previous_specs: dict[SetName, DesiredSet] = {}
    known_at: float = 0.0
    left: tuple[SetName, ...] = ()


class Desired(msgspec.Struct, frozen=True):
    """How all replica sets should be.

    current: the release that new requests get, but for those that the rollout gives to its later one.
    revision_history: the names of the releases before it, newest last: where a rollback goes to.
    """

    sets: dict[SetName, DesiredSet] = {}
    current: LiveRelease = LiveRelease()
    rollout: Rollout | None = None
    revision_history: tuple[str, ...] = ()
    rollouts: int = 0

    def paused(self, held: Collection[SetName]) -> "Desired":
        """The same with no replica of these sets."""
        if not held:
            return self
        sets = {name: want.none() if name in held else want for name, want in self.sets.items()}
        return msgspec.structs.replace(self, sets=sets)

    def releases(self) -> tuple[LiveRelease, ...]:
        """Those that may have requests."""
        return (self.current,) if self.rollout is None else (self.current, self.rollout.later)

    def needed(self) -> set[str]:
        """The releases of whose code something runs, or may have to."""
        return {release.name for release in self.releases()} | {want.release for want in self.sets.values()}

    def live_services(self) -> set[ServiceName]:
        """Those of all live releases: they alone may call, and report."""
        return {service for release in self.releases() for service in release.sets}

    def wants(self, name: SetName, release: str, *, migrates: bool) -> bool:
        """Whether a process goes on that somebody else has begun: a replica of a set, or one that runs migrations."""
        return any(release == one.name for one in self.releases()) if migrates else name in self.sets

    def shares(self) -> dict[str, float]:
        """Which part of new requests each release gets: in [0, 1], 1 in all."""
        rollout = self.rollout
        if rollout is None:
            return {self.current.name: 1.0}
        share = 0.0
        if rollout.stage is Stage.PROMOTED:
            share = 1.0
        elif rollout.stage in (Stage.CANARY, Stage.SCALING_UP):
            share = rollout.share
        return {self.current.name: 1.0 - share, rollout.later.name: share}

    def main(self) -> str:
        """The release that most new requests get."""
        shares = self.shares()
        return max(shares, key=lambda name: shares[name])

    def set_of(self, service: ServiceName) -> SetName:
        """The replica set that is meant by a service's name: the main release's, if it has one. Raises KeyError."""
        main = self.main()
        for release in sorted(self.releases(), key=lambda one: one.name != main):
            if service in release.sets:
                return release.sets[service]
        raise KeyError(service)

    def sets_of(self, service: ServiceName) -> tuple[SetName, ...]:
        """A service's replica sets that are not about to end."""
        return tuple(name for name, want in self.sets.items() if service_of(name) == service and want.replicas_max)

    def going(self) -> LiveRelease | None:
        """The release that is to have no requests any more."""
        rollout = self.rollout
        if rollout is not None and rollout.stage is Stage.PROMOTED:
            return self.current
        return rollout.later if rollout is not None and rollout.stage is Stage.ROLLING_BACK else None

    def leaving(self) -> tuple[SetName, ...]:
        """The sets that only the going release has, in the order in which they may end."""
        going = self.going()
        if going is None:
            return ()
        (staying,) = [release for release in self.releases() if release is not going]
        kept = set(staying.sets.values())
        return tuple(name for wave in going.waves for s in wave if (name := going.sets[s]) not in kept)
