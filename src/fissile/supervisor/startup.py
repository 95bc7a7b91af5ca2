"""Begins an application of which nothing runs: with what ran last, or with the code in the folder."""

import asyncio
from contextlib import suppress

import msgspec

from fissile.errors import ConfigError, StartError
from fissile.journal.journal import Journal
from fissile.orchestrator.deploy_rules import set_spec, warnings_of
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.resume import only_served, restored
from fissile.releases.records import ReleaseRecord
from fissile.releases.store import ReleaseStore
from fissile.supervisor.changes import Changes
from fissile.supervisor.code_copies import CodeCopies
from fissile.supervisor.control_socket import ControlSocket
from fissile.supervisor.endpoints import JOURNAL
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.listeners import Listeners
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.loader import COPIES, ReleaseLoader
from fissile.supervisor.observations import DIFFERENCES
from fissile.supervisor.previous_run import DOWN, FIRST_START, PORT, PreviousRun
from fissile.supervisor.publisher import EndpointPublisher
from fissile.supervisor.startup_migrations import StartupMigrations
from fissile.supervisor.state import SupervisorState


class Startup:
    """Opens the journal, and begins.

    port: of the page that people open; None where none was asked for. fresh: begin with the code in the folder, though
    nobody has stopped what ran last. resume: the topology is that of a first start; what ran before goes on in its own.
    """

    def __init__(
        self,
        state: SupervisorState,
        store: ReleaseStore,
        loader: ReleaseLoader,
        listeners: Listeners,
        changes: Changes,
        events: EventRecorder,
        control: ControlSocket,
        copies: CodeCopies,
        publisher: EndpointPublisher,
        migrations: StartupMigrations,
        *,
        port: int | None,
        fresh: bool,
        resume: bool,
    ) -> None:
        self._state = state
        self._store = store
        self._loader = loader
        self._listeners = listeners
        self._changes = changes
        self._events = events
        self._control = control
        self._copies = copies
        self._publisher = publisher
        self._migrations = migrations
        self._port = port
        self._fresh = fresh
        self._resume = resume

    async def open_journal(self, *, nothing_runs: bool) -> None:
        """Raises JournalError where what is to run cannot be read; but it need not be for a fresh start."""
        journal = Journal(self._state.folder.path / JOURNAL)
        fresh = self._fresh and nothing_runs
        await asyncio.to_thread(journal.open, anew=fresh)
        self._events.opened = journal
        for text in journal.strange.values():
            self._events.announce("KeptByAnother", text)
        if journal.damage and not fresh:
            raise journal.damaged()
        losses = [journal.loss] if journal.loss else []
        if journal.damage:
            losses.append(f"{journal.file} is damaged, and {', '.join(journal.damage)} begins anew")
            journal.mend()
        for loss in losses:
            self._events.announce("JournalDamaged", loss)
        self._publisher.losses = tuple(losses)
        differences = journal.kept(DIFFERENCES)
        if differences is not None:
            with suppress(msgspec.DecodeError):  # another Fissile wrote them: they are found again
                self._state.differences.decode(differences)
        self._state.callers.load(journal, goes_on=not nothing_runs)

    async def begin(self, previous: PreviousRun) -> None:
        """Load a release, open its listeners, and have its replicas desired. Raises ConfigError or StartError."""
        state = self._state
        state.folder.clean()
        if state.detached:
            # What was made before the power failed is there before the code is copied that may read it.
            await self._copies.gather(everywhere=True)
        before = await previous.desired(fresh=self._fresh)
        last = None
        if state.detached and not self._fresh:
            last = previous.release(before, state.releases.topology, any_topology=self._resume)
        loaded = await (self._load_folder() if last is None else self._load_last(last))
        self._loader.take(loaded)
        for warning in warnings_of(loaded.spec):
            self._events.log(f"warning: {warning}")
        if state.detached:
            before = await self._keep(loaded, before)
        live = loaded.live()
        specs = {name: set_spec(loaded.spec, service, loaded.zygote.name) for service, name in live.sets.items()}
        self._changes.writer.begin(restored(before, live, specs, goes_on=last is not None))
        self._control.admit(live.sets)
        asked, bound = previous.port() if last is not None else (None, 0)
        port = self._port if self._port is not None else asked
        await self._listeners.open(loaded, port, bound)
        if port and not loaded.public_listeners():
            self._events.log(f"warning: nothing has a page that port {port} could be of")
        # Before the first replica, which reports there.
        await self._control.open()
        how = f", release {live.name} as it ran last" if last is not None else ""
        kept = {} if last is not None else {DOWN: FIRST_START}
        kept |= {PORT: msgspec.msgpack.encode((port, self._listeners.port_of(loaded)))}
        # Before the first replica, too: a successor has to know what it adopts.
        what = f"{loaded.imported.name} as {loaded.release.topology}{how}"
        await self._changes.record_whole("ApplicationUp", what, **kept)
        self._migrations.hold()

    async def _keep(self, loaded: LoadedRelease, before: Desired) -> Desired:
        """Keep the release, so that one can go back to it. What was desired, without a release that never served."""
        served = {one.name for one in await asyncio.to_thread(self._store.summaries) if one.served}
        await asyncio.to_thread(self._store.record, loaded.release, loaded.settings, loaded.imported.installed)
        self._store.prune(loaded.settings.releases.keep, {loaded.release.name}, [loaded.settings.root])
        return only_served(before, served)

    async def _load_folder(self) -> LoadedRelease:
        state, settings = self._state, self._state.releases.settings
        # Limits that do not fit this machine are told before anything is copied.
        state.limits.resolve(settings, state.root)
        topology = state.releases.topology or settings.topology
        state.releases.ask_for(topology)
        if state.detached:
            with self._loader.does(COPIES):
                settings = await asyncio.to_thread(self._store.copies.make, settings)
        return await self._loader.check_programs(await self._loader.load(settings, topology, self._listeners.kept))

    async def _load_last(self, last: ReleaseRecord) -> LoadedRelease:
        self._state.resumed = True
        try:
            return await self._loader.check_programs(await self._loader.load_kept(last.name))
        except ConfigError as error:
            raise StartError(
                f"release {last.name}, which ran last, cannot be started again: {error.message}",
                remedy="mend that, or say --fresh to start the code in the folder",
            ) from None
