"""PURE. Which replica gets a call: the less busy of two drawn at random, or the one that is being written to.

Power of two choices (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001):
nearly as even as asking everybody, and no herd runs to one idle replica.

Among many replicas each call then wakes a process of its own, which costs more than most calls do. So
while frames wait to be written to a replica, the next calls may share that write, and the replica's turn: up to
SHARED_CALLS more than another has. Only where calls are quick: behind a slow one, a call would wait for it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

# Calls that the replica which is being written to may have more than the less busy of two others.
SHARED_CALLS = 2
# Calls are quick where the quickest of late took less than this.
QUICK_SECONDS = 0.005
# By how much the time of the quickest call grows with each call that takes longer.
FORGETTING = 1.02


class Candidate(Protocol):
    """A replica that may get a call."""

    def load(self) -> int:
        """Calls in flight to it from here."""
        ...


C = TypeVar("C", bound=Candidate)


def choose(candidates: Sequence[C], draw: Callable[[int], int], written: C | None = None) -> C:
    """The candidate that gets the call. `draw(n)` is a random integer below n. There is at least one candidate.

    written: the one that is being written to, where calls are quick.
    """
    count = len(candidates)
    if count == 1:
        return candidates[0]
    number = draw(count)
    first = candidates[number]
    second = candidates[(number + 1 + draw(count - 1)) % count]
    load, other = first.load(), second.load()
    if other < load:
        first, load = second, other
    if written is not None and written.load() <= load + SHARED_CALLS:
        return written
    return first


def quickest(before: float, took: float) -> float:
    """How long the quickest call of late took (seconds), after one more."""
    before *= FORGETTING
    return took if took < before else before
