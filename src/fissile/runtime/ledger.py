"""Which release a new request gets, and what the public doors of this process answered for each.

A request stays in its release (see `rpc.way`), so it is here that a share of them goes to another one. While
two releases are live, answers, their times and exceptions are counted for each, so that they can be compared. The
time of an answer is that until it begins: how long a stream or a websocket goes on says nothing of its release.
"""

import random
import time

from fissile.component.context import call_context
from fissile.runtime.control import Routes, Traffic
from fissile.runtime.traffic_split import TrafficSplit
from fissile.telemetry.aggregate import Answers, bucket
from fissile.telemetry.pulse import Pulse


class Ledger(TrafficSplit):
    """Of one process. release: what all requests get, until there is more than one. pulse: told of what begins."""

    def __init__(self, release: str = "", pulse: Pulse | None = None) -> None:
        super().__init__(release, random.random)
        self._pulse = pulse or Pulse()
        self.several = False
        self._live: tuple[str, ...] = (release,)
        self._answers: dict[str, Answers] = {}
        # When they came; None once their answers have begun.
        self._in_flight: dict[str, dict[int, float | None]] = {}
        self._last = 0

    def follow(self, routes: Routes) -> None:
        """Give new requests their releases as these routes say."""
        self.divide(routes.shares, routes.release, routes.sticky, routes.rollout)
        self._live = routes.releases or (routes.release,)
        self.several = len(self._live) > 1
        if not self.several:
            self._answers.clear()
        for gone in [name for name, found in self._in_flight.items() if not found and name not in self._live]:
            del self._in_flight[gone]

    def begin(self, release: str) -> int:
        """A request comes; returns its number."""
        if self._pulse.asleep:
            self._pulse.wake()
        self._last += 1
        found = self._in_flight.get(release)
        if found is None:
            found = self._in_flight[release] = {}
        found[self._last] = time.monotonic()
        return self._last

    def answered(self, release: str, number: int, *, failed: bool) -> None:
        """Its answer begins. failed: with an error of ours."""
        begun = self._in_flight[release][number]
        self._in_flight[release][number] = None
        if self.several and begun is not None:
            answers = self._count(release, failed)
            key = bucket(time.monotonic() - begun)
            answers.latencies[key] = answers.latencies.get(key, 0) + 1

    def end(self, release: str, number: int, *, broken: bool) -> None:
        """It is over, or nobody waits for the answer any more. broken: the application left it undone."""
        if self._in_flight[release][number] is not None:
            self.answered(release, number, failed=broken)
        elif broken and self.several:
            # Its beginning was counted, and maybe long ago: no error is without an answer.
            self._count(release, failed=True)
        del self._in_flight[release][number]

    def _count(self, release: str, failed: bool) -> Answers:
        answers = self._of(release)
        answers.count += 1
        answers.errors += failed
        return answers

    def witness(self, where: str, kind: str) -> None:
        """An exception that no method declares was raised in the request being served."""
        context = call_context.get()
        if self.several and context is not None:
            kinds = self._of(context.release).kinds
            label = f"{where}: {kind}"
            kinds[label] = kinds.get(label, 0) + 1

    def _of(self, release: str) -> Answers:
        found = self._answers.get(release)
        if found is None:
            found = self._answers[release] = Answers()
        return found

    def in_flight(self) -> int:
        """Requests being answered."""
        return sum(map(len, self._in_flight.values()))

    def traffic(self) -> dict[str, Traffic]:
        """By release, while more than one is live."""
        if not self.several:
            return {}
        now = time.monotonic()
        found: dict[str, Traffic] = {}
        for release in {*self._live, *self._in_flight}:
            ages: dict[int, int] = {}
            in_flight = self._in_flight.get(release, {})
            for begun in in_flight.values():
                if begun is not None:
                    key = bucket(now - begun)
                    ages[key] = ages.get(key, 0) + 1
            found[release] = Traffic(len(in_flight), self._of(release), ages)
        return found

    def pinned(self) -> tuple[str, ...]:
        """The releases that requests are under way in."""
        return tuple(release for release, found in self._in_flight.items() if found)
