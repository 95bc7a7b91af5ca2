"""Components over HTTP/JSON: exact values, problem documents, streams."""

import asyncio
import contextlib
import datetime
import decimal
import enum
import json
import math
import struct
import uuid
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Annotated, Any, NewType

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from fissile.component.context import CallContext, current
from fissile.component.declaration import component, method
from fissile.component.graph import Graph
from fissile.component.wiring import local_reference
from fissile.errors import Overloaded, PermissionDenied, Unavailable
from fissile.rpc.deadline import environment
from fissile.rpc.http.gateway import Gateway
from fissile.rpc.http.json import EXACT_INTEGER_MAX, to_json
from fissile.rpc.http.openapi import DOOR_STATUS, HTTP_STATUS, openapi
from fissile.rpc.server import Export

UserId = NewType("UserId", int)


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")
HIDDEN: ContextVar[str | None] = ContextVar("hidden", default=None)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct, frozen=True):
    amount: decimal.Decimal
    note: str | None = None


class Circle(msgspec.Struct, frozen=True, tag=True):
    radius: int


class Square(msgspec.Struct, frozen=True, tag=True):
    side: int


class All(msgspec.Struct, frozen=True):
    number: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    user: UserId
    price: decimal.Decimal
    at: datetime.datetime
    day: datetime.date
    raw: bytes
    key: uuid.UUID
    colour: Colour
    shape: Circle | Square
    inner: tuple[Inner, ...]
    counts: dict[str, int]
    by_number: dict[int, str]
    maybe: int | None = None


class TooDeep(Exception):
    """It holds what is nested."""


def _nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


class NoMoney(Exception):
    """Declared."""

    missing: decimal.Decimal

    def __init__(self, missing: decimal.Decimal) -> None:
        super().__init__(f"{missing} is missing")
        self.missing = missing


