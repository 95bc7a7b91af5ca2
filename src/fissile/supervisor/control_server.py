"""Where replicas report and get their commands: the supervisor's own socket.

Each is taken at its word for itself alone. A token says of which service it is, and the kernel which process has
connected: it has to be the one that was started as the replica that it says it is.
"""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar

from fissile.errors import PermissionDenied
from fissile.machine.peers import peer_of
from fissile.orchestrator.reasons import CannotStart
from fissile.rpc.access import Access, token_digest
from fissile.rpc.server import Call, Export, Server, ServerConnection
from fissile.runtime.control import (
    CONTROL_CALLER,
    CONTROL_INTERFACE,
    Command,
    Drain,
    Move,
    ReplicaHello,
    ReplicaReport,
    Routes,
    StartFailure,
)

# Of another container: no replica of ours.
NOBODY = -1
CONCURRENCY = 4096  # every replica holds one stream open


# Which process makes the call that is served: 0 where the system does not tell.
_peer: ContextVar[int] = ContextVar("peer", default=0)


class ReplicaSession:
    """One replica as it is known by its reports.

    pid: of its process, once that is there; 0 if there is none any more.
    trouble: why it cannot start, as it says; mistake: whether people have to mend something.
    What it was ordered last is kept: a command that was under way when the connection broke is said again.
    """

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self.trouble: CannotStart | None = None
        self.mistake = False
        self.pid: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._routes: Routes | None = None
        self._drain: Drain | None = None
        self._move: Move | None = None
        self._news = asyncio.Event()

    def settle(self, pid: int) -> None:
        """Its process is known; 0: there is none any more."""
        if not self.pid.done():
            self.pid.set_result(pid)

    def was_told(self, version: int) -> bool:
        """Whether these are the routes that it was told last."""
        return self._routes is not None and self._routes.version == version

    def tell(self, routes: Routes) -> None:
        """Have it follow these, unless it was told them already."""
        if not self.was_told(routes.version):
            self._routes = routes
            self._ring()

    def drain(self, order: Drain) -> None:
        """Have it finish its work and end, unless it was told just that already."""
        if order != self._drain:
            self._drain = order
            self._ring()

    def move(self, order: Move) -> None:
        """Have it hand connections over. Said once: who has not heard of it is counted, and told, anew."""
        self._move = order
        self._ring()

    def _ring(self) -> None:
        """Wake whoever waits, and let those who come later wait anew."""
        self._news.set()
        self._news = asyncio.Event()

    async def commands(self) -> AsyncGenerator[Command]:
        """What holds now, then whatever is new: to a replica that has just attached."""
        routes: Routes | None = None
        drain: Drain | None = None
        while True:
            news = self._news
            if self._routes is not None and self._routes is not routes:
                routes = self._routes
                yield routes
            elif self._drain is not None and self._drain is not drain:
                drain = self._drain
                yield drain
            elif self._move is not None:
                move, self._move = self._move, None
                yield move
            else:
                await news.wait()


class ControlServer:
    """Serves Control to replicas.

    heard: gets every report of a replica that is known here. refused: of whoever reported for another.
    """

    def __init__(
        self, heard: Callable[[ReplicaSession, ReplicaReport], None], refused: Callable[[str], None] = lambda _: None
    ) -> None:
        self._heard = heard
        self._refused = refused
        self._sessions: dict[int, ReplicaSession] = {}

    def session(self, serial: int) -> ReplicaSession:
        """The session of a replica; made before the replica is, so that none of its reports is missed."""
        return self._sessions.setdefault(serial, ReplicaSession(serial))

    def forget(self, serial: int) -> None:
        """A replica has ended."""
        session = self._sessions.pop(serial, None)
        if session is not None:
            session.settle(0)

    async def _session_of(self, hello: ReplicaHello) -> ReplicaSession | None:
        """The session of a replica that is known here. Raises PermissionDenied where another process speaks for it."""
        session, peer = self._sessions.get(hello.serial), _peer.get()
        if session is None or peer == 0:
            return session
        # A child may be faster than the news of it.
        pid = await asyncio.shield(session.pid)
        if pid == peer:
            return session
        self._refused(f"process {peer} reported for replica {hello.serial} of {hello.service!r:.80}, which it is not")
        raise PermissionDenied("this process is not the replica that it says it is", remedy="report for yourself")

    async def attach(self, hello: ReplicaHello) -> AsyncGenerator[Command]:
        """See Control."""
        session = await self._session_of(hello)
        if session is not None:
            async for command in session.commands():
                yield command

    async def report(self, observation: ReplicaReport) -> None:
        """See Control."""
        session = await self._session_of(observation.hello)
        if session is None:
            return
        if isinstance(observation, StartFailure):
            session.trouble = CannotStart(observation.message, observation.advice)
            session.mistake = observation.mistake
        self._heard(session, observation)

    def access(self, control_tokens: Mapping[str, str]) -> Access:
        """Who may report. control_tokens: by service."""
        return Access(
            {token_digest(token): service for service, token in control_tokens.items()},
            dict.fromkeys(control_tokens, (CONTROL_CALLER,)),
            {CONTROL_CALLER: frozenset({CONTROL_INTERFACE.name})},
        )

    def server(self, control_tokens: Mapping[str, str]) -> Server:
        """The same on the wire. control_tokens: by service."""
        export = {CONTROL_INTERFACE.name: Export(CONTROL_INTERFACE, self)}
        return _Server("supervisor", export, self.access(control_tokens), concurrency=CONCURRENCY)


class _Server(Server):
    """Knows which process each call comes from."""

    def protocol(self) -> ServerConnection:
        return _Connection(self, asyncio.get_running_loop())


class _Connection(ServerConnection):
    peer_pid = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        with suppress(OSError), socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as copy:
            peer = peer_of(copy)
            if peer is not None:
                self.peer_pid = peer.pid or NOBODY
        super().connection_made(transport)

    def enter(self, call: Call) -> None:
        super().enter(call)
        _peer.set(self.peer_pid)
