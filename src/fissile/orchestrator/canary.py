"""What a canary's analysis compares: the answers of both releases since the watch began.

Replicas count their answers from their own start on, and may end while they are watched. So the counts at the
beginning of the watch are taken off, and the last counts of a replica that has ended go on to count.
"""

from fissile.orchestrator.analysis import Analysis, compare
from fissile.orchestrator.desired import LiveRelease, Rollout
from fissile.orchestrator.replica import Observed
from fissile.telemetry.aggregate import Answers


class CanaryWatch:
    """Of the rollout that is watched now. A supervisor that takes over begins the count anew."""

    def __init__(self) -> None:
        self._number = 0
        # By serial and release: as they were when the watch began, and as they were last reported.
        self._before: dict[tuple[int, str], Answers] = {}
        self._last: dict[tuple[int, str], Answers] = {}

    def forget(self) -> None:
        """The rollout is over."""
        self._before.clear()
        self._last.clear()

    def look(self, rollout: Rollout, current: LiveRelease, observed: Observed) -> Analysis:
        """Count what was reported, and judge the later release beside the current one."""
        first = self._number != rollout.number
        if first:
            self._number = rollout.number
            self.forget()
        waiting: dict[str, Answers] = {}
        for serial, report in observed.reports():
            for release, traffic in report.traffic.items():
                if first:
                    self._before[serial, release] = traffic.answers
                self._last[serial, release] = traffic.answers
                waiting.setdefault(release, Answers()).add(Answers(latencies=traffic.ages))
        totals: dict[str, Answers] = {}
        for (serial, release), answers in self._last.items():
            total = totals.setdefault(release, Answers())
            total.add(answers.since(self._before.get((serial, release), Answers())))
        # Who still waits for an answer has waited so long at least, in both of them.
        for release, ages in waiting.items():
            totals.setdefault(release, Answers()).add(ages)
        return compare(totals.get(rollout.later.name, Answers()), totals.get(current.name, Answers()))
