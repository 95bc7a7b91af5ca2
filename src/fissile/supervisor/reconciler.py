"""The loop around the pure reconciler: it is asked whenever something was observed or is due."""

import time

from fissile.orchestrator.reconciler import Reconciler
from fissile.supervisor.listeners import Listeners
from fissile.supervisor.publisher import EndpointPublisher
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.step_signal import StepSignal
from fissile.supervisor.unavailable import UnavailableResponder, notices


class ReconcilerLoop:
    """Has what is desired and what is observed compared, and acted on."""

    def __init__(
        self,
        state: SupervisorState,
        reconciler: Reconciler,
        signal: StepSignal,
        listeners: Listeners,
        unavailable: UnavailableResponder,
        publisher: EndpointPublisher,
    ) -> None:
        self._state = state
        self._reconciler = reconciler
        self._signal = signal
        self._listeners = listeners
        self._unavailable = unavailable
        self._publisher = publisher

    async def run(self) -> None:
        """Compare and act, for as long as the supervisor lives."""
        while True:
            self._signal.begin()
            step = self._reconciler.step(time.monotonic())
            if not step.actions:
                # Only now: a slot whose replica is about to be started needs its socket.
                await self._listeners.tidy()
            self._unavailable.follow(notices(self._state))
            self._publisher.publish()
            # After the endpoints: whoever waited for this step may read them.
            self._signal.end()
            if not step.actions:
                await self._signal.wait(step.due)
