"""The way to one service: connections to its replicas, and which of them gets a call.

Connections are made on demand, kept, and made anew when they break. A channel belongs to one calling
service and is shared by the components in it. It has one alarm for the deadlines of all its calls, which
also asks for signs of life while calls are in flight (see `liveness`): an idle channel has no timer.
"""

import asyncio
import random
import socket
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from math import inf
from typing import Any, cast

from fissile.errors import Unavailable
from fissile.rpc.absence import absent
from fissile.rpc.alarm import Alarm
from fissile.rpc.balancer import QUICK_SECONDS, choose, quickest
from fissile.rpc.breaker import Breaker
from fissile.rpc.home import Home
from fissile.rpc.liveness import GONE_SECONDS, LOOK_SECONDS, Liveness, Sign
from fissile.rpc.paths import addressed
from fissile.rpc.retry import RetryBudget
from fissile.rpc.transport import Endpoint, log
from fissile.wire import events
from fissile.wire.frames import PROTOCOL_VERSION, Hello
from fissile.wire.state import Role, State

CONNECT_SECONDS_MAX = 1.0
# A replica that does not answer within less may be a moment late, and is not called unavailable for that.
CONNECT_SECONDS_MIN = 0.25
REASON_CHARACTERS_MAX = 500
RECONNECT_SECONDS = 0.01
# Each call that waits for a connection is to see several attempts, with the jitter of half as much again.
RECONNECT_SECONDS_MAX = 0.25
# Of TCP_INFO in linux/tcp.h, by offset: probes (u8), unacknowledged segments (u32), last acknowledgement (u32, ms).
TCP_INFO_BYTES = 104
TCP_INFO_PROBES, TCP_INFO_UNACKED, TCP_INFO_LAST_ACK = 3, 24, 56
# Call ids are never given twice: a connection that has used up most of them is replaced in time.
CALL_IDS_LEFT_MIN = 1 << 24

Connect = Callable[[Callable[[], asyncio.BaseProtocol], str], Awaitable[Any]]


