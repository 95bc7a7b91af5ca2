"""What has to go on for as long as the supervisor lives, whatever mistake is made in one turn of it."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable

MISTAKE_SECONDS = 1.0


async def run_forever(
    work: Callable[[], Awaitable[None]], say: Callable[[str], None], pause_seconds: float = MISTAKE_SECONDS
) -> None:
    """Begin it again, after a pause, whenever it ends with an error that nobody has foreseen.

    It looks at states alone, so it may begin anew at any time. Without it nothing that dies would be replaced.
    """
    while True:
        try:
            await work()
        except Exception:
            say(f"internal error:\n{traceback.format_exc()}")
        await asyncio.sleep(pause_seconds)
