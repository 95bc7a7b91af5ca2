"""Watches a replica's process from its first moment until nothing of it is left."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress

from fissile.machine.last_lines import nothing_to_run
from fissile.machine.leftover_processes import ASKED_SECONDS
from fissile.machine.limits import ran_out_of_memory
from fissile.machine.probe import until_it_serves
from fissile.machine.programs import NOT_FOUND
from fissile.machine.sockets import HOST, remove_unix
from fissile.machine.zygote.client import ProcessHandle
from fissile.orchestrator import replica as known
from fissile.orchestrator.desired import DesiredSet
from fissile.orchestrator.plan import seconds_left
from fissile.orchestrator.reasons import Exited
from fissile.orchestrator.replica import Replica, ReplicaEnded
from fissile.orchestrator.restart import Exit, how_it_ended
from fissile.supervisor.code_copies import CodeCopies
from fissile.supervisor.control_server import ControlServer
from fissile.supervisor.endings import Endings
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.isolation import take_down
from fissile.supervisor.ownership import Ownership
from fissile.supervisor.processes import Process, process_of
from fissile.supervisor.service import Service
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.step_signal import StepSignal
from fissile.supervisor.tasks import BackgroundTasks

Observe = Callable[[Replica, known.Observation], None]


class ProcessWatcher:
    """Notices when replicas serve, where they do not say so, and how they end, and cleans up after them.

    observe: is told. removals: of files of those that have ended; they are waited for at the end, since no two
    supervisors may be at it. stop_limit: until when all must have ended (monotonic seconds); 0: nobody wants that.
    """

    def __init__(
        self,
        state: SupervisorState,
        observe: Observe,
        events: EventRecorder,
        tasks: BackgroundTasks,
        removals: BackgroundTasks,
        signal: StepSignal,
        control: ControlServer,
        endings: Endings,
        ownership: Ownership,
        copies: CodeCopies,
    ) -> None:
        self._state = state
        self._observe = observe
        self._events = events
        self._tasks = tasks
        self._removals = removals
        self._signal = signal
        self._control = control
        self._endings = endings
        self._ownership = ownership
        self._copies = copies
        self.stop_limit = 0.0

    def watch(self, replica: Replica, child: ProcessHandle, root: str) -> None:
        """From now on its end is noticed. root: the folder of its code."""
        process = process_of(child, self._control.session(replica.serial), root)
        self._state.processes.by_serial[replica.serial] = process
        # Its reports are believed from now on: they wait until it is known which process it is.
        process.session.settle(child.pid)
        self._signal.wake()
        service = self._state.sets.service_at(replica.set, replica.build)
        probe = self._tasks.spawn(self._probe(replica, process, service)) if service.settings.command else None

        def exited(status: "asyncio.Future[int | None]") -> None:
            if probe is not None:
                probe.cancel()
            self._outlived(replica, process, status.result())

        child.exited.add_done_callback(exited)
        # What was said without knowing how it ended is made good.
        child.learned = lambda status: self._events.record(
            "ReplicaExplained", service.name, Exited(status, child.pid), slot=replica.slot, pid=child.pid
        )

    async def _probe(self, replica: Replica, process: Process, service: Service) -> None:
        port, begun = service.port(replica.serial), list[float]()
        await until_it_serves(
            HOST, port, service.ready(), lambda: self._ownership.is_its_own(replica, process, port, begun)
        )
        self._observe(replica, known.ReplicaReady())

    # -- its end ------------------------------------------------------------------------------------

    def _outlived(self, replica: Replica, process: Process, status: int | None) -> None:
        """A replica has ended; what it started may not have. Where that was wished, both are one end.

        A replica that died is replaced at once, and what it left ends beside its successor's start.
        """
        wished = replica.end_is_wished
        self._state.processes.by_serial.pop(replica.serial, None)
        if wished and self._state.sets.is_program(replica.set):
            first = self._state.sets.stop_signal(replica)
            ending = self._endings.begin(replica, process, first, self._time_left(replica))
        else:
            ending = self._endings.begin(replica, process)
        if ending is None or not wished:
            self._exited(replica, process, status)
        else:
            ending.add_done_callback(lambda _: self._exited(replica, process, status))

    def _time_left(self, replica: Replica) -> float:
        """For how long a program that was told to end may still go on (seconds)."""
        want = self._state.desired.sets.get(replica.set, DesiredSet())
        return max(ASKED_SECONDS, seconds_left(replica, want, self.stop_limit, time.monotonic()))

    def _exited(self, replica: Replica, process: Process, status: int | None) -> None:
        state = self._state
        if state.detached and state.serving:
            self._tasks.spawn(self._copies.gather())  # what it wrote last
        printed = state.keep_output(replica.set, replica.slot, replica.serial)
        hopeless = status in NOT_FOUND or (bool(status) and nothing_to_run(printed))
        limits = state.releases.limits_of(replica)
        usage = state.limits.enforcement.usage(replica.key, replica.pid) if limits.grouped else None
        memory = ran_out_of_memory(replica.pid, usage, limits) if usage is not None else None
        found = Exit(status, process.session.trouble, process.session.mistake, hopeless, memory)
        program = replica.set in state.sets.programs()
        how, mistake = how_it_ended(found, replica.pid, was_ready=replica.ready_at is not None, program=program)
        # Cleared before it is observed: the next replica may be started by what is observed.
        self.clear(replica)
        self._observe(replica, ReplicaEnded(how, random.random(), mistake))

    def clear(self, replica: Replica) -> None:
        """Remove all that was made for a replica."""
        state = self._state
        self._control.forget(replica.serial)
        state.output.discard(replica.serial)
        state.processes.port_holders.pop(replica.serial, None)
        service = state.sets.live().get(replica.set)
        if service is not None:
            service.ports.pop(replica.serial, None)
        remove_unix(state.folder.handover_path(replica.serial))
        with suppress(OSError):
            state.folder.stacks(replica.key).unlink(missing_ok=True)
        limits = state.releases.limits_of(replica)
        if limits.disk is not None or limits.grouped:
            self._removals.spawn(self._take_down(replica))

    async def _take_down(self, replica: Replica) -> None:
        """Remove what held it and what it left, once nobody is in there."""
        await self._endings.over(serials=[replica.serial])
        limits = self._state.releases.limits_of(replica)
        if limits.disk is not None:
            await asyncio.to_thread(take_down, self._state, [replica.key])
        if limits.grouped:
            await asyncio.to_thread(self._state.limits.enforcement.remove, replica.key)
