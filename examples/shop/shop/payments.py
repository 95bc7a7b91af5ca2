"""Payments: gets an amount from a card, once, whatever is repeated or breaks on the way.

The caller names each payment by a key of its own. Every method may be called again with that key.

    authorising ──> authorised ──> captured
         │ └──────> declined, failed
         └────────> cancelled            (also at once, by `settle` of a key never seen)
"""

import datetime
import time
from typing import Literal, NewType

import msgspec
from sqlalchemy import Column, Connection, Double, Integer, MetaData, String, Table, insert, select, update

from fissile import component, method
from shop import bank
from shop.cards import Card, InvalidCard, check
from shop.database import Database, sqlite
from shop.money import Cents

PaymentKey = NewType("PaymentKey", str)
PaymentState = Literal["authorising", "authorised", "captured", "declined", "failed", "cancelled"]

_tables = MetaData()
_payments = Table(
    "payment",
    _tables,
    Column("key", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("amount", Integer, nullable=False),
    Column("last_four", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("since", Double, nullable=False),
)


class Payment(msgspec.Struct, frozen=True):
    """One payment. reason: why it was declined, for the customer."""

    key: PaymentKey
    state: PaymentState
    amount: Cents
    last_four: str
    reason: str = ""


class CaptureFailed(Exception):
    """The bank could not capture an authorised payment now; it may later."""


class PaymentsConfig(msgspec.Struct, frozen=True):
    """database: SQLAlchemy URL. authorising_seconds_max: after it, whoever was authorising is dead."""

    database: str = sqlite("payments")
    authorising_seconds_max: float = 15.0


@component
class Payments:
    """Gets an amount from a card, once."""

    def __init__(self, config: PaymentsConfig) -> None:
        self._config = config
        steps = [_tables.create_all, bank.tables.create_all]
        self._database = Database(config.database, "payments", steps, durable=True)
        self._bank = bank.Bank(self._database)

    async def migrate(self) -> None:
        await self._database.migrate()

    async def start(self) -> None:
        await self._database.start()

    async def stop(self) -> None:
        await self._database.stop()

    @method(timeout=2, idempotent=True, raises=(InvalidCard,))
    async def check(self, card: Card) -> None:
        """Raises InvalidCard if no bank could accept the card."""
        check(card, datetime.date.today())

    @method(timeout=8, idempotent=True, raises=(InvalidCard,))
    async def authorise(self, key: PaymentKey, amount: Cents, card: Card) -> Payment:
        """Have the bank reserve the amount; the state says how that went. Raises InvalidCard."""
        check(card, datetime.date.today())
        begun, mine = await self._database.write(lambda connection: _begin(connection, key, amount, card.last_four))
        if not mine and begun.state != "authorising":
            return begun
        # Two at once under one key both ask the bank, which knows the key and reserves once.
        state: PaymentState = "authorised"
        reason = ""
        try:
            await self._bank.hold(key, amount, card.number)
        except bank.CardRefused as refusal:
            state, reason = "declined", str(refusal)
        except bank.BankBroken:
            state, reason = "failed", "The bank has a problem of its own. You were not charged."
        payment = await self._move(key, "authorising", state, reason)
        if payment.state == "cancelled":
            await self._bank.release(key)
        return payment

    @method(timeout=5, idempotent=True, raises=(CaptureFailed,))
    async def capture(self, key: PaymentKey) -> Payment:
        """Take what was authorised; a payment in any other state stays as it is. Raises CaptureFailed."""
        payment = await self._database.read(lambda connection: _find(connection, key))
        if payment is None or payment.state != "authorised":
            return payment or Payment(key, "cancelled", Cents(0), "")
        try:
            await self._bank.capture(key)
        except bank.BankBroken as error:
            raise CaptureFailed(str(error))
        return await self._move(key, "authorised", "captured")

    @method(timeout=8, idempotent=True, raises=(CaptureFailed,))
    async def settle(self, key: PaymentKey) -> Payment:
        """End the payment one way or the other: captured if it was authorised, cancelled if it never was.

        For a caller that lost an answer. It stays "authorising" while somebody still waits for the bank.
        A cancelled key can never be authorised, so a request that comes late does no harm.
        """
        started_before = time.time() - self._config.authorising_seconds_max
        payment = await self._database.write(lambda connection: _cancel(connection, key, started_before))
        if payment.state == "cancelled":
            await self._bank.release(key)
        return await self.capture(key)

    async def _move(self, key: PaymentKey, before: PaymentState, after: PaymentState, reason: str = "") -> Payment:
        """The one door of the state: from `before` to `after`, or whatever another made of it first."""

        def work(connection: Connection) -> Payment:
            moved = update(_payments).where(_payments.c.key == key, _payments.c.state == before)
            connection.execute(moved.values(state=after, reason=reason, since=time.time()))
            payment = _find(connection, key)
            assert payment is not None
            return payment

        return await self._database.write(work)


def _find(connection: Connection, key: PaymentKey) -> Payment | None:
    row = connection.execute(select(_payments).where(_payments.c.key == key)).mappings().first()
    return row and Payment(row["key"], row["state"], row["amount"], row["last_four"], row["reason"])


def _insert(connection: Connection, payment: Payment) -> Payment:
    connection.execute(insert(_payments).values(**msgspec.structs.asdict(payment), since=time.time()))
    return payment


def _begin(connection: Connection, key: PaymentKey, amount: Cents, last_four: str) -> tuple[Payment, bool]:
    found = _find(connection, key)
    if found is not None:
        return found, False
    return _insert(connection, Payment(key, "authorising", amount, last_four)), True


def _cancel(connection: Connection, key: PaymentKey, started_before: float) -> Payment:
    if _find(connection, key) is None:
        return _insert(connection, Payment(key, "cancelled", Cents(0), ""))
    stale = (_payments.c.key == key) & (_payments.c.state == "authorising") & (_payments.c.since < started_before)
    connection.execute(update(_payments).where(stale).values(state="cancelled", since=time.time()))
    found = _find(connection, key)
    assert found is not None
    return found
