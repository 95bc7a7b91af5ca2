"""Serves the components of a service to callers in other services.

Every request is checked (may this caller call this method?), admitted (or refused at once when the
bounded queue is full), decoded, run under its deadline and context, and answered by value. One
connection's trouble never touches another's.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from typing import Any

import msgspec

from fissile.component.context import CallContext, call_context
from fissile.component.failure import Failure, invalid_argument, to_failure
from fissile.component.interface import Interface, Method
from fissile.component.wiring import CELL_FAILURES, CELL_SUM_NS, compiled
from fissile.errors import (
    CallError,
    Cancelled,
    IncompatibleContract,
    Overloaded,
    PermissionDenied,
    Unavailable,
)
from fissile.rpc.access import Access
from fissile.rpc.deadline import exceeded
from fissile.rpc.listening import accept_on
from fissile.rpc.transport import Endpoint, log
from fissile.wire import events
from fissile.wire.frames import PROTOCOL_VERSION, TIMEOUT_NONE, Hello, Welcome
from fissile.wire.state import Role, State

HANDSHAKE_SECONDS_MAX = 5.0
SWEEP_SECONDS = 0.02
CONNECTIONS_MAX = 1024
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

    __slots__ = ("cells", "decode", "function", "invoke", "method")

    def __init__(self, method: Method, function: Any, cells: list[int] | None) -> None:
        self.method = method
        self.function = function
        self.decode = msgspec.msgpack.Decoder(method.request).decode
        self.invoke = _invoker(method, function)
        self.cells = cells


def _invoker(method: Method, function: Any) -> Any:
    """`function(request.first, request.second, ...)`, generated: a loop over names would cost more."""
    passed = ", ".join(f"{p.name}=r.{p.name}" if p.keyword_only else f"r.{p.name}" for p in method.parameters)
    namespace = {"_function": function}
    exec(compiled(f"invoke = lambda r: _function({passed})", f"<serve {method.label}>"), namespace)
    return namespace["invoke"]


class Server:
    """Serves exports on listening sockets.

    access: who may call what. concurrency: calls run at once; queue: calls that wait for one of them
    to end, beyond which callers get Overloaded. witness: told of every exception that no method declares,
    where it was raised: method and type. repeat: asked before an idempotent method runs
    whether to run it twice (a test's way to prove that it is idempotent).
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
        witness: Callable[[str, str], None] | None = None,
        repeat: Callable[[Method], bool] | None = None,
    ) -> None:
        self.service = service
        self.access = access
        self.concurrency = concurrency
        self.queue = queue
        self.witness = witness
        self.repeat = repeat
        self.entries: list[Entry] = []
        self.indexes: dict[str, int] = {}
        for name, export in exports.items():
            for method in export.interface.methods.values():
                cells = observe(name, method.name) if observe is not None else None
                self.indexes[method.label] = len(self.entries)
                self.entries.append(Entry(method, getattr(export.instance, method.name), cells))
        self.running = 0
        self.waiting: deque[tuple[ServerConnection, events.Request, Entry]] = deque()
        self.connections: set[ServerConnection] = set()
        self.draining = False
        self._listeners: list[asyncio.Server] = []
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a listening socket (Unix or TCP)."""
        self._listeners.append(await accept_on(sock, self.protocol))

    def protocol(self) -> "ServerConnection":
        """The protocol of one accepted connection (for listeners made elsewhere)."""
        return ServerConnection(self, asyncio.get_running_loop())

    async def drain(self, seconds_max: float) -> bool:
        """Take no new calls and finish those in flight; whether all were done within the limit (seconds).

        Streams that are still open after STREAM_SHARE of it end with Unavailable: their consumers are to open
        them again, at another replica.
        """
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.say_goaway("draining")
        if await self._idle_within(seconds_max * STREAM_SHARE):
            return True
        for connection in list(self.connections):
            connection.move_streams()
        return await self._idle_within(seconds_max * (1 - STREAM_SHARE))

    async def _idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop at once: what is in flight is cancelled."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        tasks = [task for connection in self.connections for task in connection.tasks.values()]
        for connection in list(self.connections):
            connection.transport.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    def admit(self, connection: "ServerConnection", request: events.Request, entry: Entry) -> None:
        """Run a request, queue it, or refuse it."""
        if self.running < self.concurrency:
            self.running += 1
            self._idle.clear()
            connection.run(request, entry)
        elif len(self.waiting) < self.queue:
            self.waiting.append((connection, request, entry))
        else:
            connection.fail(
                request,
                entry.method,
                Overloaded(
                    f"{self.service} runs {self.running} calls and {len(self.waiting)} wait",
                    origin=entry.method.label,
                    remedy="try again later, or scale the service up",
                    retry_after_seconds=1.0,
                ),
            )

    def finished(self) -> None:
        """A call ended: the next that waits may run."""
        while self.waiting:
            connection, request, entry = self.waiting.popleft()
            if request.call in connection.wire.calls:
                connection.run(request, entry)
                return
        self.running -= 1
        if self.running == 0:
            self._idle.set()


class ServerConnection(Endpoint):
    """One caller's connection, on the callee's side."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(Role.CALLEE, loop)
        self.server = server
        self.allowed: frozenset[int] = frozenset()
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.deadlines: dict[int, float] = {}
        self.grants: dict[int, asyncio.Event] = {}
        self._sweeping = False
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
        self.server.connections.discard(self)
        if self._handshake is not None:
            self._handshake.cancel()
        self.wire.close()
        for task in list(self.tasks.values()):
            task.cancel()

    def _handshake_late(self) -> None:
        if self.wire.state is State.HANDSHAKE:
            self.abandon(f"no hello within {HANDSHAKE_SECONDS_MAX:g} s")

    def act(self, event: events.Event) -> None:
        if type(event) is events.Request:
            method = event.method
            if event.caller << 16 | method in self.allowed:
                self.server.admit(self, event, self.server.entries[method])
            else:
                self._refuse(event)
        elif type(event) is events.CancelRequested:
            task = self.tasks.get(event.call)
            self.wire.drop(event.call)
            if task is not None:
                task.cancel()
        elif type(event) is events.CreditGranted:
            grant = self.grants.get(event.call)
            if grant is not None:
                grant.set()
        elif type(event) is events.HelloReceived:
            self._greet(event.hello)

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
        self.wire.accept(Welcome(PROTOCOL_VERSION, server.service, methods, refused))
        if server.draining:
            self.say_goaway("draining")

    def say_goaway(self, reason: str) -> None:
        """Tell the caller to send no more requests here."""
        if self.wire.state is State.OPEN:
            self.wire.goaway(reason)
            self.flush()

    def move_streams(self) -> None:
        """End the streams that are open, so that their consumers go elsewhere."""
        for call in list(self.grants):
            self.tasks[call].cancel()

    def _refuse(self, request: events.Request) -> None:
        entries = self.server.entries
        if request.method >= len(entries):
            self.abandon(f"it asked for method {request.method} of {len(entries)}")
            return
        method = entries[request.method].method
        self.fail(
            request,
            method,
            PermissionDenied(
                f"the caller declares no reference to {method.component}",
                origin=method.label,
                remedy=f"take {method.component} as a constructor parameter of the calling component",
            ),
        )

    def fail(self, request: events.Request, method: Method, error: CallError) -> None:
        """Answer a request with an error without running it."""
        self.wire.send_error(request.call, to_failure(error, method))
        self.flush()

    def run(self, request: events.Request, entry: Entry) -> None:
        """Run a request as a task of its own."""
        work = self._stream(request, entry) if entry.method.streaming else self._unary(request, entry)
        self.tasks[request.call] = self.loop.create_task(work)

    def _enter(self, request: events.Request) -> CallContext:
        milliseconds = request.timeout_ms
        deadline = timeout = inf
        if milliseconds != TIMEOUT_NONE:
            timeout = milliseconds / 1000
            deadline = time.monotonic() + timeout
            self.deadlines[request.call] = deadline
            if not self._sweeping:
                self._sweeping = True
                self.loop.call_later(SWEEP_SECONDS, self._sweep)
        context = CallContext(request.trace_id, request.span_id, request.sampled, request.release, deadline, timeout)
        call_context.set(context)
        return context

    async def _unary(self, request: events.Request, entry: Entry) -> None:
        call = request.call
        started = time.perf_counter_ns()
        try:
            try:
                arguments = entry.decode(request.body)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise invalid_argument(error, entry.method) from None
            self._enter(request)
            repeat = self.server.repeat
            if repeat is not None and entry.method.idempotent and repeat(entry.method):
                await entry.invoke(arguments)
                arguments = entry.decode(request.body)
            result = await entry.invoke(arguments)
            self.wire.send_response(call, result)
        except asyncio.CancelledError:
            self._cancelled(request, entry)
        except Exception as error:
            self._failed(request, entry, error)
        finally:
            del self.tasks[call]
            cells = entry.cells
            if cells is not None:
                elapsed = time.perf_counter_ns() - started
                cells[elapsed.bit_length()] += 1
                cells[CELL_SUM_NS] += elapsed
            self.server.finished()
        if self.wire.out:
            self.flush()

    async def _stream(self, request: events.Request, entry: Entry) -> None:
        call = request.call
        grant = asyncio.Event()
        stream = self.wire.open_stream(call)
        items: Any = None
        try:
            try:
                arguments = entry.decode(request.body)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise invalid_argument(error, entry.method) from None
            self._enter(request)
            self.grants[call] = grant
            items = entry.invoke(arguments)
            async for item in items:
                while stream.window <= 0:
                    grant.clear()
                    await grant.wait()
                if not self.wire.send_item(call, item):
                    break
                self.flush()
            self.wire.end_stream(call)
        except asyncio.CancelledError:
            self._cancelled(request, entry)
        except Exception as error:
            self._failed(request, entry, error)
        finally:
            del self.tasks[call]
            self.grants.pop(call, None)
            if items is not None:
                with suppress(Exception):
                    await items.aclose()
            self.server.finished()
        self.flush()

    def _cancelled(self, request: events.Request, entry: Entry) -> None:
        deadline = self.deadlines.get(request.call)
        label = entry.method.label
        if deadline is not None and deadline <= time.monotonic():
            error: CallError = exceeded(label, request.timeout_ms / 1000)
        elif self.server.draining and entry.method.streaming:
            error = Unavailable(
                f"{self.server.service} is being replaced, and this stream was still open",
                origin=label,
                remedy="open it again: another replica takes it",
            )
        elif self.server.draining:
            error = Unavailable(f"{self.server.service} stopped before it was done", origin=label)
        else:
            error = Cancelled(f"{label} was cancelled", origin=label)
        self._failed(request, entry, error)

    def _failed(self, request: events.Request, entry: Entry, error: Exception) -> None:
        if entry.cells is not None:
            entry.cells[CELL_FAILURES] += 1
        method = entry.method
        witness = self.server.witness
        if witness is not None and not isinstance(error, CallError) and type(error) not in method.raises:
            witness(method.label, type(error).__name__)
        try:
            self.wire.send_error(request.call, to_failure(error, method))
        except Exception as unsendable:
            log.exception("the error of %s cannot be encoded", method.label)
            self.wire.send_error(
                request.call,
                Failure("remote_error", str(unsendable)[:1000], method.label, type_name=type(error).__name__),
            )

    def _sweep(self) -> None:
        """Cancel what is past its deadline; forget what has ended."""
        now = time.monotonic()
        tasks = self.tasks
        keep: dict[int, float] = {}
        for call, deadline in self.deadlines.items():
            task = tasks.get(call)
            if task is None:
                continue
            keep[call] = deadline
            if deadline <= now:
                task.cancel()
        self.deadlines = keep
        self._sweeping = bool(keep)
        if keep:
            self.loop.call_later(SWEEP_SECONDS, self._sweep)
