"""The only owner of what is desired: each change is in the journal before anybody acts on it, one after the other."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from fissile.errors import FissileError
from fissile.orchestrator.acts import Change
from fissile.orchestrator.change import ChangeRefused, apply
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.invariant_checks import change_breaks, unknown_set
from fissile.orchestrator.state import ApplicationState

# What became of a change: None, why it was refused, or why it could not be written; and when (monotonic seconds).
Done = Callable[[FissileError | None, float], None]


class ChangeJournal(Protocol):
    """Where changes are kept."""

    def write(self, change: Change, desired: Desired, *, secrets: bool, done: Done) -> None:
        """Write a change with what is desired from then on, and call `done` later. secrets: and the tokens, too."""
        ...


class ChangeWriter:
    """Of one application."""

    def __init__(self, state: ApplicationState, journal: ChangeJournal) -> None:
        self._state = state
        self._journal = journal
        self._waiting: deque[tuple[Change, Done, bool]] = deque()
        self._under_way: tuple[Desired, Done] | None = None

    def begin(self, desired: Desired) -> None:
        """What is desired when a supervisor begins: the journal has it, or has it before anything is done of it."""
        assert self._under_way is None, "a change is being written"
        self._state.replace_desired(desired)
        broken = unknown_set(desired)
        if broken is not None:  # what runs goes on: nobody else would look after it
            self._state.broke(broken)

    def submit(self, change: Change, done: Done, now: float, *, secrets: bool = False) -> None:
        """Alter what is desired, after the changes before it. done: is called once, with what became of it.

        What is refused, or cannot be written, alters nothing.
        """
        self._waiting.append((change, done, secrets))
        self._next(now)

    def _next(self, now: float) -> None:
        """Each is applied to what those before it have left."""
        while self._waiting and self._under_way is None:
            change, done, secrets = self._waiting.popleft()
            try:
                desired = apply(self._state.desired, change)
            except ChangeRefused as error:
                done(error, now)
                continue
            broken = change_breaks(self._state.desired, desired)
            if broken is not None:
                self._state.broke(broken, change)
                done(ChangeRefused(f"internal error: {broken.what}", remedy="please report it"), now)
                continue
            self._under_way = desired, done
            self._journal.write(change, desired, secrets=secrets, done=self._written)

    def _written(self, error: FissileError | None, now: float) -> None:
        assert self._under_way is not None
        (desired, done), self._under_way = self._under_way, None
        if error is None:
            self._state.replace_desired(desired)
        done(error, now)
        self._next(now)

    @property
    def pending(self) -> tuple[Change, ...]:
        """What waits for its turn."""
        return tuple(change for change, _, _ in self._waiting)
