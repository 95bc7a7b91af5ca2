"""Why something was done, or happened: typed values, and the one place that has their words.

A decision returns what to do and its Reason. Code asks for its type and fields; `str(reason)` is for people, and nobody
looks for anything in that text. For programs, the same value is tagged with its kind. Readers skip kinds that they do
not know: there are more of them with each version.

Kinds that stand alone have a module for each subject. Those that hold another reason stand here, beside the union
of all.
"""

from typing import Any

import msgspec

from fissile.names import ServiceName
from fissile.orchestrator.reasons.endings import (
    CannotStart,
    Exited,
    InternalError,
    LoopStuck,
    MigrationEnded,
    MigrationTooSlow,
    NotReadyInTime,
    OutOfMemory,
    OverMemory,
    PlacesHeld,
    Silent,
)
from fissile.orchestrator.reasons.reason import ReasonBase, Said
from fissile.orchestrator.reasons.replicas import (
    IN_PLACE,
    AllStops,
    DoesNotEnd,
    DrainTimeOver,
    HeldBack,
    InPlace,
    LeastBusy,
    NotWanted,
    Replaced,
    RestartWanted,
    ServesNobodyYet,
    SlotEmpty,
    TakenBack,
    ToldToEnd,
)
from fissile.orchestrator.reasons.rollouts import (
    AllAreReady,
    AllKnowIt,
    AsGood,
    CanaryBegins,
    EarlierEnded,
    FailsMore,
    FinishTimeOver,
    Migrated,
    MigrationsRun,
    NewException,
    RequestsDone,
    RequestsInFlight,
    Slower,
    TooFewRequests,
    WaitsForEnd,
    WaitsForFormer,
    WaitsForReplicas,
    WaitsForRoutes,
)
from fissile.orchestrator.reasons.scaling import (
    AtMinimum,
    BoundsAltered,
    Freed,
    Load,
    NoCalls,
    NotScaled,
    Panic,
    RolloutNeeds,
    Woken,
)


class EndedAtFault(ReasonBase, frozen=True):
    """It ended after something was found to be wrong with it."""

    fault: "Reason"
    how: "Reason"

    def __str__(self) -> str:
        return f"{self.fault}; {self.how}"

    @property
    def cause(self) -> ReasonBase:
        return self.fault.cause

    @property
    def advises(self) -> bool:
        return self.how.advises


class DoesNotComeUp(ReasonBase, frozen=True):
    """A replica of the later release ended before it was ready."""

    service: ServiceName
    trouble_of: "Reason | None"

    def __str__(self) -> str:
        return f"{self.service} does not come up: {self.trouble_of or ''}"

    @property
    def cause(self) -> ReasonBase:
        return self.trouble_of.cause if self.trouble_of is not None else self


class Dies(ReasonBase, frozen=True):
    """A replica of the later release ended while it was watched."""

    service: ServiceName
    trouble_of: "Reason | None"

    def __str__(self) -> str:
        return f"{self.service} {self.trouble_of or ''}"

    @property
    def cause(self) -> ReasonBase:
        return self.trouble_of.cause if self.trouble_of is not None else self


DECIDES = "`fissile promote` or `fissile abort` decides"


class MigrationFailed(ReasonBase, frozen=True):
    """what: the trouble of one, in words."""

    what: str

    def __str__(self) -> str:
        return f"a migration failed: {self.what}"


class RollbackDies(ReasonBase, frozen=True):
    """The release that a rollback goes to does not live either: a person decides."""

    dies: Dies

    def __str__(self) -> str:
        return f"a rollback is not taken back by itself: {self.dies}; {DECIDES}"

    @property
    def cause(self) -> ReasonBase:
        return self.dies.cause


class Watched(ReasonBase, frozen=True):
    """said: by the comparison so far."""

    seconds: float
    said: "Reason | None"

    def __str__(self) -> str:
        return f"watching for {self.seconds:.0f} s more: {self.said or 'nothing is known yet'}"


class Undecided(ReasonBase, frozen=True):
    """The comparison has shown nothing, so a person decides."""

    said: "Reason | None"

    def __str__(self) -> str:
        return f"inconclusive, so it stops here: {self.said or 'nothing is known about the requests'}; {DECIDES}"


class WithoutFormer(ReasonBase, frozen=True):
    """A rollout was given up. why: in words. services: of the earlier release, that did not come up again."""

    why: str
    services: tuple[ServiceName, ...]

    def __str__(self) -> str:
        missing = ", ".join(self.services)
        return f"{self.why}; {missing} did not come up again, and is started again and again"


class CoresShared(ReasonBase, frozen=True):
    """wish: why it should have more; None: because its load does. wanted: how many; replicas: how many it gets."""

    wish: "Reason | None"
    wanted: int
    cores: int
    replicas: int

    def __str__(self) -> str:
        wish = self.wish if self.wish is not None else f"{self.wanted} wanted"
        return f"{wish}, but the {self.cores} cores are shared: {self.replicas}"


class StartsAgain(ReasonBase, frozen=True):
    """A replica has ended, for the `in_a_row`-th time in its slot, and is started again after a pause.

    instead: who is there in its place, so that nothing is started.
    """

    how: "Reason"
    in_a_row: int
    looping: bool
    after_seconds: float
    instead: InPlace = InPlace.NOBODY

    def __str__(self) -> str:
        many = f", {self.in_a_row} times in a row" if self.in_a_row > 1 else ""
        when = f"starting again in {self.after_seconds:.1f} s" if self.after_seconds else "starting again"
        loops = ": it crashes in a loop" if self.looping else ""
        return f"{self.how}{many}{loops}; {IN_PLACE.get(self.instead, when)}"

    @property
    def cause(self) -> ReasonBase:
        return self.how.cause

    @property
    def advises(self) -> bool:
        return self.how.advises


Reason = (
    Said
    | CannotStart
    | Exited
    | MigrationEnded
    | MigrationTooSlow
    | InternalError
    | OutOfMemory
    | OverMemory
    | LoopStuck
    | PlacesHeld
    | NotReadyInTime
    | Silent
    | EndedAtFault
    | DoesNotComeUp
    | Dies
    | MigrationFailed
    | MigrationsRun
    | Migrated
    | WaitsForReplicas
    | WaitsForRoutes
    | CanaryBegins
    | AllAreReady
    | RollbackDies
    | Watched
    | Undecided
    | AllKnowIt
    | RequestsInFlight
    | RequestsDone
    | FinishTimeOver
    | WaitsForFormer
    | WaitsForEnd
    | EarlierEnded
    | WithoutFormer
    | TooFewRequests
    | AsGood
    | FailsMore
    | Slower
    | NewException
    | Woken
    | AtMinimum
    | Panic
    | NoCalls
    | Load
    | RolloutNeeds
    | BoundsAltered
    | CoresShared
    | NotScaled
    | Freed
    | StartsAgain
    | SlotEmpty
    | RestartWanted
    | LeastBusy
    | ServesNobodyYet
    | Replaced
    | NotWanted
    | DrainTimeOver
    | DoesNotEnd
    | HeldBack
    | AllStops
    | TakenBack
    | ToldToEnd
)


def tagged(reason: ReasonBase) -> dict[str, Any]:
    """The same as plain data, for programs: its fields, and as "kind" the name of its type."""
    return msgspec.to_builtins(reason)
