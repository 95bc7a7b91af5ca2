"""Asks the pure autoscaler again and again how many replicas there should be, and has that changed."""

import asyncio
import os
import time

from fissile.journal.journal import JournalError
from fissile.names import service_of
from fissile.orchestrator.acts import Change, SetReplicas
from fissile.orchestrator.autoscale import Held
from fissile.orchestrator.change import ChangeRefused
from fissile.orchestrator.demand import may_be_asleep, scale
from fissile.supervisor.changes import Changes
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.state import SupervisorState

SCALE_SECONDS = 0.1


class AutoscalerLoop:
    """Scales an application's services. What it decides by is in `orchestrator.autoscale`."""

    def __init__(self, state: SupervisorState, changes: Changes, events: EventRecorder) -> None:
        self._state = state
        self._changes = changes
        self._events = events

    async def run(self) -> None:
        """Look and scale, for as long as the supervisor lives."""
        while True:
            await asyncio.sleep(SCALE_SECONDS)
            app = self._state.app
            changes, news = scale(
                app,
                {name for name in may_be_asleep(app) if self._state.sets.service(name).knocked()},
                cores=self._state.releases.settings.machine.cores or os.cpu_count() or 1,
                now=time.monotonic(),
            )
            for held in news:
                self._record_held(held)
            for change in changes:
                await self._rescale(change)

    def _record_held(self, held: Held) -> None:
        what = "ScalingFreed" if held.over else "ScalingHeld"
        self._events.record(what, held.service, held.reason, by=service_of(held.by))

    async def _rescale(self, change: Change) -> None:
        try:
            await self._changes.change(change)
        except (JournalError, ChangeRefused) as error:
            # What nobody could account for later is not done; the load itself is answered by what runs. And a set may
            # have ended since it was looked at.
            assert isinstance(change.what, SetReplicas)
            self._events.complain(f"{change.what.service}: not scaled: {error}")
