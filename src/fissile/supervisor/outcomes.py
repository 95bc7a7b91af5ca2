"""How rollouts ended."""

from collections.abc import Callable

import msgspec

from fissile.errors import InvalidArgument
from fissile.journal.journal import Journal
from fissile.names import service_of
from fissile.orchestrator.acts import EndRollout
from fissile.orchestrator.desired import Rollout, Stage
from fissile.orchestrator.reasons import Dies, DoesNotComeUp, Reason
from fissile.supervisor.state import SupervisorState

HISTORY_MAX = 1000
OUTCOMES_MAX = 100


class Outcome(msgspec.Struct, frozen=True):
    """How a rollout ended, or that it goes on. done: whether all requests are with the later release.

    undecided: why a person has to decide whether it goes on; "": nobody has to. last_lines: what a process of `service`
    had printed that did not come up, where that was why.
    """

    number: int
    over: bool
    done: bool
    reason: str
    undecided: str = ""
    service: str = ""
    last_lines: tuple[str, ...] = ()


class RolloutOutcomes:
    """The outcomes of this supervisor's rollouts, and of earlier ones as the journal has them."""

    def __init__(self, state: SupervisorState, journal: Callable[[], Journal]) -> None:
        self._state = state
        self._journal = journal
        self._found: dict[int, Outcome] = {}
        # Why the rollout of this number is rolled back: a service, and what a process of it had printed.
        self._last_lines: tuple[int, str, tuple[str, ...]] = (0, "", ())

    def remember_output(self, rollout: Rollout, why: Reason | str) -> None:
        """A rollout is about to be rolled back: what did not come up is ended soon, and its last lines go with it."""
        if not isinstance(why, DoesNotComeUp | Dies):
            return
        for name in rollout.specs:
            if service_of(name) == why.service and (lines := self._state.output.of_set(name, str(why))):
                self._last_lines = (rollout.number, why.service, lines)

    def add(self, number: int, *, done: bool, why: str) -> None:
        """A rollout is over. done: whether all requests are with the later release."""
        self._found[number] = Outcome(number, True, done, why, "", *self._printed(number))
        self._found.pop(number - OUTCOMES_MAX, None)  # the journal has those before

    def of(self, number: int, undecided: str = "") -> Outcome:
        """How a rollout ended, or that it goes on. undecided: see Outcome. Raises InvalidArgument."""
        rollout = self._state.desired.rollout
        if rollout is not None and rollout.number == number:
            undecided = undecided if rollout.stage is Stage.CANARY else ""
            done = rollout.stage is Stage.PROMOTED
            return Outcome(number, False, done, rollout.reason, undecided, *self._printed(number))
        found = self._found.get(number)
        if found is not None:
            return found
        for entry in reversed(self._journal().history(limit=HISTORY_MAX)):
            if entry.what == EndRollout.__name__ and entry.data.get("number") == number:
                return Outcome(number, True, bool(entry.data.get("done")), entry.reason)
        raise InvalidArgument(f"there was no rollout {number}", remedy="see `fissile history`")

    def _printed(self, number: int) -> tuple[str, tuple[str, ...]]:
        """Of which service a process did not come up in a rollout, and its last lines."""
        of, service, lines = self._last_lines
        return (service, lines) if of == number else ("", ())
