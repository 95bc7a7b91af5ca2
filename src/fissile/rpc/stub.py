"""What a caller holds when its callee is in another service: the same methods, over a channel.

The path of a call: breaker → deadline → replica → request → answer, with a retry where that is safe.
The common case is one straight line; every trouble leaves it for `_again`.
"""

import asyncio
import random
import time
from asyncio import get_running_loop
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from math import inf
from typing import Any

import msgspec

from fissile.component.context import CallContext, call_context
from fissile.component.copying import undecodable
from fissile.component.failure import Failure, from_failure, invalid_argument
from fissile.component.interface import Interface, Method
from fissile.component.pydantic_models import decode_hook
from fissile.component.reference import Ref, generate, not_begun
from fissile.component.values import UNDECODABLE, UNENCODABLE
from fissile.component.variables import Variables
from fissile.component.wiring import CELL_FAILURES, CELL_SUM_NS, DEFAULT_TIMEOUT_SECONDS
from fissile.errors import (
    CALL_ERRORS,
    CallError,
    DeadlineExceeded,
    IncompatibleContract,
    Overloaded,
    PermissionDenied,
    Unavailable,
)
from fissile.rpc.breaker import BreakerState
from fissile.rpc.channel import (
    AnsweredWithError,
    Channel,
    ClientConnection,
    Expired,
    Finished,
    NotAnswered,
    StreamTicket,
)
from fissile.rpc.deadline import exceeded
from fissile.rpc.home import made_on, streamed_on
from fissile.rpc.retry import BUDGET_RATIO, BUDGET_RETRIES_MAX, may_retry
from fissile.rpc.route import Route
from fissile.wire.frames import CALLS_MAX, STREAM_WINDOW_BYTES, TIMEOUT_NONE

# Credit goes back in portions: a frame for each item would cost more than a small item does.
CREDIT_BYTES = STREAM_WINDOW_BYTES // 4

_decode_failure = msgspec.msgpack.Decoder(Failure).decode

_CALL = """
def {name}({parameters}):
    return _call(({values}))
"""


def remote(
    interface: Interface,
    route: Route[Channel] | Channel,
    *,
    caller: str,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    observe: Callable[[str, str], list[int]] | None = None,
    variables: Variables | None = None,
) -> Ref:
    """A reference, held by component `caller`, to a component in another service.

    variables: those of the context that travel with each call.
    """
    reference = Ref(interface)
    if isinstance(route, Channel):
        route = Route(route)
    for name, method in interface.methods.items():
        cells = observe(method.component, name) if observe is not None else None
        timeout = timeout_seconds if method.timeout is None else method.timeout
        remote_method = RemoteMethod(method, route, caller, timeout, cells, variables)
        call = remote_method.stream if method.streaming else remote_method.call
        vars(reference)[name] = generate(_CALL, method, {"_call": call})
    return reference


