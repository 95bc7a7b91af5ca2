"""The processes that run migrations: no replicas, but started, watched and cleaned up after like them."""

import asyncio
import os

from fissile.machine.logfiles import LogFiles
from fissile.machine.output import Logs
from fissile.machine.zygote.client import ProcessHandle
from fissile.names import ServiceName, SetName
from fissile.orchestrator.awaited import NO_SLOT
from fissile.orchestrator.replica import Replica
from fissile.supervisor.control_server import ControlServer, ReplicaSession
from fissile.supervisor.endings import Endings
from fissile.supervisor.isolation import take_down
from fissile.supervisor.launcher import Launcher
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.processes import process_of
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.tasks import BackgroundTasks


class MigrationProcesses:
    """Starts them, one at a time as `Migrations` orders it."""

    def __init__(
        self,
        state: SupervisorState,
        removals: BackgroundTasks,
        logs: Logs | LogFiles,
        control: ControlServer,
        launcher: Launcher,
        endings: Endings,
    ) -> None:
        self._state = state
        self._removals = removals
        self._logs = logs
        self._control = control
        self._launcher = launcher
        self._endings = endings

    async def launch(
        self, loaded: LoadedRelease, service: ServiceName, names: tuple[str, ...]
    ) -> tuple[ProcessHandle, ReplicaSession]:
        """A process that runs migrations. Raises ForkError or OSError."""
        serial = self._state.observed.next_serial()
        # What the migration before has left may still be at work on the same data.
        await self._endings.over(name=service, slot=NO_SLOT)
        session = self._control.session(serial)
        try:
            out, err = self._logs.pipes(service)
            self._state.output.begin(serial, out)
            try:
                child = await self._launcher.migrate(loaded, service, names, serial, out, err)
            finally:
                os.close(out)
                os.close(err)
        except BaseException:
            self._control.forget(serial)
            self._state.output.discard(serial)
            raise
        name = loaded.spec.sets[service]
        self.watch(serial, child, session, name)
        key = Replica(serial, name, 0, 0, "", 0.0).key
        child.exited.add_done_callback(lambda _: self._removals.spawn(asyncio.to_thread(take_down, self._state, [key])))
        return child, session

    def watch(self, serial: int, child: ProcessHandle, session: ReplicaSession, of: SetName) -> None:
        """From now on its end is noticed: with it ends what it started."""
        session.settle(child.pid)
        process = process_of(child, session)
        self._state.processes.migrating.add(serial)

        def exited(_: object) -> None:
            self._control.forget(serial)
            self._state.processes.migrating.discard(serial)
            self._state.keep_output(of, NO_SLOT, serial)
            self._endings.begin(Replica(serial, of, NO_SLOT, 0, "", 0.0), process)

        child.exited.add_done_callback(exited)
