"""Takes over what a dead supervisor left: its zygotes with all replicas that they have forked, and what they know."""

import signal
import time
from collections.abc import Iterable

import msgspec

from fissile.errors import StartError
from fissile.machine.sockets import remove_unix
from fissile.machine.zygote.client import Found, ProcessHandle, ZygoteClient
from fissile.names import SetName
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.reasons.reason import described
from fissile.runtime.control import ReplicaSpec
from fissile.supervisor.changes import DESIRED, SECRETS, Changes
from fissile.supervisor.control_server import ControlServer
from fissile.supervisor.control_socket import ControlSocket
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.listeners import Listeners
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.loader import ReleaseLoader
from fissile.supervisor.migration_processes import MigrationProcesses
from fissile.supervisor.migrations import Migrations
from fissile.supervisor.orphans import Orphans
from fissile.supervisor.previous_run import PreviousRun
from fissile.supervisor.process_watcher import ProcessWatcher
from fissile.supervisor.service import Secrets
from fissile.supervisor.startup_migrations import StartupMigrations
from fissile.supervisor.state import SupervisorState

Adopted = list[tuple[ZygoteClient, Found]]

# After an adoption, routes stay as they are until all have reported, or for so long.
SETTLE_SECONDS_MAX = 3.0


class Takeover:
    """Makes this supervisor the successor of a dead one. port, resume: as of `Startup`."""

    def __init__(
        self,
        state: SupervisorState,
        loader: ReleaseLoader,
        listeners: Listeners,
        changes: Changes,
        events: EventRecorder,
        control: ControlSocket,
        sessions: ControlServer,
        watcher: ProcessWatcher,
        migrations: Migrations,
        migrating: MigrationProcesses,
        holds: StartupMigrations,
        orphans: Orphans,
        *,
        port: int | None,
        resume: bool,
    ) -> None:
        self._state = state
        self._loader = loader
        self._listeners = listeners
        self._changes = changes
        self._events = events
        self._control = control
        self._sessions = sessions
        self._watcher = watcher
        self._migrations = migrations
        self._migrating = migrating
        self._holds = holds
        self._orphans = orphans
        self._port = port
        self._resume = resume

    async def take_over(self, adopted: Adopted, previous: PreviousRun) -> None:
        """Go on with what is desired and with the replicas that live. Raises StartError, and then nothing was touched.

        The order is what makes it safe. Releases come before what is desired, which names them. Secrets and listeners
        come before replicas are adopted: by the one their reports are taken, of the other their routes are made. All
        serials ever given are known before any is given anew. Routes are held until the adopted have reported.
        """
        state = self._state
        await self._restore(adopted)
        self._control.strip()
        self._control.admit(())
        await self._open_listeners(adopted, previous)
        children = [one for _, found in adopted for one in found.children]
        buried = [one for _, found in adopted for one in found.buried]
        self._count_on([spec for _, spec in children], [spec for spec, _ in buried])
        now = time.monotonic()
        for child, spec in children:
            self._adopt(child, spec, now)
        for spec, status in buried:
            await self._learn_of_exit(spec, status)
        state.limits.enforcement.sweep({f"{spec.set}.{spec.slot}.{spec.serial}" for _, spec in children})
        state.app.routed.take_over(now + SETTLE_SECONDS_MAX)
        await self._listeners.close_unused()
        await self._control.open()
        await self._loader.tidy()
        await self._orphans.take_in(children, {spec.serial for spec, _ in buried})
        await self._changes.record_whole("SupervisorReturned", f"{len(children)} replicas adopted")
        self._holds.hold()

    async def _restore(self, adopted: Adopted) -> None:
        """What was desired, the releases that it names, and the tokens. Raises StartError."""
        state, journal = self._state, self._events.journal
        desired, secrets = journal.kept(DESIRED), journal.kept(SECRETS)
        (_, first), *_ = adopted
        if desired is None or secrets is None:
            raise StartError(
                f"{journal.file} does not know what runs here: it was replaced meanwhile",
                remedy="put the old file back; or end what runs with `fissile down`, and start anew",
            )
        wanted = msgspec.msgpack.decode(desired, type=Desired)
        asked = state.releases.topology
        await self._adopt_releases(adopted, wanted)
        self._changes.writer.begin(wanted)
        if asked and asked != state.releases.topology and not self._resume:
            raise StartError(
                f"{first.loaded.name} runs as {state.releases.topology} already, and not as {asked}",
                remedy=f"`fissile deploy --topology {asked}` alters that; or say {state.releases.topology}",
            )
        state.secrets = msgspec.msgpack.decode(secrets, type=Secrets)

    async def _adopt_releases(self, adopted: Adopted, wanted: Desired) -> None:
        """The releases that are wanted, from their zygotes or loaded anew."""
        state = self._state
        needed = wanted.needed()
        for zygote, found in adopted:
            name = found.loaded.release.name
            if name in needed and name not in state.releases.by_name:
                settings = found.load.settings
                limits = state.limits.resolve(settings, state.root)
                state.releases.by_name[name] = LoadedRelease(found.loaded, settings, zygote, limits)
        for name in sorted(needed - state.releases.by_name.keys()):
            self._loader.take(await self._loader.load_kept(name))

    async def _open_listeners(self, adopted: Adopted, previous: PreviousRun) -> None:
        """The zygotes have kept them open: callers who connected meanwhile wait there."""
        await self._listeners.adopt(found.sockets for _, found in adopted)
        asked, bound = previous.port()
        for release in self._state.desired.releases():
            loaded = self._state.releases.by_name[release.name]
            await self._listeners.open(loaded, asked, bound)
            if self._port not in (None, 0, self._listeners.port_of(loaded)):
                text = "what runs keeps its ports; `fissile down` ends it"
                self._events.log(f"--port {self._port} is not heeded: {text}")

    def _count_on(self, living: Iterable[ReplicaSpec], buried: Iterable[ReplicaSpec]) -> None:
        """No serial is given twice, not even that of a replica that ended while nobody supervised.

        By its serial a process proves which replica it is: two with the same one could speak for each other.
        """
        handovers = self._state.folder.handovers()
        here = {spec.serial for spec in living}
        self._state.observed.count_on([*here, *handovers, *(spec.serial for spec in buried)])
        for serial in handovers.keys() - here:
            remove_unix(str(handovers[serial]))

    def _adopt(self, child: ProcessHandle, spec: ReplicaSpec, now: float) -> None:
        """A process that a zygote has kept: go on with it, or kill it where nobody wants it any more."""
        name = SetName(spec.set)
        wanted = self._state.desired.wants(name, spec.release, migrates=spec.migrate != ())
        if spec.migrate:
            # Not even one that nobody wants any more may run beside the next: that waits for its end.
            session = self._sessions.session(spec.serial)
            self._migrations.adopt(spec, child, session)
            self._migrating.watch(spec.serial, child, session, name)
            if not wanted:
                child.signal(signal.SIGKILL)
            return
        if not wanted:
            child.signal(signal.SIGKILL)  # of a release that nobody wants any more
            return
        replica = self._state.observed.adopt(spec.serial, name, spec.slot, spec.revision, spec.build, child.pid, now)
        if spec.port:
            self._state.sets.service(name).ports[spec.serial] = spec.port
        self._watcher.watch(replica, child, spec.root)

    async def _learn_of_exit(self, spec: ReplicaSpec, status: int | None) -> None:
        """A process ended while nobody supervised; its zygote has kept how."""
        if spec.migrate:
            await self._migrations.note(spec, status)
            return
        text = f"pid of slot {spec.slot} {described(status)}, nobody supervised"
        self._events.record("ReplicaExited", spec.service, text)
