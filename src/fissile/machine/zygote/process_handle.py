"""The supervisor's handle on one replica's process: signals it, and learns of its end."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from fissile.machine.pidfd import exit_status
from fissile.machine.procfs import born

# A flag of pidfd_send_signal(2), since Linux 6.9.
PIDFD_SIGNAL_PROCESS_GROUP = 4
# After an end was seen, how long to wait for the parent to say how it ended.
STATUS_SECONDS_MAX = 0.25


class ProcessHandle:
    """One process of a replica.

    The end is seen at once, by the pidfd, whatever the zygote is doing. How it ended only its parent can say, which is
    the zygote. So `exited` is set when the zygote has said it, or STATUS_SECONDS_MAX after the end without a status.

    Attributes:
        exited: Gets the exit code, a negative signal number, or None if nobody knows.
        pidfd: The process's descriptor; None where the system has none, or once the end is known.
        learned: Called with the status if the zygote reports it after all, too late for `exited`.
    """

    def __init__(self, pid: int, pidfd: int | None) -> None:
        self.pid = pid
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.pidfd = pidfd
        self.learned: Callable[[int | None], None] | None = None
        self._has_reporter = True
        self._gone = False
        if pidfd is not None:
            asyncio.get_running_loop().add_reader(pidfd, self._on_end)

    def __repr__(self) -> str:
        state = f"exited {self.exited.result()}" if self.exited.done() else "gone" if self._gone else "alive"
        return f"<ProcessHandle pid {self.pid} {state}>"

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal while the process lives; with `group`, to its whole process group."""
        # Once the end is seen the number is free again: a signal sent by it could hit a stranger.
        if self.exited.done() or self._gone:
            return
        with suppress(ProcessLookupError):
            if group:
                self._signal_group(number)
            elif self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, number)
            else:
                os.kill(self.pid, number)

    def _signal_group(self, number: int) -> None:
        """Signal the group by the pidfd where the kernel can; else by number, if the process still exists."""
        if self.pidfd is not None:
            with suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, number, None, PIDFD_SIGNAL_PROCESS_GROUP)
                return
        if born(self.pid) is not None:
            os.killpg(self.pid, number)

    def watch_alone(self) -> None:
        """Rely on the pidfd from now on: no zygote is left to report how the process ends.

        Without a pidfd nothing would ever tell of the end, so the process counts as ended now.
        """
        self._has_reporter = False
        if self.pidfd is None or self._gone:
            self.ended(None)

    def _on_end(self) -> None:
        """The pidfd became readable: the process is gone."""
        assert self.pidfd is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.pidfd)
        self._gone = True
        # If its zygote died first, this process has adopted it, may reap it, and so knows the status itself.
        status = exit_status(self.pidfd)
        if status is not None or not self._has_reporter:
            self.ended(status)
        else:
            # The zygote's report races with the pidfd. Wait briefly: a zygote that hangs must not hold up a restart.
            loop.call_later(STATUS_SECONDS_MAX, self.ended, None)

    def ended(self, status: int | None) -> None:
        """Record the end; the first report counts, a later one with a status goes to `learned`."""
        self.detach()
        if not self.exited.done():
            self.exited.set_result(status)
        elif status is not None and self.exited.result() is None and self.learned is not None:
            learned, self.learned = self.learned, None
            learned(status)

    def detach(self) -> None:
        """Stop watching the process, and leave it as it is."""
        if self.pidfd is not None:
            asyncio.get_running_loop().remove_reader(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = None
