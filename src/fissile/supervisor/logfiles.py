"""Replicas' output in files, for an application in the background.

Each replica writes to its slot's file by itself, so that its output outlives a supervisor. Lines carry
no time of their own: marks beside the file say how long it was at which time, to the second, and
`since` finds the place by them. A file that has grown beyond its limit is copied and cut.
"""

import errno
import io
import os
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

SUFFIX = ".log"
MARKS = ".marks"
OLD = ".old"
FILE_BYTES_MAX = 32 * 1024 * 1024
COPY_BYTES = 1024 * 1024
MARK = struct.Struct("!dQ")


class Unfailing(io.FileIO):
    """A log that does without what a full disk cannot take: what prints must not fail over it."""

    def write(self, data: Any, /) -> int:
        """All of it, or nothing."""
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return len(data)


def unfailing_output() -> None:
    """From now on, printing in this process does not fail over a full disk."""
    for fd, name in ((1, "stdout"), (2, "stderr")):
        raw = io.BufferedWriter(Unfailing(fd, "w", closefd=False))
        stream = io.TextIOWrapper(raw, errors="backslashreplace", line_buffering=True, write_through=fd == 2)
        setattr(sys, name, stream)


def private(path: str, flags: int) -> int:
    """Opens a file for `open` that, where it is made, is its owner's alone."""
    return os.open(path, flags, 0o600)


def flush_output() -> None:
    """Write what is begun: a fork would write it once more. To be called before one."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # whatever an application has put there
            stream.flush()


class LogFiles:
    """The same as Logs, on files in a folder. `mark` is to be called about once a second."""

    def __init__(self, folder: Path) -> None:
        self.width = 0
        self._folder = folder
        self._sizes: dict[Path, int] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def pipes(self, name: str) -> tuple[int, int]:
        """Descriptors for a process's stdout and stderr; the caller closes them once it has passed them on."""
        path = self._folder / f"{name}{SUFFIX}"
        out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return out, os.dup(out)

    def say(self, name: str, text: str) -> None:
        """A line of our own."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError), open(self._folder / f"{name}{SUFFIX}", "a", opener=private) as file:
            file.write("".join(f"{stamp} {line}\n" for line in text.splitlines()))

    def mark(self) -> None:
        """Note how long each file is now, and cut those that are too long."""
        now = time.time()
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):
                size = path.stat().st_size
                if size != self._sizes.get(path):
                    with open(path.with_suffix(MARKS), "ab", opener=private) as marks:
                        marks.write(MARK.pack(now, self._sizes.get(path, 0)))
                    self._sizes[path] = size
                if size > FILE_BYTES_MAX:
                    self._cut(path)

    def _cut(self, path: Path) -> None:
        """Copy, then cut: whoever writes has the file open and goes on at its new end."""
        with open(path, "r+b") as file, open(path.with_suffix(OLD), "wb", opener=private) as old:
            while data := file.read(COPY_BYTES):
                old.write(data)
            file.truncate(0)
        path.with_suffix(MARKS).unlink(missing_ok=True)
        self._sizes[path] = 0

    def close(self) -> None:
        """Nothing is open here."""


class Tail:
    """Reads what is in the files from a time on, and what is added to them, line by line."""

    def __init__(self, folder: Path, service: str = "", since: float | None = None) -> None:
        self._folder = folder
        self._service = service
        self._since = since
        self._places: dict[Path, int] = {}
        self._rests: dict[Path, bytes] = {}

    def lines(self) -> Iterator[tuple[str, str]]:
        """What was not read yet: the writer's name, and its line."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            name = path.name.removesuffix(SUFFIX)
            if self._service and self._service not in (name, name.rpartition(".")[0]):
                continue
            yield from ((name, line) for line in self._new(path))

    def _new(self, path: Path) -> list[str]:
        if path not in self._places:
            self._places[path] = 0 if self._since is None else _place(path, self._since)
        try:
            size = path.stat().st_size
            if size < self._places[path]:
                self._places[path] = 0  # it was cut
            with open(path, "rb") as file:
                file.seek(self._places[path])
                data = file.read(size - self._places[path])
        except OSError:
            return []
        self._places[path] += len(data)
        *lines, self._rests[path] = (self._rests.get(path, b"") + data).split(b"\n")
        return [line.decode(errors="replace") for line in lines]


def _place(path: Path, since: float) -> int:
    """Where the output from a time on begins: to the second too early, never too late."""
    try:
        data = path.with_suffix(MARKS).read_bytes()
        size = path.stat().st_size
    except OSError:
        return 0
    place = 0
    for at, length in MARK.iter_unpack(data[: len(data) // MARK.size * MARK.size]):
        if at > since:
            return place if at - since > 1.5 and place else min(length, size)
        place = length
    return size
