"""Replicas that nobody can adopt, since their zygote died as well: they serve on, and follow nobody any more."""

import asyncio
from collections.abc import Collection
from contextlib import suppress

from fissile.errors import FissileError
from fissile.machine.orphans import end, marked
from fissile.machine.procfs import born, mark_of
from fissile.machine.zygote.client import Found, ProcessHandle, ZygoteClient
from fissile.orchestrator.awaited import may_stay
from fissile.runtime.control import DRAIN_SECONDS_MAX, ReplicaSpec
from fissile.supervisor.endings import Endings
from fissile.supervisor.endpoints import nothing_runs
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.isolation import made_for, take_down
from fissile.supervisor.readiness import Readiness
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.step_signal import StepSignal
from fissile.supervisor.tasks import BackgroundTasks

# Beyond the drain's own limit: time to stop the components after it.
STOP_SECONDS_MAX = 5.0
# For which orphans serve on until others have taken their place.
REPLACE_SECONDS_MAX = 30.0


class Orphans:
    """Finds them, has others take their place, and ends them in order."""

    def __init__(
        self,
        state: SupervisorState,
        endings: Endings,
        events: EventRecorder,
        tasks: BackgroundTasks,
        removals: BackgroundTasks,
        signal: StepSignal,
        readiness: Readiness,
    ) -> None:
        self._state = state
        self._endings = endings
        self._events = events
        self._tasks = tasks
        self._removals = removals
        self._signal = signal
        self._readiness = readiness

    # -- at a takeover ------------------------------------------------------------------------------

    async def take_in(self, adopted: Collection[tuple[ProcessHandle, ReplicaSpec]], buried: Collection[int]) -> None:
        """Find those that live beside the adopted, and have them replaced. buried: serials of those that have ended.

        They are known by what was published of them, and by their mark. A number alone may be another process's by now:
        the time of its birth tells.
        """
        pids, mark = {child.pid for child, _ in adopted}, self._state.folder.mark()
        known = {mark.of(serial).serial for serial in {*buried, *(spec.serial for _, spec in adopted)}}
        found = self._state.folder.left() | await asyncio.to_thread(marked, mark.application, known)
        left = {pid: when for pid, when in found.items() if pid not in pids and born(pid) == when}
        marks = {mark_of(pid) for pid in left}
        alive = {spec.serial for _, spec in adopted} | {one.serial for one in marks if one is not None}
        # Before any replica is started: what the dead have left may hold a port.
        await self._endings.end_dead(alive)
        ended = [key for key, serial in made_for(self._state).items() if mark.of(serial).serial not in alive]
        self._removals.spawn(asyncio.to_thread(take_down, self._state, ended))
        if not left:
            return
        self._state.app.strays = left
        if may_stay(self._state.desired, self._state.observed):
            self._tasks.spawn(self._replace())
        else:
            await self._end()  # what is to take their place cannot be there beside them

    async def _replace(self) -> None:
        """End them once others serve in their place."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REPLACE_SECONDS_MAX):
                await self._readiness.none_missing()
        await self._end()

    async def _end(self) -> None:
        ended = await end(self._state.app.strays, DRAIN_SECONDS_MAX + STOP_SECONDS_MAX)
        await self._endings.end_left()
        text = f"{ended} replicas, whose zygote had died before their supervisor, were ended"
        self._events.announce("OrphansEnded", text)
        self._state.app.strays = {}
        self._signal.wake()

    # -- where nothing can be taken over ------------------------------------------------------------

    async def end_all(self) -> int:
        """End whoever was left when a supervisor and its zygote died both; how many."""
        folder = self._state.folder
        left = folder.left() | marked(folder.mark().application, ())
        ended = await end(left, DRAIN_SECONDS_MAX + STOP_SECONDS_MAX)
        await self._endings.end_dead(())
        if ended:
            text = f"{ended} replicas, whose supervisor and zygote had died, were ended"
            self._events.announce("OrphansEnded", text)
        return ended

    async def end_unknown(self, adopted: list[tuple[ZygoteClient, Found]], why: FissileError) -> None:
        """End what runs, though nobody knows any more what it is, and in which order it is to end."""
        self._events.log(f"{why}; all is ended at once, in no order")
        children = [child for _, found in adopted for child, _ in found.children]
        births = {child.pid: when for child in children if (when := born(child.pid)) is not None}
        await end(births, DRAIN_SECONDS_MAX + STOP_SECONDS_MAX)
        for zygote, _ in adopted:
            await zygote.close()
        ended = await self.end_all()
        if not adopted and not ended:
            raise nothing_runs(self._state.folder.path.parent)
