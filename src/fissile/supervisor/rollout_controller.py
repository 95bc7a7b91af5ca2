"""Performs rollouts step by step: `orchestrator.rollout` says what is next, and each step is a journalled change."""

import asyncio
import time
import traceback
from contextlib import suppress

from fissile.errors import ConfigError
from fissile.journal.journal import JournalError
from fissile.orchestrator.acts import AbortRollout, AdvanceRollout, Change, EndRollout, PromoteRollout
from fissile.orchestrator.change import ChangeRefused
from fissile.orchestrator.desired import Rollout, Stage
from fissile.orchestrator.rollout import NextStep
from fissile.orchestrator.rollout_status import next_step
from fissile.releases.store import ReleaseStore
from fissile.supervisor.changes import Changes
from fissile.supervisor.code_copies import CodeCopies
from fissile.supervisor.control_socket import ControlSocket
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.listeners import Listeners
from fissile.supervisor.loader import ReleaseLoader
from fissile.supervisor.outcomes import Outcome, RolloutOutcomes
from fissile.supervisor.rollout_migrations import RolloutMigrations
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.step_signal import StepSignal

LOOK_SECONDS = 0.05
IDLE_SECONDS = 5.0
# Before the next look, when a step could not be made, as on a full disk.
TROUBLE_SECONDS = 1.0


class RolloutController:
    """Of one application, whose rollouts come one after the other.

    turn: held while a rollout is closed, and while a deploy opens what the next one needs: one is over, with all that
    was closed for it, before the next makes anything.
    """

    def __init__(
        self,
        state: SupervisorState,
        store: ReleaseStore,
        loader: ReleaseLoader,
        listeners: Listeners,
        changes: Changes,
        control: ControlSocket,
        signal: StepSignal,
        events: EventRecorder,
        copies: CodeCopies,
        migrations: RolloutMigrations,
        outcomes: RolloutOutcomes,
    ) -> None:
        self._state = state
        self._store = store
        self._loader = loader
        self._listeners = listeners
        self._changes = changes
        self._control = control
        self._signal = signal
        self._events = events
        self._copies = copies
        self._migrations = migrations
        self.outcomes = outcomes
        self.turn = asyncio.Lock()
        self._begun = asyncio.Event()
        # What came of the last look at the rollout under way.
        self._next: NextStep | None = None

    @property
    def waits(self) -> str:
        """What the rollout waits for; "" for nothing."""
        return str(self._next.waits or "") if self._next is not None else ""

    @property
    def waits_kind(self) -> str:
        """The kind of that, for programs."""
        return self._next.waits.kind if self._next is not None and self._next.waits is not None else ""

    def outcome(self, number: int) -> Outcome:
        """How a rollout ended, or that it goes on. Raises InvalidArgument where there is none."""
        undecided = self._next is not None and self._next.undecided
        return self.outcomes.of(number, self.waits if undecided else "")

    def begin(self) -> None:
        """A rollout was recorded: perform it."""
        self._begun.set()

    async def promote(self, number: int | None = None, *, who: str = "operator", why: str = "") -> None:
        """End the watch: the later release is good. number: of the rollout. Raises ChangeRefused or JournalError."""
        await self._changes.change(Change(who, PromoteRollout(time.time(), number), why or "a person found it good"))

    async def abort(self, number: int | None = None, *, who: str = "operator", why: str = "") -> None:
        """Roll back. number: of the rollout that is meant. Raises ChangeRefused or JournalError."""
        await self._changes.change(Change(who, AbortRollout(time.time(), number), why or "a person gave it up"))

    async def run(self) -> None:
        """Perform whatever is next, for as long as the supervisor lives."""
        while True:
            pause = LOOK_SECONDS
            try:
                if await (self._look() if self._state.desired.rollout is not None else self._idle()):
                    continue
            except ChangeRefused:
                pass  # superseded while it waited for its turn: what is next now?
            except JournalError as error:
                # What nobody could account for later is not done.
                self._events.log(f"the rollout waits: {error}")
                pause = TROUBLE_SECONDS
            except Exception:
                # The state is as it was before, so it may be looked at again.
                self._events.log(f"internal error:\n{traceback.format_exc()}")
                pause = TROUBLE_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._signal.next_step()

    async def _idle(self) -> bool:
        """Wait for a rollout."""
        self._begun.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await self._begun.wait()
        await self._loader.close_idle()
        return True

    async def _look(self) -> bool:
        """Perform the next step, if there is one."""
        state = self._state
        rollout = state.desired.rollout
        assert rollout is not None
        await self._migrations.follow(rollout)
        self._next = next_step(state.app, self._migrations.result(rollout), time.time())
        change = self._next.change
        if change is None:
            return False
        if isinstance(change.what, EndRollout):
            async with self.turn:
                await self._end(rollout, change)
            return True
        entered = change.what.stage if isinstance(change.what, AdvanceRollout) else None
        if entered is Stage.ROLLING_BACK:
            self.outcomes.remember_output(rollout, change.why)
        await self._changes.change(change)
        if entered is not None:
            self._events.log(f"rollout {rollout.number} is {entered}: {change.why}")
        return True

    async def _end(self, rollout: Rollout, change: Change) -> None:
        """Record that it is over, then close what only it needed: listeners before the zygotes that keep copies."""
        state = self._state
        moved = rollout.stage is Stage.PROMOTED
        gone = state.desired.leaving()
        why = str(change.why)
        await self._changes.change(change)
        self.outcomes.add(rollout.number, done=moved, why=why)
        self._next = None
        await self._control.dismiss()
        await self._listeners.close_unused()
        for name in gone:  # after that, nobody looks them up any more
            state.output.forget_set(name)
        state.app.forget(gone)
        await self._copies.gather()
        await self._loader.tidy()
        state.app.canary.forget()
        loaded = state.releases.by_name[state.desired.current.name]
        serving = {release.name for release in state.desired.releases()}
        if moved:
            with suppress(ConfigError):  # on a full disk nobody can go back to it, but it serves
                await asyncio.to_thread(self._store.mark_served, rollout.later.name)
        await asyncio.to_thread(self._store.prune, loaded.settings.releases.keep, serving, self._copies.used())
        what = "is done" if moved else "was rolled back"
        self._events.log(f"rollout {rollout.number} {what}: {why}")
