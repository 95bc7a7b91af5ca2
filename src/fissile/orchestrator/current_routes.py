"""The routes that hold now: made again only when something has changed that they rest on."""

from collections.abc import Mapping

from fissile.names import SetName
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.replica import Observed
from fissile.orchestrator.routes import RouteTable
from fissile.orchestrator.routing import LiveSets, Router, Told
from fissile.orchestrator.spec import ReleaseSpec


class CurrentRoutes:
    """Keeps the router of an application, and numbers what each set's replicas are to know.

    table: what was pushed to replicas. version: below that of all routes that are told from now on.
    """

    def __init__(self, version: int) -> None:
        self.table = RouteTable()
        self._version = version
        self._told: dict[SetName, Told] = {}
        # Each with what it was made for.
        self._router: tuple[tuple[int, int], Router] | None = None
        self._live: tuple[tuple[ReleaseSpec, ...], LiveSets] | None = None
        self._versions: tuple[Router, dict[SetName, int]] | None = None

    def router(self, desired: Desired, observed: Observed, releases: Mapping[str, ReleaseSpec]) -> Router:
        """The same one until something changes that it decides by."""
        loaded, live = tuple(releases.values()), self._live
        if live is None or live[1].desired is not desired or live[0] != loaded:
            live = self._live = loaded, LiveSets(desired, releases)
            self._router = None
        seen, made = (observed.changes, self.table.changes), self._router
        if made is None or made[0] != seen:
            made = self._router = seen, Router(desired, observed, releases, self.table.told, live[1])
        return made[1]

    def told(self, name: SetName, router: Router) -> Told:
        """What a live set's replicas are to know. It has another version only where the routes are others."""
        routes = router.routes(name)
        before = self._told.get(name)
        if before is None or (before.routes is not routes and before.routes != routes):
            self._version += 1
            before = self._told[name] = Told(self._version, routes)
        return before

    def versions(self, router: Router) -> dict[SetName, int]:
        """By live replica set; programs are told no routes."""
        made = self._versions
        if made is None or made[0] is not router:
            names = [name for name in router.live_sets() if not router.program(name)]
            made = self._versions = router, {name: self.told(name, router).version for name in names}
        return made[1]

    def forget(self, name: SetName) -> None:
        """This set is no more."""
        self.table.forget(name)
        self._told.pop(name, None)
