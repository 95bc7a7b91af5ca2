"""Orders: turns a cart into a paid order. An order is never lost and never placed twice.

It is written down as pending before any money moves, under the key that the customer's form carries.
The payment has the order's id as its key. So whatever is repeated finds what was done before, and
whatever was cut off is settled later: by this replica, another one, or the next.

    pending ──> paid, declined, failed, cancelled
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Literal, NewType

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    UniqueConstraint,
    insert,
    select,
    update,
)

from fissile import CallError, component, method
from shop.auth import UserId
from shop.cards import Card, InvalidCard
from shop.cart import Cart, CartId
from shop.catalog import Catalog, ProductId
from shop.database import Database, sqlite
from shop.money import Cents
from shop.payments import CaptureFailed, Payment, PaymentKey, Payments

OrderId = NewType("OrderId", str)
OrderState = Literal["pending", "paid", "declined", "failed", "cancelled"]

ORDERS_SHOWN_MAX = 50
SETTLED_AT_ONCE_MAX = 100
ID_ALPHABET = "23456789BCDFGHJKMNPQRSTVWXZ"  # nothing that is mistaken for something else, and no words

_log = logging.getLogger(__name__)

_tables = MetaData()
_orders = Table(
    "placed",
    _tables,
    Column("id", String, primary_key=True),
    Column("account", String, nullable=False, index=True),
    Column("key", String, nullable=False),
    Column("cart", String, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("reason", String, nullable=False),
    Column("total", Integer, nullable=False),
    Column("last_four", String, nullable=False),
    Column("name", String, nullable=False),
    Column("street", String, nullable=False),
    Column("postcode", String, nullable=False),
    Column("city", String, nullable=False),
    Column("placed_at", Double, nullable=False),
    UniqueConstraint("account", "key"),
)
_lines = Table(
    "placed_line",
    _tables,
    Column("placed", ForeignKey(_orders.c.id), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("product", String, nullable=False),
    Column("name", String, nullable=False),
    Column("price", Integer, nullable=False),
    Column("quantity", Integer, nullable=False),
)


class Address(msgspec.Struct, frozen=True):
    """Where an order goes."""

    name: str
    street: str
    postcode: str
    city: str


class OrderLine(msgspec.Struct, frozen=True):
    """Some of one product, with its name and price when it was ordered."""

    product: ProductId
    name: str
    price: Cents
    quantity: int

    @property
    def total(self) -> Cents:
        return Cents(self.price * self.quantity)


class Order(msgspec.Struct, frozen=True):
    """What somebody bought, or tried to. placed_at: seconds since 1970."""

    id: OrderId
    state: OrderState
    reason: str
    lines: tuple[OrderLine, ...]
    total: Cents
    address: Address
    last_four: str
    placed_at: float


class NoSuchOrder(Exception):
    """The user has no order with this id."""


class EmptyCart(Exception):
    """There is nothing in the cart to order."""


class PriceChanged(Exception):
    """The total is not what the customer was shown; nothing was ordered."""

    total: Cents

    def __init__(self, total: Cents) -> None:
        super().__init__(total)
        self.total = total


class StillPending(Exception):
    """An earlier order of the user waits for its payment: it has to end before the next begins."""

    order: OrderId

    def __init__(self, order: OrderId) -> None:
        super().__init__(order)
        self.order = order


class OrdersConfig(msgspec.Struct, frozen=True):
    """database: SQLAlchemy URL. settle_after_seconds: when a pending order has been abandoned by its request."""

    database: str = sqlite("orders")
    settle_after_seconds: float = 20.0
    settle_every_seconds: float = 5.0


@component
class Orders:
    """Turns a cart into a paid order."""

    def __init__(self, catalog: Catalog, cart: Cart, payments: Payments, config: OrdersConfig) -> None:
        self._catalog = catalog
        self._cart = cart
        self._payments = payments
        self._config = config
        self._database = Database(config.database, "orders", [_tables.create_all], durable=True)

    async def migrate(self) -> None:
        await self._database.migrate()

    async def start(self) -> None:
        await self._database.start()
        self._settling = asyncio.create_task(self._settle_abandoned())

    async def stop(self) -> None:
        self._settling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._settling
        await self._database.stop()

    @method(timeout=20, idempotent=True, raises=(EmptyCart, PriceChanged, StillPending, InvalidCard))
    async def place(self, user: UserId, cart: CartId, key: str, expected: Cents, address: Address, card: Card) -> Order:
        """Order what is in the cart and pay for it; the state of the order says how that went.

        key: names this purchase; placed again under it, the same order is returned. expected: the total
        that the customer was shown. Raises EmptyCart, PriceChanged, StillPending or InvalidCard, and
        then nothing was ordered.
        """
        order = await self._find(user, key)
        if order is None:
            try:
                new = await self._prepare(cart, expected, address, card)
                order = await self._database.write(lambda connection: _insert(connection, user, key, cart, new))
            except (EmptyCart, PriceChanged):
                # Sent twice at once, the same purchase may have emptied the cart since we looked.
                order = await self._find(user, key)
                if order is None:
                    raise
        if order.state == "pending":
            order = await self._pay(order, card)
        return order

    @method(timeout=10, idempotent=True, raises=(NoSuchOrder,))
    async def settle(self, user: UserId, id: OrderId) -> Order:
        """Find out what became of a pending order's payment; it stays pending while nobody can tell."""
        order = await self.order(user, id)
        return await self._settle(order) if order.state == "pending" else order

    @method(timeout=3, idempotent=True, raises=(NoSuchOrder,))
    async def order(self, user: UserId, id: OrderId) -> Order:
        """One order of the user. Raises NoSuchOrder."""
        wanted = select(_orders).where(_orders.c.account == user, _orders.c.id == id)
        found = await self._database.read(lambda connection: _load(connection, wanted))
        if not found:
            raise NoSuchOrder(id)
        return found[0]

    @method(timeout=3, idempotent=True)
    async def orders(self, user: UserId) -> tuple[Order, ...]:
        """The user's latest orders, newest first."""
        wanted = select(_orders).where(_orders.c.account == user).order_by(_orders.c.placed_at.desc())
        return await self._database.read(lambda connection: _load(connection, wanted.limit(ORDERS_SHOWN_MAX)))

    async def _find(self, user: UserId, key: str) -> Order | None:
        return await self._database.read(lambda connection: _by_key(connection, user, key))

    async def _prepare(self, cart: CartId, expected: Cents, address: Address, card: Card) -> Order:
        lines = await self._priced(cart)
        total = Cents(sum(line.total for line in lines))
        if total != expected:
            raise PriceChanged(total)
        await self._payments.check(card)
        return Order(_new_id(), "pending", "", lines, total, address, card.last_four, time.time())

    async def _priced(self, cart: CartId) -> tuple[OrderLine, ...]:
        wanted = await self._cart.lines(cart)
        products = {p.id: p for p in await self._catalog.products(tuple(line.product for line in wanted))}
        lines = tuple(
            OrderLine(line.product, products[line.product].name, products[line.product].price, line.quantity)
            for line in wanted
            if line.product in products
        )
        if not lines:
            raise EmptyCart
        return lines

    async def _pay(self, order: Order, card: Card) -> Order:
        key = PaymentKey(order.id)
        try:
            payment = await self._payments.authorise(key, order.total, card)
            if payment.state == "authorised":
                payment = await self._payments.capture(key)
        except (CallError, CaptureFailed) as error:
            # Nobody knows whether the bank heard us. The order stays pending and will be settled.
            _log.warning("order %s stays pending: %s", order.id, error)
            return order
        return await self._conclude(order, payment)

    async def _settle(self, order: Order) -> Order:
        try:
            payment = await self._payments.settle(PaymentKey(order.id))
        except (CallError, CaptureFailed) as error:
            _log.warning("order %s stays pending: %s", order.id, error)
            return order
        return await self._conclude(order, payment)

    async def _conclude(self, order: Order, payment: Payment) -> Order:
        """The one door of the state: from pending to what became of the payment."""
        if payment.state in ("authorising", "authorised"):
            return order
        state: OrderState = "paid" if payment.state == "captured" else payment.state

        def work(connection: Connection) -> tuple[str, Order]:
            this = _orders.c.id == order.id
            moved = update(_orders).where(this, _orders.c.state == "pending")
            connection.execute(moved.values(state=state, reason=payment.reason))
            cart = connection.scalar(select(_orders.c.cart).where(this))
            return cart, _load(connection, select(_orders).where(this))[0]

        cart, order = await self._database.write(work)
        if order.state == "paid":
            # A cart that stays full is a nuisance; the order stands.
            with contextlib.suppress(CallError):
                await self._cart.clear(CartId(cart))
        return order

    async def _settle_abandoned(self) -> None:
        """Settle what was cut off, by a crash of ours or of somebody else's, for as long as we live."""
        while True:
            try:
                for order in await self._database.read(self._abandoned):
                    await self._settle(order)
            except Exception:
                _log.exception("abandoned orders could not be settled; trying again")
            await asyncio.sleep(self._config.settle_every_seconds)

    def _abandoned(self, connection: Connection) -> tuple[Order, ...]:
        before = time.time() - self._config.settle_after_seconds
        wanted = select(_orders).where(_orders.c.state == "pending", _orders.c.placed_at < before)
        return _load(connection, wanted.order_by(_orders.c.placed_at).limit(SETTLED_AT_ONCE_MAX))


