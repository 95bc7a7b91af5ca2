"""Makes the parts of a supervisor and puts them together; each knows only those that stand below it."""

from pathlib import Path
from typing import NamedTuple

from fissile.machine.logfiles import LogFiles
from fissile.machine.output import Logs
from fissile.orchestrator.reasons import Reason
from fissile.orchestrator.reconciler import Reconciler
from fissile.orchestrator.replica import Replica
from fissile.releases.store import ReleaseStore
from fissile.settings.schema import Settings
from fissile.supervisor.autoscaler import AutoscalerLoop
from fissile.supervisor.changes import Changes
from fissile.supervisor.code_copies import CodeCopies
from fissile.supervisor.comparison import DeployComparison
from fissile.supervisor.control_server import ControlServer
from fissile.supervisor.control_socket import ControlSocket
from fissile.supervisor.deployer import Deployer
from fissile.supervisor.endings import Endings
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.launcher import Launcher
from fissile.supervisor.linux import LinuxExecutor
from fissile.supervisor.listeners import Listeners
from fissile.supervisor.loader import ReleaseLoader
from fissile.supervisor.migration_processes import MigrationProcesses
from fissile.supervisor.migrations import Migrations
from fissile.supervisor.observations import Observations
from fissile.supervisor.operations import Operations
from fissile.supervisor.operator_guard import OperatorGuard
from fissile.supervisor.orphans import Orphans
from fissile.supervisor.outcomes import RolloutOutcomes
from fissile.supervisor.ownership import Ownership
from fissile.supervisor.process_watcher import ProcessWatcher
from fissile.supervisor.publisher import EndpointPublisher
from fissile.supervisor.readiness import Readiness
from fissile.supervisor.rebalancer import Rebalancer
from fissile.supervisor.reconciler import ReconcilerLoop
from fissile.supervisor.restarter import Restarter
from fissile.supervisor.rollout_controller import RolloutController
from fissile.supervisor.rollout_migrations import RolloutMigrations
from fissile.supervisor.shutdown import Shutdown
from fissile.supervisor.socket_keeper import SocketKeeper
from fissile.supervisor.starter import ReplicaStarter
from fissile.supervisor.startup import Startup
from fissile.supervisor.startup_migrations import StartupMigrations
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.state_folder import StateFolder
from fissile.supervisor.step_signal import StepSignal
from fissile.supervisor.takeover import Takeover
from fissile.supervisor.tasks import BackgroundTasks
from fissile.supervisor.unavailable import UnavailableResponder


class Options(NamedTuple):
    """What a supervisor is started with; see `Supervisor`."""

    port: int | None = None
    state: Path | None = None
    logs: Logs | LogFiles | None = None
    detached: bool = False
    fresh: bool = False
    resume: bool = False


class Parts(NamedTuple):
    """The parts that are started and stopped, or asked from outside."""

    state: SupervisorState
    logs: Logs | LogFiles
    store: ReleaseStore
    events: EventRecorder
    tasks: BackgroundTasks
    removals: BackgroundTasks
    signal: StepSignal
    loader: ReleaseLoader
    listeners: Listeners
    endings: Endings
    publisher: EndpointPublisher
    control: ControlSocket
    guard: OperatorGuard
    copies: CodeCopies
    readiness: Readiness
    restarter: Restarter
    controller: RolloutController
    deployer: Deployer
    operations: Operations
    observations: Observations
    loop: ReconcilerLoop
    autoscaler: AutoscalerLoop
    rebalancer: Rebalancer
    sockets: SocketKeeper
    orphans: Orphans
    startup: Startup
    takeover: Takeover
    shutdown: Shutdown


def assemble(settings: Settings, topology: str, options: Options) -> Parts:
    """The parts of a supervisor of one application. Nothing is opened or begun."""
    port, resume = options.port, options.resume
    folder = StateFolder(options.state or Path(settings.named or settings.root))
    state = SupervisorState(settings, topology, folder, detached=options.detached)
    logs = options.logs or Logs()
    events = EventRecorder(logs)
    state.app.on_broken = events.record_broken
    store = ReleaseStore(folder.path, state.root, events.log)
    tasks, removals, signal = BackgroundTasks(events.log), BackgroundTasks(events.log), StepSignal()
    changes = Changes(state, events, tasks, signal)
    loader = ReleaseLoader(state, logs.pipes, store, events.log)
    listeners = Listeners(state, loader.all)
    launcher = Launcher(state, listeners)
    endings = Endings(state, loader.pids, events.log)
    ownership = Ownership(state, endings)
    publisher = EndpointPublisher(state, events)
    copies = CodeCopies(state, store, events)
    guard = OperatorGuard(state, loader, events.complain)

    # The reconciler starts replicas by the executor, and what comes of a start is observed by the reconciler: one of
    # the two has to be known before it is there.
    def begin(replica: Replica, reason: Reason) -> None:
        starter.begin(replica, reason)

    executor = LinuxExecutor(state, endings, ownership, begin=begin, events=events)
    reconciler = Reconciler(state.app, executor, changes.writer, events.complain)
    observations = Observations(state, reconciler, events, tasks, signal, loader)
    observe = observations.observe
    sessions = ControlServer(observations.on_report, events.complain)
    control = ControlSocket(state, sessions, events, logs)
    watcher = ProcessWatcher(state, observe, events, tasks, removals, signal, sessions, endings, ownership, copies)
    starter = ReplicaStarter(
        state, observe, events, tasks, logs, sessions, launcher, endings, ownership, copies, watcher
    )
    unavailable = UnavailableResponder()
    loop = ReconcilerLoop(state, reconciler, signal, listeners, unavailable, publisher)

    migrating = MigrationProcesses(state, removals, logs, sessions, launcher, endings)
    migrations = Migrations(events, migrating.launch)
    holds = StartupMigrations(state, events, tasks, signal, migrations)
    readiness = Readiness(state, signal, loader, holds.failed, logged=isinstance(logs, LogFiles))
    outcomes = RolloutOutcomes(state, lambda: events.journal)
    controller = RolloutController(
        state, store, loader, listeners, changes, control, signal, events, copies,
        RolloutMigrations(state, migrations), outcomes,
    )  # fmt: skip
    deployer = Deployer(
        state, store, loader, listeners, changes, control, signal, events, copies,
        migrations, DeployComparison(state, store), controller,
    )  # fmt: skip
    restarter = Restarter(state, loader, listeners, changes, signal, deployer.preparing)
    operations = Operations(state, changes, signal, reconciler, readiness, restarter, copies)
    autoscaler, rebalancer = AutoscalerLoop(state, changes, events), Rebalancer(state)
    sockets = SocketKeeper(state, events, tasks, control, listeners, loader, publisher, restarter)

    orphans = Orphans(state, endings, events, tasks, removals, signal, readiness)
    startup = Startup(
        state, store, loader, listeners, changes, events, control, copies, publisher, holds,
        port=port, fresh=options.fresh, resume=resume,
    )  # fmt: skip
    takeover = Takeover(
        state, loader, listeners, changes, events, control, sessions, watcher, migrations, migrating, holds, orphans,
        port=port, resume=resume,
    )  # fmt: skip
    shutdown = Shutdown(state, events, tasks, signal, endings, executor, watcher, unavailable)
    return Parts(
        state, logs, store, events, tasks, removals, signal, loader, listeners, endings, publisher, control, guard,
        copies, readiness, restarter, controller, deployer, operations, observations, loop, autoscaler, rebalancer,
        sockets, orphans, startup, takeover, shutdown,
    )  # fmt: skip
