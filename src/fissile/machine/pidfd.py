"""Process descriptors: each means one process, never another that got its number later (pidfd_open(2)).

A number read from somewhere may belong to a stranger by the time it is used. A pidfd cannot: it is opened once, and
whatever is asked or sent through it reaches that process or nobody.
"""

import os
import select

_MILLISECONDS = 1000


def open_pidfd(pid: int) -> int | None:
    """Open a descriptor of a process. None if it is gone, or where the system has no pidfds."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def ends_within(pidfd: int, seconds: float) -> bool:
    """Block until a process has ended, for `seconds` at most. Returns whether it has."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * _MILLISECONDS))


def exit_status(pidfd: int) -> int | None:
    """Reap a child of this process, and return its exit code or negative signal number (waitid(2)).

    None if the process is somebody else's child: only a parent may learn how a process ended.
    """
    try:
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except (AttributeError, OSError):
        return None
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