def _new_id() -> OrderId:
    letters = "".join(secrets.choice(ID_ALPHABET) for _ in range(12))
    return OrderId(f"{letters[:4]}-{letters[4:8]}-{letters[8:]}")


def _by_key(connection: Connection, user: UserId, key: str) -> Order | None:
    found = _load(connection, select(_orders).where(_orders.c.account == user, _orders.c.key == key))
    return found[0] if found else None


def _insert(connection: Connection, user: UserId, key: str, cart: CartId, order: Order) -> Order:
    existing = _by_key(connection, user, key)
    if existing is not None:
        return existing
    pending = connection.scalar(select(_orders.c.id).where(_orders.c.account == user, _orders.c.state == "pending"))
    if pending is not None:
        raise StillPending(pending)
    row = msgspec.structs.asdict(order) | msgspec.structs.asdict(order.address)
    row = {name: value for name, value in row.items() if name in _orders.c}
    connection.execute(insert(_orders).values(account=user, key=key, cart=cart, **row))
    lines = [
        {"placed": order.id, "position": position, **msgspec.structs.asdict(line)}
        for position, line in enumerate(order.lines)
    ]
    connection.execute(insert(_lines), lines)
    return order


def _load(connection: Connection, wanted: Select[tuple[object, ...]]) -> tuple[Order, ...]:
    rows: Sequence = connection.execute(wanted).mappings().all()
    lines: dict[str, list[OrderLine]] = {row["id"]: [] for row in rows}
    found = select(_lines).where(_lines.c.placed.in_(lines)).order_by(_lines.c.position)
    for line in connection.execute(found).mappings():
        lines[line["placed"]].append(OrderLine(line["product"], line["name"], line["price"], line["quantity"]))
    return tuple(
        Order(
            id=row["id"],
            state=row["state"],
            reason=row["reason"],
            lines=tuple(lines[row["id"]]),
            total=row["total"],
            address=Address(row["name"], row["street"], row["postcode"], row["city"]),
            last_four=row["last_four"],
            placed_at=row["placed_at"],
        )
        for row in rows
    )
