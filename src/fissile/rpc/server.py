"""Serves the components of a service to callers in other services.

Every request is checked (may this caller call this method?), admitted (or refused at once when the bounded queue is
full), decoded, run under its deadline and context, and answered by value. A connection's trouble stays its own.

Where a call stands is known in one place each, and every gauge is the size of such a place:

| place | who is there | leaves it |
|---|---|---|
| `Server.places` | calls that run; at most `concurrency` | when the method has ended |
| `Server.waiting` | calls that wait for a place; at most `queue` | in turn, or when nobody wants the answer |
| `Server.parked` | streams whose caller takes no more for now; they have given their place back | with credit |
| `Server.returning` | streams that have credit again, and wait for a place before all others | in turn |
| `ServerConnection.held` | calls whose connection has no room for answers | when it has room again |

A task may be cancelled before its first step, and then no line of its coroutine runs, no `finally` either.
So whoever cancels looks whether it has begun, and does the bookkeeping where it has not.
"""

import array
import asyncio
import fcntl
import socket
import termios
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from math import inf
from typing import Any

import msgspec

from fissile.component.context import CallContext, call_context
from fissile.component.failure import invalid_argument, to_failure
from fissile.component.interface import Interface, Method
from fissile.component.pydantic_models import decode_hook
from fissile.component.reference import compiled
from fissile.component.values import UNDECODABLE
from fissile.component.variables import Variables
from fissile.component.wiring import CELL_FAILURES, CELL_SUM_NS
from fissile.errors import (
    CallError,
    Cancelled,
    IncompatibleContract,
    Overloaded,
    PermissionDenied,
    RemoteError,
    Unavailable,
)
from fissile.rpc.access import Access
from fissile.rpc.alarm import Alarm
from fissile.rpc.deadline import exceeded
from fissile.rpc.listening import accept_on, let_in
from fissile.rpc.transport import Endpoint, log
from fissile.telemetry.pulse import Pulse
from fissile.wire import events
from fissile.wire.connection import Stream
from fissile.wire.frames import PROTOCOL_VERSION, TIMEOUT_NONE, Hello, Welcome
from fissile.wire.state import ProtocolError, Role, State

HANDSHAKE_SECONDS_MAX = 5.0
CONNECTIONS_MAX = 1024
# How long a stream may be open whose caller takes nothing of it.
UNREAD_SECONDS_MAX = 60.0
# Streams beyond these keep their place while their callers take nothing.
PARKED_MAX = 1024
# A caller that goes on sending and takes no answer for so long waits for us to read first: for ever.
DEADLOCK_SECONDS = 3.0
DEADLOCK_CHECK_SECONDS = 1.0
CLOSE_SECONDS_MAX = 2.0
# How long a drain waits for callers to say that they know of it: for those that are stopped.
GOAWAY_SECONDS_MAX = 1.0
# Of the time to drain, what streams have to end by themselves.
STREAM_SHARE = 0.5
DEFAULT_CONCURRENCY = 64
DEFAULT_QUEUE = 256


class Export(msgspec.Struct, frozen=True):
    """A component that can be called from outside: its interface, and what runs its methods."""

    interface: Interface
    instance: Any


class Entry:
    """One method that is served, with what a call of it needs."""

    __slots__ = ("cells", "decode", "function", "invoke", "method", "prepare")

    def __init__(self, method: Method, function: Any, cells: list[int] | None) -> None:
        self.method, self.function = method, function
        self.decode = msgspec.msgpack.Decoder(method.request, dec_hook=decode_hook).decode
        self.invoke = _invoker(method, function)
        self.prepare = method.prepare_result
        self.cells = cells


def _invoker(method: Method, function: Any) -> Any:
    """`function(request.first, request.second, ...)`, generated: a loop over names would cost more."""
    passed = ", ".join(f"{p.name}=r.{p.name}" if p.keyword_only else f"r.{p.name}" for p in method.parameters)
    namespace = {"_function": function}
    exec(compiled(f"invoke = lambda r: _function({passed})", f"<serve {method.label}>"), namespace)
    return namespace["invoke"]


