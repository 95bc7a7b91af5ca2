"""The replicas of a zygote: reaps them, and remembers how each ended until a supervisor knows it."""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from math import inf

import msgspec

from fissile.runtime.control import ReplicaSpec

ORPHAN_SECONDS_MAX = 12.0
REAP_SECONDS = 0.05
# A migration that was done while nobody supervised: nobody else knows, so it would be run again.
REMEMBER_SECONDS_MAX = 60.0


class ChildRecord(msgspec.Struct):
    """A replica.

    Attributes:
        pid: Its process number.
        spec: What it is, without its secrets.
        pidfd: Its descriptor if another zygote has forked it, else -1.
        ended: Whether it has ended.
        status: How it ended; None if nobody saw it.
        ended_at: When it ended (monotonic seconds).
    """

    pid: int
    spec: ReplicaSpec
    pidfd: int = -1
    ended: bool = False
    status: int | None = None
    ended_at: float = 0.0


class ChildRecords:
    """All replicas that a supervisor has to know of.

    Args:
        poll: Watches the pidfds of adopted children, which cannot be reaped here.
        report: Told of each end: process number and status.
    """

    def __init__(self, poll: select.poll, report: Callable[[int, int | None], object]) -> None:
        self._poll = poll
        self._report = report
        self._records: dict[int, ChildRecord] = {}

    def __repr__(self) -> str:
        return f"<ChildRecords {sorted(self._records)}>"

    def __iter__(self) -> Iterator[ChildRecord]:
        return iter(list(self._records.values()))

    def add(self, pid: int, spec: ReplicaSpec) -> None:
        """A replica was forked."""
        self._records[pid] = ChildRecord(pid, spec)

    def adopt(self, pid: int, spec: ReplicaSpec, pidfd: int) -> None:
        """Watch a replica of a zygote that is dead."""
        self._records[pid] = ChildRecord(pid, spec, pidfd)
        self._poll.register(pidfd, select.POLLIN)

    def forget(self, pid: int) -> None:
        """The supervisor knows of an end."""
        record = self._records.get(pid)
        # A number may be taken again at once. Then the acknowledgement is of the one before, and this one still runs.
        if record is not None and record.ended:
            del self._records[pid]

    def running(self) -> list[ChildRecord]:
        """Return those that have not ended."""
        return [record for record in self._records.values() if not record.ended]

    def reap(self) -> list[int]:
        """Reap all children that have ended. Returns those that are no replicas."""
        others: list[int] = []
        while True:
            try:
                # All that there are: several SIGCHLDs may come as one.
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return others
            if pid == 0:
                return others
            if pid in self._records:
                self._end(self._records[pid], os.waitstatus_to_exitcode(status))
            else:
                others.append(pid)

    def notice_adopted(self, ready: set[int]) -> None:
        """See which adopted children have ended, by their pidfds. Their status is lost with their parent."""
        for record in [record for record in self._records.values() if record.pidfd in ready]:
            self._poll.unregister(record.pidfd)
            os.close(record.pidfd)
            record.pidfd = -1
            self._end(record, None)

    def _end(self, record: ChildRecord, status: int | None) -> None:
        # Remembered until it is acknowledged: the supervisor that is told may be dying.
        record.ended, record.status, record.ended_at = True, status, time.monotonic()
        self._report(record.pid, status)

    def seconds_to_remember(self) -> float | None:
        """Return for how long it is to be known still that a migration is done; None if it need not be."""
        done = [record.ended_at for record in self._records.values() if record.ended and record.spec.migrate]
        left = max(done, default=-inf) + REMEMBER_SECONDS_MAX - time.monotonic()
        return left if left > 0.0 else None

    def end_all(self) -> None:
        """End all replicas: the supervisor is gone for good. Ask them first, kill them after ORPHAN_SECONDS_MAX."""
        limit = time.monotonic() + ORPHAN_SECONDS_MAX
        self._signal(signal.SIGTERM)
        while self.running() and time.monotonic() < limit:
            time.sleep(REAP_SECONDS)
            self.reap()
        self._signal(signal.SIGKILL)
        self.reap()

    def _signal(self, number: signal.Signals) -> None:
        for record in self.running():
            os.kill(record.pid, number)  # not reaped yet, so the number is still its own

    def detach(self) -> None:
        """In a child: close its copies of pidfds, and know of none of its siblings."""
        for record in self._records.values():
            if record.pidfd >= 0:
                os.close(record.pidfd)
        self._records.clear()
