"""What a replica reports about itself to its supervisor, and what it must report again to the next one."""

import os
from itertools import count

import msgspec

from fissile.runtime.control import Heartbeat, ReadyReport, ReplicaHello, ReplicaSpec, Stuck, Traffic
from fissile.runtime.differences import Differences
from fissile.runtime.outside import Outside


class Reporter:
    """Makes the reports of one replica.

    routes_applied: the version of the routes that it follows. differences, outside: found while it serves;
    each finding is reported until a supervisor has it.
    """

    def __init__(self, spec: ReplicaSpec) -> None:
        self.hello = ReplicaHello(spec.service, spec.set, spec.slot, spec.serial, os.getpid(), spec.build, spec.release)
        self.routes_applied = 0
        self.differences = Differences()
        self.outside = Outside()
        # A later heartbeat may overtake an earlier one: the supervisor goes by the number.
        self._numbers = count(1)

    def start_draining(self) -> None:
        """From now on every report says that the replica drains."""
        self.hello = msgspec.structs.replace(self.hello, draining=True)

    def ready(self, imported: tuple[str, ...]) -> ReadyReport:
        """The replica serves, or drains. imported: modules that it had to import itself."""
        return ReadyReport(self.hello, imported)

    def heartbeat(
        self,
        lag_seconds: float,
        *,
        requests: int,
        traffic: dict[str, Traffic],
        kept: dict[str, int],
        in_flight: int = 0,
        queued: int = 0,
        calls: dict[str, int] | None = None,
        stuck: Stuck | None = None,
    ) -> Heartbeat:
        """One heartbeat, with these figures and all findings that no supervisor has yet."""
        return Heartbeat(
            self.hello,
            lag_seconds,
            in_flight,
            queued,
            requests,
            calls or {},
            self.routes_applied,
            traffic,
            stuck,
            self.differences.news(),
            kept,
            self.outside.news(),
            next(self._numbers),
        )

    def delivered(self, beat: Heartbeat) -> None:
        """The supervisor has this heartbeat."""
        self.differences.told(beat.differences)
        self.outside.told(beat.outside)

    def resend(self) -> None:
        """There may be another supervisor now: report all findings again."""
        self.differences.again()
        self.outside.again()
