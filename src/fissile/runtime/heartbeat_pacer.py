"""When a replica reports: every second, and soon after something begins in a replica at rest."""

import asyncio
import time

from fissile.runtime.control import HEARTBEAT_SECONDS
from fissile.telemetry.pulse import Pulse

# How often the figures are looked at while anything is in flight.
SAMPLE_SECONDS = 0.1


class HeartbeatPacer:
    """Paces one replica's heartbeats. pulse: wakes it when the first call comes after a rest."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] | None = None
        self._hurried = False
        self._reported_at = -HEARTBEAT_SECONDS
        self._last = 0
        self._pinned: tuple[str, ...] = ()
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def hurry(self) -> None:
        """Somebody waits for the next report: make it now."""
        self._hurried = True
        self._ring()

    async def sleep(self, *, resting: bool) -> float:
        """Wait until the figures are to be looked at; how late that was (seconds), which is the loop's lag.

        resting: nothing is in flight now, so look soon at what begins.
        """
        if self._hurried:
            return 0.0
        left = max(0.0, self._reported_at + HEARTBEAT_SECONDS - time.monotonic())
        self._woken = self._loop.create_future()
        self._ring_after(left if resting else min(left, SAMPLE_SECONDS))
        if resting:
            self._pulse.rest(self._begun)
        try:
            await self._woken
        finally:
            # Else each call would go on waking a pacer that is awake.
            self._pulse.stir()
            if self._timer is not None:
                self._timer.cancel()
        return max(0.0, time.monotonic() - self._due)

    def is_due(self, busy: int, pinned: tuple[str, ...]) -> bool:
        """Whether to report now; then the next heartbeat is due a second from now.

        busy: calls and requests in flight. pinned: releases with requests in flight.
        """
        now = time.monotonic()
        sudden = abs(busy - self._last) > max(1, self._last // 4)
        if now - self._reported_at < HEARTBEAT_SECONDS and not (sudden or self._hurried or pinned != self._pinned):
            return False
        self._hurried = False
        self._reported_at, self._last, self._pinned = now, busy, pinned
        return True

    def _ring_after(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds
        self._timer = self._loop.call_later(seconds, self._ring)

    def _begun(self) -> None:
        """The first call after a rest: look as soon as if others were in flight."""
        if self._timer is not None and self._due - time.monotonic() > SAMPLE_SECONDS:
            self._timer.cancel()
            self._ring_after(SAMPLE_SECONDS)

    def _ring(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)
