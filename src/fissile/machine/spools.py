"""From what processes print to log files: each writes to a spool of its own, and one reader brings that to the logs.

A spool is a file that nobody else knows: it outlives the supervisor, as a pipe would not, and never blocks who prints.
The log files are written by the reader alone. So whoever moves, removes or cuts one, as logrotate(8) does, loses
nothing: the next line goes to a new file at the old path, programs in other languages included.

How far a spool was read stands beside it, and is written before and after each piece: a reader that is killed between
is followed by one that repeats nothing and leaves nothing out. There is one reader at a time: it holds a lock on the
folder (flock(2)). A spool that was read is emptied from its beginning, where whoever writes does not notice
(fallocate(2)). It is removed when nobody has it open for writing: writers share a lock on it, the one that goes with
their descriptor, however often that was inherited.
"""

import errno
import fcntl
import os
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

from fissile.machine.log_lines import COARSE, EXACT, SPOOL, Writing, stamp_ns, stamped, whole, whole_lines

# The folder of spools, beside that of the logs.
OUTPUT = "output"
LOG, OLD, PLACE, NEW = ".log", ".old", ".place", ".new"
# A spool has its name after so long, or never gets it.
BEGUN_SECONDS_MAX = 60.0
# What stands between a process's name and its number.
NUMBER = "~"
FILE_BYTES_MAX = 32 * 1024 * 1024
# A line that is open when a file is full comes to its end in that file, unless it has none for so long.
OPEN_BYTES_MAX = 1024 * 1024
READ_BYTES = 1024 * 1024
# So much of a spool was read before its disk space is given back; so long, and it is cut where that cannot be.
RECLAIM_BYTES = 16 * 1024 * 1024
CUT_BYTES = 1024 * 1024 * 1024
BLOCK_BYTES = 4096
TAIL_BYTES = 64
# Between two readings of what is written all the time.
GATHER_SECONDS = 0.02
# After a disk was full, and while somebody writes to a file that was removed.
RETRY_SECONDS, REMOVED_SECONDS = 1.0, 0.2
# Logs of what runs no more are kept so long after their last line.
KEEP_SECONDS = 30 * 86400.0
PRUNE_SECONDS = 3600.0
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE = 1, 2, 8

# How far it was read before and after the last piece; the log's inode, and its length before and after; whether that
# is done; how much was about to be taken off the spool's beginning.
PLACES = struct.Struct("!7Q")


