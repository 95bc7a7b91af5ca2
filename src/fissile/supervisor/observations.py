"""Remembers what is seen of replicas: their reports, their ends, and what watching finds."""

import asyncio
import time
from contextlib import suppress

from fissile.journal.journal import JournalError
from fissile.names import ServiceName, set_name
from fissile.orchestrator import replica as known
from fissile.orchestrator.reasons import ToldToEnd
from fissile.orchestrator.reconciler import Reconciler
from fissile.orchestrator.replica import DRAINING, READY, Replica, ReplicaReported, ReplicaState
from fissile.runtime.control import Heartbeat, ReadyReport, ReplicaReport
from fissile.supervisor.control_server import ReplicaSession
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.loader import ReleaseLoader
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.step_signal import StepSignal
from fissile.supervisor.tasks import BackgroundTasks

# What the journal keeps wire differences by.
DIFFERENCES = "differences"
# How the journal calls it when a replica is seen to have become so.
BECAME = {
    READY: "ReplicaReady",
    DRAINING: "ReplicaDraining",
    ReplicaState.STOPPED: "ReplicaStopped",
    ReplicaState.FAILED: "ReplicaExited",
}
WATCH_SECONDS = 0.5


class Observations:
    """Remembers and records what is observed, and wakes the loop where decisions rest on it."""

    def __init__(
        self,
        state: SupervisorState,
        reconciler: Reconciler,
        events: EventRecorder,
        tasks: BackgroundTasks,
        signal: StepSignal,
        loader: ReleaseLoader,
    ) -> None:
        self._state = state
        self._reconciler = reconciler
        self._events = events
        self._tasks = tasks
        self._signal = signal
        self._loader = loader

    def observe(self, replica: Replica, observation: known.Observation) -> None:
        """Something was observed: remember, record, and think again."""
        before, unheard = replica.state, replica.unheard
        follows = self._reconciler.observe(replica, observation, time.monotonic())
        if follows is not None and self._state.serving:
            self._events.log(f"{replica.service}.{replica.slot}: {follows}")
        if replica.state is READY and before is not READY:
            self._state.output.discard(replica.serial)
            self._state.output.forget_slot(replica.set, replica.slot)
        if replica.state is not before:
            happened = "ReplicaAdopted" if unheard and replica.state is READY else BECAME[replica.state]
            why = follows or (ToldToEnd() if replica.state is DRAINING else "")
            self._events.record(happened, replica.service, why, slot=replica.slot, pid=replica.pid or None)
            self._signal.wake()
        elif replica.stuck or not isinstance(observation, ReplicaReported):
            # Most observations are heartbeats of replicas that are well: no decision rests on those at once.
            self._signal.wake()

    def on_report(self, session: ReplicaSession, report: ReplicaReport) -> None:
        """A replica has said how it is."""
        replica = self._state.replica(session.serial)
        if replica is None:
            return
        if isinstance(report, ReadyReport):
            if report.hello.draining:
                self.observe(replica, known.ReplicaDraining())
            else:
                # Routes first: once it is known to be ready it may be called, and then calls others.
                self._reconciler.greet(replica, time.monotonic())
                self.observe(replica, known.ReplicaReady())
                self._import_ahead(replica, report.imported)
        elif isinstance(report, Heartbeat):
            self.observe(replica, ReplicaReported(report))
            if report.differences:
                self._add_differences(report)
            if report.outside:
                # What a replica says of others is not remembered: nothing would bound that.
                self._state.callers.hear(self._state.releases.methods().intersection(report.outside))

    def _import_ahead(self, replica: Replica, modules: tuple[str, ...]) -> None:
        """Have the zygote import what this replica had to import, so that the next one need not."""
        release = self._state.releases.of(replica.set) if modules else None
        if release is not None and release.settings.may_import_ahead(replica.service):
            self._tasks.spawn(self._state.releases.zygote_of(replica.set).prepare(modules))

    def _add_differences(self, beat: Heartbeat) -> None:
        """Remember what would be different across a wire, and record what is new."""
        service = beat.hello.service
        new = self._state.differences.add(ServiceName(service), beat.hello.build, beat.differences)
        for one in new:
            what = f"{one.method}: {one.what}"
            self._events.record("WireDifferenceFound", service, what, build=beat.hello.build)
        if new:
            self._tasks.spawn(self._keep_differences())

    async def _keep_differences(self) -> None:
        builds = [loaded.release.builds for loaded in self._state.releases.by_name.values()]
        kept = {set_name(service, build.name) for one in builds for service, build in one.items()}
        with suppress(JournalError):  # on a full disk, the next one's are written with these
            data = self._state.differences.encode(kept)
            await asyncio.to_thread(self._events.journal.keep, DIFFERENCES, data)

    async def watch(self) -> None:
        """Look for replicas that are stuck, for those that use too much, and for zygotes that hang."""
        due = time.monotonic()
        while True:
            due += WATCH_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for what, text in self._loader.look():
                self._events.announce(what, text)
            now = time.monotonic()
            # A supervisor that was late itself, as on a machine that slept, has heard nobody meanwhile.
            late, due = now - due, now
            if self._reconciler.watch(now, late):
                self._signal.wake()