class Ending(Enum):
    """Why a call is cancelled, from this side."""

    GIVEN_UP = "given up"
    LATE = "late"
    UNREAD = "unread"
    MOVED = "moved"
    STOPPED = "stopped"


class Call(msgspec.Struct, eq=False):
    """One request, from its arrival to its end.

    begun: its task took its first step. ending: why it was cancelled. wake: of a stream that waits. Times are seconds
    on the clock `time.monotonic`.
    """

    connection: "ServerConnection"
    request: events.Request
    entry: Entry
    deadline: float
    begun: bool = False
    ending: Ending | None = None
    task: "asyncio.Task[None] | None" = None
    wake: "asyncio.Future[None] | None" = None
    parked_at: float = inf

    def __repr__(self) -> str:
        state = self.ending.value if self.ending else "begun" if self.begun else "not begun"
        return f"<call {self.request.call} of {self.entry.method.label}, {state}>"

    def notify(self) -> None:
        """There is credit, room, or a place."""
        if self.wake is not None and not self.wake.done():
            self.wake.set_result(None)


class Server:
    """Serves exports on listening sockets.

    access: who may call what. concurrency: calls run at once; queue: calls that wait for one of them
    to end, beyond which callers get Overloaded. on_undeclared_error: told of every exception that no method declares,
    where it was raised: method and type. repeat: asked before an idempotent method runs
    whether to run it twice (a test's way to prove that it is idempotent). answered: how many answers and
    items of streams were given so far. variables: those of the context that travel with each call.
    """

    def __init__(
        self,
        service: str,
        exports: Mapping[str, Export],
        access: Access,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        queue: int = DEFAULT_QUEUE,
        observe: Callable[[str, str], list[int]] | None = None,
        on_undeclared_error: Callable[[str, str], None] | None = None,
        repeat: Callable[[Method], bool] | None = None,
        variables: Variables | None = None,
    ) -> None:
        self.service = service
        self.access = access
        self.concurrency = concurrency
        self.queue = queue
        self.on_undeclared_error = on_undeclared_error
        self.repeat = repeat
        self.variables = variables or Variables()
        self.entries: list[Entry] = []
        self.indexes: dict[str, int] = {}
        for name, export in exports.items():
            for method in export.interface.methods.values():
                cells = observe(name, method.name) if observe is not None else None
                self.indexes[method.label] = len(self.entries)
                self.entries.append(Entry(method, getattr(export.instance, method.name), cells))
        self.places: set[Call] = set()
        self.waiting: OrderedDict[Call, None] = OrderedDict()
        self.parked: set[Call] = set()
        self.returning: OrderedDict[Call, None] = OrderedDict()
        self.connections: set[ServerConnection] = set()
        self.answered = 0
        self.draining = False
        self.alarm = Alarm(None, self._sweep)
        self.pulse = Pulse()
        self._listeners: list[asyncio.Server] = []
        self._idle: asyncio.Event | None = None
        # Callers that were told to go away, and may not know it yet: what they send until then is on its way.
        self._unaware: set[ServerConnection] = set()
        self._aware = asyncio.Event()

    @property
    def running(self) -> int:
        """Calls that run."""
        return len(self.places)

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a listening socket (Unix or TCP)."""
        self._listeners.append(await accept_on(sock, self.protocol))

    def protocol(self) -> "ServerConnection":
        """The protocol of one accepted connection (for listeners made elsewhere)."""
        return ServerConnection(self, asyncio.get_running_loop())

    async def drain(self, seconds_max: float) -> bool:
        """Take no new calls and finish those in flight; whether all were done within the limit (seconds).

        A call that was on its way when its caller was told is one of those: it is waited for until the caller knows.
        Streams that are still open after STREAM_SHARE of it end with Unavailable: their consumers are to open
        them again, at another replica.
        """
        self.draining = True
        for listener in self._listeners:
            listener.close()
        await let_in()
        for connection in list(self.connections):
            if connection.say_goaway("draining"):
                self._unaware.add(connection)
        begun = time.monotonic()
        self._aware.clear()
        if self._unaware:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(GOAWAY_SECONDS_MAX, seconds_max)):
                    await self._aware.wait()
        seconds_max = max(0.0, seconds_max - (time.monotonic() - begun))
        if await self._idle_within(seconds_max * STREAM_SHARE):
            return True
        for call in list(self._calls()):
            if call.entry.method.streaming:
                self.cancel(call, Ending.MOVED)
        return await self._idle_within(seconds_max * (1 - STREAM_SHARE))

    def aware(self, connection: "ServerConnection") -> None:
        """Its caller sends nothing more."""
        if connection in self._unaware:
            self._unaware.remove(connection)
            if not self._unaware:
                self._aware.set()

    async def _idle_within(self, seconds: float) -> bool:
        idle = self._idle = asyncio.Event()
        if next(self._calls(), None) is None:
            return True
        try:
            async with asyncio.timeout(seconds):
                await idle.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop at once: what is in flight is cancelled."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        calls = list(self._calls())
        for call in calls:
            self.cancel(call, Ending.STOPPED)
        for connection in list(self.connections):
            connection.transport.close()
        tasks = [call.task for call in calls if call.task is not None]
        for task in tasks:
            task.cancel()  # once more, where a method went on after the first time
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=CLOSE_SECONDS_MAX)
            if left:
                log.warning("%d calls of %s go on although they were cancelled", len(left), self.service)
        self.alarm.stop()

    def stuck_seconds(self, now: float) -> float:
        """For how long all places have been held by calls whose time is up; 0.0 while one is not (now: monotonic).

        A call within its deadline, or without one, holds its place rightly, however long it answers nothing.
        """
        if len(self.places) < self.concurrency:
            return 0.0
        return max(0.0, now - max(call.deadline for call in self.places))

    def holders(self) -> dict[str, int]:
        """How many places each method holds."""
        return Counter(call.entry.method.label for call in self.places)

    # -- where a call stands ----------------------------------------------------------------------

    def _calls(self) -> Iterator[Call]:
        yield from self.places
        yield from self.waiting
        yield from self.parked
        yield from self.returning
        for connection in self.connections:
            yield from connection.held

    def admit(self, call: Call) -> None:
        """Run a call, queue it, or refuse it."""
        if self.pulse.asleep:
            self.pulse.wake()
        if not call.connection.writable:
            call.connection.held[call] = None
        elif len(self.places) < self.concurrency:
            self.places.add(call)
            call.connection.run(call)
        elif len(self.waiting) < self.queue:
            self.waiting[call] = None
        else:
            call.connection.fail(
                call,
                Overloaded(
                    f"{self.service} runs {len(self.places)} calls and {len(self.waiting)} wait",
                    origin=call.entry.method.label,
                    remedy="try again later, or scale the service up",
                    retry_after_seconds=1.0,
                ),
            )

    def hold(self, connection: "ServerConnection") -> None:
        """A connection has no room for answers: its calls are not started, and keep nobody from the queue."""
        for call in [one for one in self.waiting if one.connection is connection]:
            del self.waiting[call]
            connection.held[call] = None
        self.alarm.set(time.monotonic() + DEADLOCK_CHECK_SECONDS)

    def unhold(self, connection: "ServerConnection") -> None:
        """It has room again."""
        while connection.held and connection.writable:
            call, _ = connection.held.popitem(last=False)
            self.admit(call)

    def ended(self, call: Call) -> None:
        """A call is over: whoever waits takes its place."""
        if call in self.places:
            self.places.remove(call)
        else:
            self.waiting.pop(call, None)
            self.parked.discard(call)
            self.returning.pop(call, None)
            call.connection.held.pop(call, None)
        if self.waiting or self.returning:
            self._fill()
        if self._idle is not None and next(self._calls(), None) is None:
            self._idle.set()

    def _fill(self) -> None:
        """Give free places to those who wait: to streams first, which have begun."""
        while len(self.places) < self.concurrency:
            if self.returning:
                call, _ = self.returning.popitem(last=False)
                self.places.add(call)
                call.notify()
            elif self.waiting:
                call, _ = self.waiting.popitem(last=False)
                self.places.add(call)
                call.connection.run(call)
            else:
                return

    def park(self, call: Call) -> bool:
        """A stream waits for its caller, and gives its place back; whether it could."""
        if len(self.parked) >= PARKED_MAX:
            return False
        self.places.discard(call)
        self.parked.add(call)
        self._fill()
        return True

    def unpark(self, call: Call) -> bool:
        """A stream goes on; whether it has a place already."""
        if call in self.places:
            return True
        self.parked.discard(call)
        if len(self.places) < self.concurrency:
            self.places.add(call)
            return True
        self.returning[call] = None
        return False

    def cancel(self, call: Call, ending: Ending) -> None:
        """End a call from this side, wherever it stands."""
        if call.ending is not None:
            return
        call.ending = ending
        call.deadline = min(call.deadline, time.monotonic())  # nobody waits for it any more: see stuck_seconds
        if call.begun:
            assert call.task is not None
            call.task.cancel()
            return
        if call.task is not None:
            call.task.cancel()
        if ending is not Ending.GIVEN_UP:
            call.connection.fail(call, call.connection.ended_early(call))
        self.ended(call)

    def _sweep(self, now: float) -> float:
        """End what is past its deadline, and callers that wait for us to read first."""
        following = inf
        for call in list(self._calls()):
            unread_at = call.parked_at + UNREAD_SECONDS_MAX
            if call.ending is not None:
                continue
            if call.deadline <= now:
                self.cancel(call, Ending.LATE)
            elif unread_at <= now:
                self.cancel(call, Ending.UNREAD)
            else:
                following = min(following, call.deadline, unread_at)
        for connection in list(self.connections):
            if not connection.writable:
                connection.check_deadlock(now)
                following = min(following, now + DEADLOCK_CHECK_SECONDS)
        return following


class ServerConnection(Endpoint):
    """One caller's connection, on the callee's side."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(Role.CALLEE, loop)
        self.server = server
        self.allowed: frozenset[int] = frozenset()
        self.held: OrderedDict[Call, None] = OrderedDict()
        self._unsent = 0
        self._moved_at = 0.0
        self._handshake: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.server.connections) >= CONNECTIONS_MAX:
            self.abandon(f"there are {CONNECTIONS_MAX} connections already")
            return
        self.server.connections.add(self)
        self._handshake = self.loop.call_later(HANDSHAKE_SECONDS_MAX, self._handshake_late)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._handshake is not None:
            self._handshake.cancel()
        for call in self.wire.close():
            if call is not None:
                self.server.cancel(call, Ending.GIVEN_UP)
        self.server.connections.discard(self)
        self.server.aware(self)

    def _handshake_late(self) -> None:
        if self.wire.state is State.HANDSHAKE:
            self.abandon(f"no hello within {HANDSHAKE_SECONDS_MAX:g} s")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent, self._moved_at = self.transport.get_write_buffer_size(), time.monotonic()
        if not self.transport.is_closing():
            self.transport.pause_reading()
        self.server.hold(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self.transport.resume_reading()
        for stream in list(self.wire.streams.values()):
            stream.ticket.notify()
        self.server.unhold(self)

    def check_deadlock(self, now: float) -> None:
        """Close the connection if its caller sends, and takes nothing, for DEADLOCK_SECONDS (now: monotonic)."""
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._moved_at = unsent, now
        elif now - self._moved_at >= DEADLOCK_SECONDS and _unread(self.transport):
            self.abandon(f"it sends, and has read none of our {unsent} bytes for {DEADLOCK_SECONDS:g} s")

    def act(self, event: events.Event) -> None:
        if type(event) is events.Request:
            method = event.method
            if event.caller << 16 | method not in self.allowed:
                self._refuse(event)
                return
            server = self.server
            deadline = inf
            if event.timeout_ms != TIMEOUT_NONE:
                deadline = time.monotonic() + event.timeout_ms / 1000
                if deadline < server.alarm.due:
                    server.alarm.set(deadline)
            call = self.wire.calls[event.call] = Call(self, event, server.entries[method], deadline)
            server.admit(call)
        elif type(event) is events.CancelRequested:
            self.server.cancel(event.ticket, Ending.GIVEN_UP)
        elif type(event) is events.CreditGranted:
            event.ticket.notify()
        elif type(event) is events.HelloReceived:
            self._greet(event.hello)
        elif type(event) is events.Ponged:
            self.server.aware(self)
        else:
            super().act(event)

    def _greet(self, hello: Hello) -> None:
        server = self.server
        if self._handshake is not None:
            self._handshake.cancel()
        reason = server.access.refusal(hello.token, hello.service, hello.callers)
        if hello.version != PROTOCOL_VERSION:
            reason = f"protocol version {hello.version} is not {PROTOCOL_VERSION}: deploy both sides with one Fissile"
        if reason:
            self.wire.refuse(reason)
            self.transport.write(self.wire.take())
            log.warning("refused a connection from %r: %s", hello.service[:80], reason)
            self.transport.close()
            return
        allowed: set[int] = set()
        methods: dict[str, int] = {}
        refused: dict[str, str] = {}
        for label, fingerprint in hello.contracts.items():
            index = server.indexes.get(label)
            if index is None:
                refused[label] = IncompatibleContract.code
                continue
            target = label.partition(".")[0]
            callers = [i for i, caller in enumerate(hello.callers) if server.access.allows(caller, target)]
            if not callers:
                refused[label] = PermissionDenied.code
            elif not server.access.understands(server.entries[index].method.fingerprint, fingerprint):
                refused[label] = IncompatibleContract.code
            else:
                methods[label] = index
                allowed.update(caller << 16 | index for caller in callers)
        self.allowed = frozenset(allowed)
        self.wire.accept(Welcome(PROTOCOL_VERSION, server.service, methods, refused, tuple(server.variables.by_name)))
        if server.draining:
            self.say_goaway("draining")

    def say_goaway(self, reason: str) -> bool:
        """Tell the caller to send no more requests here; whether there is one. Its pong says that it knows."""
        if self.wire.state is not State.OPEN:
            return False
        self.wire.goaway(reason)
        self.wire.ping(0)
        self.flush()
        return True

    def _refuse(self, request: events.Request) -> None:
        entries = self.server.entries
        if request.method >= len(entries):
            raise ProtocolError(f"it asked for method {request.method} of {len(entries)}")
        method = entries[request.method].method
        error = PermissionDenied(
            f"the caller declares no reference to {method.component}",
            origin=method.label,
            remedy=f"take {method.component} as a constructor parameter of the calling component",
        )
        self.wire.send_error(request.call, to_failure(error, method))
        self.flush()

    def fail(self, call: Call, error: BaseException) -> None:
        """Answer a call, or end its stream, with an error."""
        method = call.entry.method
        number = call.request.call
        self.server.answered += 1
        try:
            self.wire.send_error(number, to_failure(error, method))
        except Exception as unsendable:
            # Larger than a frame, say: its caller is to hear at least that there was one.
            log.warning("the error of %s cannot be sent: %s", method.label, type(unsendable).__name__)
            short = RemoteError(
                f"its error cannot be sent: {unsendable}", origin=method.label, type_name=type(error).__name__
            )
            self.wire.send_error(number, to_failure(short, method))
        self.flush()

    def run(self, call: Call) -> None:
        """Run a call as a task of its own."""
        work = self._stream(call) if call.entry.method.streaming else self._unary(call)
        call.task = self.loop.create_task(work)

    def enter(self, call: Call) -> None:
        """Set the context of a call, in its own task."""
        request = call.request
        timeout = inf if request.timeout_ms == TIMEOUT_NONE else request.timeout_ms / 1000
        call_context.set(
            CallContext(request.trace_id, request.span_id, request.sampled, request.release, call.deadline, timeout)
        )
        if request.context:
            variables = self.server.variables
            variables.apply(variables.unpack(request.context))

    async def _unary(self, call: Call) -> None:
        call.begun = True
        started = time.perf_counter_ns()
        request, entry, server = call.request, call.entry, self.server
        try:
            try:
                arguments = entry.decode(request.body)
            except UNDECODABLE as error:
                raise invalid_argument(error, entry.method) from None
            self.enter(call)
            repeat = server.repeat
            if repeat is not None and entry.method.idempotent and repeat(entry.method):
                await entry.invoke(arguments)
                arguments = entry.decode(request.body)
            result = await entry.invoke(arguments)
            if call.ending is Ending.LATE:
                raise asyncio.CancelledError  # which the method kept to itself
            if entry.prepare is not None:
                result = entry.prepare(result)
            self.wire.send_response(request.call, result)
            server.answered += 1
        except GeneratorExit:
            raise
        except BaseException as error:
            self._failed(call, error)
        finally:
            cells = entry.cells
            if cells is not None:
                elapsed = time.perf_counter_ns() - started
                cells[elapsed.bit_length()] += 1
                cells[CELL_SUM_NS] += elapsed
            server.ended(call)
        if self.wire.out:
            self.flush()

    async def _stream(self, call: Call) -> None:
        call.begun = True
        request, entry, server, wire = call.request, call.entry, self.server, self.wire
        number = request.call
        stream = wire.open_stream(number)
        items: Any = None
        try:
            try:
                arguments = entry.decode(request.body)
            except UNDECODABLE as error:
                raise invalid_argument(error, entry.method) from None
            self.enter(call)
            items = entry.invoke(arguments)
            async for item in items:
                if stream.window <= 0 or not self.writable:
                    await self._taken(call, stream)
                if not wire.send_item(number, item if entry.prepare is None else entry.prepare(item)):
                    break
                server.answered += 1
                self.flush_soon()
            if call.ending is Ending.LATE:
                raise asyncio.CancelledError
            wire.end_stream(number)
        except GeneratorExit:
            raise
        except BaseException as error:
            self._failed(call, error)
        finally:
            if items is not None:
                with suppress(Exception, asyncio.CancelledError, SystemExit, KeyboardInterrupt):
                    await items.aclose()
            server.ended(call)
        self.flush()

    async def _taken(self, call: Call, stream: Stream) -> None:
        """Wait until the caller takes more of a stream; its place is others' meanwhile."""
        server = self.server
        placed = not server.park(call)
        try:
            call.parked_at = time.monotonic()
            server.alarm.set(call.parked_at + UNREAD_SECONDS_MAX)
            while stream.window <= 0 or not self.writable:
                await self._woken(call)
            call.parked_at = inf
            placed = server.unpark(call)
            while not placed:
                await self._woken(call)
                placed = call in server.places
        finally:
            call.parked_at = inf

    async def _woken(self, call: Call) -> None:
        call.wake = self.loop.create_future()
        try:
            await call.wake
        finally:
            call.wake = None

    def ended_early(self, call: Call) -> CallError:
        """What a caller is told of a call that was cancelled from this side."""
        label, service = call.entry.method.label, self.server.service
        if call.ending is Ending.LATE:
            return exceeded(label, call.request.timeout_ms / 1000)
        if call.ending is Ending.UNREAD:
            return Cancelled(
                f"nothing was taken of the stream {label} for {UNREAD_SECONDS_MAX:g} s",
                origin=label,
                remedy="take its items as they come, or close it",
            )
        if call.ending is Ending.MOVED:
            return Unavailable(
                f"{service} is being replaced, and this stream was still open",
                origin=label,
                remedy="open it again: another replica takes it",
            )
        if call.ending is Ending.STOPPED:
            return Unavailable(f"{service} stopped before it was done", origin=label)
        return Cancelled(f"{label} was cancelled", origin=label)

    def _failed(self, call: Call, error: BaseException) -> None:
        if call.ending is Ending.LATE or (call.ending is not None and isinstance(error, asyncio.CancelledError)):
            error = self.ended_early(call)
        # Any other cancellation came from within the method: of a task that it waited for. It is an error like others.
        entry = call.entry
        if entry.cells is not None:
            entry.cells[CELL_FAILURES] += 1
        method = entry.method
        told = self.server.on_undeclared_error
        if told is not None and not isinstance(error, CallError) and type(error) not in method.raises:
            told(method.label, type(error).__name__)
        self.fail(call, error)


def _unread(transport: asyncio.Transport) -> int:
    """The bytes that came and that nobody has read; 0 where that cannot be known."""
    sock: Any = transport.get_extra_info("socket")
    if sock is None:
        return 0
    found = array.array("i", [0])
    with suppress(OSError):
        fcntl.ioctl(sock.fileno(), termios.FIONREAD, found)
    return found[0]
