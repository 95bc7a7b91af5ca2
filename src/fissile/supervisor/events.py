"""Tells people in the log what happens, and the journal what was observed."""

import time
from typing import Any

from fissile.journal.journal import Journal, JournalError
from fissile.journal.rows import Entry
from fissile.machine.logfiles import LogFiles
from fissile.machine.output import Logs
from fissile.machine.peers import ThrottledLog
from fissile.names import service_of
from fissile.orchestrator.acts import ACTOR
from fissile.orchestrator.invariants import Broken
from fissile.orchestrator.reasons import Reason, tagged
from fissile.orchestrator.reasons.reason import ReasonBase


def tag(reason: Reason | str) -> dict[str, Any]:
    """What an entry of the journal has beside the words of a reason, for programs."""
    return {"reason": tagged(reason)} if isinstance(reason, ReasonBase) else {}


class EventRecorder:
    """The supervisor's own voice. opened: the journal, from its opening until it is closed.

    What happens before the journal is open, or while it cannot be written, is in the log alone.
    """

    def __init__(self, logs: Logs | LogFiles) -> None:
        self.opened: Journal | None = None
        self._logs = logs
        self._complaints = ThrottledLog(self.log)

    @property
    def journal(self) -> Journal:
        """The application's journal. Raises JournalError when it is not open."""
        if self.opened is None:
            raise JournalError("the journal is closed")
        return self.opened

    def log(self, text: str) -> None:
        """Tell people."""
        self._logs.say(ACTOR, text)

    def complain(self, text: str) -> None:
        """Tell people what may happen again and again: they are told once in a while."""
        self._complaints.write(text, time.monotonic())

    def record(self, what: str, service: str, reason: Reason | str, **data: Any) -> None:
        """Record an observation."""
        if self.opened is not None:
            self.opened.observe(Entry("observation", ACTOR, what, service, str(reason), data | tag(reason)))

    def announce(self, what: str, text: str) -> None:
        """Record an observation of the whole application, and tell people."""
        self.log(text)
        self.record(what, "", text)

    def record_broken(self, broken: Broken, state: dict[str, Any]) -> None:
        """Something is so that must not be: an internal error, told with all that may help to find it."""
        text = f"internal error, please report it: {broken.invariant} ({broken.what})"
        self.log(f"{text}; `fissile history --json` has the state that it was found in")
        self.record("InvariantBroken", service_of(broken.set), text, state=state)
