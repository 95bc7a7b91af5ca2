"""Replicas of which a supervisor and its zygote died both: they serve on, and nobody can adopt them.

Whoever starts the application next ends them first, in order, so that none is left behind, and none holds
a port. They are known by process number and time of birth together: a number alone may be another's by then.
"""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress

from fissile.supervisor.descent import born

POLL_SECONDS = 0.01


def orphans(births: Mapping[int, int]) -> list[int]:
    """Those processes of a list of births that are there still."""
    return [pid for pid, when in births.items() if born(pid) == when]


async def end(births: Mapping[int, int], seconds_max: float) -> int:
    """Ask them to end, and kill those that have not within the limit (seconds). How many there were."""
    found = orphans(births)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in orphans(births):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds_max):
                while orphans(births):  # noqa: ASYNC110 -- they are not our children
                    await asyncio.sleep(POLL_SECONDS)
    return len(found)
