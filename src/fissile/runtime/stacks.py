"""Where a process stands, written to a file when its supervisor asks for it.

The supervisor asks by a signal once it has heard nothing for a while. The stacks are written in the signal's handler
(faulthandler's, in C), which needs neither the event loop nor the interpreter's lock. A loop that is not stuck gets the
signal, too, and takes the stacks back: what stays in the file was written by a process whose loop does not turn. So a
process that is well pays nothing.
"""

import asyncio
import faulthandler
import os
import signal
from contextlib import suppress
from typing import IO

# By default it is ignored, so a program that knows nothing of us comes to no harm.
STACKS_SIGNAL = signal.SIGURG


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Stacks:
    """Of this process. path: of the file; "" writes none."""

    def __init__(self, path: str) -> None:
        self._file: IO[str] | None = None
        if not path:
            return
        with suppress(OSError):  # a full disk must not keep a replica from serving
            # Appended to, so that what is written after a truncation begins at the file's beginning.
            self._file = open(path, "a", opener=_private)  # noqa: SIM115 -- open for as long as the replica reports
            asyncio.get_running_loop().add_signal_handler(STACKS_SIGNAL, self._take_back, self._file.fileno())
            # Last, so that it comes first and then passes the signal on to the loop.
            faulthandler.register(STACKS_SIGNAL, self._file, all_threads=True, chain=True)

    def _take_back(self, fd: int) -> None:
        with suppress(OSError):
            os.ftruncate(fd, 0)

    def close(self) -> None:
        """Write none any more."""
        if self._file is not None:
            faulthandler.unregister(STACKS_SIGNAL)
            asyncio.get_running_loop().remove_signal_handler(STACKS_SIGNAL)
            self._file.close()
            self._file = None
