"""How a process at rest learns that something begins in it.

While something is under way, its figures are looked at several times a second. In a process at rest nobody looks
before the next heartbeat is due, unless whoever begins something says so.
"""

from collections.abc import Callable


class Pulse:
    """One attribute to look at: `if pulse.asleep: pulse.wake()`."""

    __slots__ = ("_waken", "asleep")

    def __init__(self) -> None:
        self.asleep = False
        self._waken: Callable[[], None] | None = None

    def rest(self, waken: Callable[[], None]) -> None:
        """Nothing is under way: call this once, when something begins."""
        self._waken = waken
        self.asleep = True

    def wake(self) -> None:
        """Something begins."""
        self.asleep = False
        waken, self._waken = self._waken, None
        if waken is not None:
            waken()

    def stir(self) -> None:
        """Somebody looks again already, so nobody is to be called."""
        self.asleep = False
        self._waken = None
