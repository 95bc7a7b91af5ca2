"""Reads log files: the lines of all processes, in the order of their times.

The order within one file is never changed, and a traceback, or any line with those that are indented below it, stays
in one piece. `NAME.log` follows `NAME.old` and what logrotate(8) left beside it uncompressed (`NAME.log.1`,
`NAME.log-20260131`). A reader opens files from their ends, or where a time is found by bisection. It imports little:
`fissile logs` is to be quick.
"""

import heapq
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fissile.machine.log_lines import COARSE, EXACT, parse, seconds_of
from fissile.machine.spools import LOG, Collector

READ_BYTES = 256 * 1024
# A line without its end is shown once nothing was added to it for so long.
QUIET_SECONDS = 0.3
# What belongs together is printed within so long, and is not more lines than that.
TOGETHER_SECONDS, TOGETHER_LINES_MAX = 1.0, 1_000
# A clock may be set back by so much before lines are missed.
SLACK_SECONDS = 1.0
BISECT_BYTES = 64 * 1024

_FILE = re.compile(r"(.+?)\.(?:old|log|log[.-].+)")
_PACKED = (".gz", ".xz", ".bz2", ".zst", ".lz4", ".Z", ".zip")
_TRACEBACK = re.compile(rb"(?:  \+ Exception Group )?Traceback \(most recent call last\):")
_BETWEEN = re.compile(rb"\s*\Z|During handling of the above|The above exception was the direct")


class Row(NamedTuple):
    """A line. stamp: its time as in the file; if it has none, that of the line before it. name: whose it is.

    whole: whether it has its end; goes_on: whether its beginning was a row before.
    """

    stamp: bytes
    kind: bytes
    trace: bytes
    name: str
    text: bytes
    whole: bool = True
    goes_on: bool = False

    @property
    def coarse(self) -> bool:
        """Whether it was written some time before its stamp, and nobody knows when."""
        return self.kind == COARSE


class Wanted(NamedTuple):
    """Which lines. since, until: stamps, or b"". trace: 32 hexadecimal digits, or b"". last: so many at the end."""

    since: bytes = b""
    until: bytes = b""
    trace: bytes = b""
    last: int | None = None


