"""Count the requests at the public doors of this process, by release.

While two releases are live, their answers, answer times and exceptions are counted too, so that a canary
analysis can compare them. The time of an answer ends where the answer begins: how long a stream or a
websocket lasts says nothing about its release.
"""

import time
from collections.abc import Iterable

from fissile.component.context import call_context
from fissile.runtime.control import Traffic
from fissile.telemetry.aggregate import Answers, bucket
from fissile.telemetry.pulse import Pulse


class RequestStats:
    """Requests in flight, and what was answered, by release.

    release: the only one that is live at first. pulse: woken by each new request. comparing: several
    releases are live, so answers are counted.
    """

    def __init__(self, release: str = "", pulse: Pulse | None = None) -> None:
        self._pulse = pulse or Pulse()
        self.comparing = False
        self._live: tuple[str, ...] = (release,)
        self._answers: dict[str, Answers] = {}
        # When each request came; None once its answer has begun.
        self._in_flight: dict[str, dict[int, float | None]] = {}
        self._last = 0

    def __repr__(self) -> str:
        return f"<requests in flight: { {release: len(found) for release, found in self._in_flight.items()} }>"

    def compare(self, releases: Iterable[str]) -> None:
        """From now on these releases are live; with one alone, its answers are not counted."""
        self._live = tuple(releases)
        self.comparing = len(self._live) > 1
        if not self.comparing:
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
        """The answer to a request begins. failed: with a server error."""
        begun = self._in_flight[release][number]
        self._in_flight[release][number] = None
        if self.comparing and begun is not None:
            answers = self._count(release, failed)
            key = bucket(time.monotonic() - begun)
            answers.latencies[key] = answers.latencies.get(key, 0) + 1

    def end(self, release: str, number: int, *, broken: bool) -> None:
        """A request is over, or nobody waits for its answer any more. broken: the application left it undone."""
        if self._in_flight[release][number] is not None:
            self.answered(release, number, failed=broken)
        elif broken and self.comparing:
            # The beginning of this answer was counted, maybe long ago. The error counts as a further
            # answer, so that there are never more errors than answers.
            self._count(release, failed=True)
        del self._in_flight[release][number]

    def _count(self, release: str, failed: bool) -> Answers:
        answers = self._answers_of(release)
        answers.count += 1
        answers.errors += failed
        return answers

    def on_undeclared_error(self, where: str, kind: str) -> None:
        """The current request raised an exception that no method declares."""
        context = call_context.get()
        if self.comparing and context is not None:
            kinds = self._answers_of(context.release).kinds
            label = f"{where}: {kind}"
            kinds[label] = kinds.get(label, 0) + 1

    def _answers_of(self, release: str) -> Answers:
        found = self._answers.get(release)
        if found is None:
            found = self._answers[release] = Answers()
        return found

    def in_flight(self) -> int:
        """Requests being answered."""
        return sum(map(len, self._in_flight.values()))

    def traffic(self) -> dict[str, Traffic]:
        """Counts by release; empty unless several are live."""
        if not self.comparing:
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
            found[release] = Traffic(len(in_flight), self._answers_of(release), ages)
        return found

    def pinned(self) -> tuple[str, ...]:
        """The releases with requests in flight."""
        return tuple(release for release, found in self._in_flight.items() if found)
