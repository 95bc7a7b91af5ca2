"""An application's services on this machine, each replica in a process of its own.

What is desired and what is observed meet in `plan`; this performs what it says, and tells it what came
of it. Sockets are made first, so that services can call each other in any order. The application's code
is never imported here: the zygote does that.

In the background (`keep`), a supervisor may die at any instant: replicas go on, the zygote keeps what
the next supervisor has to know, and the journal what was desired.
"""

import asyncio
import os
import random
import signal
import socket
import time
import traceback
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from fissile.errors import ConfigError, FissileError, InvalidArgument, StartError, advises
from fissile.journal.journal import Entry, Journal, JournalError
from fissile.machine.environment import Environment
from fissile.machine.last_lines import nothing_to_run
from fissile.machine.leftover_processes import ASKED_SECONDS
from fissile.machine.limits import ran_out_of_memory
from fissile.machine.logfiles import LogFiles
from fissile.machine.orphans import end as end_orphans
from fissile.machine.orphans import marked
from fissile.machine.output import Logs
from fissile.machine.peers import REMEDY, REPLICAS_MAY_NOT, PeerPolicy, ThrottledLog
from fissile.machine.probe import until_it_serves
from fissile.machine.procfs import born, mark_of, still_there
from fissile.machine.programs import NOT_FOUND
from fissile.machine.run_forever import run_forever
from fissile.machine.sockets import HOST, listen_unix, remove_unix, restore
from fissile.machine.zygote.client import Found, OtherFissile, ProcessHandle, ZygoteClient
from fissile.names import ServiceName, SetName, service_of, set_name
from fissile.orchestrator import replica as known
from fissile.orchestrator.acts import (
    ACTOR,
    Act,
    BeginRollout,
    Change,
    RestartService,
    ScaleService,
    SetAct,
    SetReplicas,
)
from fissile.orchestrator.autoscale import Held
from fissile.orchestrator.awaited import NO_SLOT, awaited, awaited_sets, cannot_start, may_stay, missing
from fissile.orchestrator.change import ChangeRefused
from fissile.orchestrator.change_writer import ChangeWriter, Done
from fissile.orchestrator.demand import may_be_asleep, scale
from fissile.orchestrator.deploy_rules import bounds, set_spec, starting_order, warnings_of
from fissile.orchestrator.desired import Desired, DesiredSet
from fissile.orchestrator.health import hears_no_signal
from fissile.orchestrator.invariants import Broken
from fissile.orchestrator.migration_rules import held as held_back
from fissile.orchestrator.migration_rules import may_run, pending
from fissile.orchestrator.plan import KillReplica, seconds_left
from fissile.orchestrator.reasons import (
    AllStops,
    CannotStart,
    Exited,
    HeldBack,
    InternalError,
    Reason,
    ToldToEnd,
    tagged,
)
from fissile.orchestrator.reasons.reason import ReasonBase, described
from fissile.orchestrator.rebalance import handovers
from fissile.orchestrator.reconciler import Reconciler
from fissile.orchestrator.replica import DRAINING, READY, Replica, ReplicaEnded, ReplicaReported, ReplicaState
from fissile.orchestrator.restart import Exit
from fissile.orchestrator.restart import how_it_ended as ended_how
from fissile.orchestrator.restart_rules import how_it_ended, next_revision
from fissile.orchestrator.resume import only_served, restored
from fissile.orchestrator.shutdown_order import stopping_order
from fissile.releases.callers import Called
from fissile.releases.release import Release
from fissile.releases.store import ReleaseRecord, ReleaseStore
from fissile.rpc.absence import back
from fissile.rpc.server import Server
from fissile.runtime.control import (
    DRAIN_SECONDS_MAX,
    Drain,
    Heartbeat,
    Move,
    ReadyReport,
    ReplicaReport,
    ReplicaSpec,
)
from fissile.settings.schema import Settings
from fissile.supervisor.beginning import DOWN, FIRST_START, STOPPED, Beginning
from fissile.supervisor.callers import LOOK_SECONDS as CALLERS_LOOK_SECONDS
from fissile.supervisor.control_server import ControlServer, ReplicaSession
from fissile.supervisor.deployer import Rollouts
from fissile.supervisor.endings import Endings
from fissile.supervisor.endpoints import ENDPOINTS, JOURNAL, Endpoints, ServiceEndpoints, nothing_runs
from fissile.supervisor.isolation import made_for, take_down
from fissile.supervisor.launcher import Launcher
from fissile.supervisor.linux import LinuxExecutor
from fissile.supervisor.listeners import Listeners
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.loader import COPIES, ReleaseLoader
from fissile.supervisor.ownership import Ownership
from fissile.supervisor.processes import Process, process_of
from fissile.supervisor.restarter import Restarted, Restarter, StartFailed
from fissile.supervisor.service import Secrets, Service
from fissile.supervisor.shut import Notice, ShutDoors
from fissile.supervisor.state import CONTROL_SOCKET, SupervisorState
from fissile.supervisor.state_folder import StateFolder
from fissile.supervisor.status import SupervisorStatus, status_of

# What the journal keeps them by.
DIFFERENCES = "differences"
PORT = "port"
# How the journal calls it when a replica is seen to have become so.
BECAME = {
    READY: "ReplicaReady",
    DRAINING: "ReplicaDraining",
    ReplicaState.STOPPED: "ReplicaStopped",
    ReplicaState.FAILED: "ReplicaExited",
}
# Beyond the drain's own limit: time to stop the components after it.
STOP_SECONDS_MAX = 5.0
# After an adoption, routes stay as they are until all have reported, or for so long.
SETTLE_SECONDS_MAX = 3.0
# Replicas that nobody could adopt serve on until others have taken their place, or for so long.
REPLACE_SECONDS_MAX = 30.0
WATCH_SECONDS = 0.5
SCALE_SECONDS = 0.1
# How often it is looked what programs have made; by the second look, it is the application's.
GATHER_SECONDS = 0.4
# How often it is looked whether the Unix sockets are still there.
SOCKETS_SECONDS = 1.0
# How often kept connections are looked at: each replica has reported in between what became of the last look.
BALANCE_SECONDS = 2.0


