"""An application's services on this machine, each replica in a process of its own: the parts, started and stopped.

What is desired and what is observed meet in `orchestrator.plan`; the parts perform what it says, and tell it what came
of it. The application's code is never imported here: the zygote does that.

A detached supervisor may die at any instant: replicas go on, the zygote keeps what the next supervisor has to know, and
the journal what was desired.
"""

import asyncio
from pathlib import Path

from fissile.journal.journal import Journal, JournalError
from fissile.machine.logfiles import LogFiles
from fissile.machine.output import Logs
from fissile.machine.zygote.client import OtherFissile
from fissile.releases.store import ReleaseStore
from fissile.runtime.control import DRAIN_SECONDS_MAX
from fissile.settings.schema import Settings
from fissile.supervisor.assembly import Options, assemble
from fissile.supervisor.deployer import Deployer
from fissile.supervisor.endpoints import Endpoints, nothing_runs
from fissile.supervisor.lifecycle import open_folder, run
from fissile.supervisor.operations import Operations
from fissile.supervisor.previous_run import PreviousRun
from fissile.supervisor.rollout_controller import RolloutController
from fissile.supervisor.status import SupervisorStatus, status_of
from fissile.supervisor.takeover import SETTLE_SECONDS_MAX, Adopted


class Supervisor:
    """Runs one application, once.

    topology: "" is the one that runs already, where another supervisor left it, or else that of the settings.
    port: of the first public listener (None: the usual or any free one). state: the folder in which
    .fissile is made, if not the application's own. logs: where replicas' output goes. detached: whether replicas
    outlive a supervisor that dies; code runs from a copy of it then. fresh: begin with the code in the folder, though
    nobody has stopped what ran last. resume: the topology is that of a first start, and what ran before goes on in its
    own. adopts: this process does nothing else, so all that descends from it ends with it.
    """

    def __init__(
        self,
        settings: Settings,
        topology: str,
        *,
        port: int | None = None,
        state: Path | None = None,
        logs: Logs | LogFiles | None = None,
        detached: bool = False,
        fresh: bool = False,
        resume: bool = False,
        adopts: bool = False,
    ) -> None:
        self.parts = assemble(settings, topology, Options(port, state, logs, detached, fresh, resume))
        self._adopts = adopts

    @property
    def operations(self) -> Operations:
        """Restarts, scaling, and questions about services."""
        return self.parts.operations

    @property
    def deployer(self) -> Deployer:
        """Deploys and rollbacks."""
        return self.parts.deployer

    @property
    def rollouts(self) -> RolloutController:
        """What became of them."""
        return self.parts.controller

    @property
    def store(self) -> ReleaseStore:
        """The releases that are kept."""
        return self.parts.store

    @property
    def journal(self) -> Journal:
        """The application's journal. Raises JournalError when it is not open."""
        return self.parts.events.journal

    @property
    def operator_token(self) -> str:
        """By which people's tools call components."""
        return self.parts.state.secrets.operator

    def own_children(self) -> set[int]:
        """Whose end is fetched where it is waited for: zygotes, and replicas whose zygote has died."""
        return self.parts.loader.pids() | self.parts.state.processes.pids()

    def endpoints(self) -> Endpoints:
        """Where everything is reached now."""
        return self.parts.publisher.endpoints()

    @property
    def waits(self) -> str:
        """What a start or a deploy waits for just now; "" for nothing."""
        return self.parts.readiness.waits

    def status(self) -> SupervisorStatus:
        """What runs now."""
        parts = self.parts
        journal = parts.events.opened
        return status_of(
            parts.state,
            journal=journal.trouble if journal is not None else "",
            waits=parts.controller.waits,
            waits_kind=parts.controller.waits_kind,
            zygote=parts.loader.trouble,
            preparing=parts.loader.doing,
            restarts=parts.restarter.asked(),
        )

    # -- from the start to the end ------------------------------------------------------------------

    async def start(self, *, adopt_only: bool = False) -> Endpoints:
        """Bring all up, or take over what a dead supervisor left. Raises FissileError.

        What was started is ended then; what ran before is left alone. adopt_only: start nothing. Cancelled, it leaves
        what was started to `stop` or `give_up`.
        """
        parts, adopted = self.parts, Adopted()
        open_folder(parts, adopts=self._adopts)
        try:
            try:
                adopted = await parts.loader.adopt()
                await parts.startup.open_journal(nothing_runs=not adopted)
            except (JournalError, OtherFissile) as error:
                if not adopt_only:
                    raise
                await parts.orphans.end_unknown(adopted, error)
                return self.endpoints()
            if parts.state.detached and not adopt_only:
                await asyncio.to_thread(parts.store.copies.check)
            previous = PreviousRun(self.journal, parts.store, parts.events.log)
            if adopted:
                await parts.takeover.take_over(adopted, previous)
            else:
                parts.shutdown.touched = True
                # Before anything is started: orphans hold ports, and do the work that is to be begun.
                ended = await parts.orphans.end_all()
                if adopt_only and not ended:
                    raise nothing_runs(parts.state.folder.path.parent)
                if adopt_only:
                    return self.endpoints()
                await parts.startup.begin(previous)
            run(parts)
            await self._come_up(previous, first=not adopted)
            return self.endpoints()
        except BaseException as error:
            if adopted or not parts.shutdown.touched:
                for zygote, _ in adopted:
                    zygote.detach()
                await parts.shutdown.leave()
            elif not isinstance(error, asyncio.CancelledError):  # else whoever gave it up says how it is to end
                await parts.shutdown.stop(drain_seconds_max=0.0)
            raise

    async def _come_up(self, previous: PreviousRun, *, first: bool) -> None:
        """Wait until all serve. first: nothing ran before. Raises StartError."""
        parts = self.parts
        if first:
            await parts.readiness.all_ready(list(parts.state.desired.sets))
            if parts.state.detached:  # else there is no copy that one could go on with
                await previous.succeeded(parts.state.desired.current.name)
            await parts.copies.gather()
        else:
            await parts.readiness.settled(SETTLE_SECONDS_MAX)
            if previous.unfinished():
                parts.tasks.spawn(self._finish(previous))
        parts.publisher.publish()

    async def _finish(self, previous: PreviousRun) -> None:
        """The first start of a supervisor that died is over once all are ready."""
        await self.parts.readiness.none_missing()
        await previous.succeeded(self.parts.state.desired.current.name)

    async def stop(self, *, drain_seconds_max: float = DRAIN_SECONDS_MAX) -> None:
        """End all, callers first, in the limit altogether (seconds); see `Shutdown.stop`."""
        await self.parts.shutdown.stop(drain_seconds_max=drain_seconds_max)

    async def give_up(self, why: str) -> bool:
        """Undo a start; whether something goes on that ran before. See `Shutdown.give_up`."""
        return await self.parts.shutdown.give_up(why)
