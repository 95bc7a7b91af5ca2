"""People's requests and what they leave behind, in worlds in which releases follow each other.

A request gets its release where it enters, by what the replica at the door knows, lives for a while and hops from
service to service. Some begin a task that outlives them and goes on to call in the name of their release.
"""

from typing import TYPE_CHECKING

import msgspec

from fissile.names import ServiceName, SetName, service_of
from fissile.orchestrator.routing import DoorRoute, SetRoutes
from fissile.simulation.invariants import call_goes_astray, request_begins
from fissile.simulation.machine import Phase, Process
from fissile.simulation.world import FAULT_SECONDS

if TYPE_CHECKING:
    from fissile.simulation.deploys import DeployWorld

VISIT_SECONDS = 0.15
HOP_SECONDS = (0.01, 0.01, 1.0)
# How long a call waits for a replica of a set that has none just now.
WAIT_SECONDS_MAX = 1.0
RETRY_SECONDS = 0.1
TASK_SHARE = 0.02
TASK_SECONDS_MAX = 15.0
RARE_SHARE = 0.05
REPORT_SECONDS = 0.1
NOBODY_ELSE = DoorRoute(0.0, ())


class Request(msgspec.Struct, eq=False):
    """One request, or a task that one has begun. edge: where it entered. at: where it is. path: services to come.

    cut: its time to finish was over, so it is promised nothing any more. until: when a task ends.
    """

    release: str
    edge: Process
    at: Process
    path: list[ServiceName]
    waited: float = 0.0
    cut: bool = False
    until: float = 0.0


class Visits:
    """Of one world."""

    def __init__(self, world: "DeployWorld", names: list[ServiceName], rare: frozenset[str]) -> None:
        self.world = world
        self.names = names
        self.rare = rare
        self.dice = world.chance("visitors")
        self.under_way: set[Request] = set()
        self.knocked: set[SetName] = set()
        self.finished = self.tasks = 0
        world.clock.after(1.0, self._visit)

    def _visit(self) -> None:
        self.world.clock.after(2 * VISIT_SECONDS * self.dice.random(), self._visit)
        process = self.accepting()
        if process is not None:
            self.begin(process, process.split.choose(())[0])

    def accepting(self) -> Process | None:
        """The replica that a new connection comes to; None: it waits at the door."""
        dice, serving = self.dice, self._at_the_door()
        accepting = [p for p in serving if (to := self._other_build(p)).share < 1.0 or to.serials]
        if not accepting:
            return None
        process = dice.choice(accepting)
        route = self._other_build(process)
        if route.serials and dice.random() < route.share:
            serial = dice.choice(route.serials)
            other = next((p for p in serving if p.serial == serial), None)
            if other is None and route.share >= 1.0:
                return None
            process = other or process
        return process

    def begin(self, edge: Process, release: str) -> None:
        """A request comes to a replica, which gives it a release."""
        request_begins(self.world, edge, release)
        path = [n for n in self.names[1:] if n not in self.rare or self._rarely()]
        request = Request(release, edge, edge, path)
        self.under_way.add(request)
        self._count(edge, release, 1)
        self._later(request)

    def busy(self, process: Process) -> bool:
        """Whether a request is under way that came in at a replica, or has come to it."""
        return any(request.edge is process or request.at is process for request in self.under_way)

    def _at_the_door(self) -> list[Process]:
        """The replicas that serve visitors, in the order of their births."""
        world = self.world
        doors = {world.places[release.name][self.names[0]] for release in world.desired.releases()}
        found = [process for door in doors for process in world.machine.serving(door)]
        return sorted(found, key=lambda process: process.pid) if len(doors) > 1 else found

    def _rarely(self) -> bool:
        return self.dice.random() < RARE_SHARE and self.world.clock.now < FAULT_SECONDS

    def _other_build(self, process: Process) -> DoorRoute:
        return process.knows.routes.other_builds.get(self.names[0], NOBODY_ELSE)

    def _count(self, edge: Process, release: str, by: int) -> None:
        before = edge.pinned.get(release, 0)
        edge.pinned[release] = before + by
        if before + by == 0:
            del edge.pinned[release]
        if before == 0 or before + by == 0:
            self.world.clock.after(REPORT_SECONDS * self.dice.random(), self.world.beat, edge)

    def _later(self, request: Request) -> None:
        seconds = self.dice.random() * self.dice.choice(HOP_SECONDS)
        self.world.clock.after(seconds, self._hop, request)

    def _hop(self, request: Request) -> None:
        dead = request.at.phase is Phase.DEAD or request.edge.phase is Phase.DEAD
        if dead or not request.path:
            self.finished += not dead
            self._end(request)
        elif request.at.phase is Phase.HUNG or request.edge.phase is Phase.HUNG:
            self.world.clock.after(RETRY_SECONDS * 5, self._hop, request)
        else:
            self._call_next(request)

    def _call_next(self, request: Request) -> None:
        callee = self._called(request, request.path[0])
        if callee is not None:
            request.path.pop(0)
            request.at, request.waited = callee, 0.0
            if self.dice.random() < TASK_SHARE and request.path:
                self._begin_task(request)
            self._later(request)
        elif request.waited >= WAIT_SECONDS_MAX:
            self._end(request)
        else:
            request.waited += RETRY_SECONDS
            self.world.clock.after(RETRY_SECONDS, self._hop, request)

    def _called(self, request: Request, service: ServiceName) -> Process | None:
        """The process that a call comes to; None where nobody is just now."""
        routes: SetRoutes = request.at.knows.routes
        if service in self.world.inside(service_of(request.at.set)):
            return request.at
        name = routes.targets.get(request.release, {}).get(service) or routes.targets[routes.release][service]
        call_goes_astray(self.world, request, service, name)
        here = self.world.machine.serving(name)
        if here:
            return self.dice.choice(here)
        self.knocked.add(name)
        return None

    def _end(self, request: Request) -> None:
        self.under_way.discard(request)
        self._count(request.edge, request.release, -1)

    def _begin_task(self, request: Request) -> None:
        self.tasks += 1
        until = self.world.clock.now + self.dice.random() * TASK_SECONDS_MAX
        self._work(Request(request.release, request.at, request.at, list(request.path), until=until))

    def _work(self, task: Request) -> None:
        """It calls, again and again, for as long as its process lives."""
        if task.at.phase in (Phase.SERVING, Phase.DRAINING):
            self._called(task, self.dice.choice(task.path))
        if task.at.phase is not Phase.DEAD and self.world.clock.now < task.until:
            self.world.clock.after(0.1 + 0.3 * self.dice.random(), self._work, task)