def make(folder: Path, name: str) -> int:
    """A spool for a process: a descriptor to write to. Raises OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name}{NUMBER}{time.time_ns():x}{SPOOL}"
    begun = path.with_suffix(NEW)
    fd = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    os.rename(begun, path)  # a reader finds it only now that it is locked
    return fd


class LogFile:
    """A log file, by its path: what is there is written to, whatever becomes of what was there before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inode = 0
        self.size = 0
        # Who has left a line without its end.
        self.open_by: object = None
        self._fd = -1

    def ready(self) -> None:
        """Open what is at the path, and begin another file if that one is full. Raises OSError."""
        if self._fd >= 0:
            with suppress(FileNotFoundError):
                found = os.stat(self.path)
                full = FILE_BYTES_MAX if self.open_by is None else FILE_BYTES_MAX + OPEN_BYTES_MAX
                if found.st_ino == self.inode and found.st_size <= full:
                    self.size = found.st_size
                    return
                if found.st_ino == self.inode:
                    os.rename(self.path, self.path.with_suffix(OLD))
        self._open()

    def _open(self) -> None:
        self.close()
        self.path.parent.mkdir(mode=0o700, exist_ok=True)  # not what is above it: the application may be removed
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        found = os.fstat(self._fd)
        self.inode, self.size, self.open_by = found.st_ino, found.st_size, None

    def append(self, data: bytes, by: object) -> None:
        """Write all of it, or nothing. by: who goes on with a line that he has left open. Raises OSError."""
        if self.cut_off(by):
            data = b"\n" + data
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size += len(data)
        self.open_by = None if data.endswith(b"\n") else by

    def cut_off(self, by: object) -> bool:
        """Whether the last line is somebody else's, and has no end."""
        return by is not self.open_by and self.size > 0 and os.pread(self._fd, 1, self.size - 1) != b"\n"

    def goes_on(self, by: object) -> bool:
        """Whether the last line is his, and has no end."""
        return by is self.open_by

    def cut(self, size: int) -> None:
        """Take back what was written behind a length."""
        os.ftruncate(self._fd, size)
        self.size = size

    @property
    def fd(self) -> int:
        """The descriptor; -1 before `ready`."""
        return self._fd

    def close(self) -> None:
        """It is opened again by `ready`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Spool:
    """One spool, and how far it was read. watched: whether a reader has been there since it was made."""

    def __init__(self, path: Path, log: LogFile, lock: threading.RLock, *, watched: bool) -> None:
        self.path = path
        self.watched = watched
        self._log = log
        self._lock = lock
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._places = os.open(path.with_suffix(PLACE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._at = 0
        self._freed = 0
        self._tail = b""
        self._seen_ns = 0
        # Since when it has been written to without becoming longer (monotonic seconds).
        self._odd_since = 0.0
        self._state = Writing()
        self._resume()

    def _resume(self) -> None:
        data = os.pread(self._places, PLACES.size, 0)
        if len(data) < PLACES.size:
            return
        before, after, inode, log_before, log_after, done, taken = PLACES.unpack(data)
        self._at = after
        with self._lock:
            self._log.ready()
            if not done and self._log.inode == inode and self._log.size < log_after:
                self._at, log_after = before, log_before
                if self._log.size > log_before:
                    self._log.cut(log_before)
            if self._log.inode == inode and self._log.size == log_after and self._log.cut_off(self):
                self._log.open_by, self._state = self, Writing(open=True)  # nobody has written since
        if taken and self._first_data() < taken:  # else it was not taken
            self._at -= taken
        self._keep()
        found = os.fstat(self._fd)
        if self._at > found.st_size:
            self._at = 0
        self._seen_ns = found.st_mtime_ns
        self._remember()

    def _first_data(self) -> int:
        try:
            return os.lseek(self._fd, 0, os.SEEK_DATA)
        except (OSError, AttributeError):
            return 0

    def _remember(self) -> None:
        self._tail = os.pread(self._fd, min(TAIL_BYTES, self._at), max(0, self._at - TAIL_BYTES))

    @property
    def odd(self) -> bool:
        """Whether it is to be looked at again soon."""
        return self._odd_since > 0.0

    @property
    def removed(self) -> bool:
        """Whether somebody has removed it, so that nothing is heard of it any more."""
        return os.fstat(self._fd).st_nlink == 0

    def read(self, now_ns: int, *, final: bool = False) -> None:
        """Bring to the log what is new. Raises OSError where that cannot be written.

        now_ns: ns since 1970. final: nobody writes any more, so nothing is waited for.
        """
        found = os.fstat(self._fd)
        if self._rewritten(found.st_size, found.st_mtime_ns):
            self._at, self._state = 0, Writing()
        self._seen_ns = found.st_mtime_ns
        head = stamp_ns(min(found.st_mtime_ns, now_ns)) + (EXACT if self.watched else COARSE)
        while self._at < found.st_size:
            data = os.pread(self._fd, min(READ_BYTES, found.st_size - self._at), self._at)
            more = self._at + len(data) < found.st_size
            data = data if final else data[: whole(data)]
            if more:
                data = data[: whole_lines(data)]
            if not data:
                break
            with self._lock:  # for one piece alone: others are not to wait until a long spool was read
                self._pass_on(data, head)
        self.watched = True

    def _rewritten(self, size: int, mtime_ns: int) -> bool:
        """Whether somebody has cut it: `echo text > /dev/stderr` of a shell does (proc(5), open(2), O_TRUNC)."""
        if size < self._at or (
            self._tail and os.pread(self._fd, len(self._tail), self._at - len(self._tail)) != self._tail
        ):
            self._odd_since = 0.0
            return True
        if size > self._at or not self._at or mtime_ns == self._seen_ns:
            if size > self._at:
                self._odd_since = 0.0
            return self._odd_since > 0.0 and self._odd_for_long()
        # Written to, and not longer: either that is under way, or it is the same text anew.
        self._odd_since = self._odd_since or time.monotonic()
        return self._odd_for_long()

    def _odd_for_long(self) -> bool:
        if time.monotonic() - self._odd_since < RETRY_SECONDS:
            return False
        self._odd_since = 0.0
        return True

    def _pass_on(self, data: bytes, head: bytes) -> None:
        log = self._log
        log.ready()
        state = self._state if log.goes_on(self) else self._state._replace(open=False)
        text, state = stamped(data, head, state)
        grows = len(text) + log.cut_off(self)
        after = self._at + len(data)
        if text:
            begun = PLACES.pack(self._at, after, log.inode, log.size, log.size + grows, False, 0)
            os.pwrite(self._places, begun, 0)
            log.append(text, self)
        self._at, self._state = after, state
        self._keep()
        self._remember()

    def _keep(self, taken: int = 0) -> None:
        """Note how far it was read. taken: how much is about to be taken off its beginning."""
        size = self._log.size
        os.pwrite(self._places, PLACES.pack(self._at, self._at, self._log.inode, size, size, True, taken), 0)

    def reclaim(self) -> None:
        """Give the disk space back of what was read. Nobody who writes notices."""
        if self._at - self._freed < RECLAIM_BYTES or self._at < os.fstat(self._fd).st_size:
            return
        taken = (self._at - TAIL_BYTES) // BLOCK_BYTES * BLOCK_BYTES
        try:
            _allocate(self._fd, PUNCH_HOLE | KEEP_SIZE, taken)
            self._freed = taken
            self._keep(taken)
            _allocate(self._fd, COLLAPSE_RANGE, taken)
            self._at, self._freed = self._at - taken, 0
        except OSError:  # not on this file system
            if self._freed < taken or self._at > CUT_BYTES:
                os.ftruncate(self._fd, 0)  # a line that is printed at this very moment is lost
                self._at = self._freed = 0
        self._keep()
        self._remember()
        self._seen_ns = os.fstat(self._fd).st_mtime_ns

    def deserted(self) -> bool:
        """Whether nobody can write to it any more."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return True

    def close(self, *, remove: bool = False) -> None:
        """Read it no more."""
        if remove:
            for path in (self.path, self.path.with_suffix(PLACE)):
                path.unlink(missing_ok=True)
        os.close(self._fd)
        os.close(self._places)