@component
class Bank:
    """Keeps money."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.released = asyncio.Event()

    @method(raises=(NoMoney,), idempotent=True)
    async def pay(self, how: str, amount: int = 1) -> int:
        """Pays.

        With details.
        """
        match how:
            case "declared":
                raise NoMoney(decimal.Decimal("1.50"))
            case "full":
                raise Overloaded("full", retry_after_seconds=7)
            case "gone":
                raise Unavailable("gone", remedy="wait")
            case "denied":
                raise PermissionDenied("no")
            case "bug":
                raise KeyError("oops")
            case "caused":
                raise NoMoney(decimal.Decimal(1)) from KeyError("oops")
            case "surrogate":
                raise ValueError("caf\udce9")
            case "nan":
                raise Overloaded("full", retry_after_seconds=math.nan)
            case "beyond":
                struct.pack("q", amount)
            case "cancelled":
                raise asyncio.CancelledError
            case "exit":
                raise SystemExit(3)
            case "big":
                return 2**70
            case "list":
                return [how]  # type: ignore[return-value]
            case "object":
                return object()  # type: ignore[return-value]
        return amount

    async def text(self) -> str:
        return "caf\udce9"

    async def texts(self) -> AsyncIterator[str]:
        yield "one"
        yield "caf\udce9"

    async def floats(self, given: list[float | None]) -> dict[str, list[float | None]]:
        return {"them": given}

    async def limits(self, most: float = math.inf, least: int = -(2**60)) -> None: ...

    async def nested(self, given: Any) -> Any:
        return given

    @method(raises=(TooDeep,))
    async def deep(self, depth: int) -> None:
        raise TooDeep(_nested(depth))

    @method(raises=(TooDeep,))
    async def deep_items(self, depth: int) -> AsyncIterator[int]:
        yield 1
        raise TooDeep(_nested(depth))

    async def tenant(self) -> tuple[str, str | None]:
        return TENANT.get(), HIDDEN.get()

    async def echo(self, value: All) -> All:
        return value

    @method(timeout=0.05)
    async def sleep(self) -> None:
        await asyncio.sleep(10)

    @method(timeout=20.0)
    async def wait(self) -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    @method(timeout=0.05)
    async def stubborn(self) -> None:
        """Does not let itself be cancelled."""
        while not self.released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.released.wait()

    async def count(self, up_to: int) -> AsyncIterator[int]:
        for number in range(up_to):
            if number == 3:
                raise NoMoney(decimal.Decimal(1))
            yield number + 2**60

    async def context(self) -> tuple[str, float]:
        context = current()
        assert isinstance(context, CallContext)
        return context.traceparent(), context.timeout


GRAPH = Graph(Bank, name="bank", context=[TENANT])


def gateway_of(bank: Bank, called: set[str] | None = None) -> Gateway:
    interface = GRAPH.components["Bank"].interface
    reference = local_reference(interface, bank, environment())
    return Gateway(
        {"Bank": Export(interface, reference)},
        authorize=lambda token: token in ("right", "program"),
        title="bank",
        variables=GRAPH.context,
        outside=lambda token: token == "right",
        called=called,
    )


def scope_of(name: str) -> dict[str, Any]:
    headers = [(b"authorization", b"Bearer right")]
    return {"type": "http", "path": f"/rpc/Bank/{name}", "method": "POST", "headers": headers}


def client_of(bank: Bank, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=gateway_of(bank))
    told = {"Authorization": "Bearer right", **headers}
    return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=told)


async def test_a_call_and_its_defaults() -> None:
    async with client_of(Bank()) as http:
        assert (await http.post("/rpc/Bank/pay", json={"how": "ok", "amount": 5})).json() == 5
        assert (await http.post("/rpc/Bank/pay", json={"how": "ok"})).json() == 1


REMOTE = "urn:fissile:error:remote_error"


@pytest.mark.parametrize(
    ("how", "status", "kind"),
    [
        ("declared", 422, "urn:fissile:declared:NoMoney"),
        ("full", 429, "urn:fissile:error:overloaded"),
        ("gone", 503, "urn:fissile:error:unavailable"),
        ("denied", 403, "urn:fissile:error:permission_denied"),
        ("bug", 500, "urn:fissile:error:remote_error"),
        ("caused", 422, "urn:fissile:declared:NoMoney"),
        ("surrogate", 500, "urn:fissile:error:remote_error"),
        ("nan", 429, "urn:fissile:error:overloaded"),
        ("cancelled", 500, "urn:fissile:error:remote_error"),
        ("exit", 500, "urn:fissile:error:remote_error"),
        ("object", 500, "urn:fissile:error:remote_error"),
    ],
)
async def test_errors_are_problem_documents(how: str, status: int, kind: str) -> None:
    async with client_of(Bank()) as http:
        answer = await http.post("/rpc/Bank/pay", json={"how": how})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["type"], problem["status"], problem["origin"]) == (kind, status, "Bank.pay")
        if how == "declared":
            assert problem["fields"] == {"missing": "1.50"}
        if how == "full":
            assert answer.headers["retry-after"] == "7"
        if how == "bug":
            assert problem["exception"] == "KeyError"
            assert "Traceback" not in answer.text
        if how == "caused":
            assert (problem["cause"]["type"], problem["cause"]["exception"]) == (REMOTE, "KeyError")
        if how == "surrogate":
            assert problem["detail"] == "caf\\udce9"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/rpc/Bank/nothing", b"{}", 404),
        ("/rpc/Nobody/pay", b"{}", 404),
        ("/elsewhere", b"{}", 404),
        ("/rpc/Bank/pay", b"{", 400),
        ("/rpc/Bank/pay", b"\xff", 400),
        ("/rpc/Bank/pay", b"{}", 400),
        ("/rpc/Bank/pay", b'{"how": 1}', 400),
        ("/rpc/Bank/nested", b'{"given": ' + b"[" * 100_000, 400),
        ("/rpc/Bank/floats", b'{"given": [1e999]}', 400),
        ("/rpc/Bank/text", b"{}", 500),
        ("/rpc/Bank/pay", b'{"how": "ok", "mystery": 1}', 400),
        ("/rpc/Bank/pay", b" " * (17 * 1024 * 1024), 413),
    ],
)
async def test_what_is_wrong_is_said(path: str, body: bytes, status: int) -> None:
    async with client_of(Bank()) as http:
        answer = await http.post(path, content=body)
        assert answer.status_code == status
        assert answer.json()["detail"]
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_name_that_is_not_there_is_answered_with_those_that_are() -> None:
    async with client_of(Bank()) as http:
        method = (await http.post("/rpc/Bank/nothing", content=b"{}")).json()
        assert method["detail"] == "Bank has no method 'nothing'"
        assert "pay" in method["remedy"]
        component = (await http.post("/rpc/Nobody/pay", content=b"{}")).json()
        assert component["detail"] == "there is no component 'Nobody' here"
        assert "Bank" in component["remedy"]


async def test_only_post_calls() -> None:
    async with client_of(Bank()) as http:
        answer = await http.get("/rpc/Bank/pay")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_monitors_ask_without_a_token() -> None:
    async with client_of(Bank(), Authorization="") as http:
        for path in ("/health", "/openapi.json"):
            assert (await http.head(path)).status_code == 200
            answer = await http.post(path)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("amount", [10**399, -(10**399), 2**64, -(2**63) - 1])
async def test_where_a_number_beyond_64_bits_fails_it_is_its_senders_fault(amount: int) -> None:
    async with client_of(Bank()) as http:
        for how, status in (("beyond", 400), ("bug", 400), ("declared", 422), ("ok", 200)):
            for number in (str(amount), f'"{amount}"'):
                answer = await http.post("/rpc/Bank/pay", content=f'{{"how": "{how}", "amount": {number}}}')
                assert answer.status_code == status, answer.text
        assert (await http.post("/rpc/Bank/pay", json={"how": "bug", "amount": 2**63})).status_code == 500


@pytest.mark.parametrize("token", ["", "wrong", "Bearer", "Bearer wrong", "Basic right"])
async def test_a_token_is_needed(token: str) -> None:
    async with client_of(Bank(), Authorization=token) as http:
        answer = await http.post("/rpc/Bank/pay", json={"how": "ok"})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert (await http.get("/health")).json() == {"status": "ok"}
        assert (await http.get("/openapi.json")).status_code == 200


async def test_deadlines() -> None:
    async with client_of(Bank()) as http:
        answer = await http.post("/rpc/Bank/sleep")
        assert (answer.status_code, answer.json()["type"]) == (504, "urn:fissile:error:deadline_exceeded")
        answer = await http.post("/rpc/Bank/wait", headers={"Fissile-Timeout-Ms": "30"})
        assert answer.status_code == 504
        for wrong in ("soon", "9" * 5000, "-1"):
            answer = await http.post("/rpc/Bank/wait", headers={"Fissile-Timeout-Ms": wrong})
            assert answer.status_code == 400
        _, timeout = (await http.post("/rpc/Bank/context", headers={"Fissile-Timeout-Ms": "2000"})).json()
        assert timeout == 2.0


async def test_a_call_that_does_not_end_is_answered_for_at_its_deadline() -> None:
    """And is in flight until it has ended."""
    bank = Bank()
    answered = asyncio.Event()
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": b"{}"}]

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            answered.set()

    request = asyncio.ensure_future(gateway_of(bank)(scope_of("stubborn"), receive, send))
    try:
        async with asyncio.timeout(5.0):
            await answered.wait()
        assert sent[0]["status"] == 504
        assert "Bank.stubborn did not answer within its 0.05 s" in json.loads(sent[1]["body"])["detail"]
        await asyncio.sleep(0.05)
        assert not request.done()
    finally:
        bank.released.set()
    async with asyncio.timeout(5.0):
        await request
    assert len(sent) == 2


async def test_a_client_that_goes_away_cancels_its_call() -> None:
    bank = Bank()
    messages = [{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        if len(messages) == 1:
            await asyncio.sleep(0.02)
        return messages.pop(0)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(5.0):
        await gateway_of(bank)(scope_of("wait"), receive, send)
        await bank.cancelled.wait()
    assert sent == []


async def test_floats_that_json_has_no_number_for() -> None:
    async with client_of(Bank()) as http:
        told = [1.5, "NaN", "Infinity", "-Infinity", None]
        answer = await http.post("/rpc/Bank/floats", json={"given": told})
        assert answer.json() == {"them": told}
        assert (await http.post("/rpc/Bank/nested", content=b'{"given": {"a": 1e300}}')).json() == {"a": 1e300}


async def test_an_integer_that_no_wire_could_carry() -> None:
    async with client_of(Bank()) as http:
        assert (await http.post("/rpc/Bank/pay", json={"how": "big"})).json() == str(2**70)


async def test_an_item_that_cannot_be_written_is_the_streams_error() -> None:
    async with client_of(Bank()) as http:
        answer = await http.post("/rpc/Bank/texts")
        first, last = [json.loads(line) for line in answer.text.splitlines()]
        assert first == {"item": "one"}
        assert last["error"]["exception"] == "UnicodeEncodeError"


@pytest.mark.parametrize("depth", [5, 600])
async def test_an_error_that_holds_what_is_too_deep_is_answered_without_it(depth: int) -> None:
    async with client_of(Bank()) as http:
        answer = await http.post("/rpc/Bank/deep", json={"depth": depth})
        lines = (await http.post("/rpc/Bank/deep_items", json={"depth": depth})).text.splitlines()
    for problem in (answer.json(), json.loads(lines[1])["error"]):
        assert (problem["type"], problem["status"]) == ("urn:fissile:declared:TooDeep", 422)
        assert ("args" in problem) == (depth == 5)
        assert ("left out: RecursionError" in problem["detail"]) == (depth == 600)


async def test_baggage_sets_the_variables_that_the_application_names() -> None:
    async with client_of(Bank()) as http:
        assert (await http.post("/rpc/Bank/tenant")).json() == ["nobody", None]
        told = [("baggage", "tenant=caf%C3%A9;private,hidden=no"), ("baggage", "another=thing")]
        assert (await http.post("/rpc/Bank/tenant", headers=told)).json() == ["caf\u00e9", None]
        assert (await http.post("/rpc/Bank/tenant", headers={"baggage": ";;=,tenant"})).json() == ["nobody", None]
    assert TENANT.get() == "nobody"


async def test_a_stream_is_a_line_for_each_item_and_one_for_its_error() -> None:
    async with client_of(Bank()) as http:
        answer = await http.post("/rpc/Bank/count", json={"up_to": "3"})
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert lines == [{"item": str(2**60 + number)} for number in range(3)]
        broken = await http.post("/rpc/Bank/count", json={"up_to": 9})
        last = json.loads(broken.text.splitlines()[-1])
        assert last["error"]["type"] == "urn:fissile:error:remote_error"


def moments() -> st.SearchStrategy[datetime.datetime]:
    return st.datetimes(timezones=st.just(datetime.UTC))


int64s = st.integers(-(2**63), 2**63 - 1)
everything = st.builds(
    All,
    number=int64s,
    user=st.integers(-(2**53) - 9, 2**53 + 9),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    at=moments(),
    day=st.dates(),
    raw=st.binary(max_size=40),
    key=st.uuids(),
    colour=st.sampled_from(Colour),
    shape=st.builds(Circle, int64s) | st.builds(Square, int64s),
    inner=st.lists(st.builds(Inner, st.decimals(allow_nan=False, allow_infinity=False))).map(tuple),
    counts=st.dictionaries(st.text(), int64s),
    by_number=st.dictionaries(int64s, st.text()),
    maybe=st.none() | int64s,
)


@settings(max_examples=150)
@given(everything)
def test_values_survive_a_program_whose_numbers_are_doubles(value: All) -> None:
    """What JavaScript would make of the JSON, sent back, is the same value."""
    through = json.loads(to_json(value), parse_int=lambda digits: int(float(digits)))
    again = msgspec.json.decode(json.dumps(through).encode(), type=All, strict=False)
    assert again == value
    assert [type(x) for x in msgspec.structs.astuple(again)] == [type(x) for x in msgspec.structs.astuple(value)]


@settings(max_examples=150)
@given(everything)
def test_values_survive_the_wire(value: All) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=All) == value


@pytest.mark.parametrize("number", [EXACT_INTEGER_MAX, -EXACT_INTEGER_MAX, 0, True])
def test_small_integers_stay_numbers(number: int) -> None:
    assert to_json(number) == json.dumps(number).encode()


async def test_values_through_the_gateway() -> None:
    value = All(
        -(2**63),
        UserId(2**53 + 1),
        decimal.Decimal("0.10"),
        datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC),
        datetime.date(2026, 1, 2),
        b"\x00\xff",
        uuid.UUID(int=5),
        Colour.BLUE,
        Square(2),
        (Inner(decimal.Decimal("1e-7")),),
        {"a": 2**62},
        {7: "x"},
    )
    async with client_of(Bank()) as http:
        answer = await http.post("/rpc/Bank/echo", content=b'{"value":' + to_json(value) + b"}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["number"] == str(-(2**63))
        assert msgspec.json.decode(answer.content, type=All, strict=False) == value


def test_the_document_is_valid_openapi() -> None:
    document = openapi("bank", [GRAPH.components["Bank"].interface])
    validate(document)
    assert document["openapi"] == "3.1.0"
    assert "Decimal" in document["info"]["description"]
    pay = document["paths"]["/rpc/Bank/pay"]["post"]
    assert (pay["summary"], pay["description"]) == ("Pays.", "With details.")
    assert "NoMoney(missing)" in pay["responses"]["422"]["description"]
    assert {int(status) for status in pay["responses"]} == {200, *HTTP_STATUS.values(), *map(int, DOOR_STATUS)}
    count = document["paths"]["/rpc/Bank/count"]["post"]
    assert list(count["responses"]["200"]["content"]) == ["application/x-ndjson"]


def test_the_document_says_what_numbers_may_be_strings() -> None:
    document = json.loads(msgspec.json.encode(openapi("bank", [GRAPH.components["Bank"].interface])))
    limits = document["components"]["schemas"]["Bank_limits_body"]["properties"]
    assert (limits["most"]["default"], limits["least"]["default"]) == ("Infinity", str(-(2**60)))
    assert {"enum": ["NaN", "Infinity", "-Infinity"]} in limits["most"]["anyOf"]


def test_the_document_says_that_integers_may_be_strings() -> None:
    document = openapi("bank", [GRAPH.components["Bank"].interface])
    number = document["components"]["schemas"]["All"]["properties"]["number"]
    assert {"type": "string", "pattern": "^-?[0-9]+$"} in number["anyOf"]


async def test_calls_from_outside_are_remembered_and_none_else() -> None:
    called: set[str] = set()
    transport = httpx.ASGITransport(app=gateway_of(Bank(), called))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:

        async def call(method: str, token: str, **headers: str) -> int:
            told = {"Authorization": f"Bearer {token}", **headers}
            answer = await http.post(f"/rpc/Bank/{method}", json={"how": "ok"}, headers=told)
            return answer.status_code

        assert await call("pay", "wrong") == 401
        assert await call("nothing", "right") == 404
        assert await call("pay", "program") == 200
        assert await call("pay", "right", **{"Fissile-Caller": "operator"}) == 200
        assert called == set()
        # Whether it went well is another question.
        assert await call("context", "right") == 400
        assert called == {"Bank.context"}
        assert await call("pay", "right") == 200
        assert called == {"Bank.context", "Bank.pay"}
