"""CPU time of other processes, to the nanosecond, and the core that they run on."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# The kernel's id of another process's CPU clock (clock_getcpuclockid(3)): MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED).
_SCHEDULED = 2


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of these processes so far, with all their threads. Those that are gone count nothing."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += time.clock_gettime((~pid << 3) | _SCHEDULED)
    return total


def place(pid: int, core: int) -> None:
    """Move a process with all its threads to one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), {core})
