"""All that is known of one application while it is supervised, each part with its owner; it decides and does nothing.

The parts of the supervisor share it. Whatever is kept by replica set is there twice for a service while a rollout
replaces its build.
"""

import time
from pathlib import Path

from fissile.names import SetName
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.replica import Observed, Replica
from fissile.orchestrator.state import ApplicationState
from fissile.settings.schema import Settings
from fissile.supervisor.callers import Callers
from fissile.supervisor.differences import Differences
from fissile.supervisor.loaded_release import LoadedRelease, LoadedReleases, LoadedSpecs
from fissile.supervisor.processes import ProcessTable
from fissile.supervisor.release_limits import ReleaseLimits
from fissile.supervisor.replica_sets import ReplicaSets
from fissile.supervisor.service import Secrets
from fissile.supervisor.start_output import StartOutput
from fissile.supervisor.state_folder import StateFolder

CONTROL_SOCKET = "supervisor"


class SupervisorState:
    """One application as its supervisor knows it.

    root: the application's folder, which a deploy may move; named: the path that it was named by, where that is a link.
    app: what decisions rest on. detached: whether replicas outlive a supervisor that dies; code runs from a copy then.
    resumed: whether what ran last goes on, and not the code in the folder. serving: whether replicas are supervised,
    which is so from the first step until the end begins.
    """

    def __init__(self, settings: Settings, topology: str, folder: StateFolder, *, detached: bool = False) -> None:
        loaded: dict[str, LoadedRelease] = {}
        self.root = Path(settings.root)
        self.named = Path(settings.named or settings.root)
        self.folder = folder
        # Routes are told by versions. Those of an earlier supervisor are lower: it had begun at an earlier time.
        self.app = ApplicationState(LoadedSpecs(loaded), time.time_ns())
        self.releases = LoadedReleases(self.app, loaded, settings, topology)
        self.sets = ReplicaSets(self.app, self.releases, folder)
        self.processes = ProcessTable()
        self.output = StartOutput()
        self.limits = ReleaseLimits(folder)
        self.secrets = Secrets.new()
        self.differences = Differences()
        self.callers = Callers()
        self.detached = detached
        self.resumed = False
        self.serving = False

    def __repr__(self) -> str:
        return f"<SupervisorState {self.folder.path} release={self.releases.current_name or None}>"

    @property
    def desired(self) -> Desired:
        """How all replica sets should be."""
        return self.app.desired

    @property
    def observed(self) -> Observed:
        """All that is known of the replicas."""
        return self.app.observed

    def code_folders(self) -> set[str]:
        """The folders of code that somebody needs: loaded releases, and processes that were started from them."""
        return self.releases.folders() | self.processes.folders()

    def keep_output(self, name: SetName, slot: int, serial: int) -> tuple[str, ...]:
        """A process has ended that was starting: what it printed is told with why."""
        code = self.releases.zygote_of(name).application.root if name in self.desired.sets else ""
        return self.output.keep(serial, name, slot, code, self.root)

    def replica(self, serial: int) -> Replica | None:
        """A replica by its serial, if it is not gone."""
        for found in self.observed.sets.values():
            if serial in found.replicas:
                return found.replicas[serial]
        return None
