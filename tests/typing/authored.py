"""The API as authors write it. `test_typing` has it checked strictly; nothing here runs.

Lines that end with `# error: CODE` must be mistakes to the type checker, and no others may be.
"""

from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any, assert_type

import msgspec

from fissile import (
    Application,
    CallContext,
    CallError,
    FissileError,
    Lazy,
    Overloaded,
    RemoteError,
    component,
    current,
    interface,
    method,
)
from fissile.testing.worlds import World


class Quote(msgspec.Struct, frozen=True):
    title: str
    cents: int


class SoldOut(Exception):
    def __init__(self, product: int) -> None:
        self.product = product


@interface(raises=(SoldOut,))
class Stock:
    async def left(self, product: int) -> int:
        raise NotImplementedError


@component(implements=Stock)
class Shelf:
    async def left(self, product: int) -> int:
        return product


@component
class Catalog:
    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    @method(timeout=2.0, idempotent=True, raises=(SoldOut,))
    async def quote(self, product: int) -> Quote:
        assert_type(await self.stock.left(product), int)
        return Quote("tea", 499)

    @method
    async def titles(self) -> AsyncIterator[str]:
        yield "tea"


@component(name="Basket", volatile_state="the items of visitors who have not signed in")
class Cart:
    def __init__(self, catalog: Catalog, orders: "Lazy[Orders]") -> None:
        self.catalog = catalog
        self.orders = orders

    async def add(self, product: int) -> int:
        quote = await self.catalog.quote(product)
        assert_type(quote, Quote)
        async for title in self.catalog.titles():
            assert_type(title, str)
        assert_type(self.orders.get(), Orders)
        await self.orders.get().place([product])
        await self.catalog.quote("seven")  # error: reportArgumentType
        await self.catalog.qoute(product)  # error: reportAttributeAccessIssue
        return quote.title  # error: reportReturnType

    def http(self) -> Any:
        return None


@component
class Orders:
    def __init__(self, cart: Cart) -> None:
        self.cart = cart

    async def place(self, products: list[int]) -> None:
        assert_type(current(), CallContext | None)


tenant: ContextVar[str] = ContextVar("tenant")
app = Application(Cart, Catalog, Shelf, Stock, Orders, name="shop", context=[tenant])
asgi = app.asgi(config={"Cart": {"currency": "EUR"}})
Application("Cart")  # error: reportArgumentType
component(raises=(3,))  # error: reportArgumentType
method(timeout="2 s")  # error: reportArgumentType


async def in_a_test(world: World) -> None:
    cart = world.get(Cart)
    assert_type(cart, Cart)
    assert_type(await cart.add(7), int)
    try:
        await cart.add(7)
    except Overloaded as error:
        assert_type(error.retry_after_seconds, float)
    except RemoteError as error:
        assert_type(error.traceback_text, str)
        assert_type(error.type_name, str)
    except CallError as error:
        assert_type(error.origin, str)
    except FissileError as error:
        assert_type(error.remedy, str)


def by_hand() -> None:
    cart = Cart(Catalog(Shelf()), Lazy(lambda: Orders(cart)))  # error: reportArgumentType
    assert_type(cart, Cart)
