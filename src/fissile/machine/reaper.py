"""Reaps the orphans that the supervisor adopts when its zygotes die, so that no zombie stays.

It never reaps a child that this process has started and waits for: its owner would lose the status.
"""

import asyncio
import os
from collections.abc import Callable, Container
from contextlib import suppress

from fissile.machine.procfs import children, look

REAP_SECONDS = 0.5


def reap(own: Container[int]) -> list[int]:
    """Reap the adopted children that have ended, and return them. own: children that this process started itself."""
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
