"""Everything that decisions about one application rest on: what is desired, what is observed, what was told to whom."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fissile.names import SetName
from fissile.orchestrator.autoscale import Autoscaler, ScalingPolicy
from fissile.orchestrator.canary import CanaryWatch
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.invariants import Broken, Invariant, shown
from fissile.orchestrator.replica import Observed
from fissile.orchestrator.rollout import NextStep
from fissile.orchestrator.routes import RouteTable
from fissile.orchestrator.routing import LiveSets, Router, Told
from fissile.orchestrator.spec import ReleaseSpec, ServiceSpec


class ApplicationState:
    """Of one application. Only a `ChangeWriter` alters what is desired.

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
        self.routed = RouteTable()
        self.paused: set[SetName] = set()
        self.abandoning: dict[SetName, float] = {}
        self.strays: dict[int, int] = {}
        self.canary = CanaryWatch()
        self.autoscaler = Autoscaler()
        self._version = version
        # Who is told of what must not be so.
        self.on_broken: Callable[[Broken, dict[str, Any]], None] | None = None
        self._broken: set[Invariant] = set()
        self._told: dict[SetName, Told] = {}
        # What a rollout does next, and which policies the autoscaler has; each with what it was decided by.
        self.next_step: tuple[object, float, NextStep] | None = None
        self.policies: tuple[LiveSets, dict[SetName, ServiceSpec], dict[SetName, ScalingPolicy]] | None = None
        # With what they were made for.
        self._router: tuple[tuple[int, int], Router] | None = None
        self._live: tuple[tuple[ReleaseSpec, ...], LiveSets] | None = None
        self._versions: tuple[Router, dict[SetName, int]] | None = None

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
        releases, live = tuple(self.releases.values()), self._live
        if live is None or live[1].desired is not self._desired or live[0] != releases:
            live = self._live = releases, LiveSets(self._desired, self.releases)
            self._router = None
        seen, made = (self.observed.changes, self.routed.changes), self._router
        if made is None or made[0] != seen:
            found = Router(self._desired, self.observed, self.releases, self.routed.told, live[1])
            made = self._router = seen, found
        return made[1]

    def told(self, name: SetName, router: Router | None = None) -> Told:
        """What a live set's replicas are to know, and the version by which they say that they have applied it.

        router: of the state of things now, where somebody has made one already.
        """
        routes = (router or self.router()).routes(name)
        before = self._told.get(name)
        if before is None or (before.routes is not routes and before.routes != routes):
            self._version += 1
            before = self._told[name] = Told(self._version, routes)
        return before

    def versions(self) -> dict[SetName, int]:
        """Of the routes that hold now, by live replica set; programs are told none."""
        router, made = self.router(), self._versions
        if made is None or made[0] is not router:
            names = [name for name in router.live_sets() if not router.program(name)]
            made = self._versions = router, {name: self.told(name, router).version for name in names}
        return made[1]

    def forget(self, names: Iterable[SetName]) -> None:
        """These sets are no more, and nobody looks them up again."""
        for name in names:
            self.observed.forget(name)
            self.routed.forget(name)
            self._told.pop(name, None)
