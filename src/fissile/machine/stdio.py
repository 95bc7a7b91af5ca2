"""Stdout and stderr of a Python process: writes never fail over a full disk, and carry the time and the request.

The time and the trace stand in marks around it (see `log_lines`), in a spool alone: not on a terminal or a pipe. One
write holds text and marks, so that nobody else's text comes between them (O_APPEND, open(2)).
"""

import errno
import io
import os
import sys
import time
from contextlib import suppress
from typing import Any

from fissile.component.context import CallContext, call_context
from fissile.machine.log_lines import EXACT, MARKED, SPOOL, TRACED, stamp_ns

LOOK_SECONDS = 0.001


class Unfailing(io.FileIO):
    """A log that does without what a full disk cannot take: what prints must not fail over it.

    Its writes come one after the other: those of a stream hold its lock (io.BufferedWriter).
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self._put = super().write
        self._fd = fd
        # Which file it is, whether that is a spool, and when this was looked at: an application may put another file in
        # its place (dup2(2)), and to look costs as much as to write.
        self._inode: int = -1
        self._marks = False
        self._looked_at = 0.0
        self._second = 0
        self._day = b""
        self._context: CallContext | None = None
        self._kind = EXACT

    def write(self, data: Any, /) -> int:
        """All of it, or nothing."""
        try:
            now = time.time()
            if not 0.0 <= now - self._looked_at < LOOK_SECONDS:
                self._look(now)
            if not self._marks:
                return self._put(data) or 0
            second = int(now)
            if second != self._second:
                self._second, self._day = second, stamp_ns(second * 1_000_000_000)[:19]
            context = call_context.get()
            if context is not self._context:
                self._context = context
                self._kind = EXACT if context is None else b"%b%032x " % (TRACED, context.trace_id)
            self._put(MARKED % (self._day, (now - second) * 1e6, self._kind, data))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        return len(data)

    def _look(self, now: float) -> None:
        self._looked_at = now
        inode: int = os.fstat(self._fd).st_ino
        if inode != self._inode:
            self._inode, self._marks = inode, _is_spool(self._fd)

    def look_again(self) -> None:
        """It may be another file now."""
        self._looked_at = 0.0


def _is_spool(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").endswith(SPOOL)
    except OSError:
        return False


def unfailing_output() -> None:
    """From now on, printing in this process does not fail over a full disk."""
    for fd, name in ((1, "stdout"), (2, "stderr")):
        file = Unfailing(fd)
        raw = io.BufferedWriter(file)
        os.register_at_fork(after_in_child=file.look_again)
        stream = io.TextIOWrapper(raw, errors="backslashreplace", line_buffering=True, write_through=fd == 2)
        setattr(sys, name, stream)


def flush_output() -> None:
    """Write what is begun: a fork would write it once more. To be called before one."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # whatever an application has put there
            stream.flush()
