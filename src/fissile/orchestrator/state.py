"""Everything that decisions about one application rest on: what is desired, what is observed, what was told to whom."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fissile.names import SetName
from fissile.orchestrator.autoscale import Autoscaler, ScalingPolicy
from fissile.orchestrator.canary import CanaryWatch
from fissile.orchestrator.current_routes import CurrentRoutes
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.invariant_checks import shown
from fissile.orchestrator.invariants import Broken, Invariant
from fissile.orchestrator.replica import Observed
from fissile.orchestrator.rollout import NextStep
from fissile.orchestrator.routes import RouteTable
from fissile.orchestrator.routing import LiveSets, Router, Told
from fissile.orchestrator.spec import ReleaseSpec, ServiceSpec


class ApplicationState:
    """The state of one application. Only a `ChangeWriter` alters what is desired.

    releases: those that are loaded, by name. version: below that of all routes that are told from now on, beyond those
    of any supervisor before. paused: sets that are to have no replica for now, whatever is desired of them.
    abandoning: sets whose restart is being given up: infinity while the change is on its way to the journal; when it is
    tried again (monotonic seconds), where that did not take it. strays: processes that
    serve on, and can neither be told nor asked, with the times of their births.
    """

    def __init__(self, releases: Mapping[str, ReleaseSpec], version: int) -> None:
        self._desired = Desired()
        self.releases = releases
        self.observed = Observed()
        self._routing = CurrentRoutes(version)
        self.paused: set[SetName] = set()
        self.abandoning: dict[SetName, float] = {}
        self.strays: dict[int, int] = {}
        self.canary = CanaryWatch()
        self.autoscaler = Autoscaler()
        # Who is told of what must not be so.
        self.on_broken: Callable[[Broken, dict[str, Any]], None] | None = None
        self._broken: set[Invariant] = set()
        # What a rollout does next, and which policies the autoscaler has; each with what it was decided by.
        self.next_step: tuple[object, float, NextStep] | None = None
        self.policies: tuple[LiveSets, dict[SetName, ServiceSpec], dict[SetName, ScalingPolicy]] | None = None

    def __repr__(self) -> str:
        release = self._desired.current.name or "no release"
        return f"<{type(self).__name__} of {release}: {len(self._desired.sets)} sets, {len(self._broken)} broken>"

    @property
    def routed(self) -> RouteTable:
        """What was pushed to replicas."""
        return self._routing.table

    @property
    def desired(self) -> Desired:
        """How all replica sets should be."""
        return self._desired

    def replace_desired(self, desired: Desired) -> None:
        """For the ChangeWriter alone: this is in the journal."""
        self._desired = desired

    def broke(self, broken: Broken, decision: object = "") -> None:
        """Tell of what must not be so, once for each invariant: where it was so once, it may be so at each look."""
        if broken.invariant not in self._broken:
            self._broken.add(broken.invariant)
            if self.on_broken is not None:
                self.on_broken(broken, shown(broken, self._desired, self.observed, decision))

    def router(self) -> Router:
        """Decides routes for the state of things now; the same one until something changes that it decides by."""
        return self._routing.router(self._desired, self.observed, self.releases)

    def told(self, name: SetName, router: Router | None = None) -> Told:
        """What a live set's replicas are to know, and the version by which they say that they have applied it.

        router: of the state of things now, where somebody has made one already.
        """
        return self._routing.told(name, router or self.router())

    def versions(self) -> dict[SetName, int]:
        """Of the routes that hold now, by live replica set; programs are told none."""
        return self._routing.versions(self.router())

    def forget(self, names: Iterable[SetName]) -> None:
        """These sets are no more, and nobody looks them up again."""
        for name in names:
            self.observed.forget(name)
            self._routing.forget(name)
