"""Waits until services serve, and says meanwhile what is waited for."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from fissile.errors import StartError
from fissile.names import SetName, service_of
from fissile.orchestrator.awaited import awaited, awaited_sets, cannot_start, missing
from fissile.orchestrator.reasons import Reason
from fissile.supervisor.loader import ReleaseLoader
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.step_signal import StepSignal


class Readiness:
    """Of the replicas of an application.

    failed: why sets cannot start, where that is known otherwise than by their replicas. logged: whether what they print
    is in log files.
    """

    def __init__(
        self,
        state: SupervisorState,
        signal: StepSignal,
        loader: ReleaseLoader,
        failed: Mapping[SetName, Reason],
        *,
        logged: bool,
    ) -> None:
        self._state = state
        self._signal = signal
        self._loader = loader
        self._failed = failed
        self._logged = logged
        self._awaited: Sequence[SetName] = ()

    async def all_ready(self, sets: Sequence[SetName]) -> None:
        """Wait until all have the replicas that are wanted. Raises StartError."""
        state = self._state
        while True:
            self._awaited = sets
            await self._signal.next_step()
            awaits = missing(sets, state.desired, state.observed, state.app.paused)
            if not awaits:
                self._awaited = ()
                return
            failed = cannot_start(awaits, state.observed, self._failed)
            if failed is not None:
                raise self._not_started(*failed)

    def _not_started(self, name: SetName, slot: int, trouble: Reason) -> StartError:
        service = service_of(name)
        where = f"; `fissile logs {service}` shows all that it printed" if self._logged else ""
        return StartError(
            f"{service} cannot be started: {trouble.trouble}",
            remedy=f"mend that, and start again{where}" if not trouble.advises else "",
            service=service,
            last_lines=self._state.output.of_slot(name, slot, trouble.trouble),
        )

    async def none_missing(self) -> None:
        """Wait until all sets have the replicas that are wanted, however often those fail meanwhile."""
        state = self._state
        while missing(state.desired.sets, state.desired, state.observed):
            await self._signal.next_step()

    async def settled(self, seconds_max: float) -> None:
        """Wait until all replicas that were adopted have said how they are, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds_max):
                while self._state.observed.unheard():
                    await self._signal.next_step()

    @property
    def waits(self) -> str:
        """What a start or a deploy waits for just now; "" for nothing."""
        if self._loader.doing:
            return self._loader.doing
        state = self._state
        paused, how_ready = state.app.paused, state.sets.how_ready
        return awaited(awaited_sets(tuple(self._awaited), state.desired, state.observed, paused, how_ready))
