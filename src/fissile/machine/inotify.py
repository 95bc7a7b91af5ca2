"""Waits until files in a folder change, and costs nothing meanwhile (inotify(7)); where that cannot be, it looks again.

A class for one thread: `wake` alone may be called from others.
"""

import ctypes
import os
import select
import struct
from contextlib import suppress
from typing import NamedTuple

MODIFY, CLOSE_WRITE, MOVED_TO, DELETE = 0x2, 0x8, 0x80, 0x200
OVERFLOW, IGNORED = 0x4000, 0x8000
EVENT = struct.Struct("iIII")
READ_BYTES = 64 * 1024
# Between two looks where the system tells nothing.
LOOK_SECONDS = 0.1


class Changes(NamedTuple):
    """changed: names of files that were written to. closed: whose writer has closed one. anything: look at all."""

    changed: set[str]
    closed: set[str]
    anything: bool


class Watch:
    """Watches one folder, by its path: another one that takes its place is watched after `follow`."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._inode = -1
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        with suppress(AttributeError):  # not Linux
            self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def follow(self) -> None:
        """Watch what is at the path now."""
        try:
            inode = os.stat(self._folder).st_ino
        except OSError:
            self._inode = -1
            return
        if inode != self._inode and self._fd >= 0:
            mask = MODIFY | CLOSE_WRITE | MOVED_TO | DELETE
            added = self._libc.inotify_add_watch(self._fd, os.fsencode(self._folder), mask)
            if added < 0:  # the user's limit, or a file system that cannot
                os.close(self._fd)
                self._fd = -1
            self._inode = inode

    def wait(self, seconds: float | None) -> Changes:
        """Wait for a change, a call of `wake`, or for so long (None: for ever)."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if self._fd >= 0:
            poll.register(self._fd, select.POLLIN)
        else:
            seconds = LOOK_SECONDS if seconds is None else min(seconds, LOOK_SECONDS)
        ready = {fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)}
        changed, closed = set[str](), set[str]()
        anything = self._fd not in ready
        if self._wake_read in ready:
            with suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        if self._fd in ready:
            for mask, name in _events(os.read(self._fd, READ_BYTES)):
                if mask & (OVERFLOW | IGNORED | MOVED_TO | DELETE):
                    anything = True
                if mask & CLOSE_WRITE:
                    closed.add(name)
                changed.add(name)
        return Changes(changed, closed, anything)

    def wake(self) -> None:
        """End the wait: from any thread."""
        with suppress(OSError):
            os.write(self._wake_write, b"+")

    def close(self) -> None:
        """Watch no more."""
        for fd in (self._fd, self._wake_read, self._wake_write):
            if fd >= 0:
                os.close(fd)
        self._fd = self._wake_read = self._wake_write = -1


def _events(data: bytes) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    place = 0
    while place < len(data):
        _, mask, _, length = EVENT.unpack_from(data, place)
        place += EVENT.size
        found.append((mask, os.fsdecode(data[place : place + length].rstrip(b"\0"))))
        place += length
    return found
