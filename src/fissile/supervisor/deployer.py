"""Deploys, rollbacks and what becomes of them: the shell around `orchestrator.rollout`.

Everything that can fail by somebody's mistake is done before anything is touched: the settings are read, the code
is copied and imported in a zygote of its own, contracts are compared, sockets opened. From then on the journal
has the rollout, and whoever supervises performs its next step.
"""

import asyncio
import os
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from fissile.errors import ConfigError, InvalidArgument
from fissile.journal.journal import JournalError
from fissile.machine.environment import sent
from fissile.machine.zygote.protocol import Settled
from fissile.machine.zygote.settings_files import changed
from fissile.names import service_of
from fissile.orchestrator.acts import (
    AbortRollout,
    AdvanceRollout,
    BeginRollout,
    Change,
    EndRollout,
    PromoteRollout,
)
from fissile.orchestrator.change import ChangeRefused
from fissile.orchestrator.deploy_rules import (
    DeployOrder,
    back_to,
    changed_specs,
    check_contracts,
    check_expected,
    check_order,
    deploy_warnings,
    gives_way,
    in_place,
    newest_release,
    rescalings,
    rollout_to,
    split_warnings,
    strangeness,
)
from fissile.orchestrator.desired import Rollout, Stage
from fissile.orchestrator.reasons import Dies, DoesNotComeUp, Reason
from fissile.orchestrator.rollout_status import next_step
from fissile.releases.copies import describe, uncounted_code
from fissile.releases.packages import differences, listed
from fissile.releases.release import FORCED, Difference, Surroundings, difference
from fissile.releases.store import ReleaseRecord, ReleaseStore, ReleaseSummary
from fissile.settings.load import load
from fissile.settings.schema import Settings
from fissile.supervisor.listeners import Listeners
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.loader import COPIES, ReleaseLoader
from fissile.supervisor.migrations import Launch, Migrations
from fissile.supervisor.outcomes import Outcome as Outcome
from fissile.supervisor.restarter import check, explained, installed_now, lost
from fissile.supervisor.state import SupervisorState

LOOK_SECONDS = 0.05
HISTORY_MAX = 1000
OUTCOMES_MAX = 100
IDLE_SECONDS = 5.0
# Before the next look, when a step could not be made, as on a full disk.
TROUBLE_SECONDS = 1.0
ROLLED_BACK = "its code runs with those of now then, as another release"
TOLD_MAX = 1000


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


class Office(Launch, Protocol):
    """What is needed of the supervisor."""

    def admit(self, services: Iterable[str]) -> None:
        """Make tokens for services that are new."""
        ...

    async def dismiss(self) -> None:
        """Forget the tokens of services that no live release has."""
        ...

    async def change(self, change: Change, *, secrets: bool = False) -> None:
        """Through the one door."""
        ...

    async def next_step(self) -> None:
        """Wait until the loop has gone round."""
        ...


