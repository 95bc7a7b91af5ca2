"""The files of an SQLite database, which must not be parted while it is in use.

See https://www.sqlite.org/howtocorrupt.html, 2.4. The write-ahead log (-wal) and its index (-shm) have to be there
before the database is, under both names. A rollback journal (-journal) follows its database once nobody holds a lock
to write.
"""

import fcntl
import os
import stat
import struct
from collections.abc import Iterator, Set
from contextlib import suppress
from pathlib import Path

from fissile.releases.app_data.moves import is_same_file, modified_ns

# SQLite looks for them beside the database itself, never through a link.
WAL, SHM, JOURNAL = COMPANIONS = ("-wal", "-shm", "-journal")
# The bytes that writers lock (https://www.sqlite.org/fileformat2.html, os_unix.c).
PENDING_BYTE, LOCK_BYTES = 0x4000_0000, 2
LOCK_FORMAT = "hhqqi4x"
# How a rollback journal begins while its transaction is under way; afterwards there are zeros.
JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"


def may_move(in_copy: Path, in_app: Path, others: Set[Path]) -> bool:
    """Whether moving a file now parts no database. others: all that is about to be moved from the copy."""
    for companion in COMPANIONS:
        name = in_copy.name.removesuffix(companion)
        if name in (in_copy.name, ""):
            continue
        database = in_copy.with_name(name)
        if database in others or not database.is_symlink():
            # It moves with its database. Only a journal moves ahead of it, and only while nobody writes: a database
            # that has moved without its journal could not be rolled back.
            return companion == JOURNAL and database.is_file() and not is_write_locked(database)
        if companion == JOURNAL:
            return is_hot(in_copy) and not is_write_locked(database)
        return not in_app.exists()
    return not (is_hot(Path(f"{in_copy}{JOURNAL}")) and is_write_locked(in_copy))


def moving_order(path: str) -> tuple[str, int]:
    """A sort key: a journal before its database, the database before its log and the index."""
    for order, companion in ((0, JOURNAL), (2, WAL), (3, SHM)):
        if path.endswith(companion):
            return path.removesuffix(companion), order
    return path, 1


def is_companion(path: Path) -> bool:
    """Whether a file belongs to a database beside it."""
    text = str(path)
    return any(text.endswith(one) and Path(text.removesuffix(one)).is_file() for one in COMPANIONS)


def share_log(database: Path, other: Path) -> None:
    """Give the log of a database, and its index, second names beside the other name of the database.

    A log beside a database that is not there was left by one that is gone, and makes room.
    """
    for log, its in _logs(database, other):
        _share(log, its, replace=not os.path.lexists(other))


def hand_over_log(database: Path, other: Path) -> None:
    """Leave the log of a database that has moved, and its index, their second names alone."""
    for log, its in _logs(database, other):
        _share(log, its)  # made since the database moved
        if is_same_file(log, its):
            log.unlink(missing_ok=True)


def _logs(database: Path, other: Path) -> Iterator[tuple[Path, Path]]:
    return ((Path(f"{database}{end}"), Path(f"{other}{end}")) for end in (WAL, SHM))


def _share(file: Path, name: Path, *, replace: bool = False) -> None:
    """Give a file a second name, if the file is there. replace: keep what has that name as a backup."""
    with suppress(OSError):
        if stat.S_ISREG(file.lstat().st_mode):
            if replace and name.exists() and not is_same_file(file, name):
                name.rename(f"{name}.before-{modified_ns(file)}")
            os.link(file, name, follow_symlinks=False)


def is_hot(journal: Path) -> bool:
    """Whether a rollback journal holds what an unfinished transaction has overwritten."""
    with suppress(OSError), journal.open("rb") as file:
        return file.read(len(JOURNAL_MAGIC)) == JOURNAL_MAGIC
    return False


def is_write_locked(database: Path) -> bool:
    """Whether a process is about to write to a database (fcntl_locking(2), F_GETLK)."""
    with suppress(OSError), database.open("rb") as file:
        asked = struct.pack(LOCK_FORMAT, fcntl.F_RDLCK, os.SEEK_SET, PENDING_BYTE, LOCK_BYTES, 0)
        found = fcntl.fcntl(file, fcntl.F_GETLK, asked)
        return struct.unpack(LOCK_FORMAT, found)[0] != fcntl.F_UNLCK
    return False
