"""Holds services back whose data is not up to date, and starts them once it is."""

from fissile.names import ServiceName, SetName
from fissile.orchestrator.migration_rules import held, may_run, pending
from fissile.orchestrator.reasons import Reason
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.migrations import Migrations
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.step_signal import StepSignal
from fissile.supervisor.tasks import BackgroundTasks


class StartupMigrations:
    """When a supervisor begins. failed: why the migrations of a set failed, while nobody has mended that."""

    def __init__(
        self,
        state: SupervisorState,
        events: EventRecorder,
        tasks: BackgroundTasks,
        signal: StepSignal,
        migrations: Migrations,
    ) -> None:
        self._state = state
        self._events = events
        self._tasks = tasks
        self._signal = signal
        self._migrations = migrations
        self.failed: dict[SetName, Reason] = {}

    def hold(self) -> None:
        """Hold back whatever has to be migrated first. It comes before the loop's first step, which would start it."""
        loaded = self._state.releases.current
        if loaded is None:
            return
        for service, names in held(self._state.desired, loaded.spec, self._migrations.done()).items():
            name = loaded.spec.sets[service]
            self._state.app.paused.add(name)
            self._tasks.spawn(self._migrate_first(loaded, service, names, name))

    async def _migrate_first(
        self, loaded: LoadedRelease, service: ServiceName, names: tuple[str, ...], name: SetName
    ) -> None:
        state = self._state
        while not may_run(state.desired, state.observed, name):
            await self._signal.next_step()
        wanted = name in state.desired.sets  # else its release has gone meanwhile
        trouble = await self._migrations.run(loaded, service, names) if wanted else None
        if trouble is not None:
            self._events.log(f"{service}: its data cannot be brought up to date: {trouble.trouble}")
            self.failed[name] = trouble
            self._signal.wake()
            await self._migrated_by_others(loaded, service, name)
            self.failed.pop(name, None)
        state.app.paused.discard(name)
        self._signal.wake()

    async def _migrated_by_others(self, loaded: LoadedRelease, service: ServiceName, name: SetName) -> None:
        """Wait until a deploy has run what failed here, or has replaced what needs it."""
        seen: object = None
        while name in self._state.desired.sets:
            rollout = self._state.desired.rollout
            now = self._state.desired.rollouts, rollout.stage if rollout is not None else None
            # The journal is asked only where a rollout has moved on: a step comes many times a second.
            if now != seen and service not in pending(loaded.spec, self._migrations.done()):
                return
            seen = now
            await self._signal.next_step()
