"""Prepares deploys and rollbacks, up to the change that begins a rollout.

Everything that can fail by somebody's mistake is done before anything is touched: the settings are read, the code
is copied and imported in a zygote of its own, contracts are compared, listeners opened. From then on the journal
has the rollout, and the rollout controller performs it.
"""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.machine.environment import sent
from fissile.orchestrator.acts import BeginRollout, Change
from fissile.orchestrator.change import ChangeRefused
from fissile.orchestrator.deploy_rules import (
    DeployOrder,
    back_to,
    changed_specs,
    check_order,
    gives_way,
    rescalings,
    rollout_to,
)
from fissile.releases.copies import describe, uncounted_code
from fissile.releases.packages import differences
from fissile.releases.release import FORCED
from fissile.releases.store import ReleaseStore
from fissile.settings.schema import Settings
from fissile.supervisor.changes import Changes
from fissile.supervisor.code_copies import CodeCopies
from fissile.supervisor.comparison import Deploy, DeployComparison
from fissile.supervisor.control_socket import ControlSocket
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.listeners import Listeners
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.loader import COPIES, ReleaseLoader
from fissile.supervisor.migrations import Migrations
from fissile.supervisor.packages import check, explained, installed_now, lost
from fissile.supervisor.rollout_controller import RolloutController
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.step_signal import StepSignal

ROLLED_BACK = "its code runs with those of now then, as another release"


