"""PURE. Whether the other end of a connection still lives, asked while calls are in flight.

silent for ASK_SECONDS → a PING; unanswered for SILENT_SECONDS → new calls prefer others; for GONE_SECONDS →
doubt: the shell asks the kernel whether the machine is there at all. A peer that is merely slow loses no
call: silence alone never closes a connection, and the first byte that comes ends it.
"""

from enum import Enum

LOOK_SECONDS = 0.5
ASK_SECONDS = 0.5
SILENT_SECONDS = 1.0
GONE_SECONDS = 3.0


class Sign(Enum):
    """What to do after a look."""

    NONE = "nothing"
    ASK = "send a ping"
    DOUBT = "ask the kernel"


class Liveness:
    """Of one connection. silent: it gave no sign of life. Times are seconds."""

    __slots__ = ("_asked_at", "_heard", "_looked_at", "silent")

    def __init__(self) -> None:
        self.silent = False
        self._heard = 0
        self._looked_at: float | None = None
        self._asked_at: float | None = None

    def rest(self) -> None:
        """No call is in flight: nothing is expected of it, but for a sign of life that is owed."""
        if not self.silent:
            self._looked_at = self._asked_at = None

    def look(self, heard: int, now: float) -> Sign:
        """A look while calls are in flight, or it is silent.

        heard: how often something came so far.
        """
        if heard != self._heard or self._looked_at is None:
            self.silent = False
            self._heard, self._looked_at, self._asked_at = heard, now, None
        elif self._asked_at is None:
            if now - self._looked_at >= ASK_SECONDS:
                self._asked_at = now
                return Sign.ASK
        else:
            waited = now - self._asked_at
            self.silent = waited >= SILENT_SECONDS
            if waited >= GONE_SECONDS:
                return Sign.DOUBT
        return Sign.NONE
