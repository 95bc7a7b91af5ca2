"""Ends an application in order, or leaves it to the next supervisor, and closes all that was opened."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack, suppress

from fissile.journal.journal import JournalError
from fissile.journal.rows import Entry
from fissile.machine.orphans import end as end_orphans
from fissile.machine.procfs import still_there
from fissile.names import SetName
from fissile.orchestrator.health import hears_no_signal
from fissile.orchestrator.reasons import AllStops
from fissile.orchestrator.shutdown_order import stopping_order
from fissile.runtime.control import DRAIN_SECONDS_MAX, Drain
from fissile.supervisor.endings import Endings
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.linux import LinuxExecutor
from fissile.supervisor.orphans import STOP_SECONDS_MAX
from fissile.supervisor.previous_run import DOWN, FIRST_START, STOPPED
from fissile.supervisor.process_watcher import ProcessWatcher
from fissile.supervisor.processes import Process
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.step_signal import StepSignal
from fissile.supervisor.tasks import BackgroundTasks
from fissile.supervisor.unavailable import UnavailableResponder

Close = Callable[[], Awaitable[object]]


class Shutdown:
    """Knows what is open. touched: whether anything was begun, or ended, that was not taken over.

    A start that fails is rolled back by the stack that an orderly stop drains: there is no other list of what to close.
    """

    def __init__(
        self,
        state: SupervisorState,
        events: EventRecorder,
        tasks: BackgroundTasks,
        signals: StepSignal,
        endings: Endings,
        executor: LinuxExecutor,
        watcher: ProcessWatcher,
        unavailable: UnavailableResponder,
    ) -> None:
        self._state = state
        self._events = events
        self._tasks = tasks
        self._signal = signals
        self._endings = endings
        self._executor = executor
        self._watcher = watcher
        self._unavailable = unavailable
        self._stack = AsyncExitStack()
        self._leaves = False
        self.touched = False

    def opened(self, end: Close | None, leave: Close | None) -> None:
        """Something is open from now on, and is closed before what was opened before it.

        end: closes it where all ends. leave: closes it where what runs goes on without this supervisor.
        """

        async def close() -> None:
            do = leave if self._leaves else end
            if do is not None:
                await do()

        self._stack.push_async_callback(close)

    # -- what people ask for ------------------------------------------------------------------------

    async def mark_stopped(self, *, who: str = "operator", why: str = "") -> None:
        """A person wants the end that follows: the next start begins anew, and does not go on with what ran."""
        reason = why or "it was asked for"
        try:
            entry = Entry("change", who, "ApplicationDown", "", reason, {"pid": os.getpid()})
            await asyncio.to_thread(self._events.journal.change, entry, {DOWN: STOPPED})
        except JournalError as error:  # a full disk keeps nobody from stopping
            self._events.log(f"that it was stopped on purpose is not remembered: {error}")

    async def give_up(self, why: str) -> bool:
        """Undo a start, whether it is over or was cancelled: end what it began, and let go of what it took over.

        Whether something goes on that ran before. The next start begins as this one did.
        """
        if not self.touched:
            if self._state.folder.ours:
                await self.leave()
            return bool(still_there(self._state.folder.left()))
        self._events.log(f"the start is given up: {why}")
        self._events.record("StartGivenUp", "", why)
        if self._events.opened is not None and not self._state.resumed:
            with suppress(JournalError):
                await asyncio.to_thread(self._events.opened.keep, DOWN, FIRST_START)
        await self.stop()
        return False

    async def stop(self, *, drain_seconds_max: float = DRAIN_SECONDS_MAX) -> None:
        """End all, callers first, in the limit altogether (seconds); then close and remove every socket.

        Given up half way (cancelled), it kills what is left. May be called again.
        """
        app = self._state.app
        # First of all nothing is started, told or published any more: replicas that end now are not to be replaced.
        self._state.serving = False
        app.routed.close()
        self._unavailable.follow({})
        try:
            await self.cancel_tasks()
            limit = time.monotonic() + drain_seconds_max
            grace = STOP_SECONDS_MAX if drain_seconds_max else 0.0
            await end_orphans(app.strays, drain_seconds_max + grace)
            # Callers before callees: nobody is called after its end.
            for wave in stopping_order(app.desired, app.observed):
                await self._end(wave, max(0.0, limit - time.monotonic()) + grace)
        finally:
            # Also where this was cancelled: what is left is killed by closing its zygote.
            await self._stack.aclose()

    async def leave(self) -> None:
        """Leave what runs as it is, and be a supervisor no more."""
        self._state.serving = False
        self._leaves = True
        await self.cancel_tasks()
        self._unavailable.follow({})
        # What is not known here any more is ended by no later `stop`.
        self._state.processes.by_serial.clear()
        await self._stack.aclose()

    async def cancel_tasks(self) -> None:
        """Decide nothing any more."""
        await self._tasks.cancel()
        # After the tasks: those that waited for a step are gone, and who waits from outside is told now.
        self._signal.cancel()

    # -- one wave -----------------------------------------------------------------------------------

    async def _end(self, sets: Collection[SetName], seconds_max: float) -> None:
        """Ask their replicas to end by signal, and kill those that do not within the limit."""
        ending = [process for process in self._state.processes.by_serial.values() if self._set_of(process) in sets]
        children = [process.child for process in ending]
        self._watcher.stop_limit = time.monotonic() + seconds_max
        for process in ending:
            self._tell_to_end(process, seconds_max)
        # Who starts serves nobody, and may hear no signal before its components are there.
        deaf = [process.child for process in ending if self._starts(process)]
        if deaf:
            await asyncio.wait([child.exited for child in deaf], timeout=min(seconds_max, STOP_SECONDS_MAX))
        for child in deaf:
            child.signal(signal.SIGKILL)
        if children:
            left = max(0.0, self._watcher.stop_limit - time.monotonic())
            await asyncio.wait([child.exited for child in children], timeout=left)
        for child in children:
            child.signal(signal.SIGKILL)
        if children:
            await asyncio.wait([child.exited for child in children])
        # The next wave may be called by what these have started.
        await self._endings.over(serials=[process.session.serial for process in ending])

    def _tell_to_end(self, process: Process, seconds_max: float) -> None:
        replica = self._state.replica(process.session.serial)
        if replica is not None:
            self._state.observed.end(replica, AllStops(), fault=False)
            # Before the signal: that nobody takes over is not said by one.
            process.session.drain(Drain(seconds_max))
            self._executor.tell_to_stop(replica, process, self._state.sets.stop_signal(replica))

    def _starts(self, process: Process) -> bool:
        replica = self._state.replica(process.session.serial)
        return replica is not None and hears_no_signal(replica, program=self._state.sets.is_program(replica.set))

    def _set_of(self, process: Process) -> str:
        replica = self._state.replica(process.session.serial)
        return replica.set if replica is not None else ""
