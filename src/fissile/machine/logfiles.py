"""Replicas' output in files, for an application in the background.

Each process writes to a spool of its own (`spools`), a thread here brings that to the log files, each line with its
time. The thread sleeps while nobody prints. Log files are two for each slot at most, of FILE_BYTES_MAX.
"""

import os
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path

from fissile.machine.inotify import Watch
from fissile.machine.log_lines import EXACT, stamp
from fissile.machine.spools import GATHER_SECONDS, LOG, OUTPUT, PRUNE_SECONDS, RETRY_SECONDS, Collector, make

LOCK_SECONDS = 0.05
CLOSE_SECONDS_MAX = 5.0
STDOUT, STDERR = 1, 2


class LogFiles:
    """The same as Logs, on files in a folder. Raises OSError where it cannot be made."""

    def __init__(self, folder: Path) -> None:
        self.width = 0
        self._folder = folder
        self._spools = folder.parent / OUTPUT
        self._collector = Collector(self._spools, folder)
        self._watch: Watch | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._own = ""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def begin(self) -> None:
        """Bring what is printed to the files, from now on. To be called by who supervises alone."""
        if self._thread is not None:
            return
        self._spools.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._own = _own(self._folder)
        self._watch = Watch(str(self._spools))
        before = frozenset(os.listdir(self._spools))
        self._thread = threading.Thread(target=self._run, args=(self._watch, before), name="fissile-logs", daemon=True)
        self._thread.start()

    def pipes(self, name: str) -> tuple[int, int]:
        """Descriptors for a process's stdout and stderr; the caller closes them once it has passed them on.

        Raises OSError.
        """
        with suppress(OSError), self._collector.lock:
            self._collector.log(name).ready()  # there is a log of whatever runs, though it may be empty
        try:
            out = make(self._spools, name)
        except OSError:  # a full disk may still take lines of a log that is there
            path = self._folder / f"{name}{LOG}"
            out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._watch is not None:
            self._watch.wake()
        return out, os.dup(out)

    def say(self, name: str, text: str) -> None:
        """A line of our own."""
        head = stamp(time.time()) + EXACT
        lines = b"".join(head + line.encode(errors="replace") + b"\n" for line in text.splitlines())
        with suppress(OSError), self._collector.lock:
            log = self._collector.log(name)
            log.ready()
            log.append(lines, self)
            if name == self._own and not os.path.samestat(os.fstat(log.fd), os.fstat(STDERR)):
                for number in (STDOUT, STDERR):  # the file was moved, or is full
                    os.dup2(log.fd, number)

    def close(self) -> None:
        """Bring all that has been printed so far to the files. May be called again."""
        self._closing.set()
        if self._thread is not None and self._watch is not None:
            self._watch.wake()
            self._thread.join(CLOSE_SECONDS_MAX)
            self._thread = None
            self._watch.close()
            self._watch = None

    def _run(self, watch: Watch, before: frozenset[str]) -> None:
        """before: spools to which somebody may have written unseen."""
        while True:
            try:
                return self._serve(watch, before)
            except Exception:  # a mistake of ours: said, and what is printed goes on to the logs
                traceback.print_exc()
                self._collector.release()
                if self._closing.wait(RETRY_SECONDS):
                    return None

    def _serve(self, watch: Watch, before: frozenset[str]) -> None:
        """Until it is closed."""
        collector = self._collector
        while not collector.acquire():  # somebody reads them who shows them: that is soon over
            if self._closing.wait(LOCK_SECONDS):
                return
            with suppress(FileNotFoundError):  # the application was removed
                self._spools.mkdir(mode=0o700, exist_ok=True)
        watch.follow()
        collector.find(unwatched=before)
        again = collector.read()
        pruned = -PRUNE_SECONDS
        while not self._closing.is_set():
            if time.monotonic() - pruned >= PRUNE_SECONDS:
                collector.prune(time.time())
                pruned = time.monotonic()
            found = watch.wait(min(PRUNE_SECONDS, again or PRUNE_SECONDS))
            if found.anything:
                watch.follow()
                collector.find()
            again = collector.read(None if found.anything else found.changed, closed=found.closed)
            self._closing.wait(GATHER_SECONDS)
        collector.find()
        collector.read()
        collector.release()
        collector.tidy()


def _own(folder: Path) -> str:
    """Whose log file this process prints to by itself; "" where it does not."""
    with suppress(OSError):
        ours = os.fstat(STDERR)
        for path in folder.glob(f"*{LOG}"):
            if os.path.samestat(ours, path.stat()):
                return path.name.removesuffix(LOG)
    return ""


def collect(folder: Path, *, seconds_max: float = 0.0) -> None:
    """Bring to the files what nobody has brought there, where nobody supervises. folder: of the logs.

    seconds_max: so long it waits until nobody can write any more. A process that was killed is gone from /proc a moment
    before its files are closed (do_exit() of Linux gives up its memory first).
    """
    collector = Collector(folder.parent / OUTPUT, folder)
    if collector.acquire():
        collector.find(unwatched=None)
        collector.read()
        limit = time.monotonic() + seconds_max
        while collector.written_to() and time.monotonic() < limit:
            time.sleep(LOCK_SECONDS)
            collector.read()
        collector.release()
        collector.tidy()


def last_lines(folder: Path, name: str, count: int) -> list[str]:
    """The last lines of a log, without their times. Whoever prints is read within 0.1 s."""
    from fissile.machine.logreader import last

    return last(folder, name, count)
