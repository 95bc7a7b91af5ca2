"""What a caller holds when its callee is a program in another language: the same methods, over HTTP/JSON.

The wire's promises as far as HTTP can carry them: deadline as remaining time, trace, declared errors as
themselves, retry only where it is safe, the less busy of two replicas. aiohttp speaks the protocol; it is
imported only where there is such a callee.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec

from fissile.component.context import CallContext, call_context
from fissile.component.failure import invalid_argument
from fissile.component.interface import Interface, Method
from fissile.component.pydantic_models import decode_hook
from fissile.component.reference import Ref, generate, not_begun
from fissile.component.values import UNDECODABLE, UNENCODABLE
from fissile.component.variables import Variables
from fissile.component.wiring import CELL_FAILURES, CELL_SUM_NS, DEFAULT_TIMEOUT_SECONDS
from fissile.errors import ConfigError, RemoteError, Unavailable
from fissile.rpc.absence import absent
from fissile.rpc.balancer import choose
from fissile.rpc.breaker import Breaker, BreakerState
from fissile.rpc.deadline import exceeded
from fissile.rpc.home import Home, made_on, streamed_on
from fissile.rpc.http.json import to_json
from fissile.rpc.http.problems import error_of
from fissile.rpc.retry import BUDGET_RATIO, BUDGET_RETRIES_MAX, RetryBudget, may_retry
from fissile.rpc.route import Route

if TYPE_CHECKING:
    from types import ModuleType

    import aiohttp

CONNECT_SECONDS_MAX = 1.0
RECONNECT_SECONDS = 0.02
# Shorter than servers have it (Node: 5 s), so that it is not the server who closes a connection in use.
KEEP_ALIVE_SECONDS = 4.0
ITEM_BYTES_MAX = 16 * 1024 * 1024

_CALL = """
def {name}({parameters}):
    return _call(({values}))
"""


class Replica:
    """One of the callee's addresses, with how many calls are in flight to it from here."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.in_flight = 0

    def load(self) -> int:
        """Calls in flight."""
        return self.in_flight


class HttpChannel:
    """The way to a service in another language.

    addresses: "http://host:port" of each replica. token: what it asks its callers for.
    """

    def __init__(self, service: str, addresses: Iterable[str], *, token: str) -> None:
        self.service = service
        self.away = ""
        self.home = Home()
        self.budget = RetryBudget()
        self.breakers: dict[str, Breaker] = {}
        self.closed = False
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._replicas = [Replica(address) for address in addresses]
        self._session: aiohttp.ClientSession | None = None

    def route(self, addresses: Iterable[str], away: str = "") -> None:
        """The replicas are at these addresses from now on. away: why there are none on purpose, or ""."""
        self.away = away
        known = {replica.address: replica for replica in self._replicas}
        self._replicas = [known.get(address) or Replica(address) for address in addresses]

    def in_flight(self) -> int:
        """Calls that wait for an answer."""
        return sum(replica.in_flight for replica in self._replicas)

    def pick(self) -> Replica:
        """The replica for a call. Raises Unavailable where there is none."""
        if self.away:
            raise absent(self.service, self.away)
        if not self._replicas:
            raise Unavailable(f"{self.service} has no replica", remedy=f"see whether {self.service!r} runs")
        return choose(self._replicas, random.randrange)

    @property
    def session(self) -> "aiohttp.ClientSession":
        """Connections, kept."""
        session = self._session
        if session is None:
            aiohttp = library()
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
            # A callee has nothing to remember here between calls, nor to keep on our side.
            session = self._session = aiohttp.ClientSession(
                connector=connector, read_bufsize=ITEM_BYTES_MAX, cookie_jar=aiohttp.DummyCookieJar()
            )
        return session

    async def close(self) -> None:
        """Close all connections."""
        self.closed = True
        if self._session is not None:
            await self._session.close()


def library() -> "ModuleType":
    """aiohttp. Raises ConfigError where it is not installed."""
    try:
        import aiohttp
    except ImportError:
        raise ConfigError(
            "calling a service in another language needs aiohttp", remedy="pip install 'fissile[polyglot]'"
        ) from None
    return aiohttp


def http_reference(
    interface: Interface,
    route: Route[HttpChannel],
    *,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    observe: Callable[[str, str], list[int]] | None = None,
    variables: Variables | None = None,
) -> Ref:
    """A reference to a component that a program in another language implements.

    variables: those of the context that travel with each call, as W3C Baggage.
    """
    reference = Ref(interface)
    for name, method in interface.methods.items():
        cells = observe(method.component, name) if observe is not None else None
        timeout = timeout_seconds if method.timeout is None else method.timeout
        call = _caller(method, route, timeout, cells, variables or None)
        vars(reference)[name] = generate(_CALL, method, {"_call": call})
    return reference


