"""The way to one service: connections to its replicas, and which of them gets a call.

Connections are made on demand, kept, and made anew when they break. A channel belongs to one calling
service and is shared by the components in it.
"""

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from fissile.errors import Unavailable
from fissile.rpc.balancer import choose
from fissile.rpc.breaker import Breaker
from fissile.rpc.retry import RetryBudget
from fissile.rpc.transport import Endpoint, log
from fissile.wire import events
from fissile.wire.frames import PROTOCOL_VERSION, Hello
from fissile.wire.state import Role, State

CONNECT_SECONDS_MAX = 1.0
RECONNECT_SECONDS = 0.01
# Each call that waits for a connection is to see several attempts, with the jitter of half as much again.
RECONNECT_SECONDS_MAX = 0.25
SWEEP_SECONDS = 0.02

Connect = Callable[[Callable[[], asyncio.BaseProtocol], str], Awaitable[Any]]


class NotAnswered(Exception):
    """Inside this room: a call got no answer.

    sent: its request may have been carried out. waited: a connection was waited for, and none came. judged:
    a breaker has counted it; a connection that breaks under many calls is one trouble, not many.
    """

    def __init__(self, reason: str, *, sent: bool, waited: bool = False) -> None:
        super().__init__(reason)
        self.sent = sent
        self.waited = waited
        self.judged = False


class Expired(Exception):
    """Inside this room: a call's deadline passed."""


class AnsweredWithError(Exception):
    """Inside this room: a call was answered with an error, still encoded."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


class StreamTicket:
    """The caller's end of a stream: items that have come and were not consumed, bounded by credit."""

    __slots__ = ("call", "items", "outcome", "wake")

    def __init__(self) -> None:
        self.call = 0
        self.items: list[events.Item] = []
        self.outcome: Exception | None = None
        self.wake: asyncio.Future[None] | None = None

    def notify(self) -> None:
        """Something came: wake the consumer."""
        if self.wake is not None and not self.wake.done():
            self.wake.set_result(None)

    def finish(self, outcome: Exception) -> None:
        """Nothing more will come."""
        self.outcome = outcome
        self.notify()


class Finished(Exception):
    """Inside this room: a stream is complete."""


async def connect(factory: Callable[[], asyncio.BaseProtocol], address: str) -> Any:
    """Connect to "unix:/path" or "tcp:host:port"."""
    loop = asyncio.get_running_loop()
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        return await loop.create_unix_connection(factory, rest)
    host, _, port = rest.rpartition(":")
    transport, protocol = await loop.create_connection(factory, host.strip("[]"), int(port))
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return transport, protocol


class Channel:
    """Connections from one service to the replicas of another.

    service: the callee. addresses: "unix:/path" or "tcp:host:port" of each replica. caller_service and
    token: who calls. callers: components that call through it. contracts: fingerprints by method.
    """

    def __init__(
        self,
        service: str,
        addresses: Iterable[str],
        *,
        caller_service: str,
        token: str,
        callers: tuple[str, ...],
        contracts: dict[str, str],
        connect: Connect = connect,
    ) -> None:
        self.service = service
        self.hello = Hello(PROTOCOL_VERSION, token, caller_service, callers, contracts)
        self.callers = {name: index for index, name in enumerate(callers)}
        self.budget = RetryBudget()
        # By caller: trouble with this replica set says nothing of another release's.
        self.breakers = [Breaker() for _ in callers]
        self.ready: list[ClientConnection] = []
        self.refused = ""
        self.last_trouble = ""
        self.closed = False
        self._connect = connect
        self._addresses: list[str] = list(addresses)
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._draw = random.randrange

    def route(self, addresses: Iterable[str]) -> None:
        """The replicas are at these addresses from now on."""
        self._addresses = list(addresses)
        for connection in list(self.ready):
            if connection.address not in self._addresses:
                self.retire(connection)
        if self.ready:
            self._connect_all()

    def pick(self) -> "ClientConnection | None":
        """A connection for a call, or None if there is none just now."""
        ready = self.ready
        if len(ready) == 1:
            return ready[0]
        return ready[choose(ready, self._draw)] if ready else None

    def in_flight(self) -> int:
        """Calls that wait for an answer, or for a connection."""
        return sum(connection.load() for connection in self.ready) + len(self._waiters)

    async def connected(self, seconds_max: float) -> "ClientConnection":
        """A connection, waiting for one if need be. Raises NotAnswered (not sent) if none comes."""
        limit = time.monotonic() + min(seconds_max, CONNECT_SECONDS_MAX)
        while True:
            connection = self.pick()
            if connection is not None:
                return connection
            if self.refused:
                raise Unavailable(
                    f"{self.service} refused the connection: {self.refused}",
                    remedy="restart both services with the same release",
                )
            if self.closed:
                raise NotAnswered("this service is stopping", sent=False)
            remaining = limit - time.monotonic()
            if remaining <= 0:
                raise NotAnswered(self.last_trouble or "no replica answered", sent=False, waited=True)
            self._connect_all()
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                async with asyncio.timeout(remaining):
                    await waiter
            except TimeoutError:
                continue
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def _connect_all(self) -> None:
        open_to = {connection.address for connection in self.ready}
        for address in self._addresses:
            if address not in open_to and address not in self._connecting:
                self._connecting[address] = asyncio.get_running_loop().create_task(self._keep_connecting(address))

    async def _keep_connecting(self, address: str) -> None:
        pause = RECONNECT_SECONDS
        try:
            while not self.closed and address in self._addresses:
                try:
                    _, found = await self._connect(lambda: ClientConnection(self, address), address)
                    if await cast(ClientConnection, found).opened:
                        return
                    self.last_trouble = "the connection broke in the handshake"
                except (OSError, NotAnswered) as error:
                    self.last_trouble = f"cannot connect: {error}"
                if self.refused:
                    return
                # Nobody waits and nothing is open: the next call starts again.
                if not self._waiters and not self.ready:
                    return
                await asyncio.sleep(pause * (0.5 + random.random()))
                pause = min(pause * 2, RECONNECT_SECONDS_MAX)
        finally:
            del self._connecting[address]

    def opened(self, connection: "ClientConnection") -> None:
        """A handshake is done: calls may go there."""
        self.ready.append(connection)
        self.refused = ""
        self._wake()

    def refuse(self, reason: str) -> None:
        """The callee does not take calls from here."""
        self.refused = reason
        log.warning("%s refuses calls from %s: %s", self.service, self.hello.service, reason)
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def retire(self, connection: "ClientConnection") -> None:
        """No new calls go there; a new connection is made at once if somebody needs it.

        Where nobody does, the next call makes it: a service without calls may sleep.
        """
        if connection in self.ready:
            self.ready.remove(connection)
            if not self.closed and (self.ready or self._waiters or connection.load()):
                asyncio.get_running_loop().call_soon(self._connect_all)

    async def close(self) -> None:
        """Close all connections; calls in flight fail with Unavailable."""
        self.closed = True
        self._wake()
        tasks = list(self._connecting.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self.ready):
            connection.transport.close()
        self.ready.clear()


