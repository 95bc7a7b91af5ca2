"""Runs a task for as long as the supervisor lives, and starts it again after an unexpected error."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable

MISTAKE_SECONDS = 1.0


async def run_forever(
    work: Callable[[], Awaitable[None]], say: Callable[[str], None], pause_seconds: float = MISTAKE_SECONDS
) -> None:
    """Run `work` again and again, with a pause; report an unexpected error and go on.

    Safe for work that only compares states, because it may begin anew at any time.
    """
    while True:
        try:
            await work()
        except Exception:
            say(f"internal error:\n{traceback.format_exc()}")
        await asyncio.sleep(pause_seconds)
