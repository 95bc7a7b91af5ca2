"""Whatever breaks, and wherever: what an order says and what the bank took agree.

The components are plain classes here, made by hand, with a Payments that breaks where it is told to.
"""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from shop import bank
from shop.auth import UserId
from shop.cards import Card, InvalidCard, check
from shop.cart import Cart, CartConfig, CartId
from shop.catalog import Catalog, CatalogConfig, ProductId
from shop.database import Database
from shop.money import Cents
from shop.orders import Address, Order, Orders, OrdersConfig
from shop.payments import Payments, PaymentsConfig

from fissile import CallError, Unavailable

USER, CART = UserId("ada"), CartId("cart of ada")
ADDRESS = Address("Ada", "12 St James's Square", "SW1Y 4JH", "London")
APPROVED, DECLINED, CAPTURE_BROKEN = "4242424242424242", "4000000000000002", "4000000000000341"
SETTLE_SECONDS_MAX = 10.0


class Breaking:
    """A Payments of which one call, the n-th, is lost: on the way there, or its answer on the way back."""

    def __init__(self, payments: Payments, nth: int, *, done: bool) -> None:
        self._payments = payments
        self._left = nth
        self._done = done

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                if self._done:
                    await getattr(self._payments, name)(*arguments)
                raise Unavailable(f"{name} was lost")
            return await getattr(self._payments, name)(*arguments)

        return call


class Shop:
    """What an order needs, on files of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.catalog = Catalog(CatalogConfig(self.url("catalog")))
        self.cart = Cart(CartConfig(self.url("cart")))
        self.payments = Payments(PaymentsConfig(self.url("payments"), authorising_seconds_max=0.0))

    def url(self, name: str) -> str:
        return f"sqlite:///{self._folder}/{name}.db"

    @contextlib.asynccontextmanager
    async def orders(self, payments: Any = None, settle_after_seconds: float = 3600) -> AsyncIterator[Orders]:
        """One life of the Orders component."""
        config = OrdersConfig(self.url("orders"), settle_after_seconds, settle_every_seconds=0.05)
        orders = Orders(self.catalog, self.cart, payments or self.payments, config)
        await orders.migrate()
        await orders.start()
        try:
            yield orders
        finally:
            await orders.stop()

    async def taken(self) -> dict[str, int]:
        database = Database(self.url("payments"), "payments", [])
        await database.start()
        try:
            return await bank.Bank(database).taken()
        finally:
            await database.stop()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path)
    parts = (shop.catalog, shop.cart, shop.payments)
    for part in parts:
        await part.migrate()
        await part.start()
    await shop.cart.add(CART, ProductId("fjord-mug"), 2)
    yield shop
    for part in parts:
        await part.stop()


async def place(orders: Orders, number: str = APPROVED, key: str = "key") -> Order:
    return await orders.place(USER, CART, key, Cents(3680), ADDRESS, Card(number, 12, 2040, "123"))


@pytest.mark.parametrize("number", [APPROVED, DECLINED, CAPTURE_BROKEN])
@pytest.mark.parametrize("done", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
async def test_one_lost_call(shop: Shop, nth: int, done: bool, number: str) -> None:
    async with shop.orders(Breaking(shop.payments, nth, done=done)) as orders:
        with contextlib.suppress(CallError):
            await place(orders, number)
    # The next life, on the same files: abandoned orders are settled without being asked.
    async with shop.orders(settle_after_seconds=0) as orders:
        async with asyncio.timeout(SETTLE_SECONDS_MAX):
            while any(order.state == "pending" for order in await orders.orders(USER)):
                await asyncio.sleep(0.01)
        found = await orders.orders(USER)
        assert len(found) <= 1
        assert await shop.taken() == {order.id: order.total for order in found if order.state == "paid"}
    # The customer's browser sends the form again; nobody takes it for abandoned while it is under way.
    if not found or found[0].state == "paid":
        async with shop.orders() as orders:
            again = await place(orders, APPROVED)
        assert again.state == "paid"
        assert await shop.taken() == {again.id: 3680}


async def test_both_clicks_of_a_double_click_take_the_money_once(shop: Shop) -> None:
    async with shop.orders() as one, shop.orders() as another:
        first, second = await asyncio.gather(place(one), place(another))
        assert first == second
        assert first.state == "paid"
        assert await shop.taken() == {first.id: 3680}


def test_cards() -> None:
    today = datetime.date(2030, 6, 15)
    good = Card("4242424242424242", 6, 2030, "123")
    check(good, today)
    for wrong, field in (
        (Card("4242424242424241", 6, 2030, "123"), "number"),
        (Card("4242", 6, 2030, "123"), "number"),
        (Card("４２４２４２４２４２４２４２４２", 6, 2030, "123"), "number"),
        (Card("4242424242424242", 5, 2030, "123"), "expiry"),
        (Card("4242424242424242", 13, 2031, "123"), "expiry"),
        (Card("4242424242424242", 6, 2030, "12a"), "code"),
    ):
        with pytest.raises(InvalidCard) as invalid:
            check(wrong, today)
        assert invalid.value.field == field
    assert "42424242" not in repr(good)
