"""Why a replica is started, drained, stopped or killed."""

from enum import StrEnum
from typing import ClassVar

from fissile.orchestrator.reasons.reason import Plain, ReasonBase


class InPlace(StrEnum):
    """Who is in the slot of a replica that has ended."""

    NOBODY = ""
    FORMER = "former"
    READY = "ready"
    STARTING = "starting"


IN_PLACE = {
    InPlace.FORMER: "the replica that it was to replace serves on",
    InPlace.READY: "another one serves in its place",
    InPlace.STARTING: "another one starts in its place already",
}


class SlotEmpty(ReasonBase, frozen=True):
    """Fewer replicas are there than are wanted."""

    slot: int
    wanted: int

    def __str__(self) -> str:
        return f"{self.wanted} {'replica' if self.wanted == 1 else 'replicas'} wanted, slot {self.slot} is empty"


class RestartWanted(ReasonBase, frozen=True):
    """alone: the old one has to end before."""

    alone: bool = False

    def __str__(self) -> str:
        return f"a restart is wanted{', and two must not run at once' if self.alone else ''}"


class LeastBusy(ReasonBase, frozen=True):
    """There are more than are wanted."""

    wanted: int

    def __str__(self) -> str:
        return f"{self.wanted} wanted, and it is the least busy"


class ServesNobodyYet(ReasonBase, frozen=True):
    """There are more than are wanted, and it is not ready."""

    wanted: int

    def __str__(self) -> str:
        return f"{self.wanted} wanted, and it serves nobody yet"


class Replaced(Plain, frozen=True):
    """A newer one serves in its slot."""

    words: ClassVar[str] = "a new replica has taken over"


class NotWanted(Plain, frozen=True):
    """What it was started for is not wanted any more."""

    words: ClassVar[str] = "it is not wanted any more"


class DrainTimeOver(Plain, frozen=True):
    """It was to finish its work by now."""

    words: ClassVar[str] = "its time to drain is over"


class DoesNotEnd(Plain, frozen=True):
    """It was told to end by a signal, and is still there."""

    words: ClassVar[str] = "it does not end by itself"


class HeldBack(Plain, frozen=True):
    """Its service is to have no replica for now, whatever is desired."""

    words: ClassVar[str] = "it is held"


class AllStops(Plain, frozen=True):
    """The whole application ends."""

    words: ClassVar[str] = "all is stopped"


class TakenBack(Plain, frozen=True):
    """A restart is not wanted any more, and none of its replicas has failed."""

    words: ClassVar[str] = "it was taken back"


class ToldToEnd(Plain, frozen=True):
    """Somebody beside the plan has it drain."""

    words: ClassVar[str] = "it was told to end"
