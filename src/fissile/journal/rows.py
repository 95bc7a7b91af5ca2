"""SHELL. The journal's file: its tables, how rows are encoded and checked, and upgrades from earlier formats."""

import sqlite3
from contextlib import suppress
from typing import Any

import msgspec

from fissile.formats import FISSILE, JOURNAL, KEPT
from fissile.journal.sums import SUM_BYTES, Tally, sum_of

SCHEMA = """
create table entries (
    id integer primary key autoincrement,
    at real not null,
    kind text not null,
    who text not null,
    what text not null,
    service text not null,
    reason text not null,
    data text not null,
    sum integer not null default 0
);
create index entries_by_service on entries (service, id);
create table kept (
    name text primary key, value blob not null, format integer not null default 1, fissile text not null default ''
);
"""
# The first whose values carry their number, and one that a reader does without an upgrade.
NUMBERED, READABLE = 3, 2
KEEP = "insert or replace into kept (name, value, format, fissile) values (?, ?, ?, ?)"
COLUMNS = "at, kind, who, what, service, reason, data"
# In the table of what is kept: numbers of the journal's own.
TALLY = "tally"
DAMAGED = "EntryDamaged"


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


def decode_text(data: bytes) -> str:
    """Decode text. Damaged text is no error here: its checksum tells."""
    return data.decode(errors="replace")


def encode_tally(tally: Tally) -> bytes:
    """A tally as it is stored."""
    return msgspec.msgpack.encode(tally)


def _stored(value: bytes, *known: Any) -> bytes:
    """A value as it is stored, after its checksum. known: what else the checksum covers."""
    return sum_of(*known, value).to_bytes(SUM_BYTES) + value


def read_value(name: object, stored: object, number: object) -> bytes | None:
    """A stored value; None if it is damaged. number: its format; None before formats had numbers."""
    known = (name,) if number is None else (name, number)
    if not isinstance(stored, bytes) or int.from_bytes(stored[:SUM_BYTES]) != sum_of(*known, stored[SUM_BYTES:]):
        return None
    return stored[SUM_BYTES:]


def read_entry(*row: Any) -> Entry:
    """An entry as it was recorded; a damaged one says that it is."""
    *values, total, number = row
    if sum_of(*values) != total:
        return Entry("observation", "fissile", DAMAGED, "", "what stood here cannot be read", {}, 0.0, number)
    at, kind, who, what, service, reason, data = values
    return Entry(kind, who, what, service, reason, msgspec.json.decode(data), at, number)


def value_row(name: str, value: bytes) -> tuple[str, bytes, int, str]:
    """A row of the table of values."""
    number = KEPT[name].number
    return name, _stored(value, name, number), number, FISSILE


class StoredValue(msgspec.Struct, frozen=True):
    """A value as it was found in the file. value: None if it is damaged."""

    name: str
    value: bytes | None
    format: int
    fissile: str


def read_values(connection: sqlite3.Connection, version: int) -> list[StoredValue]:
    """All stored values. One without a number is of format 1; one without a checksum counts as whole."""
    if version < READABLE:
        rows = connection.execute("select name, value from kept").fetchall()
        return [StoredValue(name, value, 1, "") for name, value in rows]
    columns = "format, fissile" if version >= NUMBERED else "null, ''"
    rows = connection.execute(f"select name, value, {columns} from kept").fetchall()
    return [
        StoredValue(str(name), read_value(name, value, number), number if isinstance(number, int) else 1, str(by))
        for name, value, number, by in rows
    ]


def last_writer(connection: sqlite3.Connection) -> str:
    """The version of Fissile that wrote last; "" if it is not known."""
    with suppress(sqlite3.Error, TypeError):
        (found,) = connection.execute("select fissile from kept where name = ?", (TALLY,)).fetchone()
        return str(found)
    return ""


def upgrade(connection: sqlite3.Connection, version: int, kept: list[StoredValue]) -> None:
    """Upgrade from format 1, which had no checksums (what is there counts as whole), or 2, which had no numbers."""
    connection.execute("begin immediate")
    if version < READABLE:
        connection.execute("alter table entries add column sum integer not null default 0")
        rows = connection.execute(f"select {COLUMNS}, id from entries").fetchall()
        sums = [(sum_of(*values), number) for *values, number in rows]
        connection.executemany("update entries set sum = ? where id = ?", sums)
        tally = Tally(0, 0, len(rows), max((number for _, number in sums), default=0))
        connection.execute("insert or replace into kept values (?, ?)", (TALLY, b""))
        kept = [*kept, StoredValue(TALLY, encode_tally(tally), 1, "")]
    connection.execute("alter table kept add column format integer not null default 1")
    connection.execute("alter table kept add column fissile text not null default ''")
    for one in kept:
        if one.value is not None:  # what is damaged stays so
            stored = _stored(one.value, one.name, one.format)
            connection.execute("update kept set value = ? where name = ?", (stored, one.name))
    connection.execute(f"pragma user_version = {JOURNAL.number}")
    connection.execute("commit")
