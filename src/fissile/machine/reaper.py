"""The supervisor adopts what its zygotes leave when they die. This fetches how those ended, so that no zombie stays.

It never fetches the status of a child that somebody here has started and waits for.
"""

import asyncio
import os
from collections.abc import Callable, Container
from contextlib import suppress

from fissile.machine.procfs import children, look

REAP_SECONDS = 0.5


def reap(own: Container[int]) -> list[int]:
    """Reap this process's children that have ended, but for its own: those that it started itself. Which there were."""
    reaped: list[int] = []
    for pid in children(os.getpid()) or []:
        found = look(pid)
        if pid not in own and found is not None and found.ended:
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    reaped.append(pid)
    return reaped


async def keep_reaping(own: Callable[[], Container[int]]) -> None:
    """Reap for ever."""
    while True:
        await asyncio.sleep(REAP_SECONDS)
        reap(own())