class Deployer:
    """Deploys releases of one application, one at a time. preparing: held while one is imported."""

    def __init__(
        self,
        state: SupervisorState,
        store: ReleaseStore,
        loader: ReleaseLoader,
        listeners: Listeners,
        changes: Changes,
        control: ControlSocket,
        signal: StepSignal,
        events: EventRecorder,
        copies: CodeCopies,
        migrations: Migrations,
        comparison: DeployComparison,
        controller: RolloutController,
    ) -> None:
        self._state = state
        self._store = store
        self._loader = loader
        self._listeners = listeners
        self._changes = changes
        self._control = control
        self._signal = signal
        self._events = events
        self._copies = copies
        self._migrations = migrations
        self._comparison = comparison
        self._controller = controller
        self.preparing = asyncio.Lock()
        # The application's folder, by what is being deployed.
        self._root = state.root

    async def deploy(self, order: DeployOrder) -> Deploy:
        """Begin to move the requests to the code in the folder, or to an earlier release.

        Raises FissileError, and then nothing was touched.
        """
        check_order(order)
        if order.release:
            order = msgspec.structs.replace(order, release=self._store.find(order.release).name)
        async with self.preparing:
            async with self._controller.turn:  # the end of the rollout before would prune what it does not know of
                settings, topology = await self._what(order)
                self._copies.prepared = {settings.root}
            taken = False
            loaded: LoadedRelease | None = None
            try:
                found = await self._load(settings, topology, order)
                loaded = await self._loader.check_programs(found)
                deploy = await self._begin(loaded, order)
                taken = deploy.rollout is not None or self._state.releases.by_name.get(deploy.release) is loaded
                return deploy
            finally:
                self._copies.prepared = set()
                if not taken:
                    if loaded is not None:
                        await self._loader.give_up(loaded)
                    self._store.forget(settings, self._copies.used())

    async def rollback(self, order: DeployOrder) -> Deploy | None:
        """Back to the release before the one that serves; None where a rollout under way is given up instead.

        Raises ConfigError where there is none.
        """
        found = back_to(self._state.desired, order.release)
        if found.release:
            return await self.deploy(msgspec.structs.replace(order, release=found.release))
        if found.gives_up:
            await self._controller.abort(who=order.who, why=order.why or "a rollback was asked for")
        return None

    async def _what(self, order: DeployOrder) -> tuple[Settings, str]:
        """The settings, with a copy of the code as their folder, and the topology. Raises ConfigError."""
        state = self._state
        self._root = state.root
        if order.release:
            kept = self._store.find(order.release)
            await self._copies.gather()
            settings = self._loader.reread(self._store.settings(kept))
            await asyncio.to_thread(self._store.copies.relink, settings)
            return settings, order.topology or kept.release.topology
        self._root = await asyncio.to_thread(self._folder)
        settings = self._loader.reread(msgspec.structs.replace(state.releases.settings, root=str(self._root)))
        await self._copies.gather()  # so that the copy has links to it
        with self._loader.does(COPIES):
            copied = await asyncio.to_thread(self._store.copies.make, settings)
        return copied, order.topology or self._comparison.newest().release.topology

    async def _load(self, settings: Settings, topology: str, order: DeployOrder) -> LoadedRelease:
        """Import what is to be deployed. Raises ConfigError, or PackagesChanged for an earlier release."""
        kept = self._store.find(order.release) if order.release else None
        release = kept.release if kept is not None else self._comparison.newest().release
        parts = {str(service): build.parts.get(FORCED) for service, build in release.builds.items()}
        forced = {service: part for service, part in parts.items() if part}
        if order.force:
            forced = {"": f"{time.time():.6f}"}
        environment = sent(order.environment, "deploy --update-env")
        try:
            found = await self._loader.load(
                settings, topology, self._listeners.kept, forced=forced, environment=environment, root=self._root
            )
        except ConfigError as error:
            if kept is None:
                raise
            raise explained(error, kept.installed, await installed_now(self._state, self._loader)) from None
        try:
            if kept is not None and not (order.packages or order.plan):
                check(kept.name, differences(kept.installed, found.imported.installed), kept.installed, ROLLED_BACK)
        except BaseException:
            await self._loader.give_up(found)
            raise
        return found

    async def lost(self) -> dict[str, tuple[str, ...]]:
        """By release that is kept, which packages it would miss."""
        found: dict[str, tuple[str, ...]] = {}
        now = await installed_now(self._state, self._loader)
        for line in self._store.summaries():
            with suppress(ConfigError):
                kept = await asyncio.to_thread(self._store.find, line.name)
                found[line.name] = tuple(map(str, lost(kept.installed, now)))
        return found

    def _folder(self) -> Path:
        """The application's folder, by the link that it was named by. Raises ConfigError."""
        root = Path(os.path.realpath(self._state.named))
        if not root.is_dir():
            raise ConfigError(f"{self._state.named} leads to {root}, which is not there", remedy="switch the link")
        os.chdir(root)  # the folder that it led to before may be removed
        return root

    async def _move(self) -> None:
        """The application's folder is the one that is deployed: all that is no code is there from now on."""
        root = self._root
        if root == self._state.root:
            return
        self._events.log(f"{self._state.named} leads to {root} now")
        self._state.root = root
        self._store.copies.set_root(root)
        self._state.folder.show_in(root)
        await self._copies.gather()

    async def _begin(self, loaded: LoadedRelease, order: DeployOrder) -> Deploy:
        deploy = self._comparison.compare(loaded, order)
        if order.plan:
            return msgspec.structs.replace(deploy, code=await asyncio.to_thread(describe, loaded.settings))
        await self._clear_the_way(order)
        async with self._controller.turn:
            # What was waited for may have become the release that serves.
            deploy = self._comparison.compare(loaded, order)
            await self._move()
            if loaded.release.name == self._state.desired.current.name:
                await self._only_scale(loaded, order)
                if order.release:
                    return deploy
                unnamed = await asyncio.to_thread(uncounted_code, loaded.settings)
                stale = await asyncio.to_thread(self._comparison.stale)
                return msgspec.structs.replace(deploy, stale=stale, warnings=(*deploy.warnings, *unnamed))
            return msgspec.structs.replace(deploy, rollout=await self._roll(loaded, order))

    async def _clear_the_way(self, order: DeployOrder) -> None:
        """One rollout at a time: an older one that is undecided is given up, one that is decided is waited for."""
        while self._state.desired.rollout is not None:
            if (number := gives_way(self._state.desired)) is not None:
                with suppress(ChangeRefused):  # it was decided just now
                    await self._controller.abort(number, who=order.who, why="a newer deploy takes its place")
            await self._signal.next_step()

    async def _only_scale(self, loaded: LoadedRelease, order: DeployOrder) -> None:
        """The same builds: what the file says of replica counts is applied to what runs."""
        state, name = self._state, loaded.release.name
        before = state.releases.by_name[name]
        for act in rescalings(state.desired, before.spec, loaded.spec):
            await self._changes.change(Change(order.who, act, order.why or "the settings say so"))
        # What runs goes on from the copy that it was started from.
        if loaded.settings.differs(before.settings):
            await asyncio.to_thread(self._store.record, loaded.release, loaded.settings, loaded.imported.installed)
            await self._listeners.open(loaded, 0)
            await loaded.zygote.sockets.keep_only(dict(self._listeners.kept))
            self._loader.take(loaded)
            await self._loader.tidy()

    async def _roll(self, loaded: LoadedRelease, order: DeployOrder) -> int:
        """Record the rollout; from now on it is performed. Its number."""
        state, name = self._state, loaded.release.name
        await asyncio.to_thread(self._store.record, loaded.release, loaded.settings, loaded.imported.installed)
        self._loader.take(loaded)
        try:
            # Others may have been opened and closed since it was loaded, while the way was cleared.
            await loaded.zygote.sockets.keep_only(dict(self._listeners.kept))
            await self._listeners.open(loaded, 0)
            self._control.admit(loaded.imported.services)
            desired, spec = state.desired, loaded.spec
            wanted = changed_specs(desired, state.releases.by_name[desired.current.name].spec, spec, loaded.zygote.name)
            migrates = bool(self._migrations.pending(loaded))
            rollout = rollout_to(spec, order, desired, wanted, migrates=migrates, now=time.time())
            await self._changes.change(Change(order.who, BeginRollout(rollout), rollout.reason), secrets=True)
        except BaseException:
            if state.desired.rollout is None:
                del state.releases.by_name[name]
                await self._listeners.close_unused()
                await self._control.dismiss()
            raise
        if order.environment:
            self._loader.environment = loaded.zygote.application.environment
        self._controller.begin()
        return rollout.number
