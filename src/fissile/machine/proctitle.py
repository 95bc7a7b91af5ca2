"""Sets the process title: `ps` shows a replica's service instead of the interpreter's command line.

The kernel shows the memory in which the arguments stood when the process was exec'd; writing there is
all that any library for this does. The zygote is started with padding to have the room.
"""

import ctypes
import sys
from contextlib import suppress

PADDING = "-" * 64
_ARG_START, _ARG_END = 48, 49  # fields of /proc/PID/stat, counted from 1; see proc(5)


def become(name: str) -> None:
    """Be shown as `fissile NAME`, where the system is Linux; elsewhere nothing happens."""
    if sys.platform != "linux":
        return
    with suppress(OSError, ValueError, IndexError):
        with open("/proc/self/comm", "wb", buffering=0) as comm:
            comm.write(name.encode()[:15])
        with open("/proc/self/stat", "rb", buffering=0) as stat:
            # Field 2 is the command in parentheses and may hold spaces.
            fields = stat.read(4096).rpartition(b")")[2].split()
        start, end = int(fields[_ARG_START - 3]), int(fields[_ARG_END - 3])
        room = end - start
        if 0 < room < 65536:
            ctypes.memmove(start, f"fissile {name}".encode()[: room - 1].ljust(room, b"\0"), room)
