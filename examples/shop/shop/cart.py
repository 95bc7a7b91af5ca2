"""Cart: what a visitor means to buy. It belongs to the browser, signed in or not."""

import time
from typing import NewType

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from fissile import component, method
from shop.catalog import ProductId
from shop.database import Database, sqlite

CartId = NewType("CartId", str)

QUANTITY_MAX = 20
LINES_MAX = 50

_tables = MetaData()
_lines = Table(
    "line",
    _tables,
    Column("cart", String, primary_key=True),
    Column("product", String, primary_key=True),
    Column("quantity", Integer, nullable=False),
    Column("added_at", Double, nullable=False),
)


class CartLine(msgspec.Struct, frozen=True):
    """Some of one product."""

    product: ProductId
    quantity: int


class CartFull(Exception):
    """The cart already holds as many different products as it can."""


class CartConfig(msgspec.Struct, frozen=True):
    """database: SQLAlchemy URL."""

    database: str = sqlite("cart")


@component
class Cart:
    """What a visitor means to buy."""

    def __init__(self, config: CartConfig) -> None:
        self._database = Database(config.database, "cart", [_tables.create_all])

    async def start(self) -> None:
        await self._database.start()

    async def stop(self) -> None:
        await self._database.stop()

    @method(timeout=3, idempotent=True)
    async def lines(self, cart: CartId) -> tuple[CartLine, ...]:
        """What is in the cart, oldest first."""
        wanted = select(_lines.c.product, _lines.c.quantity).where(_lines.c.cart == cart).order_by(_lines.c.added_at)
        return await self._database.read(
            lambda connection: tuple(CartLine(product, quantity) for product, quantity in connection.execute(wanted))
        )

    @method(timeout=1, idempotent=True)
    async def count(self, cart: CartId) -> int:
        """The number of things in the cart."""
        wanted = select(func.sum(_lines.c.quantity)).where(_lines.c.cart == cart)
        return await self._database.read(lambda connection: int(connection.scalar(wanted) or 0))

    @method(timeout=3, raises=(CartFull,))
    async def add(self, cart: CartId, product: ProductId, quantity: int = 1) -> None:
        """Put more of a product into the cart, up to QUANTITY_MAX of it. Raises CartFull."""

        def work(connection: Connection) -> None:
            self._put(connection, cart, product, self._quantity(connection, cart, product) + quantity)

        await self._database.write(work)

    @method(timeout=3, idempotent=True, raises=(CartFull,))
    async def change(self, cart: CartId, product: ProductId, quantity: int) -> None:
        """Have so many of a product in the cart; none removes it. Raises CartFull."""
        await self._database.write(lambda connection: self._put(connection, cart, product, quantity))

    @method(timeout=3, idempotent=True)
    async def clear(self, cart: CartId) -> None:
        """Take everything out."""
        await self._database.write(lambda connection: connection.execute(delete(_lines).where(_lines.c.cart == cart)))

    def _quantity(self, connection: Connection, cart: CartId, product: ProductId) -> int:
        return connection.scalar(select(_lines.c.quantity).where(_one(cart, product))) or 0

    def _put(self, connection: Connection, cart: CartId, product: ProductId, quantity: int) -> None:
        quantity = min(quantity, QUANTITY_MAX)
        if quantity <= 0:
            connection.execute(delete(_lines).where(_one(cart, product)))
        elif self._quantity(connection, cart, product):
            connection.execute(update(_lines).where(_one(cart, product)).values(quantity=quantity))
        elif connection.scalar(select(func.count()).where(_lines.c.cart == cart)) == LINES_MAX:
            raise CartFull
        else:
            row = {"cart": cart, "product": product, "quantity": quantity, "added_at": time.time()}
            connection.execute(insert(_lines).values(row))


def _one(cart: CartId, product: ProductId) -> object:
    return (_lines.c.cart == cart) & (_lines.c.product == product)
