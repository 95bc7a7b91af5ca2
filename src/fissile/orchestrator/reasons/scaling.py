"""How many replicas a service should have, and why no more."""

from typing import ClassVar

from fissile.names import ServiceName
from fissile.orchestrator.reasons.reason import Plain, ReasonBase


class Woken(Plain, frozen=True):
    """It had no replica, and is needed."""

    words: ClassVar[str] = "a call came to it while it slept"


class AtMinimum(Plain, frozen=True):
    """It had none, and its bounds say that it has some."""

    words: ClassVar[str] = "its minimum"


class Panic(ReasonBase, frozen=True):
    """Far more is in flight in the last seconds than the ready replicas are meant for."""

    in_flight: float
    seconds: float
    ready: int
    meant_for: float

    def __str__(self) -> str:
        return (
            f"{self.in_flight:.1f} in flight over {self.seconds:g} s, "
            f"{self.ready} ready are meant for {self.meant_for:g}: panic"
        )


class NoCalls(ReasonBase, frozen=True):
    """It goes to sleep."""

    seconds: float

    def __str__(self) -> str:
        return f"no calls for {self.seconds:g} s"


class Load(ReasonBase, frozen=True):
    """What is in flight, and how much of that one replica is meant for."""

    in_flight: float
    seconds: float
    target: float

    def __str__(self) -> str:
        return f"{self.in_flight:.1f} in flight over {self.seconds:g} s, {self.target:g} are meant for one replica"


class RolloutNeeds(Plain, frozen=True):
    """A rollout brings it: it has no load yet."""

    words: ClassVar[str] = "the earlier release's requests are about to come to it"


class BoundsAltered(Plain, frozen=True):
    """Its load has asked for nothing."""

    words: ClassVar[str] = "bounds were altered"


class NotScaled(ReasonBase, frozen=True):
    """More of a service would wait as well, because its calls wait for another one.

    replicas: how many its load asks for. share: of its calls that wait. chain: for whom, and for whom that one waits.
    count: the replicas of the last one. most: how many that may have; None: a fixed number. places: for calls in all of
    them, where all are taken; else 0.
    """

    replicas: int
    share: float
    chain: tuple[ServiceName, ...]
    count: int
    most: int | None
    places: int = 0

    def __str__(self) -> str:
        end = ", which waits for ".join(self.chain)
        many = f"{self.count} replica{'' if self.count == 1 else 's'}"
        if self.most is None:
            end += f", which has {many}, a fixed number"
        elif self.count >= self.most:
            end += f", which has {many}, as many as it may"
        else:
            end += f", which has {self.count} of at most {self.most} replicas"
        if self.places:
            end += f", all {self.places} places for calls taken"
        return f"not scaled to {self.replicas}: {self.share:.0%} of its calls wait for {end}"


class Freed(ReasonBase, frozen=True):
    """A service is scaled up again. quiet_seconds: for how long it has not waited; 0: nothing scales it any more.

    held_seconds: for how long it was held, within all_seconds; by whom for the longest, and for how long.
    """

    quiet_seconds: float
    held_seconds: float
    all_seconds: float
    by: ServiceName
    by_seconds: float

    def __str__(self) -> str:
        quiet = (
            f"it has not waited for {self.quiet_seconds:g} s" if self.quiet_seconds else "nothing scales it any more"
        )
        held = f"it was held for {self.held_seconds:.0f} s in {self.all_seconds:.0f} s"
        return f"{quiet}; {held}, by {self.by} for {self.by_seconds:.0f} s"
