"""Whether a process hangs that answers whatever it is asked in the order of asking.

Looks are counted, and not seconds: whoever was stopped itself for a minute, or slept with its machine, has looked
once in that time. So its own lateness is never the other's.
"""

from enum import Enum, auto


class Look(Enum):
    """What follows from a look."""

    ASK = auto()
    WAIT = auto()
    HUNG = auto()


class HangDetector:
    """Over one process. asked: the number of the newest question. looks: at which its answer was owed."""

    __slots__ = ("_answered", "asked", "looks")

    def __init__(self) -> None:
        self.asked: int = 0
        self.looks = 0
        self._answered: int = 0

    def look(self, looks_max: int) -> Look:
        """Look once more. ASK: the next question is to be asked, its number is `asked`."""
        if self._answered == self.asked:
            self.asked += 1
            self.looks = 0
            return Look.ASK
        self.looks += 1
        return Look.HUNG if self.looks >= looks_max else Look.WAIT

    def answer(self, number: int) -> None:
        """It has answered a question."""
        self._answered = max(self._answered, min(number, self.asked))
