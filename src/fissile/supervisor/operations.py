"""What people ask a supervisor for, by the names of services."""

from fissile.errors import InvalidArgument
from fissile.machine.environment import Environment
from fissile.names import ServiceName, SetName
from fissile.orchestrator.acts import Change, ScaleService
from fissile.orchestrator.deploy_rules import bounds, starting_order
from fissile.orchestrator.plan import KillReplica
from fissile.orchestrator.reasons import HeldBack
from fissile.orchestrator.reconciler import Reconciler
from fissile.orchestrator.replica import ObservedSet
from fissile.releases.callers import Called
from fissile.releases.release import Release
from fissile.supervisor.changes import Changes
from fissile.supervisor.code_copies import CodeCopies
from fissile.supervisor.endpoints import nothing_runs
from fissile.supervisor.readiness import Readiness
from fissile.supervisor.restarter import Restarted, Restarter
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.step_signal import StepSignal


class Operations:
    """Orders and questions about the services of one application.

    A service is asked about in the release that most requests go to.
    """

    def __init__(
        self,
        state: SupervisorState,
        changes: Changes,
        signal: StepSignal,
        reconciler: Reconciler,
        readiness: Readiness,
        restarter: Restarter,
        copies: CodeCopies,
    ) -> None:
        self._state = state
        self._changes = changes
        self._signal = signal
        self._reconciler = reconciler
        self._readiness = readiness
        self._restarter = restarter
        self._copies = copies

    def _set_of(self, service: str) -> SetName:
        """The replica set of a service that has most of the requests. Raises InvalidArgument."""
        try:
            return self._state.desired.set_of(ServiceName(service))
        except KeyError:
            known = ", ".join(self._state.sets.services())
            raise InvalidArgument(f"there is no service {service!r}", remedy=f"there are: {known}") from None

    # -- orders -------------------------------------------------------------------------------------

    async def restart(
        self,
        service: str = "",
        *,
        who: str = "operator",
        why: str = "",
        environment: Environment | None = None,
        packages: bool = False,
    ) -> Restarted:
        """Replace a service's replicas without losing a request; or those of all ("").

        What is read at import is read anew. environment, packages: as of `Restarter.restart`. Raises InvalidArgument,
        ConfigError, PackagesChanged, or StartFailed when a new one does not come up: the old ones serve on then.
        """
        if service:
            self._set_of(service)
        loaded = self._state.releases.current
        assert loaded is not None
        services = [ServiceName(service)] if service else starting_order(loaded.spec, self._state.sets.services())
        why = why or "a restart was asked for"
        restarted = await self._restarter.restart(services, who, why, environment, packages=packages)
        if self._state.detached:
            await self._copies.gather()  # what the old ones wrote last
        return restarted

    async def scale(self, service: str, low: int, high: int, *, who: str = "operator", why: str = "") -> None:
        """Have so many replicas from now on. Raises InvalidArgument, ChangeRefused or JournalError."""
        # All its sets are meant, whichever is named.
        act = ScaleService(self._set_of(service), low, high)
        await self._changes.change(Change(who, act, why or "so many were asked for"))

    async def hold(self, service: str) -> None:
        """Kill a service's replicas and start no others until `release`."""
        name = self._set_of(service)
        # Paused first: the loop would start others as soon as these are gone.
        self._state.app.paused.add(name)
        found = self._state.observed.replica_set(name)
        for replica in found.replicas.values():
            self._reconciler.kill(KillReplica(replica, HeldBack()))
        self._signal.wake()
        while found.replicas:
            await self._signal.next_step()

    async def release(self, service: str) -> None:
        """Start the replicas of a held service, and wait until they are ready."""
        name = self._set_of(service)
        self._state.observed.forget_deaths(name)
        self._state.app.paused.discard(name)
        self._signal.wake()
        await self._readiness.all_ready([name])

    # -- questions ----------------------------------------------------------------------------------

    def wanted(self, service: str) -> int:
        """How many replicas of a service are wanted now. Raises InvalidArgument."""
        return self._state.desired.sets[self._set_of(service)].replicas

    def bounds(self, service: str) -> tuple[int, int]:
        """Between which replica counts the file lets the autoscaler choose. Raises InvalidArgument."""
        name = self._set_of(service)
        return bounds(self._state.releases.of(name).spec, ServiceName(service))

    def observed(self, service: str) -> ObservedSet:
        """What is known of a service's replicas. Raises InvalidArgument."""
        return self._state.observed.replica_set(self._set_of(service))

    def addresses(self, service: str) -> tuple[str, ...]:
        """Where the replicas of a service are called."""
        name = self._state.desired.set_of(ServiceName(service))
        return self._state.sets.addresses(name, self._state.app.router().targets(name))

    def slot_path(self, service: str, slot: int) -> str:
        """Where the Unix socket of a service's slot is. Raises InvalidArgument."""
        return self._state.folder.socket_path(f"{self._set_of(service)}.{slot}")

    def current_release(self) -> Release:
        """What runs: builds and contracts. Raises ConfigError where nothing does."""
        if self._state.releases.current is None:
            raise nothing_runs(self._state.folder.path.parent)
        return self._state.releases.current.release

    def live_releases(self) -> tuple[str, ...]:
        """Those that may have requests."""
        return tuple(release.name for release in self._state.desired.releases())

    def callers(self) -> dict[str, Called]:
        """When methods were called from outside, and since when that is watched for."""
        return dict(self._state.callers.calls)
