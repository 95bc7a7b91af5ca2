"""The warden: a process beside each confined replica that alters modes, owners and times of its own files for it.

The kernel stops the caller and tells the warden the call (seccomp_unotify(2)). What a path means may be altered
between a look and a deed. So the warden opens the file first, asks where what it holds is, and alters that very file.
It has the replica's user, and acts for a process that root has made another user's as that user. It has none of the
replica's sockets, and ends with the last process that it answers for. Where a call
cannot be looked at, the answer is no: so without root on a system that lets only parents trace (Yama), for the programs
that a service starts.
"""

import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import stat
import struct
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from typing import NamedTuple

from fissile.machine import proctitle
from fissile.machine.seccomp import (
    CHMOD,
    CHOWN,
    FCHMOD,
    FCHMODAT,
    FCHMODAT2,
    FCHOWN,
    FCHOWNAT,
    FUTIMESAT,
    JUDGED,
    LCHOWN,
    UTIME,
    UTIMES,
    Architecture,
)
from fissile.machine.walls import within

NOTIFICATION = struct.Struct("@QIIiIQ6Q")
ANSWER = struct.Struct("@QqiI")
RECEIVE, SEND, IS_VALID = 0xC0502100, 0xC0182101, 0x40082102
PID = struct.Struct("@i")
PR_SET_PTRACER = 0x59616D61
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = 0x100, 0x1000
PATH_BYTES_MAX = 4096
SET_ID = stat.S_ISUID | stat.S_ISGID
DELETED = " (deleted)"
OWN = ("/proc/self/", "/proc/thread-self/")
SHARED_MEMORY = "/dev/shm"


class Target(NamedTuple):
    """The file that a call means. path: None is the descriptor itself. follow: whether a final link is followed."""

    descriptor: int
    path: int | None
    follow: bool = True


class Caller(NamedTuple):
    """The credentials of the caller, by which the kernel judges files (credentials(7))."""

    uid: int
    gid: int
    groups: tuple[int, ...]


class Change(NamedTuple):
    """What a call asks for: a mode, or owner and group, or two times: their address, and how they are kept there."""

    target: Target
    mode: int | None = None
    owner: tuple[int, int] | None = None
    times: int = 0
    kept: str = ""


def understood(name: str, args: tuple[int, ...]) -> Change:
    """A call by its arguments, as its manual page has them."""
    first = _signed(args[0])
    if name == CHMOD:
        return Change(Target(AT_FDCWD, args[0]), mode=args[1])
    if name == FCHMOD:
        return Change(Target(first, None), mode=args[1])
    if name in (FCHMODAT, FCHMODAT2):
        return Change(_target(first, args[1], args[3] if name == FCHMODAT2 else 0), mode=args[2])
    if name in (CHOWN, LCHOWN):
        return Change(Target(AT_FDCWD, args[0], name == CHOWN), owner=(_id(args[1]), _id(args[2])))
    if name == FCHOWN:
        return Change(Target(first, None), owner=(_id(args[1]), _id(args[2])))
    if name == FCHOWNAT:
        return Change(_target(first, args[1], args[4]), owner=(_id(args[2]), _id(args[3])))
    if name in (UTIME, UTIMES):
        return Change(Target(AT_FDCWD, args[0]), times=args[1], kept="seconds" if name == UTIME else "microseconds")
    if name == FUTIMESAT:
        return Change(_target(first, args[1], AT_EMPTY_PATH), times=args[2], kept="microseconds")
    return Change(
        _target(first, args[1], args[3] | (0 if args[1] else AT_EMPTY_PATH)), times=args[2], kept="nanoseconds"
    )


def _target(descriptor: int, path: int, flags: int) -> Target:
    return Target(descriptor, path or None, not flags & AT_SYMLINK_NOFOLLOW)


def _signed(value: int) -> int:
    """An argument as the int that it is."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _id(value: int) -> int:
    """Return a user or group id; -1 leaves it as it is."""
    value &= 0xFFFFFFFF
    return -1 if value == 0xFFFFFFFF else value


class Hired(NamedTuple):
    """A warden that waits for its post. socket: takes the descriptor at which it is asked."""

    socket: socket.socket
    pid: int


def hire(folders: Iterable[str], own: Architecture, become: Callable[[], None], label: str) -> Hired:
    """Start a warden. folders: of the service. become: to be the user that the replica will be. Raises OSError."""
    ours, theirs = socket.socketpair()
    between = os.fork()
    if between:
        theirs.close()
        number = ours.recv(PID.size)
        os.waitpid(between, 0)
        if not number:
            raise OSError(errno.EAGAIN, "a warden cannot be forked")
        return Hired(ours, *PID.unpack(number))
    try:
        # Not the replica's child: its code may wait for all of its own.
        pid = os.fork()
        if pid:
            theirs.send(PID.pack(pid))
            os._exit(0)
        _close_all_but(theirs.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        proctitle.become(f"{label} warden")
        become()
        _, (listener, *_), _, _ = socket.recv_fds(theirs, 16, 1)
        theirs.close()
        _serve(listener, tuple(folders), {own.calls[name]: name for name in JUDGED & own.calls.keys()})
    except (OSError, ValueError):
        pass  # the replica has ended
    finally:
        os._exit(0)


def appoint(warden: Hired, listener: int) -> None:
    """Give the warden what it needs to answer. Raises OSError."""
    # Where only parents may look into a process (Yama, prctl(2)) this one allows its warden to, and nobody else.
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, warden.pid, 0, 0, 0)
    with warden.socket:
        socket.send_fds(warden.socket, [b"listener"], [listener])
    os.close(listener)


def _close_all_but(kept: int) -> None:
    """Log pipes above all: their readers wait for the end."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX") if not os.path.isdir("/proc/self/fd") else _highest() + 1)


