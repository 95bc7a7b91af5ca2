"""All that a replica and its supervisor say to each other.

The replica opens the one connection there is: it attaches, and the commands come back as a stream.
So a supervisor that dies takes nothing with it: the replica serves on, and attaches to the next one
by itself. `ReplicaSpec` is what a replica is told when it is made. Data alone: pure rooms decide by it.
"""

from collections.abc import AsyncIterator
from math import inf
from typing import Any

import msgspec

from fissile.component.declaration import interface, method
from fissile.component.interface import read_interface
from fissile.rpc.access import Access
from fissile.telemetry.aggregate import Answers

DRAIN_SECONDS_MAX = 10.0
HEARTBEAT_SECONDS = 1.0
# How long idle keep-alive clients of a door may stay to hear that their connection closes.
IDLE_SECONDS_MAX = 5.0


class Callee(msgspec.Struct, frozen=True):
    """A replica set that a service calls: where its replicas are. token: which it asks for, if it is foreign.

    away: why there are none on purpose, as "is scaled to zero by ann", or "".
    """

    service: str
    addresses: tuple[str, ...]
    token: str = ""
    away: str = ""


class OtherBuild(msgspec.Struct, frozen=True):
    """Another replica set with the same public door: the share of connections that are to be handed over to it.

    addresses: Unix sockets of its replicas that take connections (see connection_handoff).
    """

    share: float
    addresses: tuple[str, ...]


class Routes(msgspec.Struct, frozen=True, tag="routes"):
    """Whom a replica calls and who calls it, from now on.

    version: what it reports as applied. release: of calls that belong to no request. releases: all that are live.
    callees: by replica set. targets: release → component → replica set. shares: of the releases that this replica
    serves, which part of the new requests that stay here each one gets. other_builds: by public door ("" is that of
    HTTP/JSON). sticky: the header by which a client always gets the same release; "cookie" sets one. rollout: the
    number of that which is under way, for which such a cookie holds; 0: none is. access: its callers. gateway_peers:
    SHA-256 (hex) of their tokens for HTTP/JSON, beside the application's own.
    """

    version: int = 0
    release: str = ""
    releases: tuple[str, ...] = ()
    callees: dict[str, Callee] = {}
    targets: dict[str, dict[str, str]] = {}
    shares: dict[str, float] = {}
    other_builds: dict[str, OtherBuild] = {}
    sticky: str = ""
    rollout: int = 0
    access: Access = Access({}, {}, {})
    gateway_peers: tuple[str, ...] = ()


class ReplicaSpec(msgspec.Struct, frozen=True):
    """What one replica is: where its code is, which components it runs, how it reaches the others.

    application: "module:attribute". root: folder put first on the path, in which it is imported. folder: in which it
    runs, absolute ("": the same). source: the folder that `root` is a copy of ("": it is none). set: its replica
    set. routes: what it begins with. token: proves this service to others. config: tables of its components alone.
    gateway_token: SHA-256 (hex) of the HTTP/JSON token. http: components with a public listener, in the order of
    their inherited sockets. serial: no other replica of the application has it. revision: of the set. stacks: the
    file in which it writes where it stands when its event loop is stuck ("": nowhere). migrate: components whose
    migrations are to be run, instead of serving. guest: "asgi" or "wsgi", where `application` knows nothing of
    Fissile. port: of a program that opens its own.
    """

    application: str
    root: str
    service: str
    set: str
    slot: int
    build: str
    release: str
    components: tuple[str, ...]
    routes: Routes
    token: str
    config: dict[str, dict[str, Any]]
    gateway_token: str = ""
    calls_timeout_seconds: float = 10.0
    concurrency: int = 64
    queue: int = 256
    http: tuple[str, ...] = ()
    drain_seconds_max: float = DRAIN_SECONDS_MAX
    serial: int = 0
    revision: int = 1
    stacks: str = ""
    migrate: tuple[str, ...] = ()
    guest: str = ""
    port: int = 0
    folder: str = ""
    source: str = ""


