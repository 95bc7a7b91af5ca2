"""One timer for many deadlines.

A timer per call costs more than a local call does. So deadlines stay with what they bound (a call, a
stream, a ping), and each owner has one alarm: it is set to the earliest deadline that the owner was told
of, and then the owner sweeps over all that it has. Most calls end long before their deadline, so the
alarm rings seldom, and an idle owner has none.
"""

import asyncio
import time
from collections.abc import Callable
from math import inf

# Deadlines are kept to this precision: an alarm rings at most once in so many seconds.
PRECISION_SECONDS = 0.02


class Alarm:
    """Calls `sweep(now)` once the earliest deadline that it was told of has passed.

    sweep: ends what is past its deadline and returns the earliest deadline that is left (`inf`: none). Times are
    seconds on the loop's clock, which is `time.monotonic`. due: when it rings; compare with it before calling
    `set`, where a call must not cost anything. loop: None for the one that runs when it is first set.
    """

    __slots__ = ("_handle", "_loop", "_sweep", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop | None, sweep: Callable[[float], float]) -> None:
        self.due = inf
        self._loop = loop
        self._sweep = sweep
        self._handle: asyncio.TimerHandle | None = None

    def set(self, deadline: float) -> None:
        """Ring at this deadline at the latest."""
        if deadline >= self.due:
            return
        if self._handle is not None:
            self._handle.cancel()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self.due = deadline
        # uvloop's own clock counts whole milliseconds and stands still within a turn of the loop.
        self._handle = self._loop.call_later(max(0.0, deadline - time.monotonic()) + 0.001, self._ring)

    def _ring(self) -> None:
        self._handle = None
        self.due = inf
        now = time.monotonic()
        following = self._sweep(now)
        if following != inf:
            self.set(max(following, now + PRECISION_SECONDS))

    def stop(self) -> None:
        """Ring no more."""
        self.due = inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