def files_of(folder: Path) -> dict[str, list[Path]]:
    """The log files of each name, oldest first; that which is written to is the last."""
    found: dict[str, list[tuple[bool, int, Path]]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name = _FILE.fullmatch(entry.name)
            if name is None or entry.name.endswith(_PACKED):
                continue
            try:
                age = entry.stat().st_mtime_ns
            except OSError:
                continue
            current = entry.name == f"{name[1]}{LOG}"
            found.setdefault(name[1], []).append((current, age, folder / entry.name))
    return {name: [path for *_, path in sorted(some)] for name, some in sorted(found.items())}


def service_of(name: str) -> str:
    """The service that a name belongs to: images.0 is one of images."""
    service, _, slot = name.rpartition(".")
    return service if service and slot.isdigit() else name


class Reader:
    """Reads what there is, and then what is added. wants: whether lines of a name are to be read. Raises OSError."""

    def __init__(self, folder: Path, spools: Path, wanted: Wanted, wants: Callable[[str], bool]) -> None:
        self._folder = folder
        self._wanted = wanted
        self._wants = wants
        self._collector = Collector(spools, folder)
        self._followed: dict[str, _Followed] = {}

    def first(self) -> Iterator[Row]:
        """Return the lines that are there now."""
        self._collect()
        wanted = self._wanted
        chains = [_Chain(name, paths) for name, paths in files_of(self._folder).items() if self._wants(name)]
        for chain in chains:
            self._followed[chain.name] = chain.followed()
        # The end of what is there can be read alone, unless it is searched for something.
        ends = wanted.last is not None and not wanted.until and not wanted.trace
        streams = [
            _chosen(chain.last(wanted.last or 0) if ends else chain.since(wanted.since), wanted) for chain in chains
        ]
        rows = merged(streams)
        return rows if wanted.last is None else iter(deque(rows, wanted.last))

    def more(self) -> list[Row]:
        """Return the lines that were added."""
        self._collect()
        now = time.monotonic()
        try:
            names = {entry.removesuffix(LOG) for entry in os.listdir(self._folder) if entry.endswith(LOG)}
        except OSError:  # the folder was removed; a file that was, is read to its end
            names = set[str]()
        for name in names - self._followed.keys():
            if self._wants(name):
                self._followed[name] = _Followed(name, self._folder / f"{name}{LOG}", None)
        return list(merged([_chosen(followed.new(now), self._wanted) for followed in self._followed.values()]))

    def _collect(self) -> None:
        """Collect what was printed: without a supervisor nobody else does."""
        if self._collector.acquire():
            self._collector.find(unwatched=None)
            self._collector.read()
            self._collector.release()
            self._collector.tidy()


def last(folder: Path, name: str, count: int) -> list[str]:
    """The last lines of a log, without their times; none where there is no such log."""
    try:
        paths = files_of(folder).get(name, [])
    except OSError:
        return []
    return [row.text.decode(errors="replace") for row in _Chain(name, paths).last(count)]


def _chosen(rows: Iterable[Row], wanted: Wanted) -> Iterator[Row]:
    since, until, trace, _ = wanted
    for row in rows:
        if until and row.stamp > until:
            return
        if row.stamp >= since and (not trace or row.trace == trace):
            yield row


def merged(streams: list[Iterator[Row]]) -> Iterator[Row]:
    """The rows of all streams by their times; what belongs together in one of them stays so."""
    for _, block in heapq.merge(*map(_blocks, streams), key=lambda found: found[0]):
        yield from block


def _blocks(rows: Iterable[Row]) -> Iterator[tuple[bytes, list[Row]]]:
    block: list[Row] = []
    state = _Together()
    for row in rows:
        if block and not (state.joins(row.text) and len(block) < TOGETHER_LINES_MAX and _soon(block[-1], row)):
            yield block[0].stamp, block
            block, state = [], _Together()
        state.add(row.text)
        block.append(row)
    if block:
        yield block[0].stamp, block


class _Together:
    """Which lines belong to those before them."""

    def __init__(self) -> None:
        self._in_traceback = False
        self._after_traceback = False

    def joins(self, text: bytes) -> bool:
        """Whether a line belongs to the one before it."""
        if self._in_traceback or text[:1] in (b" ", b"\t"):
            return True
        return self._after_traceback and (_BETWEEN.match(text) is not None or _TRACEBACK.match(text) is not None)

    def add(self, text: bytes) -> None:
        """It is the last one now."""
        if _TRACEBACK.match(text):
            self._in_traceback, self._after_traceback = True, False
        elif self._in_traceback and text[:1] not in (b" ", b"\t"):
            self._in_traceback, self._after_traceback = False, True


def _soon(before: Row, row: Row) -> bool:
    if before.stamp[:19] == row.stamp[:19]:
        return True
    return bool(before.stamp) and seconds_of(row.stamp) - seconds_of(before.stamp) < TOGETHER_SECONDS


class _Rows:
    """Makes rows of the lines of one name: a time never steps back, and a line without one has that before it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._row = Row(b"", EXACT, b"", name, b"")

    def row(self, line: bytes, *, whole: bool = True, goes_on: bool = False) -> Row:
        before = self._row
        if goes_on:
            return before._replace(text=line, whole=whole, goes_on=True)
        stamp, kind, trace, text = parse(line)
        if not stamp:
            kind, trace = before.kind, before.trace
        found = Row(max(stamp, before.stamp), kind, trace, self._name, text.removesuffix(b"\r"), whole)
        self._row = found
        return found


class _Chain:
    """The files of one name."""

    def __init__(self, name: str, paths: list[Path]) -> None:
        self.name = name
        self._files: list[tuple[BinaryIO, int]] = []
        self._current = paths[-1].parent / f"{name}{LOG}" if paths else Path(f"{name}{LOG}")
        for path in paths:
            try:
                file = open(path, "rb")  # noqa: SIM115 -- for as long as it is read
            except OSError:
                continue
            self._files.append((file, os.fstat(file.fileno()).st_size))
            self._is_current = path == self._current

    def followed(self) -> "_Followed":
        """Return what is read next: the current file, from its present end."""
        if not self._files or not self._is_current:
            return _Followed(self.name, self._current, None)
        file, size = self._files[-1]
        return _Followed(self.name, self._current, os.dup(file.fileno()), size)

    def since(self, stamp: bytes) -> Iterator[Row]:
        """All rows; those that are surely older may be left out."""
        rows = _Rows(self.name)
        for file, size in self._files:
            if stamp and os.fstat(file.fileno()).st_mtime < seconds_of(stamp) - SLACK_SECONDS:
                continue
            yield from _read(file, _place(file, stamp, size) if stamp else 0, size, rows)

    def last(self, count: int) -> Iterator[Row]:
        """The last rows."""
        places: list[tuple[BinaryIO, int, int]] = []
        for file, size in reversed(self._files):
            if count <= 0:
                break
            place, found = _back(file, size, count)
            places.append((file, place, size))
            count -= found
        rows = _Rows(self.name)
        for file, place, size in reversed(places):
            yield from _read(file, place, size, rows)


def _read(file: BinaryIO, place: int, size: int, rows: _Rows) -> Iterator[Row]:
    rest = b""
    for at in range(place, size, READ_BYTES):
        data = os.pread(file.fileno(), min(READ_BYTES, size - at), at)
        if b"\n" not in data:
            rest += data
            continue
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield rows.row(line)
    if rest:
        yield rows.row(rest, whole=False)


def _back(file: BinaryIO, size: int, count: int) -> tuple[int, int]:
    """Return where the last lines of a file begin, and how many there are, up to a limit."""
    place, found = size, 0
    first = True
    while place > 0:
        begin = max(0, place - READ_BYTES)
        data = os.pread(file.fileno(), place - begin, begin)
        end = len(data)
        if first and data.endswith(b"\n"):
            end -= 1
        first = False
        while (at := data.rfind(b"\n", 0, end)) >= 0:
            found += 1
            if found == count:
                return begin + at + 1, found
            end = at
        place = begin
    return 0, found + (size > 0)


def _place(file: BinaryIO, stamp: bytes, size: int) -> int:
    """Return where to begin reading so as to miss nothing from a time on."""
    from fissile.machine.log_lines import stamp as stamp_of

    wanted = stamp_of(seconds_of(stamp) - SLACK_SECONDS)
    low, high = 0, size
    while high - low > BISECT_BYTES:
        middle = (low + high) // 2
        at, found = _stamp_behind(file, middle, high)
        if not found or found >= wanted:
            high = middle
        else:
            low = at
    return low


def _stamp_behind(file: BinaryIO, place: int, end: int) -> tuple[int, bytes]:
    """The first line with a time that begins behind a place; b"" if there is none before an end."""
    file.seek(place)
    file.readline()
    while (at := file.tell()) < end:
        found = parse(file.readline()).stamp
        if found:
            return at, found
    return end, b""


class _Followed:
    """The end of one name's log, whatever becomes of the file."""

    def __init__(self, name: str, path: Path, fd: int | None, at: int = 0) -> None:
        self._path = path
        self._fd = fd
        self._at = at
        self._rest = b""
        self._rest_since = 0.0
        self._goes_on = False
        self._rows = _Rows(name)
        if fd is not None and at and os.pread(fd, 1, at - 1) != b"\n":
            self._goes_on = True  # it was shown so far

    def new(self, now: float) -> list[Row]:
        """The rows that were added. now: monotonic seconds."""
        found: list[Row] = []
        while True:
            moved = self._moved()
            self._take(found, now)
            if not moved:
                break
            if self._rest:
                self._show_rest(found)
            self._follow()
            if self._fd is None:
                break
        if self._rest and now - self._rest_since >= QUIET_SECONDS:
            self._show_rest(found, whole=False)
        return found

    def _show_rest(self, found: list[Row], *, whole: bool = True) -> None:
        found.append(self._rows.row(self._rest, whole=whole, goes_on=self._goes_on))
        self._goes_on, self._rest = not whole, b""

    def _moved(self) -> bool:
        """Whether another file is at the path, so that this one is to be read to its end, and then that."""
        if self._fd is None:
            return True
        try:
            return not os.path.samestat(os.fstat(self._fd), self._path.stat())
        except OSError:
            return False

    def _follow(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._at, self._goes_on = None, 0, False
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return

    def _take(self, found: list[Row], now: float) -> None:
        if self._fd is None:
            return
        if os.fstat(self._fd).st_size < self._at:
            self._at, self._rest, self._goes_on = 0, b"", False  # it was cut
        while data := os.pread(self._fd, READ_BYTES, self._at):
            self._at += len(data)
            *lines, rest = (self._rest + data).split(b"\n")
            for line in lines:
                found.append(self._rows.row(line, goes_on=self._goes_on))
                self._goes_on = False
            if rest != self._rest:
                self._rest, self._rest_since = rest, now
