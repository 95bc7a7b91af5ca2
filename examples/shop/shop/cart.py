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


def _table(name: str, number: str) -> Table:
    return Table(
        name,
        MetaData(),
        Column("cart", String, primary_key=True),
        Column("product", String, primary_key=True),
        Column(number, Integer, nullable=False),
        Column("added_at", Double, nullable=False),
    )


_old = _table("line", "quantity")
_items = _table("item", "pieces")


def _copy(connection: Connection) -> None:
    """What was put into carts before the new table was written to."""
    known = select(_items.c.cart).where(_items.c.cart == _old.c.cart)
    connection.execute(insert(_items).from_select(list(_items.c), select(_old).where(~known.exists())))


# Expand, migrate, contract: each step came with a release of its own, so that at any time the release before it
# could live with the tables as they were. docs/howto/change-a-table.md tells which code went with which.
STEPS = [_old.create, _items.create, _copy, _old.drop]


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
        self._database = Database(config.database, "cart", STEPS)

    async def migrate(self) -> None:
        await self._database.migrate()

    async def start(self) -> None:
        await self._database.start()

    async def stop(self) -> None:
        await self._database.stop()

    @method(timeout=3, idempotent=True)
    async def lines(self, cart: CartId) -> tuple[CartLine, ...]:
        """What is in the cart, oldest first."""
        wanted = select(_items.c.product, _items.c.pieces).where(_items.c.cart == cart).order_by(_items.c.added_at)
        return await self._database.read(
            lambda connection: tuple(CartLine(product, quantity) for product, quantity in connection.execute(wanted))
        )

    @method(timeout=1, idempotent=True)
    async def count(self, cart: CartId) -> int:
        """The number of things in the cart."""
        wanted = select(func.sum(_items.c.pieces)).where(_items.c.cart == cart)
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
        await self._database.write(lambda connection: connection.execute(delete(_items).where(_items.c.cart == cart)))

    def _quantity(self, connection: Connection, cart: CartId, product: ProductId) -> int:
        return connection.scalar(select(_items.c.pieces).where(_one(cart, product))) or 0

    def _put(self, connection: Connection, cart: CartId, product: ProductId, quantity: int) -> None:
        quantity = min(quantity, QUANTITY_MAX)
        if quantity <= 0:
            connection.execute(delete(_items).where(_one(cart, product)))
        elif self._quantity(connection, cart, product):
            connection.execute(update(_items).where(_one(cart, product)).values(pieces=quantity))
        elif connection.scalar(select(func.count()).where(_items.c.cart == cart)) == LINES_MAX:
            raise CartFull
        else:
            row = {"cart": cart, "product": product, "pieces": quantity, "added_at": time.time()}
            connection.execute(insert(_items).values(row))


def _one(cart: CartId, product: ProductId) -> object:
    return (_items.c.cart == cart) & (_items.c.product == product)
