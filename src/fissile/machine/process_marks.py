"""Marks that a process puts on itself, or on a child, so that all that comes of it can be found and ended.

An environment is easily emptied, a session easily left. A limit is kept through both, and through exec: the one of
file locks means nothing to Linux any more, so it carries the mark. See docs/decisions/0032.
"""

import ctypes
import os
import resource
import sys
from contextlib import suppress
from typing import Any

from fissile.machine.procfs import RLIMIT_LOCKS, VARIABLE, Mark, from_number

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> bool:
    """Become the parent of descendants whose own parent ends (prctl(2), PR_SET_CHILD_SUBREAPER).

    This process then has to reap them. Returns whether the system could do it.
    """
    if sys.platform != "linux":
        return False
    with suppress(OSError, AttributeError):
        return ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    return False


def put_on(pid: int, mark: Mark | None) -> None:
    """Mark a process, 0 being this one; with None, take the mark off. Where the system has no such thing, nothing."""
    if sys.platform != "linux":
        return
    with suppress(OSError, ValueError):
        _, hard = _prlimit(pid)
        soft = hard if mark is None else mark.number()
        if hard == resource.RLIM_INFINITY or 0 <= soft <= hard:
            _prlimit(pid, (soft, hard))


def _prlimit(pid: int, limits: tuple[int, int] | None = None) -> tuple[int, int]:
    call: Any = resource.prlimit
    return call(pid, RLIMIT_LOCKS) if limits is None else call(pid, RLIMIT_LOCKS, limits)


def own() -> Mark | None:
    """Return the mark of this process; None if it has none."""
    if sys.platform != "linux":
        return None
    with suppress(OSError, ValueError):
        return from_number(_prlimit(0)[0])
    return None


def become(replica_set: str, serial: int) -> dict[str, str]:
    """In a child of the zygote: take the mark of a replica. Returns the variables that say so, too."""
    inherited = own()
    if inherited is None:
        return {}
    put_on(0, Mark(inherited.application, serial))
    return {VARIABLE: f"{inherited.application}:{replica_set}:{serial}"}


def take_off() -> None:
    """Remove the mark: a supervisor that a replica has started is not part of that replica."""
    os.environ.pop(VARIABLE, None)
    put_on(0, None)
