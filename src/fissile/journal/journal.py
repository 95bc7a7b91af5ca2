"""One SQLite file: an append-only table of entries, and a small table of what must outlive a supervisor.

A Change is on the disk before anybody acts on it (synchronous=FULL). An Observation survives the
supervisor's death at once and a power cut within seconds (synchronous=NORMAL in WAL mode): no process
outlives a power cut anyhow. A full disk refuses changes with a clear error; observations wait in memory,
bounded, until there is room again, so that what runs is looked after all the same.

Damage is found when the file is opened (see sums). What cannot be opened is refused. What can be, says what is lost of
it: entries (`loss`) are only said to be; values that are kept (`damage`) cannot be read before they are written anew.

Each value that is kept carries the number of its format and the version of the Fissile that wrote it. What another
Fissile wrote is refused before anything is altered, so that the other one can still go on with it.

Format: https://sqlite.org/wal.html, https://sqlite.org/pragma.html#pragma_synchronous.
"""

import sqlite3
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec

from fissile.errors import FissileError
from fissile.formats import FOUND_ANEW, JOURNAL, KEPT, OF_LAST_RUN
from fissile.journal.rows import (
    COLUMNS,
    KEEP,
    READABLE,
    SCHEMA,
    TALLY,
    Entry,
    StoredValue,
    decode_text,
    encode_tally,
    last_writer,
    read_entry,
    read_value,
    read_values,
    upgrade,
    value_row,
)
from fissile.journal.sums import Tally, Tip, sum_of

# Of what was changed on purpose: whatever floods the rest, it is there for those who ask who did what.
CHANGES_MAX = 20_000
# Of what was seen, and what the autoscaler did of it.
OBSERVATIONS_MAX = 80_000
# Of a reason, or of a text in the data, of what was seen: an application may say anything when it fails.
TEXT_CHARACTERS_MAX = 20_000
PRUNE_EVERY = 1_000
UNWRITTEN_MAX = 10_000
BUSY_SECONDS_MAX = 2.0
_OF_CHANGES = "(kind = 'change' and what <> 'SetReplicas')"
CHANGES = "the newest changes"


class JournalError(FissileError):
    """The journal cannot be read or written: the disk's fault, or that of somebody who altered it."""


