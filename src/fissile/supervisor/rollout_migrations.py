"""Runs the migrations of a rollout while it is in its stage of migrating."""

import asyncio

from fissile.orchestrator.desired import Rollout, Stage
from fissile.orchestrator.reasons import Reason
from fissile.supervisor.migrations import Migrations
from fissile.supervisor.state import SupervisorState


class RolloutMigrations:
    """Of the rollout under way."""

    def __init__(self, state: SupervisorState, migrations: Migrations) -> None:
        self._state = state
        self._migrations = migrations
        # The rollout's number, and its migrations.
        self._running: tuple[int, asyncio.Task[Reason | None]] | None = None

    async def follow(self, rollout: Rollout) -> None:
        """Run its migrations while it is migrating, and leave none running when it is not any more."""
        number, task = self._running or (0, None)
        if rollout.stage is Stage.MIGRATING:
            if number != rollout.number:
                loaded = self._state.releases.by_name[rollout.later.name]
                self._running = rollout.number, asyncio.create_task(self._migrations.run_all(loaded))
            return
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            self._running = None
        await self._migrations.end(rollout.later.name)

    def result(self, rollout: Rollout) -> str | None:
        """Why a migration failed, "" if all are done, None if they are not. Raises what kept them from being run."""
        number, task = self._running or (0, None)
        if task is None or number != rollout.number or not task.done():
            return None
        if task.exception() is not None:
            self._running = None  # begun again with the next look: a disk may have room by then
        trouble = task.result()
        return trouble.trouble if trouble is not None else ""
