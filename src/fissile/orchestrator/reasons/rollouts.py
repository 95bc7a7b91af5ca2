"""What a rollout does and waits for, and what the comparison of two releases shows."""

from typing import ClassVar

from fissile.names import ServiceName, SetName
from fissile.orchestrator.reasons.reason import Plain, ReasonBase


class MigrationsRun(Plain, frozen=True):
    """The later release's replicas start after them."""

    words: ClassVar[str] = "migrations run"


class Migrated(Plain, frozen=True):
    """The later release's replicas may start."""

    words: ClassVar[str] = "all migrations are done"


class WaitsForReplicas(ReasonBase, frozen=True):
    """missing: services, with how many are ready of how many."""

    missing: tuple[tuple[ServiceName, int, int], ...]

    def __str__(self) -> str:
        told = (f"{service} ({ready} of {wanted} ready)" for service, ready, wanted in self.missing)
        return f"waiting for {', '.join(told)}"


class WaitsForRoutes(ReasonBase, frozen=True):
    """Not all replicas have applied them. going: those by which nobody gets the release that goes any more."""

    going: bool = False

    def __str__(self) -> str:
        if self.going:
            return "requests for the outgoing release may still arrive: telling all replicas"
        return "telling all replicas about the new ones"


class CanaryBegins(ReasonBase, frozen=True):
    """share: of the requests, in (0, 1)."""

    share: float

    def __str__(self) -> str:
        return f"{self.share * 100:g} % of the requests go to the new release"


class AllAreReady(Plain, frozen=True):
    """The later release gets all requests."""

    words: ClassVar[str] = "all replicas are ready: every new request goes to the new release"


class AllKnowIt(Plain, frozen=True):
    """No new request gets the release that goes."""

    words: ClassVar[str] = "all replicas know of it"


class RequestsInFlight(Plain, frozen=True):
    """Of the release that goes."""

    words: ClassVar[str] = "requests of the outgoing release are still in flight"


class RequestsDone(Plain, frozen=True):
    """Nothing needs a set that goes any more."""

    words: ClassVar[str] = "its requests are done"


class FinishTimeOver(Plain, frozen=True):
    """Requests may still need a set that goes; they have had their time."""

    words: ClassVar[str] = "its time to finish is over"


class WaitsForFormer(ReasonBase, frozen=True):
    """services: of the earlier release, that are to serve again."""

    services: tuple[ServiceName, ...]

    def __str__(self) -> str:
        return f"waiting for {', '.join(self.services)}"


class WaitsForEnd(ReasonBase, frozen=True):
    """sets: those that end now."""

    sets: tuple[SetName, ...]

    def __str__(self) -> str:
        return f"waiting for the end of {', '.join(self.sets)}"


class EarlierEnded(Plain, frozen=True):
    """The rollout is done."""

    words: ClassVar[str] = "all of the earlier release has ended"


class TooFewRequests(ReasonBase, frozen=True):
    """later: whether it is the later release that has had so few."""

    later: bool
    count: int
    needed: int

    def __str__(self) -> str:
        which = "the new release" if self.later else "the old release"
        return f"{which} answered {self.count} requests, {self.needed} are needed"


class AsGood(ReasonBase, frozen=True):
    """Errors and requests of the later release, and of the earlier one."""

    errors: int
    count: int
    old_errors: int
    old_count: int

    def __str__(self) -> str:
        of_old = f"{self.old_errors} of {self.old_count}"
        return f"{self.errors} of {self.count} requests failed (old release: {of_old}), and neither is slower"


class FailsMore(ReasonBase, frozen=True):
    """Errors and requests of the later release, and of the earlier one."""

    errors: int
    count: int
    old_errors: int
    old_count: int

    def __str__(self) -> str:
        of_old = f"{self.old_errors} of {self.old_count}"
        return f"{self.errors} of {self.count} requests failed, of the old release {of_old}"


class Slower(ReasonBase, frozen=True):
    """Too many answers took longer than a limit that a share of the earlier release's keeps."""

    slow: int
    count: int
    seconds: float
    share: float

    def __str__(self) -> str:
        return (
            f"{self.slow} of {self.count} requests took longer than {self.seconds * 1000:.0f} ms, "
            f"which {self.share:.0%} of the old release's do not"
        )


class NewException(ReasonBase, frozen=True):
    """The earlier release does not raise it."""

    exception: str
    times: int

    def __str__(self) -> str:
        return f"an exception that the old release does not have, {self.times} times: {self.exception}"