class RemoteMethod:
    """One method of a component in another service, as one caller calls it."""

    __slots__ = (
        "caller",
        "cells",
        "decode",
        "label",
        "method",
        "prepare",
        "route",
        "timeout",
        "variables",
    )

    def __init__(
        self,
        method: Method,
        route: Route[Channel],
        caller: str,
        timeout: float,
        cells: list[int] | None,
        variables: Variables | None,
    ) -> None:
        self.method = method
        self.label = method.label
        self.route = route
        self.caller = route.channel.callers[caller]  # the same in each of its channels
        self.timeout = timeout
        self.cells = cells
        self.decode = msgspec.msgpack.Decoder(method.result, dec_hook=decode_hook).decode
        self.prepare = method.prepare_arguments
        self.variables = variables or None  # none that are named are as none at all

    async def call(self, values: tuple[Any, ...]) -> Any:
        """Call and decode the answer."""
        home = self.route.channel.home
        if home.loop is not get_running_loop():
            loop = home.elsewhere()
            if loop is not None:
                return await made_on(loop, self.call(values))
        started = time.perf_counter_ns()
        try:
            now = time.monotonic()
            context = call_context.get()
            if context is None:
                context = CallContext(random.getrandbits(128) or 1, random.getrandbits(64) or 1)
            timeout = self.timeout
            deadline = now + timeout
            if context.deadline < deadline:
                deadline = context.deadline
                timeout = deadline - now
            if timeout <= 0:  # which says nothing of the callee: its breaker is not told
                raise not_begun(self.label)
            route = self.route
            channel = route.channel
            if route.others:
                channel = route.others.get(context.release, channel)
            breaker = channel.breakers[self.caller]
            if breaker.state is not BreakerState.CLOSED and not breaker.admits(now):
                raise self._open(channel)
            budget = channel.budget
            if budget.retries < BUDGET_RETRIES_MAX:
                budget.retries += BUDGET_RATIO
            connection = channel.pick()
            trouble: Exception | None = None
            body: bytes | None = None
            if connection is not None:
                look = now + channel.look_seconds
                if deadline < look:
                    look = deadline
                if look < channel.alarm.due:
                    channel.alarm.set(look)
                future: asyncio.Future[bytes] = connection.loop.create_future()
                call = self._send(connection, (future, deadline), values, context, timeout)
                try:
                    body = await future
                except asyncio.CancelledError:
                    connection.give_up(call, None)
                    raise
                except (NotAnswered, Expired, AnsweredWithError) as found:
                    trouble = found
                if trouble is None:
                    if breaker.failures:
                        breaker.succeeded()
                    if len(channel.ready) > 1:
                        channel.answered_after((time.perf_counter_ns() - started) * 1e-9)
            if body is None:
                body = await self._again(channel, values, context, deadline, trouble)
            try:
                return self.decode(body)
            except UNDECODABLE as error:
                raise undecodable(error, self.method) from None
        except BaseException:
            if self.cells is not None:
                self.cells[CELL_FAILURES] += 1
            raise
        finally:
            cells = self.cells
            if cells is not None:
                elapsed = time.perf_counter_ns() - started
                cells[elapsed.bit_length()] += 1
                cells[CELL_SUM_NS] += elapsed

    def _send(
        self, connection: ClientConnection, ticket: Any, values: tuple[Any, ...], context: CallContext, timeout: float
    ) -> int:
        """Send the request; its call id. Raises what its caller is to get, and then nothing is sent."""
        index = connection.methods.get(self.label)
        if index is None:
            raise self._refused(connection)
        if connection.load() >= CALLS_MAX:
            raise self._full(connection)
        try:
            call = connection.wire.send_request(
                ticket,
                values if self.prepare is None else self.prepare(values),
                index,
                self.caller,
                TIMEOUT_NONE if timeout == inf else min(int(timeout * 1000) + 1, TIMEOUT_NONE - 1),
                context.trace_id,
                context.span_id,
                context.sampled,
                context.release,
                self.method.streaming,
                b"" if self.variables is None else self.variables.pack(self.label, connection.variables),
            )
        except UNENCODABLE as error:
            raise invalid_argument(error, self.method) from None
        if len(connection.channel.ready) == 1:
            connection.flush()
        else:
            # Among several replicas each has few calls: what else goes to this one in this tick is to share the write.
            connection.flush_soon()
        return call

    async def _again(
        self,
        channel: Channel,
        values: tuple[Any, ...],
        context: CallContext,
        deadline: float,
        trouble: Exception | None,
    ) -> bytes:
        """The way of a call that did not go straight: judge the trouble, and try again where that is safe."""
        attempt = 0 if trouble is None else 1
        while True:
            if trouble is not None:
                self._judge(channel, trouble, attempt, deadline)
            attempt += 1
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                trouble = Expired()
                continue
            try:
                connection = await channel.connected(remaining)
                now = time.monotonic()
                remaining = deadline - now
                channel.alarm.set(min(deadline, now + channel.look_seconds))
                future: asyncio.Future[bytes] = connection.loop.create_future()
                call = self._send(connection, (future, deadline), values, context, max(remaining, 0.001))
                try:
                    body = await future
                except asyncio.CancelledError:
                    connection.give_up(call, None)
                    raise
                channel.breakers[self.caller].succeeded()
                return body
            except (NotAnswered, Expired, AnsweredWithError) as found:
                trouble = found

    def _judge(self, channel: Channel, trouble: Exception, attempt: int, deadline: float) -> None:
        """Return if the call may be tried again; else raise what its caller is to get."""
        now = time.monotonic()
        breaker = channel.breakers[self.caller]
        if isinstance(trouble, AnsweredWithError):
            error = self._answered(trouble.body)
            if isinstance(error, DeadlineExceeded):
                breaker.failed(now)
            else:
                breaker.succeeded()
            raise error
        if isinstance(trouble, Expired):
            breaker.failed(now)
            raise exceeded(self.label, self.timeout) from None
        assert isinstance(trouble, NotAnswered)
        if not trouble.judged:
            trouble.judged = True
            breaker.failed(now)
        if trouble.waited_seconds:
            why_not = f"no replica was there for {trouble.waited_seconds:.3g} s"
        else:
            why_not = may_retry(
                sent=trouble.sent,
                idempotent=self.method.idempotent,
                attempt=attempt,
                remaining_seconds=deadline - now,
                budget=channel.budget,
            )
        if why_not:
            raise Unavailable(
                f"{self.label} in service {channel.service!r} cannot be reached: {trouble}; not tried again: {why_not}",
                origin=self.label,
                remedy=f"see whether {channel.service!r} runs, and its log",
            ) from None

    def _answered(self, body: bytes) -> Exception:
        try:
            failure = _decode_failure(body)
            return from_failure(failure, self.method)
        except UNDECODABLE as error:
            return undecodable(error, self.method)

    def _refused(self, connection: ClientConnection) -> CallError:
        code = connection.refused.get(self.label, IncompatibleContract.code)
        if code == PermissionDenied.code:
            return PermissionDenied(
                f"{connection.channel.service!r} does not let the caller call {self.label}",
                origin=self.label,
                remedy=f"take {self.method.component} as a constructor parameter of the calling component",
            )
        if code == IncompatibleContract.code:
            return IncompatibleContract(
                f"{self.label} has other types in the running {connection.channel.service!r} than here",
                origin=self.label,
                remedy="deploy caller and callee from the same code",
            )
        return CALL_ERRORS.get(code, Unavailable)(f"{self.label} is refused", origin=self.label)

    def _full(self, connection: ClientConnection) -> Overloaded:
        return Overloaded(
            f"{self.label}: {CALLS_MAX} calls are in flight to one replica of {connection.channel.service!r} from here",
            origin=self.label,
            remedy="make fewer at once, or scale the service up",
        )

    def _open(self, channel: Channel) -> Unavailable:
        failures = channel.breakers[self.caller].failures
        return Unavailable(
            f"{self.label}: service {channel.service!r} did not answer "
            f"{failures} times in a row, so it is left alone for a moment (its breaker is open)",
            origin=self.label,
            remedy=f"see whether {channel.service!r} runs, and its log",
        )

    def stream(self, values: tuple[Any, ...]) -> AsyncIterator[Any]:
        """Call and yield the items as they come."""
        loop = self.route.channel.home.elsewhere()
        return self._items(values) if loop is None else streamed_on(loop, self._items(values))

    async def _items(self, values: tuple[Any, ...]) -> AsyncGenerator[Any]:
        """The items; credit goes back as they are consumed.

        Past its deadline no item is given out, not even one that came in time: so it is within a process.
        """
        context = call_context.get() or CallContext(random.getrandbits(128) or 1, random.getrandbits(64) or 1)
        now = time.monotonic()
        deadline = min(now + self.timeout, context.deadline)
        if deadline <= now:
            raise not_begun(self.label)
        channel = self.route.others.get(context.release, self.route.channel)
        breaker = channel.breakers[self.caller]
        if breaker.state is not BreakerState.CLOSED and not breaker.admits(now):
            raise self._open(channel)
        connection, ticket = await self._open_stream(channel, values, context, deadline)
        loop = connection.loop
        items = ticket.items
        try:
            while True:
                while items:
                    if ticket.outcome is not None and time.monotonic() >= deadline:
                        break
                    body, size = items.popleft()
                    try:
                        value = self.decode(body)
                    except UNDECODABLE as error:
                        raise undecodable(error, self.method) from None
                    ticket.owed += size
                    if ticket.owed >= CREDIT_BYTES:
                        connection.wire.grant(ticket.call, ticket.owed)
                        ticket.owed = 0
                        connection.flush_soon()
                    yield value
                if ticket.outcome is not None:
                    break
                ticket.wake = loop.create_future()
                await ticket.wake
            outcome = ticket.outcome
            if isinstance(outcome, NotAnswered):
                # Items were seen already: a stream is never begun again behind its consumer's back.
                breaker.failed(time.monotonic())
                raise Unavailable(f"{self.label}: {outcome}", origin=self.label)
            if items or isinstance(outcome, Finished):
                breaker.succeeded()
                if time.monotonic() >= deadline:
                    raise exceeded(self.label, self.timeout)
                return
            self._judge(channel, outcome, 1, deadline)
        finally:
            if ticket.outcome is None:
                connection.give_up(ticket.call, None)

    async def _open_stream(
        self, channel: Channel, values: tuple[Any, ...], context: CallContext, deadline: float
    ) -> tuple[ClientConnection, StreamTicket]:
        attempt = 0
        while True:
            attempt += 1
            try:
                remaining = deadline - time.monotonic()
                connection = channel.pick() or await channel.connected(remaining)
                break
            except (NotAnswered, Expired) as trouble:
                self._judge(channel, trouble, attempt, deadline)
        ticket = StreamTicket(deadline)
        now = time.monotonic()
        ticket.call = self._send(connection, ticket, values, context, max(deadline - now, 0.001))
        channel.alarm.set(min(deadline, now + channel.look_seconds))
        return connection, ticket
