"""PURE. Which replica gets a call: the less busy of two drawn at random.

Power of two choices (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001):
nearly as even as asking everybody, and no herd runs to one idle replica.

A replica that answers quickly and is awake takes a further call for less than one that has to be woken: a
frame may share a write, and a turn of its loop. So the first few calls of a warm one count for nothing. One that
answers slowly is never warm: a call behind another would wait for it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

# Calls that a warm replica may have more than a cold one.
WARM_CALLS = 2
# Two answers within so many seconds, the last of them as recent: the replica is warm.
WARM_SECONDS = 0.003


class Candidate(Protocol):
    """A replica that may get a call."""

    def load(self) -> int:
        """Calls in flight to it from here."""
        ...

    def warm(self, now: float) -> bool:
        """Whether it answers quickly just now (seconds on the clock of its answers)."""
        ...


def choose(candidates: Sequence[Candidate], draw: Callable[[int], int], now: float) -> int:
    """Index of the candidate that gets the call. `draw(n)` is a random integer below n.

    There is at least one candidate.
    """
    count = len(candidates)
    if count == 1:
        return 0
    first = draw(count)
    second = (first + 1 + draw(count - 1)) % count
    return first if _weight(candidates[first], now) <= _weight(candidates[second], now) else second


def _weight(candidate: Candidate, now: float) -> float:
    load = candidate.load()
    # The half decides between a warm replica with as many calls and an idle one.
    return load - WARM_CALLS - 0.5 if load and candidate.warm(now) else load