class NotAnswered(Exception):
    """Inside this room: a call got no answer.

    sent: its request may have been carried out. waited_seconds: a connection was waited for, and none came. judged:
    a breaker has counted it; a connection that breaks under many calls is one trouble, not many.
    """

    def __init__(self, reason: str, *, sent: bool, waited_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.sent = sent
        self.waited_seconds = waited_seconds
        self.judged = False


class Expired(Exception):
    """Inside this room: a call's deadline passed."""


class AnsweredWithError(Exception):
    """Inside this room: a call was answered with an error, still encoded."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


class StreamTicket:
    """The caller's end of a stream: items that have come and were not consumed, bounded by credit.

    deadline: seconds, monotonic. owed: bytes that were consumed and not given back.
    """

    __slots__ = ("call", "deadline", "items", "outcome", "owed", "wake")

    def __init__(self, deadline: float) -> None:
        self.call = 0
        self.deadline = deadline
        self.owed = 0
        # Not the events: they know their ticket and the collector does not know them, so it could never free a
        # stream that was left with items unread.
        self.items: deque[tuple[bytes, int]] = deque()
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
        with addressed(rest) as path:
            return await loop.create_unix_connection(factory, path)
    host, _, port = rest.rpartition(":")
    transport, protocol = await loop.create_connection(factory, host.strip("[]"), int(port))
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return transport, protocol


def _draw(below: int) -> int:
    # Of floats: `randrange` takes ten times as long, and nobody can tell the difference.
    return int(random.random() * below)


class Channel:
    """Connections from one service to the replicas of another.

    service: the callee. addresses: "unix:/path" or "tcp:host:port" of each replica. caller_service and
    token: who calls. callers: components that call through it. contracts: fingerprints by method.
    look_seconds: how often signs of life are looked for while calls are in flight; `inf` where there is one callee,
    to which no other could be preferred.
    ready: connections that new calls may take, the best there are. open: all that take calls at all.
    quickest: how long the quickest call of late took (seconds).
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
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self.service = service
        self.home = Home()
        self.look_seconds = look_seconds
        self.hello = Hello(PROTOCOL_VERSION, token, caller_service, callers, contracts)
        self.callers = {name: index for index, name in enumerate(callers)}
        self.budget = RetryBudget()
        # By caller: trouble with this replica set says nothing of another release's.
        self.breakers = [Breaker() for _ in callers]
        self.ready: list[ClientConnection] = []
        self.open: list[ClientConnection] = []
        self.refused = ""
        self.away = ""
        self.last_trouble = ""
        self.closed = False
        self.quickest = inf
        self._written: ClientConnection | None = None
        # Those that are open, and those that are not any more and still have calls.
        self.connections: set[ClientConnection] = set()
        self.alarm = Alarm(None, self._sweep)
        self._connect = connect
        self._addresses: list[str] = list(addresses)
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._draw = _draw

    def __repr__(self) -> str:
        return f"<channel to {self.service}: {len(self.ready)} of {len(self._addresses)} ready>"

    def route(self, addresses: Iterable[str], away: str = "") -> None:
        """The replicas are at these addresses from now on. away: why there are none on purpose, or ""."""
        self._addresses = list(addresses)
        self.away = away
        for connection in list(self.open):
            if connection.address not in self._addresses:
                self.retire(connection)
        if away:
            self._wake()
        elif self.open or self._waiters:
            self._connect_all()

    def pick(self) -> "ClientConnection | None":
        """A connection for a call, or None if there is none just now."""
        ready = self.ready
        if len(ready) == 1:
            return ready[0]
        if not ready:
            return None
        written = self._written
        if written is not None and not (written.wire.out and self.quickest < QUICK_SECONDS):
            written = None
        self._written = chosen = choose(ready, self._draw, written)
        return chosen

    def answered_after(self, seconds: float) -> None:
        """A call took so long: how quick calls are decides how they are spread."""
        self.quickest = quickest(self.quickest, seconds)

    def in_flight(self) -> int:
        """Calls that wait for an answer, or for a connection."""
        return sum(connection.load() for connection in self.connections) + len(self._waiters)

    def sort(self) -> None:
        """Which of the open connections are ready: those with room, and of them those that give signs of life."""
        room = [one for one in self.open if one.writable]
        self.ready = [one for one in room if not one.liveness.silent] or room
        self._written = None

    async def connected(self, seconds_max: float) -> "ClientConnection":
        """A connection, waiting for one if need be.

        Raises NotAnswered (not sent) if none comes within CONNECT_SECONDS_MAX or seconds_max, and Expired where there
        are some without room until then, or where seconds_max is less than CONNECT_SECONDS_MIN and no trouble is known.
        """
        begun = time.monotonic()
        while True:
            connection = self.pick()
            if connection is not None:
                self._wake_one()
                return connection
            if self.refused:
                raise Unavailable(
                    f"{self.service} refused the connection: {self.refused}",
                    remedy="restart both services with the same release",
                )
            if self.away:
                raise absent(self.service, self.away)
            if self.closed:
                raise NotAnswered("this service is stopping", sent=False)
            patience = seconds_max if self.open else min(seconds_max, CONNECT_SECONDS_MAX)
            remaining = begun + patience - time.monotonic()
            if remaining <= 0:
                # A call with a short deadline says nothing of a replica that would have taken it a little later.
                if self.open or (patience < CONNECT_SECONDS_MIN and not self.last_trouble):
                    raise Expired
                raise NotAnswered(self.last_trouble or "no replica answered", sent=False, waited_seconds=patience)
            self._connect_all()
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                async with asyncio.timeout(None if remaining == inf else remaining):
                    await waiter
            except TimeoutError:
                continue
            except asyncio.CancelledError:
                if waiter.done():
                    self._wake_one()  # the room that it was told of is others'
                raise
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def _connect_all(self) -> None:
        open_to = {connection.address for connection in self.open}
        for address in self._addresses:
            if address not in open_to and address not in self._connecting:
                task = asyncio.get_running_loop().create_task(self._keep_connecting(address))
                self._connecting[address] = task
                # Not in the task itself: it may be cancelled before its first step.
                task.add_done_callback(lambda _, address=address: self._connecting_ended(address))

    def _connecting_ended(self, address: str) -> None:
        del self._connecting[address]
        # Who began to wait between the end of the task and the news of it counts on it.
        if self._waiters and not self.closed:
            self._connect_all()

    async def _keep_connecting(self, address: str) -> None:
        pause = RECONNECT_SECONDS
        while not self.closed and address in self._addresses:
            try:
                _, found = await self._connect(lambda: ClientConnection(self, address), address)
                connection = cast(ClientConnection, found)
                try:
                    opened = await connection.opened
                except asyncio.CancelledError:
                    connection.end()  # nobody else knows of it yet
                    raise
                if connection in self.open:
                    return
                # A replica that drains says so right after its welcome.
                self.last_trouble = "it takes no more calls" if opened else "the connection broke in the handshake"
            except (OSError, NotAnswered) as error:
                self.last_trouble = f"cannot connect: {error}"
            if self.refused:
                return
            # Nobody waits and nothing is open: the next call starts again.
            if not self._waiters and not self.open:
                return
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause = min(pause * 2, RECONNECT_SECONDS_MAX)

    def opened(self, connection: "ClientConnection") -> None:
        """A handshake is done: calls may go there."""
        if self.closed:  # meanwhile: whoever makes the connection is being cancelled, and may close it without a word
            connection.end()
            return
        self.open.append(connection)
        self.connections.add(connection)
        self.refused = self.last_trouble = ""
        self.sort()
        self._wake()

    def refuse(self, reason: str) -> None:
        """The callee does not take calls from here."""
        # What a peer wrote is one line of the log, and of an error, whatever is in it.
        reason = " ".join(reason[:REASON_CHARACTERS_MAX].split())
        self.refused = reason
        log.warning("%s refuses calls from %s: %s", self.service, self.hello.service, reason)
        self._wake()

    def room(self) -> None:
        """A connection has room again, or has none any more."""
        self.sort()
        self._wake_one()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _wake_one(self) -> None:
        """Whoever waits longest for room may look; it wakes the next if there is still some."""
        if self.ready:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
                    return

    def retire(self, connection: "ClientConnection") -> None:
        """No new calls go there; a new connection is made at once if somebody needs it.

        Where nobody does, the next call makes it: a service without calls may sleep.
        """
        if connection in self.open:
            self.open.remove(connection)
            self.sort()
            if not self.closed and (self.open or self._waiters or connection.load()):
                asyncio.get_running_loop().call_soon(self._connect_all)
        if connection.lost:
            self.connections.discard(connection)
        elif not connection.load():
            connection.transport.close()

    def _sweep(self, now: float) -> float:
        following = inf
        for connection in list(self.connections):
            following = min(following, connection.look(now))
        return following

    async def close(self) -> None:
        """Close all connections; calls in flight fail with Unavailable."""
        self.closed = True
        self._wake()
        for connection in list(self.connections):
            connection.end()
        self.alarm.stop()
        tasks = list(self._connecting.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)


class ClientConnection(Endpoint):
    """A connection to one replica, on the caller's side.

    A call's ticket is its future and its deadline (seconds, monotonic), that of a stream a StreamTicket.
    """

    def __init__(self, channel: Channel, address: str) -> None:
        super().__init__(Role.CALLER, asyncio.get_running_loop())
        self.channel = channel
        self.address = address
        self.methods: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self.variables: tuple[str, ...] = ()
        self.opened: asyncio.Future[bool] = self.loop.create_future()
        self.liveness = Liveness()

    def __repr__(self) -> str:
        return f"<connection to {self.channel.service} at {self.address}: {self.load()} calls in flight>"

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
            _fail(ticket, lost)

    def end(self) -> None:
        """Close at once, and tell whoever waits.

        A transport tells of its own end later, or never: not while a replica does not read, nor where whoever makes
        it was cancelled after the handshake.
        """
        self.transport.abort()
        self.connection_lost(None)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.channel.room()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.channel.room()

    def act(self, event: events.Event) -> None:
        if type(event) is events.Response:
            future = event.ticket[0]
            if not future.done():
                future.set_result(event.body)
        elif type(event) is events.Item:
            event.ticket.items.append((event.body, event.size))
            event.ticket.notify()
        elif type(event) is events.Failed:
            _fail(event.ticket, AnsweredWithError(event.body))
        elif type(event) is events.Ended:
            event.ticket.finish(Finished())
        elif type(event) is events.Welcomed:
            self.methods = event.welcome.methods
            self.refused = event.welcome.refused
            self.variables = event.welcome.variables
            self.channel.opened(self)
            if not self.opened.done():  # whoever waited may have been cancelled meanwhile
                self.opened.set_result(True)
        elif type(event) is events.GoawayReceived:
            self._goaway(event.goaway.reason, event.goaway.refused)
        else:
            super().act(event)

    def _goaway(self, reason: str, refused: bool) -> None:
        if refused:
            self.channel.refuse(reason)
            self.transport.close()
            return
        self.channel.retire(self)

    def look(self, now: float) -> float:
        """Fail what is past its deadline, ask for a sign of life; when to look again (seconds, monotonic)."""
        wire = self.wire
        following = inf
        late: list[int] = []
        for call, (_, deadline) in wire.calls.items():
            if deadline <= now:
                late.append(call)
            elif deadline < following:
                following = deadline
        for call, ticket in wire.streams.items():
            deadline = ticket.ticket.deadline
            if deadline <= now:
                late.append(call)
            elif deadline < following:
                following = deadline
        for call in late:
            self.give_up(call, Expired())
        silent = self.liveness.silent
        if not self.load():
            self.liveness.rest()
            if self not in self.channel.open and not self.lost:
                self.transport.close()
            if not silent:
                return inf
        if wire.calls_left() < CALL_IDS_LEFT_MIN:
            self.channel.retire(self)
        sign = self.liveness.look(self.heard, now)
        if sign is Sign.ASK:
            wire.ping(0)
            self.flush()
        elif sign is Sign.DOUBT and _is_gone(self.transport):
            self.channel.last_trouble = f"{self.address} is out of reach"
            self.transport.abort()
        if silent != self.liveness.silent:
            self.channel.room()
        return min(following, now + self.channel.look_seconds)

    def give_up(self, call: int, error: Exception | None) -> None:
        """Cancel a call at the callee, and fail it here where an error is given."""
        ticket = self.wire.cancel(call)
        if ticket is None:
            return
        if error is not None:
            _fail(ticket, error)
        if not self.lost:
            self.flush()


def _fail(ticket: Any, error: Exception) -> None:
    if type(ticket) is StreamTicket:
        ticket.finish(error)
    elif not ticket[0].done():
        ticket[0].set_exception(error)


def _is_gone(transport: asyncio.Transport) -> bool:
    """Whether the machine at the other end has acknowledged nothing for GONE_SECONDS, by TCP's own account.

    A process that is only busy, or stopped, is not gone: its kernel acknowledges, also where its window is shut. Of
    a Unix socket there is nothing to ask: it ends with the process.
    """
    sock: Any = transport.get_extra_info("socket")
    if sock is None or sock.family == socket.AF_UNIX or not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    except OSError:
        return False
    waits = info[TCP_INFO_PROBES] > 1 or int.from_bytes(info[TCP_INFO_UNACKED:][:4], sys.byteorder) > 0
    return waits and int.from_bytes(info[TCP_INFO_LAST_ACK:][:4], sys.byteorder) >= GONE_SECONDS * 1000


def contracts_of(interfaces: Iterable[Any]) -> dict[str, str]:
    """Fingerprints by "Component.method", as a hello carries them."""
    return {method.label: method.fingerprint for interface in interfaces for method in interface.methods.values()}
