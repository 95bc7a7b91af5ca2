"""Wakes the reconciler's loop, and tells who waits for its next step."""

import asyncio
import time
from contextlib import suppress
from math import inf


class StepSignal:
    """Between the loop, which waits for news, and the others, who wait for what it makes of them."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._stepped: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Something has changed that decisions rest on: compare and act again."""
        self._woken.set()

    async def next_step(self) -> None:
        """Wait until the loop has gone round once more."""
        if self._stepped is None:
            self._stepped = asyncio.get_running_loop().create_future()
        # Shielded: several wait for one future, and one of them may be cancelled.
        await asyncio.shield(self._stepped)

    def begin(self) -> None:
        """A step begins. News from now on, such as its own, lead to another one: so this comes before the step."""
        self._woken.clear()

    def end(self) -> None:
        """A step is over."""
        if self._stepped is not None:
            self._stepped.set_result(None)
            self._stepped = None

    async def wait(self, due: float) -> None:
        """Wait for news, until this time at the latest (monotonic seconds)."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if due == inf else max(0.0, due - time.monotonic())):
                await self._woken.wait()

    def cancel(self) -> None:
        """There will be no step any more: whoever waits for one is cancelled."""
        if self._stepped is not None:
            self._stepped.cancel()
            self._stepped = None
