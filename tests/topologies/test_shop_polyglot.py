"""The shop with its Payments in Node: nobody who calls it, and nobody who buys, can tell the difference."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from customer import APPROVED, BANK_BROKEN, CAPTURE_BROKEN, DECLINED, NO_FUNDS, Customer

from fissile.testing.worlds import ProcessWorld, World, open_world

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node: apt-get install nodejs")


@pytest.fixture(params=["polyglot", None])
async def shop(
    request: pytest.FixtureRequest, tmp_path: Path, world_config: dict[str, dict[str, Any]]
) -> AsyncIterator[World]:
    """The shop with Payments in Node, and in Python to compare with."""
    folder = shutil.copytree(ROOT / "examples" / "shop", tmp_path / "shop", ignore=shutil.ignore_patterns(".*"))
    state = tmp_path / "state"
    async with open_world("processes", folder, state=state, config=world_config, profile=request.param) as world:
        yield world


def payments_of(world: World) -> tuple[str, dict[str, str]]:
    """Where Payments is asked over HTTP/JSON, and how."""
    assert isinstance(world, ProcessWorld)
    assert world.endpoints is not None
    service = world.endpoints.services["payments"]
    token = service.token or world.endpoints.token
    return service.gateway, {"Authorization": f"Bearer {token}"}


CARD = {"number": "4242424242424242", "expiry_month": 12, "expiry_year": 2040, "code": "123"}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("check", {"card": CARD}),
    ("check", {"card": {**CARD, "number": "4242424242424241"}}),
    ("check", {"card": {**CARD, "expiry_month": 13}}),
    ("check", {"card": {**CARD, "expiry_year": 2020}}),
    ("check", {"card": {**CARD, "code": "12"}}),
    ("authorise", {"key": "a", "amount": 100, "card": CARD}),
    ("authorise", {"key": "a", "amount": 100, "card": CARD}),
    ("capture", {"key": "a"}),
    ("capture", {"key": "a"}),
    ("settle", {"key": "a"}),
    ("settle", {"key": "never seen"}),
    ("authorise", {"key": "never seen", "amount": 5, "card": CARD}),
    ("capture", {"key": "unknown"}),
    ("authorise", {"key": "b", "amount": 7, "card": {**CARD, "number": DECLINED.replace(" ", "")}}),
    ("authorise", {"key": "c", "amount": 7, "card": {**CARD, "number": NO_FUNDS.replace(" ", "")}}),
    ("authorise", {"key": "d", "amount": 7, "card": {**CARD, "number": BANK_BROKEN.replace(" ", "")}}),
    ("authorise", {"key": "e", "amount": 7, "card": {**CARD, "number": CAPTURE_BROKEN.replace(" ", "")}}),
    ("capture", {"key": "e"}),
    ("capture", {"key": "e"}),
]
ANSWERS = [
    (200, None),
    (422, "InvalidCard"),
    (422, "InvalidCard"),
    (422, "InvalidCard"),
    (422, "InvalidCard"),
    (200, "authorised"),
    (200, "authorised"),
    (200, "captured"),
    (200, "captured"),
    (200, "captured"),
    (200, "cancelled"),
    (200, "cancelled"),
    (200, "cancelled"),
    (200, "declined"),
    (200, "declined"),
    (200, "failed"),
    (200, "authorised"),
    (422, "CaptureFailed"),
    (200, "captured"),
]


async def test_both_payments_answer_alike(shop: World) -> None:
    address, headers = payments_of(shop)
    found: list[tuple[int, str | None]] = []
    async with httpx.AsyncClient(headers=headers) as http:
        for method, arguments in CALLS:
            answer = await http.post(f"{address}/rpc/Payments/{method}", json=arguments)
            body = answer.json()
            found.append((answer.status_code, body and (body.get("state") or body["title"])))
        assert found == ANSWERS
        assert (await http.post(f"{address}/rpc/Payments/nothing", json={})).status_code == 404
        wrong = {"Authorization": "Bearer wrong"}
        assert (await http.post(f"{address}/rpc/Payments/check", json={}, headers=wrong)).status_code == 401


async def test_buying(shop: World) -> None:
    async with shop.client(shop.graph.components["Frontend"].cls) as http:
        customer = Customer(http)
        await customer.signs_up()
        await customer.adds()
        assert "declined" in await customer.pays(DECLINED)
        assert "Please check the digits" in (await customer.pays("4242 4242 4242 4241")).replace("please", "Please")
        assert "Thank you" in await customer.pays(APPROVED)


async def test_a_restart_while_customers_pay_loses_no_payment(shop: World) -> None:
    assert isinstance(shop, ProcessWorld)
    async with shop.client(shop.graph.components["Frontend"].cls) as http:
        customer = Customer(http)
        await customer.signs_up()
        for _ in range(3):
            await customer.adds()
            await shop.supervisor.operations.restart("payments")
            assert "Thank you" in await customer.pays(APPROVED)
