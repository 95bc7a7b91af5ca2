"""Replaces a zygote that died, and waits longer after each attempt that fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from fissile.errors import FissileError

RESPAWN_SECONDS, RESPAWN_SECONDS_MAX = 1.0, 30.0


class Respawner:
    """Runs `start` in a task of its own, once at a time.

    Args:
        start: Starts another zygote, unless there is one by then. Raises FissileError.
        events: Gets an event, as kind and text, for each attempt that failed.
    """

    def __init__(self, start: Callable[[], Awaitable[None]], events: list[tuple[str, str]]) -> None:
        self._start = start
        self._events = events
        self._task: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._pause = RESPAWN_SECONDS
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "starting" if self._task is not None else "idle"
        return f"<Respawner {state}>"

    def respawn(self) -> None:
        """Start another zygote in the background, if the pause after the last attempt is over."""
        if self._closed or self._task is not None or time.monotonic() < self._not_before:
            return
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._start()
            self._not_before, self._pause = time.monotonic() + RESPAWN_SECONDS, RESPAWN_SECONDS
        except FissileError as error:
            self._events.append(("ZygoteFailed", f"no zygote can be started: {error.message}"))
            self._not_before = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, RESPAWN_SECONDS_MAX)
        finally:
            self._task = None

    def close(self) -> None:
        """Start none any more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
