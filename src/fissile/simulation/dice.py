"""Chance, as an argument: a world draws all that befalls it, and the same chance makes the same world."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Dice(Protocol):
    """One row of numbers that are drawn one after the other; `random.Random` is one."""

    def random(self) -> float:
        """In [0, 1)."""
        ...

    def randint(self, a: int, b: int, /) -> int:
        """Between both, and both may be."""
        ...

    def randrange(self, stop: int, /) -> int:
        """At least 0, below `stop`."""
        ...

    def choice(self, seq: Sequence[T], /) -> T:
        """One of these, which are one at least."""
        ...

    def choices(self, population: Sequence[T], /, weights: Sequence[float]) -> list[T]:
        """A list of one of these, by their weights."""
        ...

    def expovariate(self, lambd: float, /) -> float:
        """The time to the next event, of which there are `lambd` in a unit of time."""
        ...


# Dice by name: what is drawn from one does not alter what comes of another. "": what befalls the world as a whole.
Chance = Callable[[str], Dice]
