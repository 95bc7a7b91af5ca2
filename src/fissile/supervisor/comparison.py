"""What a deploy would do: the release that is loaded, beside the one that serves."""

import time
from collections.abc import Iterable

import msgspec

from fissile.machine.zygote.settings_files import changed
from fissile.orchestrator.deploy_rules import (
    DeployOrder,
    check_contracts,
    check_expected,
    deploy_warnings,
    in_place,
    newest_release,
    split_warnings,
    strangeness,
)
from fissile.releases.packages import differences, listed
from fissile.releases.release import Difference, Surroundings, difference
from fissile.releases.store import ReleaseStore
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.state import SupervisorState


class Deploy(msgspec.Struct, frozen=True):
    """What a deploy does. rollout: its number; None where there is nothing to do, or nothing was asked to be.

    warnings: what is lost or shared by it. stale: where there is nothing to do, files of settings that are not as what
    runs has read them.
    code: which files the services have whose code is listed.
    """

    rollout: int | None
    release: str
    earlier: str
    topology: str
    difference: Difference
    warnings: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    code: tuple[str, ...] = ()


class DeployComparison:
    """Compares releases for deploys. It touches nothing."""

    def __init__(self, state: SupervisorState, store: ReleaseStore) -> None:
        self._state = state
        self._store = store

    def newest(self) -> LoadedRelease:
        """The release that a deploy is compared with."""
        return self._state.releases.by_name[newest_release(self._state.desired)]

    def compare(self, loaded: LoadedRelease, order: DeployOrder) -> Deploy:
        """What a deploy would do to the release that serves. Raises ConfigError or ContractBroken."""
        earlier = self.newest()
        check_expected(order, earlier.release.name)
        found = difference(earlier.release, loaded.release, self._around(earlier, loaded))
        check_contracts(order, found, earlier.spec, loaded.spec)
        told = (
            *self._strange(loaded, order),
            *deploy_warnings(order, found, earlier.spec, loaded.spec),
            *self._different(earlier, loaded),
        )
        return Deploy(None, loaded.release.name, earlier.release.name, loaded.release.topology, found, told)

    def _around(self, earlier: LoadedRelease, loaded: LoadedRelease) -> Surroundings:
        """What decides whether a break can meet a caller."""
        callers = self._state.callers
        callers.watch(self._state.releases.methods())
        return Surroundings(callers.calls, frozenset(in_place(earlier.spec, loaded.spec)), time.time())

    def _different(self, earlier: LoadedRelease, loaded: LoadedRelease) -> Iterable[str]:
        """What was seen in calls within a process that cross a wire from now on, and would be different then."""
        builds = earlier.release.builds.items()
        seen = {service: self._state.differences.of(service, build.name) for service, build in builds}
        return split_warnings(earlier.release, loaded.release, seen)

    def _strange(self, loaded: LoadedRelease, order: DeployOrder) -> Iterable[str]:
        """What has changed around the code of an earlier release since it ran."""
        if not order.release or order.topology is not None or order.release == loaded.release.name:
            return
        kept = self._store.find(order.release)
        missing = listed(differences(kept.installed, loaded.imported.installed))
        yield strangeness(kept.release, loaded.release, missing)

    def stale(self) -> tuple[str, ...]:
        """The files of settings that are not as what runs has read them."""
        state = self._state
        zygotes = {state.releases.zygote_of(name) for name in state.desired.sets if not state.sets.is_program(name)}
        found = [changed(one.application.load.files, one.application.files_now(state.root)) for one in zygotes]
        return tuple(sorted({path for paths in found for path in paths}))
