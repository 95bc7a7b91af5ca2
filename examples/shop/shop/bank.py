"""A simulated bank, so that the shop can be tried: what it answers depends on the card's number.

    4242 4242 4242 4242   approves
    4000 0000 0000 0002   declines
    4000 0000 0000 9995   declines for lack of funds
    4000 0000 0000 0119   breaks down: nothing is charged
    4000 0000 0000 3220   approves after two seconds
    4000 0000 0000 0341   approves, but the first capture breaks down
    any other valid card  approves

It keeps its own ledger, as a bank would, and knows each operation by the key that it is given.
"""

import asyncio

from sqlalchemy import Boolean, Column, Connection, Integer, MetaData, String, Table, insert, select, update

from shop.database import Database
from shop.money import Cents

DECLINES = {"4000000000000002": "The bank declined this card.", "4000000000009995": "There is not enough money on it."}
BREAKS_DOWN = "4000000000000119"
SLOW, SLOW_SECONDS = "4000000000003220", 2.0
CAPTURE_BREAKS_DOWN = "4000000000000341"

tables = MetaData()
_holds = Table(
    "bank_hold",
    tables,
    Column("key", String, primary_key=True),
    Column("amount", Integer, nullable=False),
    Column("captured", Boolean, nullable=False),
    Column("released", Boolean, nullable=False),
    Column("troubled", Boolean, nullable=False),
)


class CardRefused(Exception):
    """The bank does not let this card pay."""


class BankBroken(Exception):
    """The bank answered with an error of its own; nothing changed."""


class Bank:
    """Holds, captures and releases amounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hold(self, key: str, amount: Cents, number: str) -> None:
        """Reserve the amount on the card. Raises CardRefused or BankBroken."""
        if number == SLOW:
            await asyncio.sleep(SLOW_SECONDS)
        if number in DECLINES:
            raise CardRefused(DECLINES[number])
        if number == BREAKS_DOWN:
            raise BankBroken("the card network does not answer")

        def work(connection: Connection) -> None:
            if connection.scalar(select(_holds.c.key).where(_holds.c.key == key)) is None:
                troubled = number == CAPTURE_BREAKS_DOWN
                row = insert(_holds).values(key=key, amount=amount, captured=False, released=False, troubled=troubled)
                connection.execute(row)

        await self._database.write(work)

    async def capture(self, key: str) -> None:
        """Take the reserved amount; once, however often it is asked for. Raises BankBroken."""

        def work(connection: Connection) -> bool:
            hold = connection.execute(select(_holds).where(_holds.c.key == key)).mappings().one()
            change = {"troubled": False} if hold["troubled"] else {"captured": True}
            connection.execute(update(_holds).where(_holds.c.key == key).values(change))
            return hold["troubled"]

        if await self._database.write(work):
            raise BankBroken("the capture was lost on the way")

    async def release(self, key: str) -> None:
        """Give a reserved amount back, if there is one."""
        gone = update(_holds).where(_holds.c.key == key, ~_holds.c.captured).values(released=True)
        await self._database.write(lambda connection: connection.execute(gone))

    async def taken(self) -> dict[str, int]:
        """The amounts really taken, by key: for the auditors."""
        wanted = select(_holds.c.key, _holds.c.amount).where(_holds.c.captured)
        return await self._database.read(lambda connection: dict(connection.execute(wanted).all()))