class ClientConnection(Endpoint):
    """A connection to one replica, on the caller's side."""

    def __init__(self, channel: Channel, address: str) -> None:
        super().__init__(Role.CALLER, asyncio.get_running_loop())
        self.channel = channel
        self.address = address
        self.methods: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self.opened: asyncio.Future[bool] = self.loop.create_future()
        self.deadlines: dict[int, float] = {}
        self._sweeping = False

    def load(self) -> int:
        """Calls in flight."""
        return len(self.wire.calls) + len(self.wire.streams)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.wire.hello(self.channel.hello)
        self.flush()
        self.loop.call_later(CONNECT_SECONDS_MAX, self._handshake_late)

    def _handshake_late(self) -> None:
        if self.wire.state is State.HANDSHAKE and not self.lost:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.channel.retire(self)
        if not self.opened.done():
            self.opened.set_result(False)
        lost = NotAnswered("the connection broke before the answer came", sent=True)
        for ticket in self.wire.close():
            self._fail(ticket, lost)

    def _fail(self, ticket: Any, error: Exception) -> None:
        if type(ticket) is StreamTicket:
            ticket.finish(error)
        elif not ticket.done():
            ticket.set_exception(error)

    def act(self, event: events.Event) -> None:
        if type(event) is events.Response:
            future = event.ticket
            if not future.done():
                future.set_result(event.body)
        elif type(event) is events.Failed:
            self._fail(event.ticket, AnsweredWithError(event.body))
        elif type(event) is events.Item:
            event.ticket.items.append(event)
            event.ticket.notify()
        elif type(event) is events.Ended:
            event.ticket.finish(Finished())
        elif type(event) is events.Welcomed:
            self.methods = event.welcome.methods
            self.refused = event.welcome.refused
            self.channel.opened(self)
            if not self.opened.done():  # whoever waited may have been cancelled meanwhile
                self.opened.set_result(True)
        elif type(event) is events.GoawayReceived:
            self._goaway(event.goaway.reason, event.goaway.refused)

    def _goaway(self, reason: str, refused: bool) -> None:
        if refused:
            self.channel.refuse(reason)
            self.transport.close()
            return
        self.channel.retire(self)
        if not self.load():
            self.transport.close()

    def watch(self, call: int, deadline: float) -> None:
        """Fail the call at its deadline (seconds, monotonic)."""
        self.deadlines[call] = deadline
        if not self._sweeping:
            self._sweeping = True
            self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        now = time.monotonic()
        wire = self.wire
        keep: dict[int, float] = {}
        for call, deadline in self.deadlines.items():
            if call not in wire.calls and call not in wire.streams:
                continue
            if deadline > now:
                keep[call] = deadline
            else:
                self.give_up(call, Expired())
        self.deadlines = keep
        self._sweeping = bool(keep)
        if keep:
            self.loop.call_later(SWEEP_SECONDS, self._sweep)
        if wire.state is State.DRAINING and not self.load():
            self.transport.close()

    def give_up(self, call: int, error: Exception | None) -> None:
        """Cancel a call at the callee, and fail it here where an error is given."""
        ticket = self.wire.cancel(call)
        if ticket is None:
            return
        if error is not None:
            self._fail(ticket, error)
        if not self.lost:
            self.flush()


def contracts_of(interfaces: Iterable[Any]) -> dict[str, str]:
    """Fingerprints by "Component.method", as a hello carries them."""
    return {method.label: method.fingerprint for interface in interfaces for method in interface.methods.values()}
