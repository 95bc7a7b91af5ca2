"""Landlock: the kernel holds a process and its children to certain files, signals and traces, without privileges.

A process gives up a right for good, so this is done in the child, before any of its own code runs. Tracing
falls by itself: a process in a domain traces, and looks into the memory and the descriptors of, those in it alone.

Source: docs.kernel.org/userspace-api/landlock.html, landlock(7); the numbers are those of linux/landlock.h,
and the system calls' are the same on all architectures.
"""

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress

from fissile.machine.walls import DEVICE_FOLDERS, DEVICES, SCOPES_VERSION, Walls, readable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
PR_SET_NO_NEW_PRIVS = 38
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1 << 0, 1 << 1

WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK = 1 << 6, 1 << 7, 1 << 8, 1 << 9
MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER = 1 << 10, 1 << 11, 1 << 12, 1 << 13
# Since version 1, 2 and 3 of the interface.
WRITING = (
    WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_CHAR
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_BLOCK
    | MAKE_SYM,
    REFER,
    TRUNCATE,
)
TRUNCATE_VERSION = 3
OF_FILES = WRITE_FILE | READ_FILE | TRUNCATE
READ_AND_WRITE = 6


def interface_version() -> int:
    """Return the version of the running kernel's Landlock; 0 if there is none, or if it is turned off."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), CREATE_RULESET_VERSION))


class Domain:
    """Made while everything is still allowed, and entered last. Raises OSError."""

    def __init__(self, walls: Walls) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        version = interface_version()
        writing = 0
        for rights in WRITING[:version]:
            writing |= rights
        reading = READ_FILE if walls.listed else READ_FILE | READ_DIR
        scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL if version >= SCOPES_VERSION else 0
        # The kernel takes the longer struct where it knows all of it.
        attributes = (
            struct.pack("=QQQ", writing | reading, 0, scoped) if scoped else struct.pack("=Q", writing | reading)
        )
        size = ctypes.c_size_t(len(attributes))
        self._ruleset = self._checked(self._libc.syscall(CREATE_RULESET, attributes, size, 0))
        devices = list(usable_devices(walls))
        for path in {*walls.write, *devices}:
            self._allow(path, (writing | reading) & ~(MAKE_CHAR | MAKE_BLOCK))
        for path in readable((*walls.hidden, DEVICES), (*walls.shown, *devices), entries):
            # It may have gone since it was listed; and not even root may look at another user's file system (fuse(4)).
            with suppress(FileNotFoundError, PermissionError):
                self._allow(path, reading)
        for path in walls.shown:
            # Its own names, even where something in it is hidden.
            self._allow(path, reading & READ_DIR)

    def _allow(self, path: str, rights: int) -> None:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                rights &= OF_FILES
            if rights:
                rule = struct.pack("=Qi", rights, fd)
                self._checked(self._libc.syscall(ADD_RULE, self._ruleset, RULE_PATH_BENEATH, rule, 0))
        finally:
            os.close(fd)

    def enter(self) -> None:
        """From now on it holds, for this process and its children; `gain_nothing` comes before. Raises OSError."""
        try:
            self._checked(self._libc.syscall(RESTRICT_SELF, self._ruleset, 0))
        finally:
            os.close(self._ruleset)

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


def gain_nothing() -> None:
    """From now on no program that is executed gives this process, or its children, more rights than they have."""
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def entries(folder: str) -> list[str]:
    """The paths in a folder. Links are left out: what they lead to is somewhere itself."""
    try:
        with os.scandir(folder) as found:
            return [entry.path for entry in found if not entry.is_symlink()]
    except OSError:
        return []  # what cannot be listed cannot be read either


def usable_devices(walls: Walls) -> Iterator[str]:
    """The devices that the service's user may use without being root, and the folders of devices and shared memory.

    So root gets no disk and no memory of the machine to read or write.
    """
    user = walls.user
    own = (user.uid, {user.gid, *user.groups}) if user is not None else (os.getuid(), set(os.getgroups()))
    yield from (path for path in DEVICE_FOLDERS if os.path.isdir(path))
    for entry in _scanned([DEVICES]):
        if entry.is_dir(follow_symlinks=False):
            if entry.path not in DEVICE_FOLDERS:
                yield from (one.path for one in _scanned([entry.path]) if _usable(one, *own))
        elif _usable(entry, *own):
            yield entry.path


def _scanned(folders: Iterable[str]) -> Iterator["os.DirEntry[str]"]:
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as found:
            yield from found


def _usable(entry: "os.DirEntry[str]", uid: int, groups: set[int]) -> bool:
    found = entry.stat(follow_symlinks=False)
    if not stat.S_ISCHR(found.st_mode):
        return False
    mode = found.st_mode & 7
    if uid and found.st_uid == uid:
        mode = found.st_mode >> 6 & 7
    elif uid and found.st_gid in groups:
        mode = found.st_mode >> 3 & 7
    return mode & READ_AND_WRITE == READ_AND_WRITE
