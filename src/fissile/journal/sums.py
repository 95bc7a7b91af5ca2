"""Checksums by which a journal knows its own damage: of each row, of the number of rows, and of the newest write.

SQLite checks the structure of its file and not what is written in it, and of a write-ahead log it forgets all that
follows a damaged frame (https://sqlite.org/walformat.html): the file is then what it was some writes ago, and whole.
So the number of the newest write stands beside the file, too, as long as there is such a log.
"""

import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

SUM_BYTES = 4
_TIP = struct.Struct("!QQ")
_encode = msgspec.msgpack.Encoder().encode


def sum_of(*values: Any) -> int:
    """Of values of a row, whatever types a damage made of them (zlib.crc32)."""
    try:
        return zlib.crc32(_encode(values))
    except (TypeError, ValueError, OverflowError):
        return -1


class Tally(msgspec.Struct, array_like=True):
    """writes: of all kinds; changes: those that are on the disk before they are acted on. entries, last: how many
    there are, and the highest id.
    """

    writes: int = 0
    changes: int = 0
    entries: int = 0
    last: int = 0


class Tip:
    """The numbers of the newest write, in a file beside the journal. After a power cut it may be behind, or gone."""

    def __init__(self, file: Path) -> None:
        self._file = file.with_name(f"{file.name}-tip")
        self._fd = -1

    def read(self) -> tuple[int, int] | None:
        """Writes and changes; None where that is not known."""
        with suppress(OSError):
            data = self._file.read_bytes()
            if len(data) == _TIP.size + SUM_BYTES and zlib.crc32(data[: _TIP.size]) == int.from_bytes(
                data[_TIP.size :]
            ):
                writes, changes = _TIP.unpack(data[: _TIP.size])
                return writes, changes
        return None

    def write(self, tally: Tally) -> None:
        """Another write is done. A full disk is no reason to undo it."""
        data = _TIP.pack(tally.writes, tally.changes)
        with suppress(OSError):
            if self._fd < 0:
                self._fd = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(self._fd, data + zlib.crc32(data).to_bytes(SUM_BYTES), 0)

    def close(self, *, remove: bool) -> None:
        """remove: the journal is whole without its log."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if remove:
            with suppress(OSError):
                self._file.unlink()
