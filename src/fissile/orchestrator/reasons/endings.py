"""How a replica ended, or what is wrong with it."""

from collections.abc import Mapping

from fissile.orchestrator.reasons.reason import ReasonBase, described, size_text

HOLDERS_NAMED_MAX = 3


class InternalError(ReasonBase, frozen=True):
    """Fissile itself is at fault. error: the type of the exception; message: its words."""

    error: str
    message: str

    def __str__(self) -> str:
        return f"internal error: {self.error}: {self.message}"


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