def _allocate(fd: int, mode: int, length: int) -> None:
    """fallocate(2) from the beginning on. Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(fd, mode, ctypes.c_int64(0), ctypes.c_int64(length)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Collector:
    """Brings what is in the spools of a folder to the log files of another. For one thread at a time.

    lock: held while a log file is written to that others may write to as well.
    """

    def __init__(self, spools: Path, logs: Path) -> None:
        self.lock = threading.RLock()
        self._folder = spools
        self._logs = logs
        self._files: dict[str, LogFile] = {}
        self._spools: dict[str, Spool] = {}
        self._folder_fd = -1
        self._late: set[str] = set()
        self._missed = False

    def acquire(self) -> bool:
        """Be the one reader; False where another one is, or nothing is to be read."""
        try:
            fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._folder_fd = fd
        return True

    def release(self) -> None:
        """Let another one read."""
        for spool in self._spools.values():
            spool.close()
        self._spools.clear()
        with self.lock:
            for file in self._files.values():
                file.close()
            self._files.clear()
        if self._folder_fd >= 0:
            self._sweep()
            os.close(self._folder_fd)
            self._folder_fd = -1

    def _sweep(self) -> None:
        """Remove what a reader or a starter left who was killed in the middle of a step."""
        with suppress(OSError):
            names = set(os.listdir(self._folder))
            for name in names:
                path = self._folder / name
                begun = name.endswith(NEW) and time.time() - path.stat().st_mtime > BEGUN_SECONDS_MAX
                if begun or (name.endswith(PLACE) and name.removesuffix(PLACE) + SPOOL not in names):
                    path.unlink()

    def log(self, name: str) -> LogFile:
        """The log file of this name. To be used with the lock."""
        return self._files.setdefault(name, LogFile(self._logs / f"{name}{LOG}"))

    def find(self, *, unwatched: frozenset[str] | None = frozenset()) -> None:
        """Look for spools. unwatched: those to which somebody may have written unseen; None: any that is new."""
        self._missed = False
        try:
            names = sorted(name for name in os.listdir(self._folder) if name.endswith(SPOOL))
        except OSError:
            return
        for name in names:
            if name in self._spools:
                continue
            try:
                log = self.log(name.rpartition(NUMBER)[0])
                self._spools[name] = Spool(
                    self._folder / name, log, self.lock, watched=unwatched is not None and name not in unwatched
                )
            except OSError:  # the disk is full
                self._missed = True

    def read(self, names: set[str] | None = None, *, closed: set[str] | None = None) -> float | None:
        """Read these spools, or all; after how many seconds to read again without being asked. closed: maybe over."""
        wanted = set(self._spools)
        if names is not None:
            removed = {name for name, spool in self._spools.items() if spool.removed}
            wanted &= names | self._late | removed
        self._late.clear()
        for name in sorted(wanted):
            self._read(name, ending=closed is None or name in closed)
        if self._late or self._missed:
            return RETRY_SECONDS
        return REMOVED_SECONDS if any(spool.removed for spool in self._spools.values()) else None

    def written_to(self) -> bool:
        """Whether somebody can still write to a spool, as far as is known since the last read of all."""
        return bool(self._spools)

    def _read(self, name: str, *, ending: bool) -> None:
        spool = self._spools[name]
        try:
            over = ending and spool.deserted()
            spool.read(time.time_ns(), final=over)
            spool.reclaim()
        except OSError:  # the disk is full
            self._late.add(name)
            return
        if spool.odd:
            self._late.add(name)
        if over:
            del self._spools[name]
            spool.close(remove=True)

    def prune(self, now: float) -> None:
        """Remove the logs of what runs no more and has written nothing for KEEP_SECONDS. now: seconds since 1970."""
        live = {name.rpartition(NUMBER)[0] for name in self._spools}
        with suppress(OSError), os.scandir(self._logs) as entries:
            for entry in entries:
                name = entry.name.removesuffix(OLD).removesuffix(LOG)
                known = name != entry.name and name not in live
                if known and now - entry.stat().st_mtime > KEEP_SECONDS:
                    os.unlink(entry.path)

    def tidy(self) -> None:
        """Remove the folder if nothing is in it."""
        with suppress(OSError):
            os.rmdir(self._folder)
