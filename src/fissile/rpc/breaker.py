"""PURE. When to stop asking a service that does not answer: one breaker per (caller, callee service).

closed → open after consecutive failures; open → half open after a pause, which doubles with every
probe that fails; half open → closed with one probe that succeeds. A failure is a call that did not
get through or not in time; an answer, also an error, is a success.
"""

from enum import Enum

FAILURES_MAX = 5
PAUSE_SECONDS = 0.5
PAUSE_SECONDS_MAX = 8.0


class BreakerState(Enum):
    """Whether calls are let through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """The state of one breaker. Times are seconds on one monotonic clock."""

    __slots__ = ("failures", "pause", "reopens_at", "state")

    def __init__(self) -> None:
        self.state = BreakerState.CLOSED
        self.failures = 0
        self.pause = PAUSE_SECONDS
        self.reopens_at = 0.0

    def admits(self, now: float) -> bool:
        """Whether a call may be made; in half-open state that call is the probe."""
        if self.state is BreakerState.CLOSED:
            return True
        if now < self.reopens_at:
            return False
        # A probe that is never heard of again must not keep the breaker shut: the next comes later.
        self.state = BreakerState.HALF_OPEN
        self.reopens_at = now + self.pause
        return True

    def succeeded(self) -> None:
        """A call was answered."""
        self.state = BreakerState.CLOSED
        self.failures = 0
        self.pause = PAUSE_SECONDS

    def failed(self, now: float) -> None:
        """A call was not answered, or not in time."""
        self.failures += 1
        if self.state is BreakerState.HALF_OPEN:
            self.pause = min(self.pause * 2, PAUSE_SECONDS_MAX)
        elif self.state is BreakerState.OPEN or self.failures < FAILURES_MAX:
            return
        self.state = BreakerState.OPEN
        self.reopens_at = now + self.pause