def _highest() -> int:
    return max(map(int, os.listdir("/proc/self/fd")))


def _serve(listener: int, folders: tuple[str, ...], names: dict[int, str]) -> None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        events = poll.poll()[0][1]
        if not events & select.POLLIN:
            return  # nobody is left who could ask
        asked = bytearray(NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, RECEIVE, asked)
        except OSError:
            continue  # whoever asked was killed or interrupted
        number, pid, _, call, _, _, *args = NOTIFICATION.unpack(asked)
        error = _judged(listener, number, pid, names[call], tuple(args), folders)
        with suppress(OSError):
            fcntl.ioctl(listener, SEND, ANSWER.pack(number, 0, -error, 0))


def _judged(listener: int, number: int, pid: int, name: str, args: tuple[int, ...], folders: tuple[str, ...]) -> int:
    """Do what is asked, if it may be; 0, or the number of the error."""
    change = understood(name, args)
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            path = _text(memory.fileno(), change.target.path)
            times = _times(memory.fileno(), change)
        caller = _caller(pid)
        file = _opened(pid, change.target, path, caller)
    except PermissionError:
        return errno.EPERM
    except OSError as error:
        return error.errno or errno.EPERM
    try:
        # Only now is it sure that the process with this number was the one that asked.
        fcntl.ioctl(listener, IS_VALID, struct.pack("@Q", number))
        with _as(caller):
            return _altered(file, change, times, folders, caller)
    except OSError as error:
        return error.errno or errno.EPERM
    finally:
        os.close(file)


def _caller(pid: int) -> Caller:
    """Return the credentials of a process stopped in a call, which cannot change meanwhile. Raises OSError."""
    with open(f"/proc/{pid}/status", "rb") as file:
        found = {name: value.split() for name, _, value in (line.partition(b":") for line in file)}
    # Real, effective, saved, and that of the file system.
    return Caller(int(found[b"Uid"][3]), int(found[b"Gid"][3]), tuple(map(int, found[b"Groups"])))


@contextmanager
def _as(caller: Caller) -> Generator[None]:
    """Have the caller's rights to files and no more, where ours are root's (setfsuid(2), capabilities(7))."""
    if os.geteuid() != 0 or caller.uid == 0:
        yield
        return
    libc, groups = ctypes.CDLL(None), os.getgroups()
    os.setgroups(caller.groups)
    libc.setfsgid(caller.gid)
    libc.setfsuid(caller.uid)
    try:
        yield
    finally:
        libc.setfsuid(0)
        libc.setfsgid(os.getegid())
        os.setgroups(groups)


def _altered(file: int, change: Change, times: bytes | None, folders: tuple[str, ...], caller: Caller) -> int:
    where = os.readlink(f"/proc/self/fd/{file}").removesuffix(DELETED)
    if not any(within(where, folder) for folder in folders):
        # All of the system share that folder, and the folder itself is nobody's to alter.
        own = within(where, SHARED_MEMORY) and where != SHARED_MEMORY and os.fstat(file).st_uid == caller.uid
        if not own:
            return errno.EPERM
    if change.mode is not None:
        if change.mode & SET_ID and not stat.S_ISDIR(os.fstat(file).st_mode):
            return errno.EPERM  # whoever runs the file would be this user
        os.chmod(f"/proc/self/fd/{file}", change.mode & 0o7777)
        return 0
    if change.owner is not None:
        os.chown(f"/proc/self/fd/{file}", *change.owner)
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.utimensat(AT_FDCWD, f"/proc/self/fd/{file}".encode(), times, 0)
    return ctypes.get_errno() if done < 0 else 0


def _opened(pid: int, target: Target, path: str | None, caller: Caller) -> int:
    """The very file that is meant, as a descriptor that can do nothing with it (O_PATH, open(2)). Raises OSError."""
    base = f"/proc/{pid}/cwd" if target.descriptor == AT_FDCWD else f"/proc/{pid}/fd/{target.descriptor}"
    flags = os.O_PATH | os.O_CLOEXEC
    if not path:
        return os.open(base, flags)
    for own in OWN:
        if path.startswith(own):
            path = f"/proc/{pid}/{path.removeprefix(own)}"
    flags = flags if target.follow else flags | os.O_NOFOLLOW
    if path.startswith("/"):
        with _as(caller):
            return os.open(path, flags)
    # What the caller works in, or has open, it has reached before, with whatever rights.
    start = os.open(base, os.O_PATH | os.O_CLOEXEC)
    try:
        with _as(caller):
            return os.open(path, flags, dir_fd=start)
    finally:
        os.close(start)


def _text(memory: int, address: int | None) -> str | None:
    """Read a path from another process's memory. Raises OSError if it is not there or too long."""
    if address is None:
        return None
    found = b""
    while b"\0" not in found and len(found) < PATH_BYTES_MAX:
        # Up to the end of a page: the next one may not be there.
        start = address + len(found)
        more = os.pread(memory, min(PATH_BYTES_MAX - len(found), 4096 - start % 4096), start)
        if not more:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        found += more
    text, end, _ = found.partition(b"\0")
    if not end:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    if not text:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return os.fsdecode(text)


def _times(memory: int, change: Change) -> bytes | None:
    """Two times as utimensat(2) takes them; None: now."""
    if not change.times:
        return None
    found = os.pread(memory, 16 if change.kept == "seconds" else 32, change.times)
    if change.kept == "nanoseconds":
        return found
    if change.kept == "seconds":
        read, written = struct.unpack("@qq", found)
        return struct.pack("@qqqq", read, 0, written, 0)
    read, read_us, written, written_us = struct.unpack("@qqqq", found)
    return struct.pack("@qqqq", read, read_us * 1000, written, written_us * 1000)
