"""One SQLite file: an append-only table of entries, and a small table of what must outlive a supervisor.

A Change is on the disk before anybody acts on it (synchronous=FULL). An Observation survives the
supervisor's death at once and a power cut within seconds (synchronous=NORMAL in WAL mode): no process
outlives a power cut anyhow. A full disk refuses changes with a clear error; observations wait in memory,
bounded, until there is room again, so that what runs is looked after all the same.

Format: https://sqlite.org/wal.html, https://sqlite.org/pragma.html#pragma_synchronous.
"""

import sqlite3
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fissile.errors import FissileError

SCHEMA_VERSION = 1
ENTRIES_MAX = 100_000
PRUNE_EVERY = 1_000
UNWRITTEN_MAX = 10_000
BUSY_SECONDS_MAX = 2.0
_SCHEMA = """
create table entries (
    id integer primary key autoincrement,
    at real not null,
    kind text not null,
    who text not null,
    what text not null,
    service text not null,
    reason text not null,
    data text not null
);
create index entries_by_service on entries (service, id);
create table kept (name text primary key, value blob not null);
"""


class JournalError(FissileError):
    """The journal cannot be read or written: the disk's fault, or that of somebody who altered it."""


class Entry(msgspec.Struct, frozen=True):
    """What happened. at: seconds since 1970. kind: change or observation. what: its type, as ReplicaReady.

    id: 0 until it is recorded; ids grow.
    """

    kind: str
    who: str
    what: str
    service: str = ""
    reason: str = ""
    data: dict[str, Any] = {}
    at: float = 0.0
    id: int = 0


class Journal:
    """The journal of one application. Its methods may be called from any thread; each may wait for the disk."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fissile-journal")
        self._unwritten: deque[Entry] = deque(maxlen=UNWRITTEN_MAX)
        self._since_prune = 0
        self.trouble = ""

    def open(self) -> None:
        """Open the file, or make it. Raises JournalError, and then leaves the file as it is."""
        self._thread.submit(self._open).result()

    def _open(self) -> None:
        try:
            self.file.touch(mode=0o600)
            connection = sqlite3.connect(
                self.file, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS_MAX
            )
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from None
        try:
            (version,) = connection.execute("pragma user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise JournalError(
                    f"{self.file} was written by a newer Fissile (format {version}, this one knows {SCHEMA_VERSION})",
                    remedy="use that version, or move the file away: what runs goes on, its history stays in the file",
                )
            (verdict,) = connection.execute("pragma quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            connection.execute("pragma journal_mode = wal")
            if version == 0:
                connection.executescript(f"begin; {_SCHEMA} pragma user_version = {SCHEMA_VERSION}; commit;")
        except sqlite3.Error as error:
            connection.close()
            raise self._error(error) from None
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _error(self, error: Exception) -> JournalError:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            return JournalError(
                f"{self.file} is damaged: {error}",
                remedy=f"move it away (its readable part: sqlite3 {self.file} .recover); what runs goes on",
            )
        return JournalError(
            f"{self.file} cannot be used: {error}", remedy="see whether the disk is full, and who owns the file"
        )

    def _write(self, entries: Sequence[Entry], kept: dict[str, bytes], durable: bool) -> list[Entry]:
        connection = self._connection
        if connection is None:
            raise JournalError("the journal is closed")
        recorded: list[Entry] = []
        try:
            connection.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
            connection.execute("begin immediate")
            for entry in [*self._unwritten, *entries]:
                entry = msgspec.structs.replace(entry, at=entry.at or time.time())
                data = msgspec.json.encode(entry.data).decode()
                row = (entry.at, entry.kind, entry.who, entry.what, entry.service, entry.reason, data)
                cursor = connection.execute(
                    "insert into entries (at, kind, who, what, service, reason, data) values (?, ?, ?, ?, ?, ?, ?)", row
                )
                recorded.append(msgspec.structs.replace(entry, id=cursor.lastrowid or 0))
            for name, value in kept.items():
                connection.execute("insert or replace into kept values (?, ?)", (name, value))
            connection.execute("commit")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                connection.execute("rollback")
            self.trouble = str(error)
            raise self._error(error) from None
        self._unwritten.clear()
        self.trouble = ""
        self._prune(len(recorded))
        return recorded

    def _prune(self, written: int) -> None:
        """Forget the oldest entries beyond ENTRIES_MAX, now and then."""
        self._since_prune += written
        if self._since_prune >= PRUNE_EVERY and self._connection is not None:
            self._since_prune = 0
            with suppress(sqlite3.Error):
                self._connection.execute(
                    "delete from entries where id <= (select max(id) from entries) - ?", (ENTRIES_MAX,)
                )

    def change(self, entry: Entry, kept: dict[str, bytes] | None = None) -> Entry:
        """Record a change, and what is to be kept because of it, durably. Raises JournalError, changing nothing."""
        return self._thread.submit(self._write, [entry], kept or {}, True).result()[-1]

    def keep(self, name: str, value: bytes) -> None:
        """Keep a value under a name, durably. Raises JournalError."""
        self._thread.submit(self._write, [], {name: value}, True).result()

    def kept(self, name: str) -> bytes | None:
        """What is kept under a name. Raises JournalError."""
        row = self._read("select value from kept where name = ?", (name,))
        return row[0][0] if row else None

    def observe(self, entry: Entry) -> None:
        """Record an observation soon, in order; where that fails, it waits for the next one."""
        entry = msgspec.structs.replace(entry, at=entry.at or time.time())
        with suppress(RuntimeError):  # closed: it came too late
            self._thread.submit(self._observe, entry)

    def _observe(self, entry: Entry) -> None:
        try:
            self._write([entry], {}, False)
        except JournalError:
            self._unwritten.append(entry)

    def history(self, *, service: str = "", after: int = 0, limit: int = 100) -> list[Entry]:
        """The last entries, oldest first: of one service or all, with ids above `after`. Raises JournalError."""
        rows = self._read(
            "select id, at, kind, who, what, service, reason, data from entries "
            "where id > ? and (? = '' or service = ?) order by id desc limit ?",
            (after, service, service, limit),
        )
        return [
            Entry(kind, who, what, of, reason, msgspec.json.decode(data), at, number)
            for number, at, kind, who, what, of, reason, data in reversed(rows)
        ]

    def _read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        def read() -> list[Any]:
            if self._connection is None:
                raise JournalError("the journal is closed")
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._error(error) from None

        return self._thread.submit(read).result()

    def close(self) -> None:
        """Write what waits, and close."""
        with suppress(RuntimeError):
            self._thread.submit(self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._connection is not None:
            if self._unwritten:
                with suppress(JournalError):
                    self._write([], {}, True)
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
