"""A component's own database: SQLite file by default, a schema of its own in PostgreSQL by URL.

Work is a plain function of a connection. It runs in a thread, in one transaction, and it may read,
decide and write as if it were alone: writes are serialised, by SQLite's write lock or by PostgreSQL's
serialisable isolation, where a loser is run again. So several replicas may share a database.
"""

import asyncio
import fcntl
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    Column,
    Connection,
    Double,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

T = TypeVar("T")
Work = Callable[[Connection], T]

DATA_FOLDER = Path(__file__).parent.parent / "data"
CONNECTIONS_MAX = 4
BUSY_SECONDS_MAX = 10
ATTEMPTS_MAX = 15
PAUSE_SECONDS_MAX = 0.1
LOST_RACES = frozenset({"40001", "40P01"})  # serialisation failure, deadlock: PostgreSQL asks to try again

_migrations = Table("migration", MetaData(), Column("step", Integer, primary_key=True), Column("at", Double))


def sqlite(name: str) -> str:
    """The URL of a file in the shop's data folder."""
    return f"sqlite:///{DATA_FOLDER / name}.db"


class Database:
    """Tables of one component.

    steps: the migrations in their order. Append to them; never alter one that has been released.
    durable: a commit survives a loss of power, not only a crash of the process.
    """

    def __init__(self, url: str, schema: str, steps: Sequence[Work[Any]], *, durable: bool = False) -> None:
        self._url = make_url(url)
        self._schema = schema
        self._steps = steps
        self._durable = durable
        self._threads = ThreadPoolExecutor(CONNECTIONS_MAX, thread_name_prefix=f"{schema}-database")

    async def migrate(self) -> None:
        """Bring the tables up to date with the code: before any replica of it starts, beside those of older code."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._migrate)

    async def start(self) -> None:
        """Open the database."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._open)

    async def stop(self) -> None:
        """Let running work end, then close all connections."""
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.dispose()

    async def read(self, work: Work[T]) -> T:
        """Run work that only reads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, work)

    async def write(self, work: Work[T]) -> T:
        """Run work that may write. It may be run more than once, and only one run takes effect."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._write, work)

    def _read(self, work: Work[T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    def _write(self, work: Work[T]) -> T:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                with self._writer.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in LOST_RACES or attempt == ATTEMPTS_MAX:
                    raise
            # A pause of random length parts those who would meet again.
            time.sleep(random.uniform(0, min(PAUSE_SECONDS_MAX, 0.002 * 2**attempt)))
        raise AssertionError("the last attempt returns or raises")

    def _open(self) -> None:
        if self._url.get_backend_name() == "sqlite":
            self._engine = self._open_sqlite()
            self._writer = self._engine.execution_options(immediate=True)
        else:
            self._engine = self._open_postgresql()
            self._writer = self._engine.execution_options(isolation_level="SERIALIZABLE")

    def _migrate(self) -> None:
        self._open()
        self._write(self._step_by_step)
        self._engine.dispose()

    def _open_sqlite(self) -> Engine:
        file = Path(self._url.database or "")
        file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(self._url, pool_size=CONNECTIONS_MAX, connect_args={"timeout": BUSY_SECONDS_MAX})

        @event.listens_for(engine, "connect")
        def connect(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # the driver must not begin transactions of its own: see `begin`
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
            connection.execute("PRAGMA foreign_keys = ON")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            # A transaction that begins as a reader cannot wait for its turn to write: take the lock first.
            writes = connection.get_execution_options().get("immediate")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        # SQLite does not wait for a lock while it changes the journal's mode, so replicas take turns.
        with open(file.with_suffix(".lock"), "w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            connection = engine.raw_connection()
            connection.cursor().execute("PRAGMA journal_mode = WAL")
            connection.close()
        return engine

    def _open_postgresql(self) -> Engine:
        engine = create_engine(
            self._url,
            pool_size=CONNECTIONS_MAX,
            pool_pre_ping=True,
            connect_args={"options": f"-csearch_path={self._schema}"},
        )
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": self._schema})
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {self._schema}"))
            _migrations.create(connection, checkfirst=True)
        return engine

    def _step_by_step(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE migration IN ACCESS EXCLUSIVE MODE"))
        else:
            _migrations.create(connection, checkfirst=True)
        done = connection.scalar(select(func.max(_migrations.c.step))) or 0
        for number, step in enumerate(self._steps[done:], start=done + 1):
            step(connection)
            connection.execute(insert(_migrations).values(step=number, at=time.time()))
