"""Keeps what a supervisor knows from its replicas: components' variables, and its memory.

Variables of components are in its environment when it starts, and the kernel shows that to every process of the same
user (proc_pid_environ(5)), whatever becomes of it later: what is shown is the memory in which it stood at exec. So
they are taken out there, too. And no other process but root's looks into its memory, or that of a zygote, which has its
descriptors (PR_SET_DUMPABLE, prctl(2); ptrace(2)).
"""

import ctypes
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress

PREFIX = "FISSILE_"
PR_SET_DUMPABLE = 4
_ENV_START, _ENV_END = 50, 51  # fields of /proc/PID/stat, counted from 1
ENVIRONMENT_BYTES_MAX = 16 * 1024 * 1024

_taken: dict[str, str] = {}


def variables() -> dict[str, str]:
    """Return the variables of components, with those that were removed from the environment."""
    return _taken | {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}


def own(found: Mapping[str, str], name: str, others: Iterable[str]) -> dict[str, str]:
    """Return a service's variables, without those of another whose name begins with its name."""
    prefix = _prefix(name)
    longer = tuple(p for other in others if (p := _prefix(other)) != prefix and p.startswith(prefix))
    return {key: value for key, value in found.items() if key.startswith(prefix) and not key.startswith(longer)}


def _prefix(name: str) -> str:
    return f"{PREFIX}{name}_".upper().replace("-", "_")


def take() -> None:
    """Remove components' variables from the environment: from now on this process alone knows them."""
    found = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    _taken.update(found)
    for name in found:
        del os.environ[name]
    if sys.platform == "linux":
        with suppress(OSError, ValueError, IndexError):
            _blank()


def _blank() -> None:
    with open("/proc/self/stat", "rb", buffering=0) as stat:
        # Field 2 is the command in parentheses and may hold spaces.
        fields = stat.read(4096).rpartition(b")")[2].split()
    start, end = int(fields[_ENV_START - 3]), int(fields[_ENV_END - 3])
    if not 0 < end - start < ENVIRONMENT_BYTES_MAX:
        return
    place = start
    for line in ctypes.string_at(start, end - start).split(b"\0"):
        if line.startswith(PREFIX.encode()):
            ctypes.memset(place, 0, len(line))
        place += len(line) + 1


def close_to_others(*, closed: bool = True) -> None:
    """Let no process of the same user look into this one's memory and descriptors; or let it again."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0 if closed else 1, 0, 0, 0)