def _caller(
    method: Method,
    route: "Route[HttpChannel]",
    timeout: float,
    cells: list[int] | None,
    variables: Variables | None,
) -> Callable[..., Any]:
    """A method as it is called in the release that the request is pinned to."""
    known: dict[HttpChannel, HttpMethod] = {}

    def call(values: tuple[Any, ...]) -> Any:
        context = call_context.get()
        channel = route.channel if context is None else route.others.get(context.release, route.channel)
        one = known.get(channel)
        if one is None:
            for closed in [other for other in known if other.closed]:
                del known[closed]
            one = known[channel] = HttpMethod(method, channel, timeout, cells, variables)
        return one.stream(values) if method.streaming else one.call(values)

    return call


class NotAnswered(Exception):
    """Inside this room: a request got no answer. sent: it may have been carried out."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class HttpMethod:
    """One method of such a component, as one caller calls it."""

    def __init__(
        self,
        method: Method,
        channel: HttpChannel,
        timeout: float,
        cells: list[int] | None,
        variables: Variables | None,
    ) -> None:
        self.method = method
        self.variables = variables
        self.channel = channel
        self.breaker = channel.breakers.setdefault(method.component, Breaker())
        self.timeout = timeout
        self.cells = cells
        self.path = f"/rpc/{method.component}/{method.name}"
        # Not strict: a string of digits is an integer.
        self.decode = msgspec.json.Decoder(method.result, strict=False, dec_hook=decode_hook).decode
        self.decode_line = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

    async def call(self, values: tuple[Any, ...]) -> Any:
        """Call and decode the answer."""
        loop = self.channel.home.elsewhere()
        if loop is not None:
            return await made_on(loop, self.call(values))
        started = time.perf_counter_ns()
        cells = self.cells
        try:
            return await self._call(values)
        except BaseException:
            if cells is not None:
                cells[CELL_FAILURES] += 1
            raise
        finally:
            if cells is not None:
                elapsed = time.perf_counter_ns() - started
                cells[elapsed.bit_length()] += 1
                cells[CELL_SUM_NS] += elapsed

    async def _call(self, values: tuple[Any, ...]) -> Any:
        context, deadline = self._begin()
        body = self._body(values)
        patience = time.monotonic() + CONNECT_SECONDS_MAX
        attempt = 0
        while True:
            attempt += 1
            try:
                async with self._post(body, context, deadline) as (answer, _):
                    status, data = answer.status, await self._read(answer)
                break
            except NotAnswered as trouble:
                await self._judge(trouble, attempt, deadline, patience)
        # Out of the request, which takes a TimeoutError for its own.
        if status != 200:
            raise error_of(data, self.method, status)
        return self._value(data)

    def _begin(self) -> tuple[CallContext, float]:
        context = call_context.get() or CallContext(random.getrandbits(128) or 1, random.getrandbits(64) or 1)
        now = time.monotonic()
        deadline = min(now + self.timeout, context.deadline)
        if deadline <= now:  # which says nothing of the callee: its breaker is not told
            raise not_begun(self.method.label)
        if self.breaker.state is not BreakerState.CLOSED and not self.breaker.admits(now):
            raise Unavailable(
                f"{self.method.label}: service {self.channel.service!r} did not answer "
                f"{self.breaker.failures} times in a row, so it is left alone for a moment (its breaker is open)",
                origin=self.method.label,
                remedy=f"see whether {self.channel.service!r} runs, and its log",
            )
        budget = self.channel.budget
        if budget.retries < BUDGET_RETRIES_MAX:
            budget.retries += BUDGET_RATIO
        return context, deadline

    def _body(self, values: tuple[Any, ...]) -> bytes:
        method = self.method
        names = (parameter.name for parameter in method.parameters)
        try:
            told = values if method.prepare_arguments is None else method.prepare_arguments(values)
            return to_json(dict(zip(names, told, strict=True)))
        except UNENCODABLE as error:
            raise invalid_argument(error, method) from None

    @asynccontextmanager
    async def _post(
        self, body: bytes, context: CallContext, deadline: float
    ) -> "AsyncGenerator[tuple[aiohttp.ClientResponse, Replica]]":
        """The answer to the request. Raises NotAnswered, or DeadlineExceeded."""
        aiohttp = library()
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            self.breaker.failed(time.monotonic())
            raise exceeded(self.method.label, self.timeout)
        replica = self.channel.pick()
        headers = {**self.channel.headers, "traceparent": context.traceparent()}
        baggage = "" if self.variables is None else self.variables.to_baggage()
        if baggage:
            headers["baggage"] = baggage
        if context.release:
            headers["Fissile-Release"] = context.release
        if remaining != inf:
            headers["Fissile-Timeout-Ms"] = str(int(remaining * 1000) + 1)
        limit = aiohttp.ClientTimeout(total=None if remaining == inf else remaining, sock_connect=CONNECT_SECONDS_MAX)
        replica.in_flight += 1
        try:
            async with self.channel.session.post(
                # Whoever is sent elsewhere asks twice.
                replica.address + self.path,
                data=body,
                headers=headers,
                timeout=limit,
                allow_redirects=False,
            ) as answer:
                yield answer, replica
                self.breaker.succeeded()
        except aiohttp.ClientConnectorError as error:
            raise NotAnswered(f"cannot connect: {error}", sent=False) from None
        except TimeoutError as error:
            # By its kind, not by the clock: a timer that rings early must not have a request sent twice.
            if isinstance(error, aiohttp.ServerTimeoutError) and deadline - time.monotonic() > 0.001:
                raise NotAnswered("no connection in time", sent=False) from None
            self.breaker.failed(time.monotonic())
            raise exceeded(self.method.label, self.timeout) from None
        except aiohttp.ClientError as error:
            raise NotAnswered(f"the connection broke: {error or type(error).__name__}", sent=True) from None
        finally:
            replica.in_flight -= 1

    async def _judge(self, trouble: NotAnswered, attempt: int, deadline: float, patience: float) -> None:
        """Return if the call may be tried again; else raise what its caller is to get."""
        now = time.monotonic()
        if not trouble.sent and now < min(patience, deadline):
            # Nothing was sent, and a replacement may be about to serve.
            await asyncio.sleep(RECONNECT_SECONDS)
            return
        self.breaker.failed(now)
        why_not = may_retry(
            sent=trouble.sent,
            idempotent=self.method.idempotent,
            attempt=attempt,
            remaining_seconds=deadline - now,
            budget=self.channel.budget,
        )
        if why_not:
            raise Unavailable(
                f"{self.method.label} in service {self.channel.service!r} cannot be reached: {trouble}; "
                f"not tried again: {why_not}",
                origin=self.method.label,
                remedy=f"see whether {self.channel.service!r} runs, and its log",
            ) from None
        await asyncio.sleep(min(RECONNECT_SECONDS * attempt, max(0.0, deadline - now)))

    async def _read(self, answer: "aiohttp.ClientResponse") -> bytes:
        data = await answer.content.read(ITEM_BYTES_MAX + 1)
        while not answer.content.at_eof() and len(data) <= ITEM_BYTES_MAX:
            data += await answer.content.read(ITEM_BYTES_MAX + 1 - len(data))
        if len(data) > ITEM_BYTES_MAX:
            raise RemoteError(
                f"its answer has more than {ITEM_BYTES_MAX} bytes", origin=self.method.label, type_name="ValueError"
            )
        return data

    def _value(self, data: bytes) -> Any:
        try:
            return self.decode(data)
        except UNDECODABLE as error:
            raise self._misfit(error) from None

    async def _read_line(self, answer: "aiohttp.ClientResponse") -> bytes:
        try:
            return await answer.content.readline()
        except ValueError as error:  # longer than the buffer
            raise self._misfit(error) from None

    def _line(self, line: bytes) -> dict[str, msgspec.Raw]:
        """A line of a stream, which has an item or an error."""
        try:
            found = self.decode_line(line)
        except UNDECODABLE as error:
            raise self._misfit(error) from None
        if "error" not in found and "item" not in found:
            raise self._misfit(ValueError('a line of a stream is {"item": ...} or {"error": ...}'))
        return found

    def _misfit(self, error: Exception) -> RemoteError:
        return RemoteError(
            f"its answer does not fit its declared type: {error}",
            origin=self.method.label,
            type_name=type(error).__name__,
            remedy="answer what the method's schema in /openapi.json says",
        )

    def stream(self, values: tuple[Any, ...]) -> AsyncIterator[Any]:
        """Call and yield the items as they come."""
        loop = self.channel.home.elsewhere()
        return self._items(values) if loop is None else streamed_on(loop, self._items(values))

    async def _items(self, values: tuple[Any, ...]) -> AsyncGenerator[Any]:
        """The items; unread ones wait in TCP's own buffers."""
        context, deadline = self._begin()
        body = self._body(values)
        patience = time.monotonic() + CONNECT_SECONDS_MAX
        attempt, begun = 0, False
        error: Exception | None = None
        while True:
            attempt += 1
            try:
                async with self._post(body, context, deadline) as (answer, _):
                    if answer.status != 200:
                        error = error_of(await self._read(answer), self.method, answer.status)
                    while error is None and (line := await self._read_line(answer)):
                        begun = True
                        found = self._line(line)
                        if "error" in found:
                            error = error_of(bytes(found["error"]), self.method, None)
                        else:
                            yield self._value(bytes(found["item"]))
                break
            except NotAnswered as trouble:
                if begun:
                    # Items were seen already: a stream is never begun again behind its consumer's back.
                    self.breaker.failed(time.monotonic())
                    raise Unavailable(f"{self.method.label}: {trouble}", origin=self.method.label) from None
                await self._judge(trouble, attempt, deadline, patience)
        # Out of the request, which takes a TimeoutError for its own.
        if error is not None:
            raise error
