"""The shop's databases: safe with several replicas, and the same on PostgreSQL."""

import asyncio
import multiprocessing
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from shop.auth import Auth, UserId
from shop.cards import Card
from shop.cart import Cart, CartId
from shop.catalog import Catalog, CatalogConfig, ProductId
from shop.database import Database
from shop.money import Cents
from shop.orders import Address, Orders
from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, select, update

from fissile.testing.worlds import open_world

ROOT = Path(__file__).parents[2]
START_SECONDS_MAX = 30

_tables = MetaData()
_counter = Table("counter", _tables, Column("value", Integer, nullable=False))
STEPS = [_tables.create_all, lambda connection: connection.execute(insert(_counter).values(value=0))]


def _postgresql_programs() -> Path | None:
    initdb = shutil.which("initdb")
    places = [Path(initdb).parent] if initdb else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return places[-1] if places else None


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of a database in a PostgreSQL server of our own, without network."""
    programs = _postgresql_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL: apt-get install postgresql")
    # The server refuses to run as root; its package brings a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        if user:
            shutil.chown(name, user)
        data = f"{name}/data"
        quiet: dict[str, Any] = {"user": user, "cwd": name, "stdout": subprocess.DEVNULL, "check": True}
        subprocess.run([programs / "initdb", "-D", data, "-U", "postgres", "--no-sync"], **quiet)
        options = f"-c listen_addresses='' -c unix_socket_directories={name} -c fsync=off"
        control = [programs / "pg_ctl", "-D", data, "-w", "-t", str(START_SECONDS_MAX)]
        subprocess.run([*control, "-o", options, "-l", f"{name}/log", "start"], **quiet)
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={name}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shop.db" if request.param == "sqlite" else request.getfixturevalue("postgresql")


def _open_catalog(url: str) -> int:
    """What a replica does when it starts; the number of products that it then sees."""

    async def run() -> int:
        catalog = Catalog(CatalogConfig(database=url))
        await catalog.migrate()
        await catalog.start()
        try:
            return (await catalog.search()).total
        finally:
            await catalog.stop()

    return asyncio.run(run())


@pytest.mark.alone  # its processes find the shop as the first process does, which a worker of pytest is not
def test_replicas_start_together_and_seed_once(url: str) -> None:
    with ProcessPoolExecutor(6, mp_context=multiprocessing.get_context("spawn")) as replicas:
        assert list(replicas.map(_open_catalog, [url] * 12)) == [216] * 12


async def test_transactions_are_serialised(url: str) -> None:
    databases = [Database(url, "counting", STEPS) for _ in range(3)]
    for database in databases:
        await database.migrate()
    await asyncio.gather(*(database.start() for database in databases))

    def increment(connection: Connection) -> None:
        value = connection.scalar(select(_counter.c.value))
        assert value is not None
        connection.execute(update(_counter).values(value=value + 1))

    await asyncio.gather(*(database.write(increment) for database in databases for _ in range(20)))
    assert await databases[0].read(lambda connection: connection.scalar(select(_counter.c.value))) == 60
    await asyncio.gather(*(database.stop() for database in databases))


async def test_what_raises_is_undone(url: str) -> None:
    database = Database(url, "undoing", STEPS)
    await database.migrate()
    await database.start()

    def work(connection: Connection) -> None:
        connection.execute(update(_counter).values(value=99))
        raise LookupError("on second thoughts")

    with pytest.raises(LookupError):
        await database.write(work)
    assert await database.read(lambda connection: connection.scalar(select(_counter.c.value))) == 0
    await database.stop()


async def test_buying_on_postgresql(postgresql: str, world_config: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    for table in world_config.values():
        if "database" in table:
            table["database"] = postgresql
    state = tmp_path
    shop = open_world("direct", ROOT / "examples" / "shop", state=state, config=world_config, profile="postgres")
    async with shop as world:
        session = await world.get(Auth).sign_up("ada@example.com", "Ada", "correct horse battery")
        user, cart = UserId(session.user.id), CartId("cart of ada")
        await world.get(Cart).add(cart, ProductId("fjord-mug"), 2)
        address, card = (
            Address("Ada", "12 St James's Square", "SW1Y 4JH", "London"),
            Card("4242424242424242", 1, 2040, "123"),
        )
        orders: Orders = world.get(Orders)
        tries = [orders.place(user, cart, "key", Cents(3680), address, card) for _ in range(4)]
        placed = await asyncio.gather(*tries, return_exceptions=True)
        assert any(not isinstance(order, BaseException) and order.state == "paid" for order in placed), placed
        assert len(await orders.orders(user)) == 1
        assert await world.get(Cart).count(cart) == 0
        assert (await world.get(Catalog).search("fjord")).total == 24
