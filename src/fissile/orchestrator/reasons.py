"""Why something was done, or happened: typed values, and the one place that has their words.

A decision returns what to do and its Reason. Code asks for its type and fields; `str(reason)` is for people, and nobody
looks for anything in that text. `tagged` is for programs: the same value with its `kind`. Readers skip kinds that they
do not know: there are more of them with each version.
"""

import signal
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from fissile.names import ServiceName, SetName

# Of methods that hold all places, so many are named.
HOLDERS_NAMED_MAX = 3
UNITS = ((2**40, "T"), (2**30, "G"), (2**20, "M"), (2**10, "K"))


class ReasonBase(msgspec.Struct, frozen=True, tag=True, tag_field="kind"):
    """What every Reason is."""

    def __str__(self) -> str:
        """For people."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """For programs: what sort of reason it is."""
        return type(self).__name__

    @property
    def cause(self) -> "ReasonBase":
        """Where it began: the end of a replica that is started again, the fault of one that was killed."""
        return self

    @property
    def brief(self) -> str:
        """Its first line, where the rest, and what to do about it, is said elsewhere."""
        return str(self).partition("\n")[0].rstrip(":")

    @property
    def trouble(self) -> str:
        """Why something cannot start, where it is said already that it cannot."""
        return str(self)

    @property
    def advises(self) -> bool:
        """Whether its words say what to do next."""
        return False


class Plain(ReasonBase, frozen=True):
    """One that always has the same words."""

    words: ClassVar[str]

    def __str__(self) -> str:
        return self.words


class Said(ReasonBase, frozen=True):
    """In the words of whoever wanted it, or knows of it; nobody decides anything by them."""

    text: str

    def __str__(self) -> str:
        return self.text


# -- how a replica ended, or what is wrong with it -------------------------------------------------------


class CannotStart(ReasonBase, frozen=True):
    """It never was ready, and what was to start it says why. advice: whether that says what to do next."""

    what: "str | InternalError"
    advice: bool = False

    def __str__(self) -> str:
        return f"cannot start: {self.what}"

    @property
    def brief(self) -> str:
        return str(self.what).partition("\n")[0].rstrip(":")

    @property
    def trouble(self) -> str:
        return str(self.what)

    @property
    def cause(self) -> ReasonBase:
        return self if isinstance(self.what, str) else self.what

    @property
    def advises(self) -> bool:
        return self.advice


class Exited(ReasonBase, frozen=True):
    """Its process ended. status: exit code, -signal, or None where nobody saw it. early: before it was ready."""

    status: int | None
    pid: int = 0
    early: bool = False

    def __str__(self) -> str:
        if self.early:
            return f"it {described(self.status)} before it was ready"
        return f"pid {self.pid} {described(self.status)}"


class MigrationEnded(ReasonBase, frozen=True):
    """The process that was to migrate a service's data has failed. status: as of `Exited`."""

    service: str
    status: int | None

    def __str__(self) -> str:
        return f"the process for {self.service} {described(self.status)}"


class MigrationTooSlow(ReasonBase, frozen=True):
    """It was ended."""

    service: str
    seconds_max: float

    def __str__(self) -> str:
        return f"{self.service} was not done within {self.seconds_max:g} s"


class InternalError(ReasonBase, frozen=True):
    """Fissile itself is at fault. error: the type of the exception; message: its words."""

    error: str
    message: str

    def __str__(self) -> str:
        return f"a mistake of Fissile's own: {self.error}: {self.message}"


class OutOfMemory(ReasonBase, frozen=True):
    """The system ended it for want of memory."""

    pid: int
    peak_bytes: int | None = None
    limit_bytes: int | None = None

    def __str__(self) -> str:
        limit = "" if self.limit_bytes is None else f" of {size_text(self.limit_bytes)}"
        peak = "" if self.peak_bytes is None else f", at a peak of {size_text(self.peak_bytes)}"
        return f"pid {self.pid} ran out of memory{peak}{limit}"


class OverMemory(ReasonBase, frozen=True):
    """It is watched, and not held to its limit: it has to be killed."""

    used_bytes: int
    limit_bytes: int

    def __str__(self) -> str:
        return f"it ran out of memory: it uses {size_text(self.used_bytes)} of {size_text(self.limit_bytes)}"


class LoopStuck(ReasonBase, frozen=True):
    """It was asked, and has written where its event loop stands."""

    seconds: float

    def __str__(self) -> str:
        return f"its event loop has been stuck for {self.seconds:.1f} s"


class PlacesHeld(ReasonBase, frozen=True):
    """Calls whose time is up hold all its places. holders: how many each method holds."""

    seconds: float
    holders: Mapping[str, int]

    def __str__(self) -> str:
        most = sorted(self.holders.items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{method} ({count})" for method, count in most[:HOLDERS_NAMED_MAX])
        more = f" and {len(most) - HOLDERS_NAMED_MAX} more" if len(most) > HOLDERS_NAMED_MAX else ""
        count = sum(self.holders.values())
        return (
            f"all its places ({count}) have been held for {self.seconds:.0f} s by calls whose time is up: {named}{more}"
        )


class NotReadyInTime(ReasonBase, frozen=True):
    """missing: what a program has not done so far, as far as that can be seen."""

    seconds_max: float
    missing: str = ""

    def __str__(self) -> str:
        return f"it was not ready within {self.seconds_max:g} s{': ' if self.missing else ''}{self.missing}"


class Silent(ReasonBase, frozen=True):
    """It gave no sign of life."""

    seconds: float

    def __str__(self) -> str:
        return f"it gave no sign of life for {self.seconds:.1f} s"


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


# -- why a rollout is given up -------------------------------------------------------------------------------


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


# -- what a rollout does, and waits for ---------------------------------------------------------------------

DECIDES = "`fissile promote` or `fissile abort` decides"


class MigrationFailed(ReasonBase, frozen=True):
    """what: the trouble of one, in words."""

    what: str

    def __str__(self) -> str:
        return f"a migration failed: {self.what}"


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


class WithoutFormer(ReasonBase, frozen=True):
    """A rollout was given up. why: in words. services: of the earlier release, that did not come up again."""

    why: str
    services: tuple[ServiceName, ...]

    def __str__(self) -> str:
        missing = ", ".join(self.services)
        return f"{self.why}; {missing} did not come up again, and is started again and again"


# -- what the comparison of two releases shows ---------------------------------------------------------------


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


# -- how many replicas a service should have -----------------------------------------------------------------


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


class CoresShared(ReasonBase, frozen=True):
    """wish: why it should have more; None: because its load does. wanted: how many; replicas: how many it gets."""

    wish: "Reason | None"
    wanted: int
    cores: int
    replicas: int

    def __str__(self) -> str:
        wish = self.wish if self.wish is not None else f"{self.wanted} wanted"
        return f"{wish}, but the {self.cores} cores are shared: {self.replicas}"


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


# -- why a replica is started ------------------------------------------------------------------------------


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


# -- why a replica is drained, stopped or killed -------------------------------------------------------------


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


def described(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "ended, nobody saw how"
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def size_text(count: int) -> str:
    """Bytes for people, in binary units."""
    return next((f"{count / unit:.4g}{letter}" for unit, letter in UNITS if count >= unit), str(count))
