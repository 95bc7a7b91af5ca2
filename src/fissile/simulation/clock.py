"""A virtual clock: time passes only from event to event."""

import heapq
from collections.abc import Callable
from typing import Any


class Clock:
    """Virtual seconds, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, when: float, do: Callable[..., None], *arguments: Any) -> None:
        """Do something at a time, or at once if it has passed. Equal times: in the order of asking."""
        self.events += 1
        heapq.heappush(self._heap, (max(when, self.now), self.events, do, arguments))

    def after(self, seconds: float, do: Callable[..., None], *arguments: Any) -> None:
        """Do something later."""
        self.at(self.now + seconds, do, *arguments)

    def run(self, until: float) -> None:
        """Let time pass."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, do, arguments = heapq.heappop(heap)
            do(*arguments)
        self.now = until
