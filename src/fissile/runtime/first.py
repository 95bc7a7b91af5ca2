"""Process 1 of a container: it passes signals on, and reaps what others have left there.

The kernel gives every orphan to process 1 and ignores signals that it has no handler for (pid_namespaces(7)). An
application fetches the statuses of its own children alone. So the first process forks: the child is the application,
and the parent does nothing else, as tini and dumb-init do.
"""

import os
import signal
import sys
from contextlib import suppress

FIRST = 1
# Of the process itself, so not to be passed on: they come to whoever made the mistake.
OWN = {signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
# Of a terminal's job control: process 1 must not be stopped by them.
JOBS = {signal.SIGTTIN, signal.SIGTTOU}


def be_first() -> None:
    """As process 1, go on in a child, and end as that does; elsewhere, nothing. Call it before threads start."""
    if os.getpid() == FIRST:
        watch_over_child()


def watch_over_child() -> None:
    """Fork. Returns in the child; the parent exits with the child's status, or 128 + the signal that killed it."""
    taken = signal.valid_signals() - OWN - {signal.SIGKILL, signal.SIGSTOP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, taken)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _take_the_terminal()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os._exit(_watch(child, taken))


def _take_the_terminal() -> None:
    """Be a group of its own, so that Ctrl-C comes once: from the terminal, and not from process 1 as well."""
    os.setpgid(0, 0)
    with suppress(OSError):
        os.tcsetpgrp(0, os.getpgrp())  # SIGTTOU is blocked just now


def _watch(child: int, taken: set[signal.Signals]) -> int:
    while True:
        number = signal.sigwait(taken)
        if number == signal.SIGCHLD:
            status = _reap(child)
            if status is not None:
                return status
        elif number not in JOBS:
            with suppress(ProcessLookupError):
                os.kill(child, number)


def _reap(child: int) -> int | None:
    """Fetch how everybody ended; the exit code to end with, if the child is among them."""
    code: int | None = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                how = os.waitstatus_to_exitcode(status)
                code = how if how >= 0 else 128 - how
    return code
