"""Starts replicas: waits for the slot to be free, has the process made, and hands it to its watcher."""

import asyncio
import os
import random
import signal

from fissile.errors import ConfigError, FissileError, advises
from fissile.machine.logfiles import LogFiles
from fissile.machine.output import Logs
from fissile.orchestrator.reasons import CannotStart, InternalError, Reason
from fissile.orchestrator.replica import Replica, ReplicaEnded
from fissile.supervisor.code_copies import CodeCopies
from fissile.supervisor.control_server import ControlServer
from fissile.supervisor.endings import Endings
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.launcher import Launcher
from fissile.supervisor.ownership import Ownership
from fissile.supervisor.process_watcher import Observe, ProcessWatcher
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.tasks import BackgroundTasks


class ReplicaStarter:
    """Each start is a task of its own; what became of it is observed."""

    def __init__(
        self,
        state: SupervisorState,
        observe: Observe,
        events: EventRecorder,
        tasks: BackgroundTasks,
        logs: Logs | LogFiles,
        control: ControlServer,
        launcher: Launcher,
        endings: Endings,
        ownership: Ownership,
        copies: CodeCopies,
        watcher: ProcessWatcher,
    ) -> None:
        self._state = state
        self._observe = observe
        self._events = events
        self._tasks = tasks
        self._logs = logs
        self._control = control
        self._launcher = launcher
        self._endings = endings
        self._ownership = ownership
        self._copies = copies
        self._watcher = watcher

    def begin(self, replica: Replica, reason: Reason) -> None:
        """Start a replica; it is observed to be ready, or to have ended."""
        start = self._tasks.spawn(self._start(replica, reason))
        start.add_done_callback(lambda task: self._start_is_over(replica, task))

    async def _start(self, replica: Replica, reason: Reason) -> tuple[Reason | None, bool]:
        """Make its process; why there is none, if so, and whether people have to mend something before there is."""
        # What the last replica of this slot has left may hold its port, or do the same work twice.
        await self._endings.over(name=replica.set, slot=replica.slot)
        try:
            await self._free_port(replica)
        except ConfigError as error:
            return CannotStart(str(error), advises(error)), False  # whoever has its port may end
        alone = self._state.desired.sets[replica.set].replicas_max == 1
        service = replica.service
        # The session before the process: none of its reports is missed.
        self._control.session(replica.serial)
        try:
            out, err = self._logs.pipes(service if alone else f"{service}.{replica.slot}")
        except OSError as error:
            return CannotStart(f"its log cannot be opened: {error}"), False
        self._state.output.begin(replica.serial, out)
        root = self._state.releases.zygote_of(replica.set).application.root
        if self._state.detached:
            await self._copies.gather()  # so that it finds what others have made
        try:
            # The fork is the zygote's: this process has threads and sockets that no replica may inherit.
            child = await self._launcher.launch(replica, out, err)
        except (FissileError, OSError) as error:
            return CannotStart(str(error), advises(error)), isinstance(error, ConfigError)
        finally:
            os.close(out)
            os.close(err)
        replica.pid = child.pid
        self._events.record("ReplicaStarted", service, reason, slot=replica.slot, pid=child.pid, build=replica.build)
        self._watcher.watch(replica, child, root)
        if replica.ending:
            # It was to end while it had no process yet, and so was sent no signal.
            child.signal(signal.SIGKILL)
        return None, False

    async def _free_port(self, replica: Replica) -> None:
        """See that nobody has a program's port; end who does if the dead have left it. Raises ConfigError."""
        service = self._state.sets.service(replica.set)
        try:
            await self._ownership.check_free(replica, service)
        except ConfigError:
            if not await self._endings.end_left():
                raise
            await self._ownership.check_free(replica, service)

    def _start_is_over(self, replica: Replica, start: "asyncio.Task[tuple[Reason | None, bool]]") -> None:
        """However it went, a replica without a process has ended: nobody else would ever say so.

        A task may be cancelled before its first step, and then nothing inside it can.
        """
        mistake = False
        if start.cancelled():
            trouble = CannotStart("its start was given up")
        elif error := start.exception():
            trouble = CannotStart(InternalError(type(error).__name__, str(error)))
        else:
            trouble, mistake = start.result()
        if trouble is not None and replica.serial not in self._state.processes.by_serial:
            self._watcher.clear(replica)
            self._observe(replica, ReplicaEnded(trouble, random.random(), mistake))