class ReplicaHello(msgspec.Struct, frozen=True):
    """Who attaches. draining: it was told to end already, so it is not ready."""

    service: str
    set: str
    slot: int
    serial: int
    pid: int
    build: str
    release: str
    draining: bool = False


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Take no new work, finish what is in flight within the limit, then stop. It may be said again, with less time.

    idle_seconds_max: how long idle keep-alive clients may stay to hear of it; 0 where no other replica
    takes over. heirs: replicas that take kept connections meanwhile, by public door (see `OtherBuild`).
    """

    seconds_max: float = DRAIN_SECONDS_MAX
    idle_seconds_max: float = 0.0
    heirs: dict[str, tuple[str, ...]] = {}


class Move(msgspec.Struct, frozen=True, tag="move"):
    """Hand kept connections over to other replicas. What was ordered before, and is not done yet, is forgotten.

    away: by public door, how many go to the replica at which address (see `OtherBuild`).
    """

    away: dict[str, dict[str, int]]


Command = Drain | Routes | Move


class Traffic(msgspec.Struct, frozen=True):
    """What a replica's public doors do for one release: requests in flight, and what was answered so far.

    ages: of those whose answers have not begun, how long they wait already, by `bucket`.
    """

    in_flight: int
    answers: Answers
    ages: dict[int, int] = {}


class ReadyReport(msgspec.Struct, frozen=True, tag="ready"):
    """The replica serves. imported: modules that it had to import to come to that."""

    hello: ReplicaHello
    imported: tuple[str, ...] = ()


class StartFailure(msgspec.Struct, frozen=True, tag="failed"):
    """The replica could not start; `message` is for people. mistake: whether they have to mend something first.

    advice: whether the message says what to do next.
    """

    hello: ReplicaHello
    message: str
    mistake: bool = False
    advice: bool = False


class WireDifference(msgspec.Struct, frozen=True):
    """What a call within a process would mean otherwise across a wire. method: "Component.method". what: in words."""

    method: str
    what: str


class Stuck(msgspec.Struct, frozen=True):
    """All places for calls are held by calls whose time is up. seconds: for so long. holders: places by method."""

    seconds: float
    holders: dict[str, int]


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """The replica lives. lag_seconds: how late its event loop is.

    number: of this replica's heartbeats so far; of two, the later one counts, in whichever order they come.
    in_flight, queued: calls that run and that wait here. requests: HTTP requests in flight at its public
    doors. calls: its own calls in flight, by the replica set called. routes: the version that it applied.
    traffic: by release, while more than one is live. stuck: None while calls come and go.
    differences: those that this supervisor was not told before. kept: connections that were answered and go on, by
    public door, without websockets. outside: methods that were called over HTTP/JSON from outside since that was told.
    """

    hello: ReplicaHello
    lag_seconds: float
    in_flight: int
    queued: int = 0
    requests: int = 0
    calls: dict[str, int] = {}
    routes: int = 0
    traffic: dict[str, Traffic] = {}
    stuck: Stuck | None = None
    differences: tuple[WireDifference, ...] = ()
    kept: dict[str, int] = {}
    outside: tuple[str, ...] = ()
    number: int = 0

    @property
    def load(self) -> float:
        """Calls and requests that run or wait at the replica."""
        return float(self.in_flight + self.queued + self.requests)


ReplicaReport = ReadyReport | StartFailure | Heartbeat


@interface
class Control:
    """What a supervisor offers to its replicas."""

    @method(timeout=inf)
    async def attach(self, hello: ReplicaHello) -> AsyncIterator[Command]:
        """The commands for this replica, for as long as both live."""
        raise NotImplementedError

    @method(timeout=2.0, idempotent=True)
    async def report(self, observation: ReplicaReport) -> None:
        """Something was observed at this replica."""
        raise NotImplementedError


# Read once, when this module is imported: a zygote has done it for all its replicas.
CONTROL_INTERFACE, _mistakes = read_interface(Control)
assert not _mistakes, _mistakes
CONTROL_CALLER = "Replica"
# The public door of HTTP/JSON, among those by component.
GATEWAY_DOOR = ""
# Whoever holds the application: may call every component.
OPERATOR = "Operator"