class Journal:
    """The journal of one application. Its methods may be called from any thread; each may wait for the disk."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fissile-journal")
        self._unwritten: deque[Entry] = deque(maxlen=UNWRITTEN_MAX)
        self._since_prune = 0
        self._tally = Tally()
        self._tip = Tip(file)
        self._wrote = False
        self.trouble = ""
        # What was found to be lost when it was opened: entries, in words; and names of what is kept and cannot be read.
        self.loss = ""
        self.damage: tuple[str, ...] = ()
        # What another Fissile has kept and is done without: by name, in words.
        self.strange: dict[str, str] = {}

    def open(self, *, anew: bool = False, only_read: bool = False) -> None:
        """Open the file, or make it. Raises JournalError, and then leaves the file as it is.

        anew: what ran last need not be readable, and is forgotten if it is not. only_read: the file stays of the format
        that it is of, for the Fissile that wrote it may go on with it.
        """
        self._thread.submit(self._open, anew, only_read).result()

    def damaged(self) -> JournalError:
        """The error of whoever needs what is kept, where there is `damage`."""
        return JournalError(
            f"{self.file} is damaged: {', '.join(self.damage)} cannot be read, so nobody knows what is to run",
            remedy=f"{self._copy_back()}; or end what runs with `fissile down`, and begin with the code in the "
            "folder: `fissile up --fresh`",
        )

    def mend(self) -> None:
        """Go on without what is damaged."""
        self._thread.submit(self._mend).result()

    def _mend(self) -> None:
        assert self._connection is not None
        with suppress(sqlite3.Error):
            self._connection.executemany("delete from kept where name = ?", [(name,) for name in self.damage])
        self.damage = ()

    def _open(self, anew: bool, only_read: bool) -> None:
        try:
            self._make()
            connection = self._connected(self.file)
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from None
        try:
            (version,) = connection.execute("pragma user_version").fetchone()
            if version > JOURNAL.number:
                raise self._refused(JOURNAL.strange(version, last_writer(connection)))
            (verdict,) = connection.execute("pragma integrity_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            if version < 1:
                raise sqlite3.DatabaseError("it is no journal")
            connection.execute("pragma journal_mode = wal")
            if only_read and version < READABLE:
                raise self._refused(JOURNAL.strange(version, ""))
            kept = read_values(connection, version)
            if not only_read:
                self.strange = self._compare(kept, anew=anew)
            if version < JOURNAL.number and not only_read:
                upgrade(connection, version, kept)
                kept = read_values(connection, JOURNAL.number)
            self._look(connection, kept)
        except sqlite3.Error as error:
            connection.close()
            raise self._error(error) from None
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _refused(self, by: str) -> JournalError:
        return JournalError(
            f"{self.file} was written by {by}",
            remedy="use that version: nothing was altered, and what runs goes on; or end it with the `fissile down` of "
            "that one, and move the file away: its history stays in it",
        )

    def _compare(self, kept: list[StoredValue], *, anew: bool) -> dict[str, str]:
        """What is kept and not understood, by name, in words. Raises JournalError where nobody can do without it."""
        strange: dict[str, str] = {}
        for one in kept:
            form = KEPT.get(one.name)
            if one.value is None or form is None or form.reads(one.format):
                continue
            by = form.strange(one.format, one.fissile)
            if one.name not in FOUND_ANEW and not (anew and one.name in OF_LAST_RUN):
                raise self._refused(by)
            strange[one.name] = f"{self.file}: {one.name} begins anew: it was written by {by}"
        return strange

    def _make(self) -> None:
        """Make a file that is not there. While it is half made it has another name, so none is ever empty."""
        if self.file.exists():
            if self.file.is_file() and not self.file.stat().st_size:
                raise sqlite3.DatabaseError("it is empty")
            return
        draft = self.file.with_name(f"{self.file.name}.new")
        self._tip.close(remove=True)
        for log in ("-wal", "-shm"):  # of a file that somebody has moved away
            self.file.with_name(self.file.name + log).unlink(missing_ok=True)
        try:
            draft.unlink(missing_ok=True)
            draft.touch(mode=0o600)
            connection = self._connected(draft)
            try:
                connection.executescript(f"begin; {SCHEMA} pragma user_version = {JOURNAL.number}; commit;")
                connection.execute(KEEP, value_row(TALLY, encode_tally(Tally())))
            finally:
                connection.close()
            draft.rename(self.file)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise

    def _connected(self, file: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS_MAX)
        connection.text_factory = decode_text
        return connection

    def _look(self, connection: sqlite3.Connection, kept: list[StoredValue]) -> None:
        """See whether all is there that was written, as it was written."""
        damage = [one.name for one in kept if one.value is None and one.name != TALLY]
        found = next((one.value for one in kept if one.name == TALLY), None)
        count = last = wrong = 0
        for *values, total, number in connection.execute(f"select {COLUMNS}, sum, id from entries"):
            count, last, wrong = count + 1, max(last, number), wrong + (sum_of(*values) != total)
        losses: list[str] = []
        if found is None:
            losses.append("how many entries there were is not known")
            self._tally = Tally(0, 0, count, last)
        else:
            self._tally = msgspec.msgpack.decode(found, type=Tally)
            missing = max(self._tally.entries - count, self._tally.last - last)
            if missing > 0:
                losses.append(f"{missing} entries are gone")
            self._tally.entries, self._tally.last = count, last
            tip = self._tip.read()
            writes, changes = (tip[0] - self._tally.writes, tip[1] - self._tally.changes) if tip else (0, 0)
            if changes > 0:  # they were on the disk
                damage.append(f"{CHANGES} ({changes})")
            elif writes > 0:
                losses.append(f"the newest {writes} observations are gone")
        if wrong:
            losses.append(f"{wrong} entries cannot be read")
        self.damage = tuple(damage)
        self.loss = f"{self.file} is damaged: {', '.join(losses)}" if losses else ""

    def _copy_back(self) -> str:
        return f"put a copy of the file back, and remove {self.file.name}-wal, -shm and -tip beside it"

    def _error(self, error: Exception) -> JournalError:
        # Of the disk, and not of what is written there.
        disk = isinstance(error, sqlite3.OperationalError) and not str(error).startswith(("no such", "table "))
        if isinstance(error, sqlite3.DatabaseError) and not disk:
            return JournalError(
                f"{self.file} is damaged: {error}",
                remedy=f"{self._copy_back()}; or end what runs with `fissile down`, and move it away "
                f"(its readable part: sqlite3 {self.file} .recover)",
            )
        return JournalError(
            f"{self.file} cannot be used: {error}", remedy="see whether the disk is full, and who owns the file"
        )

    def _write(self, entries: Sequence[Entry], kept: dict[str, bytes], durable: bool) -> list[Entry]:
        connection = self._connection
        if connection is None:
            raise JournalError("the journal is closed")
        recorded: list[Entry] = []
        rows = [value_row(name, value) for name, value in kept.items()]
        before = msgspec.structs.replace(self._tally)
        try:
            connection.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
            connection.execute("begin immediate")
            for entry in [*self._unwritten, *entries]:
                entry = msgspec.structs.replace(entry, at=entry.at or time.time())
                data = msgspec.json.encode(entry.data).decode()
                columns = (entry.at, entry.kind, entry.who, entry.what, entry.service, entry.reason, data)
                cursor = connection.execute(
                    f"insert into entries ({COLUMNS}, sum) values (?, ?, ?, ?, ?, ?, ?, ?)",
                    (*columns, sum_of(*columns)),
                )
                recorded.append(msgspec.structs.replace(entry, id=cursor.lastrowid or 0))
            self._tally.writes += 1
            self._tally.changes += durable
            self._tally.entries += len(recorded)
            self._tally.last = max([self._tally.last, *(entry.id for entry in recorded)])
            for row in (*rows, value_row(TALLY, encode_tally(self._tally))):
                connection.execute(KEEP, row)
            connection.execute("commit")
        except sqlite3.Error as error:
            self._tally = before
            with suppress(sqlite3.Error):
                connection.execute("rollback")
            self.trouble = str(error)
            raise self._error(error) from None
        self._unwritten.clear()
        self.trouble = ""
        self._wrote = True
        self._tip.write(self._tally)
        self._prune(len(recorded))
        return recorded

    def _prune(self, written: int) -> None:
        """Forget the oldest entries beyond CHANGES_MAX and OBSERVATIONS_MAX, now and then."""
        self._since_prune += written
        if self._since_prune >= PRUNE_EVERY and self._connection is not None:
            self._since_prune = 0
            connection, before = self._connection, self._tally.entries
            try:
                connection.execute("begin immediate")
                for which, most in ((_OF_CHANGES, CHANGES_MAX), (f"not {_OF_CHANGES}", OBSERVATIONS_MAX)):
                    oldest = f"select id from entries where {which} order by id desc limit 1 offset ?"
                    self._tally.entries -= connection.execute(
                        f"delete from entries where {which} and id <= ({oldest})", (most,)
                    ).rowcount
                connection.execute(KEEP, value_row(TALLY, encode_tally(self._tally)))
                connection.execute("commit")
            except sqlite3.Error:
                self._tally.entries = before
                with suppress(sqlite3.Error):
                    connection.execute("rollback")

    def change(self, entry: Entry, kept: dict[str, bytes] | None = None) -> Entry:
        """Record a change, and what is to be kept because of it, durably. Raises JournalError, changing nothing."""
        return self._thread.submit(self._write, [entry], kept or {}, True).result()[-1]

    def keep(self, name: str, value: bytes) -> None:
        """Keep a value under a name, durably. Raises JournalError."""
        self._thread.submit(self._write, [], {name: value}, True).result()

    def kept(self, name: str) -> bytes | None:
        """What is kept under a name; None also of what is `strange`. Raises JournalError, also where it is damaged."""
        row = self._read("select value, format from kept where name = ?", (name,))
        if row and name in self.strange and not KEPT[name].reads(row[0][1]):
            return None
        value = read_value(name, *row[0]) if row else None
        if row and value is None:
            raise JournalError(
                f"{self.file} is damaged: {name} cannot be read",
                remedy=f"{self._copy_back()}; or say `fissile up --fresh`",
            )
        return value

    def observe(self, entry: Entry) -> None:
        """Record an observation soon, in order; where that fails, it waits for the next one."""
        data = {key: _clipped(value) for key, value in entry.data.items()}
        entry = msgspec.structs.replace(entry, at=entry.at or time.time(), reason=_clipped(entry.reason), data=data)
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
            f"select {COLUMNS}, sum, id from entries where id > ? and (? = '' or service = ?) order by id desc limit ?",
            (after, service, service, limit),
        )
        return [read_entry(*row) for row in reversed(rows)]

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
            whole = False
            with suppress(sqlite3.Error):
                self._connection.close()
                whole = self._wrote
            self._tip.close(remove=whole)
            self._connection = None


def _clipped(value: Any) -> Any:
    """A text of bounded length, also within other values; those as they are."""
    if isinstance(value, str) and len(value) > TEXT_CHARACTERS_MAX:
        return f"{value[:TEXT_CHARACTERS_MAX]} … and {len(value) - TEXT_CHARACTERS_MAX} more characters"
    if isinstance(value, dict):
        return {key: _clipped(inner) for key, inner in cast("dict[str, Any]", value).items()}
    return value