class Supervisor:
    """Runs one application, once.

    topology: "" is the one that runs already, where another supervisor left it, or else that of the settings.
    port: of the first public listener (None: the usual or any free one). state: the folder in which
    .fissile is made, if not the application's own. logs: where replicas' output goes. keep: whether
    replicas outlive a supervisor that dies; code runs from a copy of it then. fresh: begin with the code in the
    folder, though nobody has stopped what ran last. resume: the topology is that of a first start, and what ran
    before goes on in its own. adopts: this process does nothing else, so all that descends from it ends with it.
    """

    def __init__(
        self,
        settings: Settings,
        topology: str,
        *,
        port: int | None = None,
        state: Path | None = None,
        logs: Logs | LogFiles | None = None,
        keep: bool = False,
        fresh: bool = False,
        resume: bool = False,
        adopts: bool = False,
    ) -> None:
        self._port = port
        self._adopts = adopts
        self._keep = keep
        self._fresh = fresh
        self._resume = resume
        self._resumed = False
        # Whether anything was begun, or ended, that was not taken over.
        self._touched = False
        # The sets whose replicas a start waits for.
        self._awaited: tuple[SetName, ...] = ()
        self._state = SupervisorState(settings, topology, StateFolder(state or Path(settings.named or settings.root)))
        self._logs = logs or Logs()
        self._journal: Journal | None = None
        self._store = ReleaseStore(self._state.folder.path, self._state.root, self.say)
        self._loader = ReleaseLoader(self._state, self._logs.pipes, keep=keep)
        self._listeners = Listeners(self._state, self._loader.all)
        self._launcher = Launcher(self._state, self._listeners)
        self._endings = Endings(self._state, self._zygotes, self.say)
        self._ownership = Ownership(self._state, self._endings)
        self._rollouts = Rollouts(self._state, self._store, self._loader, self._listeners, self)
        self._restarts = Restarter(self._state, self._loader, self._listeners, self, self._rollouts.preparing)
        self._complaints = ThrottledLog(self.say)
        self._writer = ChangeWriter(self._state.app, self)
        self._executor = LinuxExecutor(
            self._state, self._endings, self._ownership, begin=self._begin_start, note=self._note, say=self.say
        )
        self._reconciler = Reconciler(self._state.app, self._executor, self._writer, self._complain)
        self._state.app.on_broken = self._tell_broken
        self._control_server = ControlServer(self._heard, self._complain)
        self._peer_policy: PeerPolicy | None = None
        self._server: Server | None = None
        self._control: socket.socket | None = None
        self._serving = False
        self._published: Endpoints | None = None
        self._woken = asyncio.Event()
        self._stepped: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        # What removes the files of replicas that have ended: that is waited for, since no second one may be at it.
        self._removals: set[asyncio.Task[None]] = set()
        self._shut = ShutDoors()
        self._loop: asyncio.Task[None] | None = None
        self._failed: dict[SetName, Reason] = {}
        # Of the journal, found when it was opened.
        self._losses: tuple[str, ...] = ()
        self._api = self._api_socket = ""
        self._stopping = False
        # By serial.
        self._migrating: set[int] = set()
        # Until when all must have ended (monotonic seconds); 0: nobody wants that.
        self._stop_limit = 0.0
        self._renew_api: Callable[[], None] = lambda: None

    @property
    def desired(self) -> Desired:
        """How all replica sets should be."""
        return self._state.desired

    @property
    def observed(self) -> known.Observed:
        """All that is known of the replicas."""
        return self._state.observed

    def seen(self, service: str) -> known.ObservedSet:
        """What is known of a service, in the release that most requests go to. Raises InvalidArgument."""
        return self._state.observed.replica_set(self._known(service))

    @property
    def operator_token(self) -> str:
        """By which people's tools call components."""
        return self._state.secrets.operator

    @property
    def api_token(self) -> str:
        """For the supervisor's own API."""
        return self._state.secrets.api

    def own_children(self) -> set[int]:
        """Whose end is fetched where it is waited for: zygotes, and replicas whose zygote has died."""
        return self._zygotes() | {process.child.pid for process in self._state.processes.by_serial.values()}

    def _zygotes(self) -> set[int]:
        return {pid for zygote in self._loader.all() for pid in zygote.own()}

    @property
    def rollouts(self) -> Rollouts:
        """Deploys and rollbacks."""
        return self._rollouts

    def socket_path(self, name: str) -> str:
        """Where a Unix socket of this application is."""
        return self._state.folder.socket_path(name)

    def slot_path(self, service: str, slot: int) -> str:
        """Where the Unix socket of a service's slot is. Raises InvalidArgument."""
        return self._state.folder.socket_path(f"{self._known(service)}.{slot}")

    def refuses(self, connection: socket.socket) -> bool:
        """Whether whoever connected to a Unix socket may not order this supervisor. The log says so."""
        why = self._peer_policy.refusal(connection) if self._peer_policy is not None else ""
        if why:
            self._complain(f"an order was refused: {why}")
        return bool(why)

    def _complain(self, text: str) -> None:
        self._complaints.write(text, time.monotonic())

    def _members(self) -> set[int]:
        """The processes of this application that are known here."""
        zygotes = {zygote.pid for zygote in self._loader.all() if zygote.pid is not None}
        replicas = {process.child.pid for process in self._state.processes.by_serial.values()}
        return {os.getpid(), *zygotes, *replicas, *self._state.app.strays}

    def announce(self, api: str, api_socket: str, *, renew: Callable[[], None] = lambda: None) -> None:
        """Publish where the supervisor's own API is. renew: makes its Unix socket anew."""
        self._api, self._api_socket, self._renew_api = api, api_socket, renew
        self._publish()

    @property
    def journal(self) -> Journal:
        """Of this application. Raises ConfigError when the supervisor does not run."""
        if self._journal is None:
            raise JournalError("the journal is closed")
        return self._journal

    async def start(self, *, adopt_only: bool = False) -> Endpoints:
        """Bring all up, or take over what a dead supervisor left. Raises FissileError.

        What was started is ended then; what ran before is left alone. adopt_only: start nothing. Cancelled, it leaves
        what was started to `stop` or `give_up`.
        """
        self._state.folder.open()
        self._peer_policy = PeerPolicy(self._state.folder.mark().application, self._members)
        if self._peer_policy.owns_us():
            self._state.folder.let_go()
            raise ConfigError(REPLICAS_MAY_NOT, remedy=REMEDY)
        self._logs.begin()
        adopted: list[tuple[ZygoteClient, Found]] = []
        try:
            try:
                adopted = await self._loader.adopt()
                journal = await self._open_journal(nothing_runs=not adopted)
            except (JournalError, OtherFissile) as error:
                if not adopt_only:
                    raise
                await self._end_unknown(adopted, error)
                return self.endpoints()
            if self._keep and not adopt_only:
                await asyncio.to_thread(self._store.copies.check)
            beginning = Beginning(journal, self._store, self.say, ACTOR)
            if not adopted:
                self._touched = True
                ended = await self._end_orphans()
                if adopt_only:
                    if not ended:
                        raise nothing_runs(self._state.folder.path.parent)
                    return self.endpoints()
                await self._begin(beginning)
            else:
                await self._take_over(adopted)
            self._serving = True
            self._loop = self._spawn(run_forever(self._run, self.say))
            self._spawn(run_forever(self._watch, self.say))
            self._spawn(run_forever(self._scale, self.say))
            self._spawn(run_forever(self._keep_sockets, self.say))
            self._spawn(run_forever(self._balance, self.say))
            self._spawn(run_forever(self._watch_callers, self.say))
            if self._keep:
                self._spawn(run_forever(self._gather, self.say))
            self._spawn(self._rollouts.run())
            if not adopted:
                await self._all_ready(list(self._state.desired.sets))
                if self._keep:  # else there is no copy that one could go on with
                    await beginning.succeeded(self._state.desired.current.name)
                await self._rollouts.gather()
            else:
                await self._settled()
                if beginning.unfinished():
                    self._spawn(self._finish(beginning))
            self._publish()
            return self.endpoints()
        except BaseException as error:
            if adopted or not self._touched:
                for zygote, _ in adopted:
                    zygote.detach()
                await self._let_go()
            elif not isinstance(error, asyncio.CancelledError):  # else whoever gave it up says how it is to end
                await self.stop(drain_seconds_max=0.0)
            raise

    async def _finish(self, beginning: Beginning) -> None:
        """The first start of a supervisor that died is over once all are ready."""
        state = self._state
        while missing(state.desired.sets, state.desired, state.observed):
            await self.next_step()
        await beginning.succeeded(state.desired.current.name)

    async def _open_journal(self, *, nothing_runs: bool) -> Journal:
        """Raises JournalError where what is to run cannot be read; but it need not be for a fresh start."""
        journal = Journal(self._state.folder.path / JOURNAL)
        await asyncio.to_thread(journal.open, anew=self._fresh and nothing_runs)
        self._journal = journal
        for text in journal.strange.values():
            self.say(text)
            self._note("KeptByAnother", "", text)
        if journal.damage and not (self._fresh and nothing_runs):
            raise journal.damaged()
        losses = [journal.loss] if journal.loss else []
        if journal.damage:
            losses.append(f"{journal.file} is damaged, and {', '.join(journal.damage)} begins anew")
            journal.mend()
        for loss in losses:
            self.say(loss)
            self._note("JournalDamaged", "", loss)
        self._losses = tuple(losses)
        differences = journal.kept(DIFFERENCES)
        if differences is not None:
            with suppress(msgspec.DecodeError):  # another Fissile wrote them: they are found again
                self._state.differences.decode(differences)
        self._state.callers.load(journal, goes_on=not nothing_runs)
        return journal

    def callers(self) -> dict[str, Called]:
        """When methods were called from outside, and since when that is watched for."""
        return dict(self._state.callers.calls)

    async def _watch_callers(self) -> None:
        """Remember who calls from outside."""
        while True:
            await self._state.callers.look(self.journal, self._state.releases.methods())
            await asyncio.sleep(CALLERS_LOOK_SECONDS)

    async def _end_unknown(self, adopted: list[tuple[ZygoteClient, Found]], why: FissileError) -> None:
        """End what runs, though nobody knows any more what it is, and in which order it is to end."""
        self.say(f"{why}; all is ended at once, in no order")
        children = [child for _, found in adopted for child, _ in found.children]
        births = {child.pid: when for child in children if (when := born(child.pid)) is not None}
        await end_orphans(births, DRAIN_SECONDS_MAX + STOP_SECONDS_MAX)
        for zygote, _ in adopted:
            await zygote.close()
        ended = await self._end_orphans()
        if not adopted and not ended:
            raise nothing_runs(self._state.folder.path.parent)

    async def _end_orphans(self) -> int:
        """Whoever was left when a supervisor and its zygote died both; how many."""
        left = self._state.folder.left() | marked(self._state.folder.mark().application, ())
        ended = await end_orphans(left, DRAIN_SECONDS_MAX + STOP_SECONDS_MAX)
        await self._endings.end_dead(())
        if ended:
            text = f"{ended} replicas, whose supervisor and zygote had died, were ended"
            self.say(text)
            self._note("OrphansEnded", "", text)
        return ended

    async def _begin(self, beginning: Beginning) -> None:
        """Nothing runs yet."""
        state = self._state
        state.folder.clean()
        if self._keep:
            await self._rollouts.gather(everywhere=True)
        before = await beginning.before(fresh=self._fresh)
        last = None
        if self._keep and not self._fresh:
            last = beginning.last(before, state.releases.topology, any_topology=self._resume)
        loaded = await (self._load_folder() if last is None else self._load_last(last))
        self._loader.take(loaded)
        for warning in warnings_of(loaded.spec):
            self.say(f"warning: {warning}")
        if self._keep:
            served = {one.name for one in await asyncio.to_thread(self._store.summaries) if one.served}
            before = only_served(before, served)
            await asyncio.to_thread(self._store.record, loaded.release, loaded.settings, loaded.imported.installed)
            self._store.prune(loaded.settings.releases.keep, {loaded.release.name}, [loaded.settings.root])
        live = loaded.live()
        specs = {name: set_spec(loaded.spec, service, loaded.zygote.name) for service, name in live.sets.items()}
        self._writer.begin(restored(before, live, specs, goes_on=last is not None))
        for name in live.sets:
            state.secrets.add(name)
        self._logs.width = max(len(name) for name in [*live.sets, ACTOR])
        asked, bound = _kept_port(self.journal) if last is not None else (None, 0)
        self._port = self._port if self._port is not None else asked
        await self._listeners.open(loaded, self._port, bound)
        if self._port and not loaded.public_listeners():
            self.say(f"warning: nothing has a page that port {self._port} could be of")
        await self._open_control_server()
        how = f", release {live.name} as it ran last" if last is not None else ""
        kept = {} if last is not None else {DOWN: FIRST_START}
        kept |= {PORT: msgspec.msgpack.encode((self._port, self._listeners.port_of(loaded)))}
        await self._record("ApplicationUp", f"{loaded.imported.name} as {loaded.release.topology}{how}", **kept)
        self._hold_for_migrations()

    async def _load_folder(self) -> LoadedRelease:
        settings = self._state.releases.settings
        self._state.limits.resolve(settings, self._state.root)
        topology = self._state.releases.topology or settings.topology
        self._state.releases.ask_for(topology)
        if self._keep:
            with self._loader.does(COPIES):
                settings = await asyncio.to_thread(self._store.copies.make, settings)
        return await self._loader.check_programs(await self._loader.load(settings, topology, self._listeners.kept))

    async def _load_last(self, last: ReleaseRecord) -> LoadedRelease:
        self._resumed = True
        try:
            return await self._loader.check_programs(await self._rollouts.load_kept(last.name))
        except ConfigError as error:
            raise StartError(
                f"release {last.name}, which ran last, cannot be started again: {error.message}",
                remedy="mend that, or say --fresh to start the code in the folder",
            ) from None

    def _hold_for_migrations(self) -> None:
        """Services whose data is not up to date start once it is."""
        loaded = self._state.releases.current
        if loaded is None:
            return
        for service, names in held_back(self._state.desired, loaded.spec, self._rollouts.migrations.done()).items():
            name = loaded.spec.sets[service]
            self._state.app.paused.add(name)
            self._spawn(self._migrate_first(loaded, service, names, name))

    async def _migrate_first(
        self, loaded: LoadedRelease, service: ServiceName, names: tuple[str, ...], name: SetName
    ) -> None:
        while not may_run(self._state.desired, self._state.observed, name):
            await self.next_step()
        wanted = name in self._state.desired.sets  # else its release has gone meanwhile
        trouble = await self._rollouts.migrations.run(loaded, service, names) if wanted else None
        if trouble is not None:
            self.say(f"{service}: its data cannot be brought up to date: {trouble.trouble}")
            self._failed[name] = trouble
            self._woken.set()
            await self._migrated_by_others(loaded, service, name)
            self._failed.pop(name, None)
        self._state.app.paused.discard(name)
        self._woken.set()

    async def _migrated_by_others(self, loaded: LoadedRelease, service: ServiceName, name: SetName) -> None:
        """Wait until a deploy has run what failed here, or has replaced what needs it."""
        seen: object = None
        while name in self._state.desired.sets:
            rollout = self._state.desired.rollout
            now = self._state.desired.rollouts, rollout.stage if rollout is not None else None
            if now != seen and service not in pending(loaded.spec, self._rollouts.migrations.done()):
                return
            seen = now
            await self.next_step()

    async def _take_over(self, adopted: list[tuple[ZygoteClient, Found]]) -> None:
        """Another supervisor died: be its successor."""
        state, journal = self._state, self.journal
        desired, kept = journal.kept("desired"), journal.kept("secrets")
        (_, first), *_ = adopted
        if desired is None or kept is None:
            raise StartError(
                f"{journal.file} does not know what runs here: it was replaced meanwhile",
                remedy="put the old file back; or end what runs with `fissile down`, and start anew",
            )
        wanted = msgspec.msgpack.decode(desired, type=Desired)
        asked = state.releases.topology
        await self._adopt_editions(adopted, wanted)
        self._writer.begin(wanted)
        if asked and asked != state.releases.topology and not self._resume:
            raise StartError(
                f"{first.loaded.name} runs as {state.releases.topology} already, and not as {asked}",
                remedy=f"`fissile deploy --topology {asked}` alters that; or say {state.releases.topology}",
            )
        state.secrets = msgspec.msgpack.decode(kept, type=Secrets)
        self._strip_secrets()
        await self._listeners.adopt(found.sockets for _, found in adopted)
        asked, bound = _kept_port(journal)
        for release in state.desired.releases():
            loaded = state.releases.by_name[release.name]
            await self._listeners.open(loaded, asked, bound)
            if self._port not in (None, 0, self._listeners.port_of(loaded)):
                self.say(f"--port {self._port} is not heeded: what runs keeps its ports; `fissile down` ends it")
        self._logs.width = max(len(name) for name in [*state.sets.services(), ACTOR])
        children = [one for _, found in adopted for one in found.children]
        buried = [one for _, found in adopted for one in found.buried]
        self._count_on([spec for _, spec in children], [spec for spec, _ in buried])
        now = time.monotonic()
        for child, spec in children:
            self._adopt(child, spec, now)
        for spec, status in buried:
            if spec.migrate:
                await self._rollouts.migrations.note(spec, status)
                continue
            self._note("ReplicaExited", spec.service, f"pid of slot {spec.slot} {described(status)}, nobody supervised")
        state.limits.enforcement.sweep({f"{spec.set}.{spec.slot}.{spec.serial}" for _, spec in children})
        state.app.routed.take_over(now + SETTLE_SECONDS_MAX)
        await self._listeners.close_unused()
        await self._open_control_server()
        await self._loader.tidy()
        await self._find_strays(children, {spec.serial for spec, _ in buried})
        await self._record("SupervisorReturned", f"{len(children)} replicas adopted")
        self._hold_for_migrations()

    def _count_on(self, living: list[ReplicaSpec], buried: list[ReplicaSpec]) -> None:
        """No serial is given twice, not even that of a replica that ended while nobody supervised."""
        handovers = self._state.folder.handovers()
        here = {spec.serial for spec in living}
        self._state.observed.count_on([*here, *handovers, *(spec.serial for spec in buried)])
        for serial in handovers.keys() - here:
            remove_unix(str(handovers[serial]))

    async def _find_strays(self, adopted: list[tuple[ProcessHandle, ReplicaSpec]], buried: set[int]) -> None:
        """Replicas whose zygote died, too: they serve on at the same doors, and follow nobody any more."""
        pids, mark = {child.pid for child, _ in adopted}, self._state.folder.mark()
        known = {mark.of(serial).serial for serial in {*buried, *(spec.serial for _, spec in adopted)}}
        found = self._state.folder.left() | await asyncio.to_thread(marked, mark.application, known)
        left = {pid: when for pid, when in found.items() if pid not in pids and born(pid) == when}
        strays = {mark_of(pid) for pid in left}
        alive = {spec.serial for _, spec in adopted} | {one.serial for one in strays if one is not None}
        await self._endings.end_dead(alive)
        ended = [key for key, serial in made_for(self._state).items() if mark.of(serial).serial not in alive]
        self._remove(asyncio.to_thread(take_down, self._state, ended))
        if not left:
            return
        self._state.app.strays = left
        if may_stay(self._state.desired, self._state.observed):
            self._spawn(self._end_strays(wait=True))
        else:
            await self._end_strays(wait=False)  # what is to take their place cannot be there beside them

    async def _end_dead(self) -> int:
        """End what was left by replicas that are no more; how many there were."""
        services = self._state.observed.sets.values()
        alive = {replica.serial for service in services for replica in service.replicas.values()}
        strays = {mark.serial for pid in self._state.app.strays if (mark := mark_of(pid)) is not None}
        return await self._endings.end_dead(alive | self._migrating | strays)

    async def _end_strays(self, *, wait: bool) -> None:
        """End them in order. wait: not before others serve in their place."""
        state = self._state
        if wait:
            with suppress(TimeoutError):
                async with asyncio.timeout(REPLACE_SECONDS_MAX):
                    while missing(state.desired.sets, state.desired, state.observed):
                        await self.next_step()
        ended = await end_orphans(state.app.strays, DRAIN_SECONDS_MAX + STOP_SECONDS_MAX)
        await self._end_dead()
        text = f"{ended} replicas, whose zygote had died before their supervisor, were ended"
        self.say(text)
        self._note("OrphansEnded", "", text)
        state.app.strays = {}
        self._woken.set()

    async def _adopt_editions(self, adopted: list[tuple[ZygoteClient, Found]], wanted: Desired) -> None:
        """The releases that are wanted, from their zygotes or loaded anew."""
        state = self._state
        needed = wanted.needed()
        for zygote, found in adopted:
            name = found.loaded.release.name
            if name in needed and name not in state.releases.by_name:
                settings = found.load.settings
                state.releases.by_name[name] = LoadedRelease(
                    found.loaded, settings, zygote, state.limits.resolve(settings, state.root)
                )
        for name in sorted(needed - state.releases.by_name.keys()):
            self._loader.take(await self._rollouts.load_kept(name))

    def _adopt(self, child: ProcessHandle, spec: ReplicaSpec, now: float) -> None:
        if spec.migrate:
            # Not even one that nobody wants any more may run beside the next.
            session = self._control_server.session(spec.serial)
            session.settle(child.pid)
            self._rollouts.migrations.adopt(spec, child, session)
            self._watch_migration(spec.serial, child, session, SetName(spec.set))
            if not self._state.desired.wants(SetName(spec.set), spec.release, migrates=True):
                child.signal(signal.SIGKILL)
            return
        name = SetName(spec.set)
        if not self._state.desired.wants(name, spec.release, migrates=False):
            child.signal(signal.SIGKILL)  # of a release that nobody wants any more
            return
        replica = self._state.observed.adopt(spec.serial, name, spec.slot, spec.revision, spec.build, child.pid, now)
        if spec.port:
            self._state.sets.service(name).ports[spec.serial] = spec.port
        self._settle_in(replica, child, spec.root)

    async def _gather(self) -> None:
        """Give the application what its programs make, while they run."""
        while True:
            await asyncio.sleep(GATHER_SECONDS)
            await self._rollouts.gather(at_once=False)

    async def _keep_sockets(self) -> None:
        """Look for Unix sockets that somebody has removed, as those do who clean up."""
        while True:
            await asyncio.sleep(SOCKETS_SECONDS)
            state = self._state.folder
            for path in restore(str(state.sockets)):
                self.say(f"{path} was removed by somebody, and is put back")
            try:
                await self._renew(set(os.listdir(state.sockets)))
                if not (state.path / ENDPOINTS).exists():
                    self._published = None
                    self._publish()
            except OSError as error:
                self._complain(f"sockets that somebody has removed cannot be made anew: {error}")

    async def _renew(self, there: Collection[str]) -> None:
        """Make anew what is not among the names that are there, nor can be put back: its spare is gone, too."""
        control = self._state.folder.socket_path(CONTROL_SOCKET)
        if os.path.basename(control) not in there and self._server is not None:
            self._control = listen_unix(control, self._state.folder.socket_mode)
            await self._server.start(self._control)
        if self._api_socket and os.path.basename(self._api_socket) not in there:
            self._renew_api()
        for zygote in self._loader.all():
            if zygote.path is not None and os.path.basename(zygote.path) not in there:
                await zygote.renew()
        lost = [where for path, where in self._listeners.paths().items() if os.path.basename(path) not in there]
        for name, number in lost:
            await self._listeners.renew(name, number)
        for name in {name for name, _ in lost}:
            self._spawn(self._restart_for_sockets(name))

    async def _restart_for_sockets(self, name: SetName) -> None:
        """Replicas listen at what they were given when they began."""
        why = "its sockets were removed by somebody"
        self.say(f"{service_of(name)} is restarted: {why}")
        try:
            await self.restart_set(name, ACTOR, why)
        except (FissileError, KeyError) as error:
            self.say(f"{service_of(name)} takes no new connections of other services: {error}")

    async def _open_control_server(self) -> None:
        self._server = self._control_server.server(self._state.secrets.control)
        self._control = listen_unix(self._state.folder.socket_path(CONTROL_SOCKET), self._state.folder.socket_mode)
        await self._server.start(self._control)

    def admit(self, services: Iterable[str]) -> None:
        """Make tokens for services that are new, and let them report."""
        for name in services:
            if name not in self._state.secrets.services:
                self._state.secrets.add(name)
        if self._server is not None:
            self._server.access = self._control_server.access(self._state.secrets.control)
        self._logs.width = max(len(name) for name in [*self._state.secrets.services, ACTOR])

    async def dismiss(self) -> None:
        """Forget the tokens of services that no live release has."""
        if self._strip_secrets():
            self.admit(())
            with suppress(JournalError):  # the next end of a rollout, or the next supervisor, does it again
                await asyncio.to_thread(self.journal.keep, "secrets", msgspec.msgpack.encode(self._state.secrets))

    def _strip_secrets(self) -> bool:
        gone = self._state.secrets.services.keys() - self._state.desired.live_services()
        self._state.secrets.forget(gone)
        return bool(gone)

    async def launch_migration(
        self, loaded: LoadedRelease, service: ServiceName, names: tuple[str, ...]
    ) -> tuple[ProcessHandle, ReplicaSession]:
        """A process that runs migrations. Raises ForkError or OSError."""
        serial = self._state.observed.next_serial()
        await self._endings.over(name=service, slot=NO_SLOT)
        session = self._control_server.session(serial)
        try:
            out, err = self._logs.pipes(service)
            self._state.output.begin(serial, out)
            try:
                child = await self._launcher.migrate(loaded, service, names, serial, out, err)
            finally:
                os.close(out)
                os.close(err)
        except BaseException:
            self._control_server.forget(serial)
            self._state.output.discard(serial)
            raise
        session.settle(child.pid)
        key = Replica(serial, loaded.spec.sets[service], 0, 0, "", 0.0).key
        self._watch_migration(serial, child, session, loaded.spec.sets[service])
        child.exited.add_done_callback(lambda _: self._remove(asyncio.to_thread(take_down, self._state, [key])))
        return child, session

    def _watch_migration(self, serial: int, child: ProcessHandle, session: ReplicaSession, of: SetName) -> None:
        """With it ends what it started."""
        process = process_of(child, session, "")
        self._migrating.add(serial)

        def exited(_: object) -> None:
            self._control_server.forget(serial)
            self._migrating.discard(serial)
            self._keep_output(of, NO_SLOT, serial)
            self._endings.begin(Replica(serial, of, NO_SLOT, 0, "", 0.0), process)

        child.exited.add_done_callback(exited)

    def _keep_output(self, name: SetName, slot: int, serial: int) -> tuple[str, ...]:
        """A process has ended that was starting: what it printed is told with why."""
        state = self._state
        code = state.releases.zygote_of(name).application.root if name in state.desired.sets else ""
        return state.output.keep(serial, name, slot, code, state.root)

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.say("internal error:\n" + "".join(traceback.format_exception(error)))

    # -- the loop ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Compare and act, whenever something was observed or is due."""
        while True:
            self._woken.clear()
            step = self._reconciler.step(time.monotonic())
            if not step.actions:
                await self._listeners.tidy()
            self._shut.follow(self._at_zero())
            self._publish()
            if self._stepped is not None:
                self._stepped.set_result(None)
                self._stepped = None
            if step.actions:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(None if step.due == inf else max(0.0, step.due - time.monotonic())):
                    await self._woken.wait()

    async def next_step(self) -> None:
        """Wait until the loop has gone round once more."""
        if self._stepped is None:
            self._stepped = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._stepped)

    def _begin_start(self, replica: Replica, reason: Reason) -> None:
        start = self._spawn(self._start(replica, reason))
        start.add_done_callback(lambda task: self._start_is_over(replica, task))

    async def _start(self, replica: Replica, reason: Reason) -> tuple[Reason | None, bool]:
        """Make its process; why there is none, if so, and whether people have to mend something before there is."""
        await self._endings.over(name=replica.set, slot=replica.slot)
        service = self._state.sets.service(replica.set)
        try:
            try:
                await self._ownership.check_free(replica, service)
            except ConfigError:
                if not await self._end_dead():
                    raise
                await self._ownership.check_free(replica, service)
        except ConfigError as error:
            return CannotStart(str(error), advises(error)), False  # whoever has its port may end
        alone = self._state.desired.sets[replica.set].replicas_max == 1
        service = replica.service
        name = service if alone else f"{service}.{replica.slot}"
        self._control_server.session(replica.serial)
        try:
            out, err = self._logs.pipes(name)
        except OSError as error:
            return CannotStart(f"its log cannot be opened: {error}"), False
        self._state.output.begin(replica.serial, out)
        root = self._state.releases.zygote_of(replica.set).application.root
        if self._keep:
            await self._rollouts.gather()  # so that it finds what others have made
        try:
            child = await self._launcher.launch(replica, out, err)
        except (FissileError, OSError) as error:
            return CannotStart(str(error), advises(error)), isinstance(error, ConfigError)
        finally:
            os.close(out)
            os.close(err)
        replica.pid = child.pid
        self._note("ReplicaStarted", service, reason, slot=replica.slot, pid=child.pid, build=replica.build)
        self._settle_in(replica, child, root)
        if replica.ending:
            child.signal(signal.SIGKILL)
        return None, False

    def _start_is_over(self, replica: Replica, start: "asyncio.Task[tuple[Reason | None, bool]]") -> None:
        """However it went, cancelled before its first step or by a mistake of ours: who has no process has ended."""
        mistake = False
        if start.cancelled():
            trouble = CannotStart("its start was given up")
        elif error := start.exception():
            trouble = CannotStart(InternalError(type(error).__name__, str(error)))
        else:
            trouble, mistake = start.result()
        if trouble is not None and replica.serial not in self._state.processes.by_serial:
            self._clear(replica)
            self._see(replica, ReplicaEnded(trouble, random.random(), mistake))

    async def _probe(self, replica: Replica, process: Process, service: Service) -> None:
        port, begun = service.port(replica.serial), list[float]()
        await until_it_serves(
            HOST, port, service.ready(), lambda: self._ownership.is_its_own(replica, process, port, begun)
        )
        self._see(replica, known.ReplicaReady())

    def _settle_in(self, replica: Replica, child: ProcessHandle, root: str) -> None:
        """From now on its end is noticed. root: the folder of its code."""
        process = process_of(child, self._control_server.session(replica.serial), root)
        self._state.processes.by_serial[replica.serial] = process
        process.session.settle(child.pid)
        self._woken.set()
        service = self._state.sets.service_at(replica.set, replica.build)
        probe = self._spawn(self._probe(replica, process, service)) if service.settings.command else None

        def exited(status: "asyncio.Future[int | None]") -> None:
            if probe is not None:
                probe.cancel()
            self._outlived(replica, process, status.result())

        child.exited.add_done_callback(exited)
        # What was said without knowing how it ended is made good.
        child.learned = lambda status: self._note(
            "ReplicaExplained", service.name, Exited(status, child.pid), slot=replica.slot, pid=child.pid
        )

    def _outlived(self, replica: Replica, process: Process, status: int | None) -> None:
        """A replica has ended; what it started may not have. Where that was wished, both are one end."""
        wished = replica.end_is_wished
        self._state.processes.by_serial.pop(replica.serial, None)
        if wished and self._state.sets.is_program(replica.set):
            ending = self._endings.begin(
                replica, process, self._state.sets.stop_signal(replica), self._time_left(replica)
            )
        else:
            ending = self._endings.begin(replica, process)
        if ending is None or not wished:
            self._exited(replica, process, status)
        else:
            ending.add_done_callback(lambda _: self._exited(replica, process, status))

    def _time_left(self, replica: Replica) -> float:
        """For how long a program that was told to end may still go on (seconds)."""
        want = self._state.desired.sets.get(replica.set, DesiredSet())
        return max(ASKED_SECONDS, seconds_left(replica, want, self._stop_limit, time.monotonic()))

    def _exited(self, replica: Replica, process: Process, status: int | None) -> None:
        if self._keep and self._serving:
            self._spawn(self._rollouts.gather())  # what it wrote last
        printed = self._keep_output(replica.set, replica.slot, replica.serial)
        hopeless = status in NOT_FOUND or (bool(status) and nothing_to_run(printed))
        limits = self._state.releases.limits_of(replica)
        usage = self._state.limits.enforcement.usage(replica.key, replica.pid) if limits.grouped else None
        memory = ran_out_of_memory(replica.pid, usage, limits) if usage is not None else None
        found = Exit(status, process.session.trouble, process.session.mistake, hopeless, memory)
        program = replica.set in self._state.sets.programs()
        how, mistake = ended_how(found, replica.pid, was_ready=replica.ready_at is not None, program=program)
        self._clear(replica)
        self._see(replica, ReplicaEnded(how, random.random(), mistake))

    def _clear(self, replica: Replica) -> None:
        """Nothing that was made for it is left."""
        self._control_server.forget(replica.serial)
        self._state.output.discard(replica.serial)
        self._state.processes.port_holders.pop(replica.serial, None)
        service = self._state.sets.live().get(replica.set)
        if service is not None:
            service.ports.pop(replica.serial, None)
        remove_unix(self._state.folder.handover_path(replica.serial))
        with suppress(OSError):
            self._state.folder.stacks(replica.key).unlink(missing_ok=True)
        limits = self._state.releases.limits_of(replica)
        if limits.disk is not None or limits.grouped:
            self._remove(self._take_down(replica))

    def _remove(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)
        task.add_done_callback(self._done)

    async def _take_down(self, replica: Replica) -> None:
        """Remove what held it and what it left, once nobody is in there."""
        await self._endings.over(serials=[replica.serial])
        limits = self._state.releases.limits_of(replica)
        if limits.disk is not None:
            await asyncio.to_thread(take_down, self._state, [replica.key])
        if limits.grouped:
            await asyncio.to_thread(self._state.limits.enforcement.remove, replica.key)

    def _see(self, replica: Replica, observation: known.Observation) -> None:
        """Something was observed: remember, record, and think again."""
        before, unheard = replica.state, replica.unheard
        follows = self._reconciler.observe(replica, observation, time.monotonic())
        if follows is not None and self._serving:
            self.say(f"{replica.service}.{replica.slot}: {follows}")
        if replica.state is READY and before is not READY:
            self._state.output.discard(replica.serial)
            self._state.output.forget_slot(replica.set, replica.slot)
        if replica.state is not before:
            happened = "ReplicaAdopted" if unheard and replica.state is READY else BECAME[replica.state]
            why = follows or (ToldToEnd() if replica.state is DRAINING else "")
            self._note(happened, replica.service, why, slot=replica.slot, pid=replica.pid or None)
            self._woken.set()
        elif replica.stuck or not isinstance(observation, ReplicaReported):
            self._woken.set()

    def _heard(self, session: ReplicaSession, report: ReplicaReport) -> None:
        replica = self._state.replica(session.serial)
        if replica is None:
            return
        if isinstance(report, ReadyReport):
            if report.hello.draining:
                self._see(replica, known.ReplicaDraining())
            else:
                self._reconciler.greet(replica, time.monotonic())
                self._see(replica, known.ReplicaReady())
                release = self._state.releases.of(replica.set) if report.imported else None
                if release is not None and release.settings.may_import_ahead(replica.service):
                    self._spawn(self._state.releases.zygote_of(replica.set).prepare(report.imported))
        elif isinstance(report, Heartbeat):
            self._see(replica, ReplicaReported(report))
            if report.differences:
                self._differs(report)
            if report.outside:
                # What a replica says of others is not remembered: nothing would bound that.
                self._state.callers.hear(self._state.releases.methods().intersection(report.outside))

    def _differs(self, beat: Heartbeat) -> None:
        """Remember what would be different across a wire, and record what is new."""
        service = beat.hello.service
        new = self._state.differences.add(ServiceName(service), beat.hello.build, beat.differences)
        for one in new:
            self._note("WireDifferenceFound", service, f"{one.method}: {one.what}", build=beat.hello.build)
        if new:
            self._spawn(self._keep_differences())

    async def _keep_differences(self) -> None:
        builds = [loaded.release.builds for loaded in self._state.releases.by_name.values()]
        kept = {set_name(service, build.name) for one in builds for service, build in one.items()}
        with suppress(JournalError):  # on a full disk, the next one's are written with these
            await asyncio.to_thread(self.journal.keep, DIFFERENCES, self._state.differences.encode(kept))

    async def _watch(self) -> None:
        """Look for replicas that are stuck, for those that use too much, and for zygotes that hang."""
        due = time.monotonic()
        while True:
            due += WATCH_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for what, text in self._loader.look():
                self.say(text)
                self._note(what, "", text)
            now = time.monotonic()
            late, due = now - due, now
            if self._reconciler.watch(now, late):
                self._woken.set()

    async def _scale(self) -> None:
        """Ask the autoscaler, again and again."""
        while True:
            await asyncio.sleep(SCALE_SECONDS)
            app = self._state.app
            changes, news = scale(
                app,
                {name for name in may_be_asleep(app) if self._state.sets.service(name).knocked()},
                cores=self._state.releases.settings.machine.cores or os.cpu_count() or 1,
                now=time.monotonic(),
            )
            for held in news:
                self._tell_held(held)
            for change in changes:
                await self._rescale(change)

    def _tell_held(self, held: Held) -> None:
        by = service_of(held.by)
        if held.over:
            self._note("ScalingFreed", held.service, held.reason, by=by)
        else:
            self._note("ScalingHeld", held.service, held.reason, by=by)

    async def _rescale(self, change: Change) -> None:
        try:
            await self.change(change)
        except (JournalError, ChangeRefused) as error:
            # What nobody could account for later is not done; the load itself is answered by what runs. And a set may
            # have ended since it was looked at.
            assert isinstance(change.what, SetReplicas)
            self._complain(f"{change.what.service}: not scaled: {error}")

    async def _balance(self) -> None:
        """Have each replica of a door get its part of those who keep their connections."""
        while True:
            await asyncio.sleep(BALANCE_SECONDS)
            found = handovers(self._state.app.router().holders(), random.random, time.monotonic())
            for serial, doors in found.items():
                process = self._state.processes.by_serial.get(serial)
                if process is not None:
                    to = {
                        d: {self._state.folder.handover_path(taker): n for taker, n in by.items()}
                        for d, by in doors.items()
                    }
                    process.session.move(Move(to))

    # -- routes -----------------------------------------------------------------------------------

    def _at_zero(self) -> dict[int, Notice]:
        """The doors of services that are scaled to zero, with the reason; once nobody accepts there any more."""
        state = self._state
        found: dict[int, Notice] = {}
        asleep = state.app.router().asleep()
        for service in state.sets.live().values() if asleep else ():
            why = asleep.get(service.name)
            if why is not None:
                for sock in (*((service.gateway,) if service.gateway is not None else ()), *service.public.values()):
                    found[sock.fileno()] = Notice(sock, f"{service.name} {why}", back(service.name))
        return found

    # -- what people ask for ----------------------------------------------------------------------

    def say(self, text: str) -> None:
        """In the log."""
        self._logs.say(ACTOR, text)

    def _tell_broken(self, broken: Broken, state: dict[str, Any]) -> None:
        """Something is so that must not be: a mistake of our own, told with all that may help to find it."""
        text = f"internal error, please report it: {broken.invariant} ({broken.what})"
        self.say(f"{text}; `fissile history --json` has the state that it was found in")
        self._note("InvariantBroken", service_of(broken.set), text, state=state)

    def _note(self, what: str, service: str, reason: Reason | str, **data: Any) -> None:
        """Record an observation."""
        if self._journal is not None:
            self._journal.observe(Entry("observation", ACTOR, what, service, str(reason), data | _tagged(reason)))

    async def _record(self, what: str, reason: str, **more: bytes) -> None:
        """Record a change of the whole application, with all that a successor needs. more: to be kept, too."""
        kept = {
            "desired": msgspec.msgpack.encode(self._state.desired),
            "secrets": msgspec.msgpack.encode(self._state.secrets),
            **more,
        }
        entry = Entry("change", ACTOR, what, "", reason, {"pid": os.getpid()})
        await asyncio.to_thread(self.journal.change, entry, kept)

    async def change(self, change: Change, *, secrets: bool = False) -> None:
        """Alter what is desired: recorded first, then acted on. secrets: they were altered, too.

        Raises ChangeRefused or JournalError, and then nothing was altered.
        """
        written = asyncio.get_running_loop().create_future()

        def done(error: FissileError | None, now: float) -> None:
            if written.done():
                return  # whoever wanted it does not wait any more
            if error is not None:
                written.set_exception(error)
            else:
                written.set_result(None)

        self._writer.submit(change, done, time.monotonic(), secrets=secrets)
        await written

    def write(self, change: Change, desired: Desired, *, secrets: bool, done: Done) -> None:
        """For the ChangeWriter: to the disk, and then say so."""
        write = self._spawn(self._write(change, desired, secrets))
        write.add_done_callback(lambda task: self._write_is_over(task, done))

    async def _write(self, change: Change, desired: Desired, secrets: bool) -> JournalError | None:
        act = change.what
        service = act.service if isinstance(act, SetAct) else ""
        entry = Entry(
            "change", change.who, type(act).__name__, service, str(change.why), _shown(act) | _tagged(change.why)
        )
        kept = {"desired": msgspec.msgpack.encode(desired)}
        if secrets:
            kept["secrets"] = msgspec.msgpack.encode(self._state.secrets)
        try:
            await asyncio.to_thread(self.journal.change, entry, kept)
        except JournalError as error:
            return error
        return None

    def _write_is_over(self, write: "asyncio.Task[JournalError | None]", done: Done) -> None:
        """However it went, cancelled before its first step or by a mistake of ours: nobody waits for it in vain."""
        if write.cancelled():
            error = JournalError("the supervisor stops")
        elif mistake := write.exception():
            error = JournalError(f"internal error: {type(mistake).__name__}: {mistake}")
        else:
            error = write.result()
        done(error, time.monotonic())
        self._woken.set()

    @property
    def current_release(self) -> Release:
        """What runs: builds and contracts. Raises ConfigError where nothing does."""
        if self._state.releases.current is None:
            raise nothing_runs(self._state.folder.path.parent)
        return self._state.releases.current.release

    def live_releases(self) -> tuple[str, ...]:
        """Those that may have requests."""
        return tuple(release.name for release in self._state.desired.releases())

    def addresses(self, service: str) -> tuple[str, ...]:
        """Where the replicas of a service are called."""
        name = self._state.desired.set_of(ServiceName(service))
        return self._state.sets.addresses(name, self._state.app.router().targets(name))

    def _known(self, service: str) -> SetName:
        """The replica set of a service that has most of the requests. Raises InvalidArgument."""
        try:
            return self._state.desired.set_of(ServiceName(service))
        except KeyError:
            known = ", ".join(self._state.sets.services())
            raise InvalidArgument(f"there is no service {service!r}", remedy=f"there are: {known}") from None

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
            self._known(service)
        loaded = self._state.releases.current
        assert loaded is not None
        services = [ServiceName(service)] if service else starting_order(loaded.spec, self._state.sets.services())
        restarted = await self._restarts.restart(
            services, who, why or "a restart was asked for", environment, packages=packages
        )
        if self._keep:
            await self._rollouts.gather()  # what the old ones wrote last
        return restarted

    async def restart_set(self, name: SetName, who: str, why: str, zygote: str = "") -> int:
        """Replace a replica set's replicas; how many. zygote: by which the new ones are made. Raises StartFailed."""
        state, end = self._state, None
        revision = next_revision(state.desired, state.observed, name)
        await self.change(Change(who, RestartService(name, revision, zygote), why))
        while end is None:
            await self.next_step()
            end = how_it_ended(state.desired, state.observed, name, revision)
        if end.trouble is not None:
            trouble = str(end.trouble)
            raise StartFailed(
                trouble,
                remedy="mend that, and restart again; the old replica serves on",
                service=service_of(name),
                last_lines=state.output.of_set(name, trouble),
            )
        return end.replicas

    async def scale(self, service: str, low: int, high: int, *, who: str = "operator", why: str = "") -> None:
        """Have so many replicas from now on. Raises InvalidArgument, ChangeRefused or JournalError."""
        # All its sets are meant, whichever is named.
        act = ScaleService(self._known(service), low, high)
        await self.change(Change(who, act, why or "so many were asked for"))

    def wanted(self, service: str) -> int:
        """How many replicas of a service are wanted now. Raises InvalidArgument."""
        return self._state.desired.sets[self._known(service)].replicas

    def bounds(self, service: str) -> tuple[int, int]:
        """Between which replica counts the file lets the autoscaler choose. Raises InvalidArgument."""
        name = self._known(service)
        return bounds(self._state.releases.of(name).spec, ServiceName(service))

    async def _all_ready(self, sets: list[SetName]) -> None:
        """Wait until all have the replicas that are wanted. Raises StartError."""
        while True:
            self._awaited = tuple(sets)
            await self.next_step()
            desired, observed = self._state.desired, self._state.observed
            awaits = missing(sets, desired, observed, self._state.app.paused)
            if not awaits:
                self._awaited = ()
                return
            failed = cannot_start(awaits, observed, self._failed)
            if failed is not None:
                raise self._not_started(*failed)

    def _not_started(self, name: SetName, slot: int, trouble: Reason) -> StartError:
        service = service_of(name)
        where = f"; `fissile logs {service}` shows all that it printed" if isinstance(self._logs, LogFiles) else ""
        return StartError(
            f"{service} cannot be started: {trouble.trouble}",
            remedy=f"mend that, and start again{where}" if not trouble.advises else "",
            service=service,
            last_lines=self._state.output.of_slot(name, slot, trouble.trouble),
        )

    @property
    def waits(self) -> str:
        """What a start or a deploy waits for just now; "" for nothing."""
        if self._loader.doing:
            return self._loader.doing
        state = self._state
        found = awaited_sets(self._awaited, state.desired, state.observed, state.app.paused, state.sets.how_ready)
        return awaited(found)

    async def _settled(self) -> None:
        """Wait until all replicas that were adopted have said how they are, or as long as routes are kept for them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS_MAX):
                while self._state.observed.unheard():
                    await self.next_step()

    async def hold(self, service: str) -> None:
        """Kill a service's replicas and start no others until `release`."""
        name = self._known(service)
        self._state.app.paused.add(name)
        found = self._state.observed.replica_set(name)
        for replica in found.replicas.values():
            self._reconciler.kill(KillReplica(replica, HeldBack()))
        self._woken.set()
        while found.replicas:
            await self.next_step()

    async def release(self, service: str) -> None:
        """Start the replicas of a held service, and wait until they are ready."""
        name = self._known(service)
        self._state.observed.forget_deaths(name)
        self._state.app.paused.discard(name)
        self._woken.set()
        await self._all_ready([name])

    def endpoints(self) -> Endpoints:
        """Where everything is reached now."""
        state = self._state
        zygote = state.releases.current.zygote.pid if self._keep and state.releases.current is not None else None
        return Endpoints(
            pid=os.getpid(),
            born=born(os.getpid()),
            application=state.releases.current.imported.name if state.releases.current is not None else "",
            topology=state.releases.topology,
            token=state.secrets.gateway,
            services=dict(self._service_endpoints()),
            births=dict(self._births()) if self._keep else {},
            zygote=zygote,
            zygote_born=born(zygote) if zygote else None,
            folder=state.folder.mark().application,
            api=self._api,
            api_token=state.secrets.api if self._api else "",
            api_socket=self._api_socket,
            release=state.releases.current_name,
            resumed=self._resumed,
            warnings=tuple(dict.fromkeys(self._warnings())),
            background=self._keep,
            stopping=self._stopping,
        )

    def _warnings(self) -> Iterator[str]:
        yield from self._losses
        if self._state.releases.current is not None:
            yield from warnings_of(self._state.releases.current.spec)

    def _service_endpoints(self) -> Iterator[tuple[str, ServiceEndpoints]]:
        """Of the release that most requests go to."""
        state = self._state
        if state.releases.current is None:
            return
        for name, replica_set in state.releases.current.spec.sets.items():
            service = state.sets.service(replica_set)
            replicas = state.observed.replica_set(replica_set).replicas.values()
            yield (
                name,
                ServiceEndpoints(
                    gateway=state.sets.gateway(service),
                    public=state.sets.public(service),
                    token=state.secrets.services[name] if service.settings.command else "",
                    components=service.components,
                    pids=tuple(r.pid for r in replicas if r.state is READY),
                ),
            )

    def _births(self) -> Iterator[tuple[int, int]]:
        for process in self._state.processes.by_serial.values():
            if process.born is not None:
                yield process.child.pid, process.born
        yield from self._state.app.strays.items()

    def _publish(self) -> None:
        if not self._serving:
            return
        endpoints = self.endpoints()
        if endpoints == self._published:
            return
        try:
            self._state.folder.publish(endpoints)
            self._published = endpoints
        except OSError as error:  # a full disk must not take down what runs
            self.say(f"the endpoints cannot be written: {error}")

    def status(self) -> SupervisorStatus:
        """What runs now."""
        trouble = self._journal.trouble if self._journal is not None else ""
        return status_of(
            self._state,
            journal=trouble,
            waits=self._rollouts.waits,
            waits_kind=self._rollouts.waits_kind,
            zygote=self._loader.trouble,
            preparing=self._loader.doing,
            restarts=self._restarts.asked(),
        )

    # -- the end ----------------------------------------------------------------------------------

    async def lay_down(self, *, who: str = "operator", why: str = "") -> None:
        """A person wants the end that follows: the next start begins anew, and does not go on with what ran."""
        reason = why or "it was asked for"
        try:
            entry = Entry("change", who, "ApplicationDown", "", reason, {"pid": os.getpid()})
            await asyncio.to_thread(self.journal.change, entry, {DOWN: STOPPED})
        except JournalError as error:  # a full disk keeps nobody from stopping
            self.say(f"that it was stopped on purpose is not remembered: {error}")

    def takes_no_orders(self) -> None:
        """It is being stopped: whoever comes now is told so."""
        self._stopping = True
        self._publish()

    async def give_up(self, why: str) -> bool:
        """Undo a start, whether it is over or was cancelled: end what it began, and let go of what it took over.

        Whether something goes on that ran before. The next start begins as this one did.
        """
        if not self._touched:
            if self._state.folder.ours:
                await self._let_go()
            return bool(still_there(self._state.folder.left()))
        self.say(f"the start is given up: {why}")
        self._note("StartGivenUp", "", why)
        if self._journal is not None and not self._resumed:
            with suppress(JournalError):
                await asyncio.to_thread(self._journal.keep, DOWN, FIRST_START)
        await self.stop()
        return False

    async def stop(self, *, drain_seconds_max: float = DRAIN_SECONDS_MAX) -> None:
        """End all, callers first, in the limit altogether (seconds); then close and remove every socket.

        Given up half way (cancelled), it kills what is left. May be called again.
        """
        self._serving = False
        self._state.app.routed.close()
        self._shut.follow({})
        try:
            await self._still()
            limit = time.monotonic() + drain_seconds_max
            await end_orphans(
                self._state.app.strays, drain_seconds_max + STOP_SECONDS_MAX if drain_seconds_max else 0.0
            )
            for wave in stopping_order(self._state.desired, self._state.observed):
                left = max(0.0, limit - time.monotonic())
                left += STOP_SECONDS_MAX if drain_seconds_max else 0.0
                await self._end(wave, left)
        finally:
            await self._close()

    async def _end(self, services: tuple[str, ...], seconds_max: float) -> None:
        """Ask their replicas to end by signal, and kill those that do not within the limit."""
        ending = [
            process for process in self._state.processes.by_serial.values() if self._service_of(process) in services
        ]
        children = [process.child for process in ending]
        self._stop_limit = time.monotonic() + seconds_max
        for process in ending:
            replica = self._state.replica(process.session.serial)
            if replica is not None:
                self._state.observed.end(replica, AllStops(), fault=False)
                process.session.drain(Drain(seconds_max))  # nobody takes over, which a signal does not say
                self._executor.tell_to_stop(replica, process, self._state.sets.stop_signal(replica))
        # Who starts serves nobody.
        deaf = [process.child for process in ending if self._starts(process)]
        if deaf:
            await asyncio.wait([child.exited for child in deaf], timeout=min(seconds_max, STOP_SECONDS_MAX))
        for child in deaf:
            child.signal(signal.SIGKILL)
        if children:
            left = max(0.0, self._stop_limit - time.monotonic())
            await asyncio.wait([child.exited for child in children], timeout=left)
        for child in children:
            child.signal(signal.SIGKILL)
        if children:
            await asyncio.wait([child.exited for child in children])
        await self._endings.over(serials=[process.session.serial for process in ending])

    def _starts(self, process: Process) -> bool:
        replica = self._state.replica(process.session.serial)
        return replica is not None and hears_no_signal(replica, program=self._state.sets.is_program(replica.set))

    def _service_of(self, process: Process) -> str:
        replica = self._state.replica(process.session.serial)
        return replica.set if replica is not None else ""

    async def _still(self) -> None:
        """Decide nothing any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._stepped is not None:
            self._stepped.cancel()
            self._stepped = None

    async def _let_go(self) -> None:
        """Leave what runs as it is, and be a supervisor no more."""
        self._serving = False
        for task in self._removals:
            task.cancel()  # the next supervisor does it
        await self._still()
        self._shut.follow({})
        if self._server is not None:
            await self._server.close()
            self._server = None
        if self._control is not None:
            self._control.close()
            self._control = None
        self._loader.let_go()
        self._state.processes.by_serial.clear()
        self._state.releases.by_name.clear()
        if self._journal is not None:
            with suppress(JournalError):
                await self._state.callers.write(self._journal)
            await asyncio.to_thread(self._journal.close)
        self._state.folder.let_go()
        await asyncio.to_thread(self._logs.close)

    async def _close(self) -> None:
        await self._endings.close()
        await self._loader.close()
        await self._end_everything()
        await asyncio.gather(*self._removals, return_exceptions=True)
        if self._keep and self._state.folder.ours:
            await self._rollouts.gather(everywhere=True)
        if self._server is not None:
            await self._server.close()
        self._listeners.close()
        if self._control is not None:
            self._control.close()
        await asyncio.to_thread(self._state.limits.enforcement.sweep, set[str]())
        if self._journal is not None:
            with suppress(JournalError):
                await self._state.callers.write(self._journal)
            await asyncio.to_thread(self._journal.close)
        self._state.folder.close()
        await asyncio.to_thread(self._logs.close)

    async def _end_everything(self) -> None:
        """Nothing of the application is left, but what cannot be ended."""
        if not self._state.folder.ours:
            return  # another one runs it
        ended = await self._endings.end_all(children=self._adopts)
        if ended:
            self.say(f"{ended} processes that the application had left were ended")


def _kept_port(journal: Journal) -> tuple[int | None, int]:
    """Which port was asked for of the page that people open, and which it had (0: not known)."""
    kept = journal.kept(PORT)
    with suppress(msgspec.DecodeError):
        if kept is not None:
            return msgspec.msgpack.decode(kept, type=tuple[int | None, int])
    return None, 0


def _tagged(reason: Reason | str) -> dict[str, Any]:
    """What an entry of the journal has beside the words of a reason, for programs."""
    return {"reason": tagged(reason)} if isinstance(reason, ReasonBase) else {}


def _shown(act: Act) -> dict[str, Any]:
    """What a change consists of, as history shows it."""
    if isinstance(act, BeginRollout):
        rollout = act.rollout
        return {
            "rollout": rollout.number,
            "release": rollout.later.name,
            "starts": sorted(map(service_of, rollout.specs)),
            "share": rollout.share,
            "watch_seconds": rollout.watch_seconds,
        }
    shown = msgspec.to_builtins(act).items()
    return {key: value for key, value in shown if value is not None and key not in ("type", "set", "now")}
