"""Where replicas report and get their commands, and where people's tools ask: the supervisor's own socket."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

import msgspec

from fissile.component.interface import interface, method, read_interface
from fissile.errors import FissileError, InvalidArgument
from fissile.rpc.access import Access, token_digest
from fissile.rpc.server import Export, Server
from fissile.runtime.control import (
    CONTROL_CALLER,
    OPERATOR,
    Command,
    Control,
    Heartbeat,
    Observed,
    ReplicaFailed,
    ReplicaHello,
    ReplicaReady,
)

RESTART_SECONDS_MAX = 300.0
CONCURRENCY = 4096  # every replica holds one stream open


class ReplicaStatus(msgspec.Struct, frozen=True):
    """One replica. state: starting, ready, draining. lag_seconds, in_flight: by its last heartbeat."""

    slot: int
    pid: int
    state: str
    build: str
    lag_seconds: float
    in_flight: int


class ServiceStatus(msgspec.Struct, frozen=True):
    """One service. restarts: how often a replica was replaced, for whatever reason."""

    name: str
    components: tuple[str, ...]
    replicas: tuple[ReplicaStatus, ...]
    restarts: int


class SupervisorStatus(msgspec.Struct, frozen=True):
    """What runs now. zygote: its pid, or None while there is none."""

    pid: int
    zygote: int | None
    application: str
    topology: str
    services: tuple[ServiceStatus, ...]


class RestartFailed(Exception):
    """The new replica did not come up; the old one serves on."""


@interface
class Supervision:
    """What a supervisor offers to people's tools."""

    @method(timeout=RESTART_SECONDS_MAX, raises=(RestartFailed,))
    async def restart(self, service: str) -> int:
        """Replace a service's replicas, one after the other, without losing a request; how many."""
        raise NotImplementedError

    @method(timeout=5.0, idempotent=True)
    async def status(self) -> SupervisorStatus:
        """What runs now."""
        raise NotImplementedError


class Supervising(Protocol):
    """What the desk asks its supervisor for."""

    async def restart(self, service: str) -> int:
        """See Supervision."""
        ...

    def status(self) -> SupervisorStatus:
        """See Supervision."""
        ...


class Link:
    """One replica as it is known by its reports. `outcome`: None once it is ready, else why it is not."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.commands: asyncio.Queue[Command] = asyncio.Queue()
        self.heartbeat: Heartbeat | None = None

    def settle(self, outcome: str | None) -> None:
        """It is ready (None), or will not be; the first word counts."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Desk:
    """Serves Control to replicas and Supervision to tools.

    expected: how many forks are under way: a replica may report before its fork is answered.
    """

    def __init__(self, supervisor: Supervising) -> None:
        self.expected = 0
        self._supervisor = supervisor
        self._links: dict[int, Link] = {}

    def link(self, pid: int) -> Link:
        """The link of a replica that was forked."""
        return self._links.setdefault(pid, Link())

    def forget(self, pid: int) -> None:
        """A replica has ended."""
        self._links.pop(pid, None)

    async def attach(self, hello: ReplicaHello) -> AsyncGenerator[Command]:
        """See Control."""
        link = self._links.get(hello.pid)
        while link is not None:
            yield await link.commands.get()

    async def report(self, observation: Observed) -> None:
        """See Control."""
        pid = observation.hello.pid
        if pid not in self._links and self.expected == 0:
            return
        link = self.link(pid)
        if isinstance(observation, ReplicaReady):
            link.settle(None)
        elif isinstance(observation, ReplicaFailed):
            link.settle(observation.message)
        else:
            link.heartbeat = observation

    async def restart(self, service: str) -> int:
        """See Supervision."""
        try:
            return await self._supervisor.restart(service)
        except InvalidArgument:
            raise
        except FissileError as error:
            raise RestartFailed(str(error)) from None

    async def status(self) -> SupervisorStatus:
        """See Supervision."""
        return self._supervisor.status()

    def server(self, control_tokens: Mapping[str, str], operator_token: str) -> Server:
        """The desk on the wire. control_tokens: by service."""
        tokens = {**control_tokens, OPERATOR: operator_token}
        control, _ = read_interface(Control)
        supervision, _ = read_interface(Supervision)
        access = Access(
            {token_digest(token): service for service, token in tokens.items()},
            dict.fromkeys(control_tokens, (CONTROL_CALLER,)) | {OPERATOR: (OPERATOR,)},
            {CONTROL_CALLER: frozenset({control.name}), OPERATOR: frozenset({supervision.name})},
        )
        exports = {control.name: Export(control, self), supervision.name: Export(supervision, self)}
        return Server("supervisor", exports, access, concurrency=CONCURRENCY)
