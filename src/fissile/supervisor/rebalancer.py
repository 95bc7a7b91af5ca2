"""Has each replica of a public listener get its part of those who keep their connections."""

import asyncio
import random
import time

from fissile.orchestrator.rebalance import handovers
from fissile.runtime.control import Move
from fissile.supervisor.state import SupervisorState

# How often kept connections are looked at: each replica has reported in between what became of the last look.
BALANCE_SECONDS = 2.0


class Rebalancer:
    """Moves kept connections among replicas, as `orchestrator.rebalance` decides."""

    def __init__(self, state: SupervisorState) -> None:
        self._state = state

    async def run(self) -> None:
        """Look and move, for as long as the supervisor lives."""
        path = self._state.folder.handover_path
        while True:
            await asyncio.sleep(BALANCE_SECONDS)
            found = handovers(self._state.app.router().holders(), random.random, time.monotonic())
            for serial, moves in found.items():
                process = self._state.processes.by_serial.get(serial)
                if process is not None:
                    to = {one: {path(taker): n for taker, n in by.items()} for one, by in moves.items()}
                    process.session.move(Move(to))
