"""The verbs of this machine: processes, signals and the control stream behind `Executor`."""

import signal
from collections.abc import Callable
from typing import Any

from fissile.machine.port_owners import listens
from fissile.orchestrator.reasons import Reason
from fissile.orchestrator.replica import READY, Replica
from fissile.orchestrator.routing import DrainOrder, Told
from fissile.runtime.control import Drain
from fissile.runtime.stacks import STACKS_SIGNAL
from fissile.supervisor.endings import Endings
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.ownership import Ownership
from fissile.supervisor.processes import Process
from fissile.supervisor.routes import rendered
from fissile.supervisor.state import SupervisorState


class LinuxExecutor:
    """The machine that replicas of one application run on.

    begin: makes a replica's process, in its own time, and says how it ended where there is none.
    """

    def __init__(
        self,
        state: SupervisorState,
        endings: Endings,
        ownership: Ownership,
        *,
        begin: Callable[[Replica, Reason], None],
        events: EventRecorder,
    ) -> None:
        self._state = state
        self._endings = endings
        self._ownership = ownership
        self._begin = begin
        self._events = events

    def _process(self, replica: Replica) -> Process | None:
        return self._state.processes.by_serial.get(replica.serial)

    def start(self, replica: Replica, reason: Reason) -> None:
        """See Executor."""
        self._begin(replica, reason)

    def drain(self, replica: Replica, reason: Reason) -> None:
        """See Executor. Replicas hear of it by `order`, programs by a signal."""
        self._noted("ReplicaDraining", replica, reason)
        process = self._process(replica)
        if process is not None and self._state.sets.is_program(replica.set):
            self.tell_to_stop(replica, process, self._state.sets.stop_signal(replica))

    def order(self, replica: Replica, order: DrainOrder) -> None:
        """See Executor."""
        process = self._process(replica)
        if process is not None:
            heirs = {door: tuple(map(self._state.folder.handover_path, to)) for door, to in order.heirs.items()}
            process.session.drain(Drain(order.seconds_max, order.idle_seconds_max, heirs))

    def stop(self, replica: Replica, reason: Reason) -> None:
        """See Executor."""
        process = self._process(replica)
        if process is not None:
            self.tell_to_stop(replica, process, signal.SIGTERM)

    def tell_to_stop(self, replica: Replica, process: Process, number: signal.Signals) -> None:
        """Ask for an orderly end.

        A program that listens itself is told alone: it knows in which order its own processes end, as a database
        does. Of one that does not, as of a shell or npm, the whole group is told: it might pass nothing on.
        """
        if not self._state.sets.is_program(replica.set):
            process.child.signal(number)
            return
        service = self._state.sets.service_at(replica.set, replica.build)
        if listens([process.child.pid], service.port(replica.serial)):
            process.child.signal(number)
        else:
            process.child.signal(number, group=True)

    def kill(self, replica: Replica, reason: Reason, *, fault: bool) -> None:
        """See Executor."""
        what = "ReplicaHung" if fault and replica.state is READY else "ReplicaKilled"
        stacks = self._state.folder.read_stacks(replica.key) if fault else ""
        self._noted(what, replica, reason, stacks=stacks)
        self._events.log(f"{replica.service}.{replica.slot}: killed: {reason}")
        process = self._process(replica)
        if process is not None:
            process.child.signal(signal.SIGKILL)
        else:
            self._endings.hurry(replica.serial)

    def explain(self, replica: Replica) -> str:
        """See Executor."""
        return self._ownership.what_is_missing(replica)

    def push_routes(self, replica: Replica, told: Told) -> None:
        """See Executor."""
        process = self._process(replica)
        if process is not None and not process.session.was_told(told.version):
            process.session.tell(rendered(self._state, told))

    def ask(self, replica: Replica) -> None:
        """See Executor."""
        process = self._process(replica)
        if process is not None:
            process.child.signal(STACKS_SIGNAL)

    def answered(self, replica: Replica) -> bool:
        """See Executor."""
        return self._process(replica) is not None and bool(self._state.folder.read_stacks(replica.key))

    def memory_bytes(self, replica: Replica) -> int | None:
        """See Executor."""
        return self._state.limits.enforcement.usage(replica.key, replica.pid).memory_bytes

    def _noted(self, what: str, replica: Replica, reason: Reason, **data: Any) -> None:
        self._events.record(what, replica.service, reason, slot=replica.slot, pid=replica.pid or None, **data)
