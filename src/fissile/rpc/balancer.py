"""PURE. Which replica gets a call: the less busy of two drawn at random.

Power of two choices (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001):
nearly as even as asking everybody, and no herd runs to one idle replica.
"""

from collections.abc import Callable, Sequence
from typing import Protocol


class Candidate(Protocol):
    """A replica that may get a call."""

    def load(self) -> int:
        """Calls in flight to it from here."""
        ...


def choose(candidates: Sequence[Candidate], draw: Callable[[int], int]) -> int:
    """Index of the candidate that gets the call. `draw(n)` is a random integer below n.

    There is at least one candidate.
    """
    count = len(candidates)
    if count == 1:
        return 0
    first = draw(count)
    second = (first + 1 + draw(count - 1)) % count
    return first if candidates[first].load() <= candidates[second].load() else second