class Rollouts:
    """Of one application."""

    def __init__(
        self, state: SupervisorState, store: ReleaseStore, loader: ReleaseLoader, listeners: Listeners, office: Office
    ) -> None:
        self._state = state
        self._store = store
        self._loader = loader
        self._listeners = listeners
        self._office = office
        self.preparing = asyncio.Lock()
        # The application's folder, by what is being deployed.
        self._root = state.root
        # One rollout is over, with all that was closed for it, before the next makes anything.
        self._turn = asyncio.Lock()
        self.migrations = Migrations(office)
        # Those of the rollout of this number.
        self._migrating: tuple[int, asyncio.Task[Reason | None]] | None = None
        self._outcomes: dict[int, Outcome] = {}
        self._begun = asyncio.Event()
        # The folder of the code that is being deployed, which no older rollout's end may prune.
        self._prepared: set[str] = set()
        # Of what was moved to the application's folder, what the log has said.
        self._moved: set[str] = set()
        self.waits = self.waits_kind = ""
        self._undecided = False
        # Why the rollout of this number is taken back: a service, and what a process of it had printed.
        self._last_lines: tuple[int, str, tuple[str, ...]] = (0, "", ())

    # -- what people ask for ----------------------------------------------------------------------

    async def deploy(self, order: DeployOrder) -> Deploy:
        """Begin to move the requests to the code in the folder, or to an earlier release.

        Raises FissileError, and then nothing was touched.
        """
        check_order(order)
        if order.release:
            order = msgspec.structs.replace(order, release=self._store.find(order.release).name)
        async with self.preparing:
            async with self._turn:  # the end of the rollout before would prune what it does not know of
                settings, topology = await self._what(order)
                self._prepared = {settings.root}
            taken = False
            loaded: LoadedRelease | None = None
            try:
                found = await self._load(settings, topology, order)
                loaded = await self._loader.check_programs(found)
                deploy = await self._begin(loaded, order)
                taken = deploy.rollout is not None or self._state.releases.by_name.get(deploy.release) is loaded
                return deploy
            finally:
                self._prepared = set()
                if not taken:
                    if loaded is not None:
                        await self._loader.give_up(loaded)
                    self._store.forget(settings, self._state.code_folders())

    async def rollback(self, order: DeployOrder) -> Deploy | None:
        """Back to the release before the one that serves; None where a rollout under way is given up instead.

        Raises ConfigError where there is none.
        """
        found = back_to(self._state.desired, order.release)
        if found.release:
            return await self.deploy(msgspec.structs.replace(order, release=found.release))
        if found.gives_up:
            await self.abort(who=order.who, why=order.why or "a rollback was asked for")
        return None

    async def promote(self, number: int | None = None, *, who: str = "operator", why: str = "") -> None:
        """What is watched is good. number: of the rollout that is meant. Raises ChangeRefused or JournalError."""
        await self._office.change(Change(who, PromoteRollout(time.time(), number), why or "a person found it good"))

    async def abort(self, number: int | None = None, *, who: str = "operator", why: str = "") -> None:
        """Give the rollout up. number: of the one that is meant. Raises ChangeRefused or JournalError."""
        await self._office.change(Change(who, AbortRollout(time.time(), number), why or "a person gave it up"))

    async def gather(self, *, everywhere: bool = False, at_once: bool = True) -> None:
        """What running code has made beside itself belongs to the application, and to no release.

        everywhere: in the copies of all releases. at_once: also what was not there at the last look.
        """
        roots = None if everywhere else self._state.code_folders() | self._prepared
        moved = await asyncio.to_thread(self._store.copies.write_back, roots, at_once=at_once)
        moved = [path for path in moved if path not in self._moved]
        if moved and len(self._moved) < TOLD_MAX:
            self._moved.update(moved)
            root = self._state.root
            self._office.say(f"moved to {root}, because every release shares it: {', '.join(moved)}")

    def kept(self) -> list[ReleaseSummary]:
        """The releases that are kept, newest first."""
        return self._store.summaries()

    def find(self, name: str) -> ReleaseRecord:
        """A release that is kept, by its name or the beginning of it. Raises ConfigError."""
        return self._store.find(name)

    def outcome(self, number: int) -> Outcome:
        """How a rollout ended, or that it goes on. Raises InvalidArgument where there is none."""
        rollout = self._state.desired.rollout
        if rollout is not None and rollout.number == number:
            done = rollout.stage is Stage.PROMOTED
            undecided = self.waits if self._undecided and rollout.stage is Stage.CANARY else ""
            return Outcome(number, False, done, rollout.reason, undecided, *self._printed(number))
        found = self._outcomes.get(number)
        if found is not None:
            return found
        for entry in reversed(self._office.journal.history(limit=HISTORY_MAX)):
            if entry.what == EndRollout.__name__ and entry.data.get("number") == number:
                return Outcome(number, True, bool(entry.data.get("done")), entry.reason)
        raise InvalidArgument(f"there was no rollout {number}", remedy="see `fissile history`")

    # -- before anything is touched -----------------------------------------------------------------

    async def _what(self, order: DeployOrder) -> tuple[Settings, str]:
        """The settings, with a copy of the code as their folder, and the topology. Raises ConfigError."""
        state = self._state
        self._root = state.root
        if order.release:
            kept = self._store.find(order.release)
            await self.gather()
            settings = self._reread(self._store.settings(kept))
            await asyncio.to_thread(self._store.copies.relink, settings)
            return settings, order.topology or kept.release.topology
        self._root = await asyncio.to_thread(self._folder)
        settings = self._reread(msgspec.structs.replace(state.releases.settings, root=str(self._root)))
        await self.gather()  # so that the copy has links to it
        with self._loader.does(COPIES):
            copied = await asyncio.to_thread(self._store.copies.make, settings)
        return copied, order.topology or self._newest().release.topology

    async def _load(self, settings: Settings, topology: str, order: DeployOrder) -> LoadedRelease:
        """Import what is to be deployed. Raises ConfigError, or PackagesChanged for an earlier release."""
        kept = self._store.find(order.release) if order.release else None
        release = kept.release if kept is not None else self._newest().release
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
        for line in self.kept():
            with suppress(ConfigError):
                kept = await asyncio.to_thread(self._store.find, line.name)
                found[line.name] = tuple(map(str, lost(kept.installed, now)))
        return found

    def _stale(self) -> tuple[str, ...]:
        """The files of settings that are not as what runs has read them."""
        state = self._state
        zygotes = {state.releases.zygote_of(name) for name in state.desired.sets if not state.sets.is_program(name)}
        found = [changed(one.application.load.files, one.application.files_now(state.root)) for one in zygotes]
        return tuple(sorted({path for paths in found for path in paths}))

    def _reread(self, settings: Settings) -> Settings:
        """The settings as their file has them now."""
        found = load(Path(settings.root) / settings.file, settings.profile or None) if settings.file else settings
        return msgspec.structs.replace(found, named=str(self._state.named))

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
        self._office.say(f"{self._state.named} leads to {root} now")
        self._state.root = root
        self._store.copies.set_root(root)
        self._state.folder.show_in(root)
        await self.gather()

    async def load_kept(self, name: str) -> LoadedRelease:
        """A release that is wanted, though its zygote is gone. Raises ConfigError."""
        kept = self._store.find(name)
        settings = self._reread(self._store.settings(kept))
        await asyncio.to_thread(self._store.copies.relink, settings)
        found = await self._loader.load(
            settings, kept.release.topology, {}, settled=Settled(kept.release, kept.installed)
        )
        if found.zygote.application.changed_packages:
            self._office.say(f"warning: {found.zygote.application.changed_packages}")
        return found

    def _newest(self) -> LoadedRelease:
        """The release that a deploy is compared with."""
        return self._state.releases.by_name[newest_release(self._state.desired)]

    async def _begin(self, loaded: LoadedRelease, order: DeployOrder) -> Deploy:
        deploy = self._compared(loaded, order)
        if order.plan:
            return msgspec.structs.replace(deploy, code=await asyncio.to_thread(describe, loaded.settings))
        await self._clear_the_way(order)
        async with self._turn:
            # What was waited for may have become the release that serves.
            deploy = self._compared(loaded, order)
            await self._move()
            if loaded.release.name == self._state.desired.current.name:
                await self._only_scale(loaded, order)
                if order.release:
                    return deploy
                unnamed = await asyncio.to_thread(uncounted_code, loaded.settings)
                stale = await asyncio.to_thread(self._stale)
                return msgspec.structs.replace(deploy, stale=stale, warnings=(*deploy.warnings, *unnamed))
            return msgspec.structs.replace(deploy, rollout=await self._roll(loaded, order))

    def _compared(self, loaded: LoadedRelease, order: DeployOrder) -> Deploy:
        """What a deploy would do to the release that serves. Raises ConfigError or ContractBroken."""
        earlier = self._newest()
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

    async def _clear_the_way(self, order: DeployOrder) -> None:
        """One rollout at a time: an older one that is undecided is given up, one that is decided is waited for."""
        while self._state.desired.rollout is not None:
            if (number := gives_way(self._state.desired)) is not None:
                with suppress(ChangeRefused):  # it was decided just now
                    await self.abort(number, who=order.who, why="a newer deploy takes its place")
            await self._office.next_step()

    async def _only_scale(self, loaded: LoadedRelease, order: DeployOrder) -> None:
        """The same builds: what the file says of replica counts is applied to what runs."""
        state, name = self._state, loaded.release.name
        before = state.releases.by_name[name]
        for act in rescalings(state.desired, before.spec, loaded.spec):
            await self._office.change(Change(order.who, act, order.why or "the settings say so"))
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
            self._office.admit(loaded.imported.services)
            desired, spec = state.desired, loaded.spec
            wanted = changed_specs(desired, state.releases.by_name[desired.current.name].spec, spec, loaded.zygote.name)
            migrates = bool(self.migrations.pending(loaded))
            rollout = rollout_to(spec, order, desired, wanted, migrates=migrates, now=time.time())
            await self._office.change(Change(order.who, BeginRollout(rollout), rollout.reason), secrets=True)
        except BaseException:
            if state.desired.rollout is None:
                del state.releases.by_name[name]
                await self._listeners.close_unused()
                await self._office.dismiss()
            raise
        if order.environment:
            self._loader.environment = loaded.zygote.application.environment
        self._begun.set()
        return rollout.number

    # -- step by step -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Perform whatever is next, for as long as the supervisor lives."""
        while True:
            pause = LOOK_SECONDS
            try:
                if await (self._look() if self._state.desired.rollout is not None else self._idle()):
                    continue
            except ChangeRefused:
                pass  # somebody was faster: what is next now?
            except JournalError as error:
                # What nobody could account for later is not done.
                self._office.say(f"the rollout waits: {error}")
                pause = TROUBLE_SECONDS
            except Exception:
                # The state is as it was before, so it may be looked at again.
                self._office.say(f"internal error:\n{traceback.format_exc()}")
                pause = TROUBLE_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._office.next_step()

    async def _idle(self) -> bool:
        """Wait for a rollout."""
        self._begun.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await self._begun.wait()
        await self._loader.close_idle()
        return True

    async def _look(self) -> bool:
        """Perform the next step, if there is one."""
        state = self._state
        rollout = state.desired.rollout
        assert rollout is not None
        await self._migrate(rollout)
        found = next_step(state.app, self._migrated(rollout), time.time())
        self.waits, self._undecided = str(found.waits or ""), found.undecided
        self.waits_kind = found.waits.kind if found.waits is not None else ""
        change = found.change
        if change is None:
            return False
        if isinstance(change.what, EndRollout):
            async with self._turn:
                await self._end(rollout, change)
            return True
        entered = change.what.stage if isinstance(change.what, AdvanceRollout) else None
        if entered is Stage.ROLLING_BACK:
            self._remember_printed(rollout, change.why)
        await self._office.change(change)
        if entered is not None:
            self._office.say(f"rollout {rollout.number} is {entered}: {change.why}")
        return True

    def _remember_printed(self, rollout: Rollout, why: Reason | str) -> None:
        """What did not come up is ended soon, and then nobody knows what it printed."""
        if not isinstance(why, DoesNotComeUp | Dies):
            return
        for name in rollout.specs:
            if service_of(name) == why.service and (lines := self._state.output.of_set(name, str(why))):
                self._last_lines = (rollout.number, why.service, lines)

    def _printed(self, number: int) -> tuple[str, tuple[str, ...]]:
        """Of which service a process did not come up in a rollout, and its last lines."""
        of, service, lines = self._last_lines
        return (service, lines) if of == number else ("", ())

    async def _migrate(self, rollout: Rollout) -> None:
        """Run its migrations while it is migrating, and leave none running when it is not any more."""
        number, task = self._migrating or (0, None)
        if rollout.stage is Stage.MIGRATING:
            if number != rollout.number:
                loaded = self._state.releases.by_name[rollout.later.name]
                self._migrating = rollout.number, asyncio.create_task(self.migrations.run_all(loaded))
            return
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            self._migrating = None
        await self.migrations.end(rollout.later.name)

    def _migrated(self, rollout: Rollout) -> str | None:
        """Why a migration failed, "" if all are done, None if they are not. Raises what kept them from being run."""
        number, task = self._migrating or (0, None)
        if task is None or number != rollout.number or not task.done():
            return None
        if task.exception() is not None:
            self._migrating = None  # begun again with the next look: a disk may have room by then
        trouble = task.result()
        return trouble.trouble if trouble is not None else ""

    async def _end(self, rollout: Rollout, change: Change) -> None:
        state = self._state
        moved = rollout.stage is Stage.PROMOTED
        gone = state.desired.leaving()
        why = str(change.why)
        await self._office.change(change)
        self._outcomes[rollout.number] = Outcome(rollout.number, True, moved, why, "", *self._printed(rollout.number))
        self._outcomes.pop(rollout.number - OUTCOMES_MAX, None)  # the journal has those before
        self.waits, self.waits_kind, self._undecided = "", "", False
        await self._office.dismiss()
        await self._listeners.close_unused()
        for name in gone:  # after that, nobody looks them up any more
            state.output.forget_set(name)
        state.app.forget(gone)
        await self.gather()
        await self._loader.tidy()
        state.app.canary.forget()
        loaded = state.releases.by_name[state.desired.current.name]
        serving = {release.name for release in state.desired.releases()}
        if moved:
            with suppress(ConfigError):  # on a full disk nobody can go back to it, but it serves
                await asyncio.to_thread(self._store.mark_served, rollout.later.name)
        # A service that did not change still reads from the copy that it was started from.
        used = state.code_folders() | self._prepared
        await asyncio.to_thread(self._store.prune, loaded.settings.releases.keep, serving, used)
        what = "is done" if moved else "was taken back"
        self._office.say(f"rollout {rollout.number} {what}: {why}")
