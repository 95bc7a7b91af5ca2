"""Finds the processes that a process left behind, and ends them: asks first, then kills, until none is found.

Whoever is to be signalled is held by a pidfd and looked at once more, so that a number that went to somebody else hits
nobody. A process that starts others while it is being ended is outrun by looking again, within a limit.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Collection, Container, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.machine.procfs import Look, Mark, ancestors, children, descendants, everyone, look, mark_of

# For what a replica has left: it is asked, and has so long.
ASKED_SECONDS = 1.0
# To see the end of what was killed: the kernel may be busy with it, as with a disk that does not answer.
KILLED_SECONDS_MAX = 5.0
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.002, 0.05
COMMAND_CHARACTERS_MAX = 60

Find = Callable[[], Iterable[int]]


def left_by(leader: int, mark: Mark, foster: int, known: Container[int]) -> list[int]:
    """Return what an ended replica has left: the processes that its zygote has adopted, and their descendants.

    leader: the replica's number, which is its session's, too. foster: the zygote, whose child it was.
    known: children of the zygote that are somebody else.
    """
    adopted, zygote = children(foster), look(foster)
    if adopted is None or zygote is None or zygote.ended:
        return left_anywhere(mark.application, lambda serial: serial == mark.serial)
    heads = [pid for pid in adopted if pid not in known and _is_of(pid, leader, mark)]
    return living([*heads, *(below for pid in heads for below in descendants(pid))])


def _is_of(pid: int, leader: int, mark: Mark) -> bool:
    found = look(pid)
    if found is None or found.ended or pid == leader:
        return False
    return found.session == leader or mark_of(pid) == mark


def left_anywhere(application: str, whose: Callable[[int], bool] = lambda _: True) -> list[int]:
    """Return the processes with the application's mark and a serial that is meant, and their descendants.

    Looks at every process of the machine.
    """
    heads: list[int] = []
    for pid in everyone():
        found = look(pid)
        if found is None or found.ended:
            continue
        mark = mark_of(pid)
        if mark is not None and mark.application == application and whose(mark.serial):
            heads.append(pid)
    return living([*heads, *(below for pid in heads for below in descendants(pid))])


def living(pids: Iterable[int]) -> list[int]:
    """Return those that have not ended; never this process or one of its ancestors."""
    spared = {os.getpid(), *ancestors(os.getpid())}
    return [pid for pid in dict.fromkeys(pids) if pid not in spared and (found := look(pid)) and not found.ended]


class Ending:
    """The end of all that `find` finds. first: by which signal they are asked; asked: for how long (seconds).

    kill: is called as well when they are killed. found: how many there were. left: what lived when it was looked last.
    """

    def __init__(
        self,
        find: Find,
        first: signal.Signals = signal.SIGTERM,
        asked: float = ASKED_SECONDS,
        kill: Callable[[], object] = lambda: None,
    ) -> None:
        self.left: list[int] = []
        self.found = 0
        self._find = find
        self._first = first
        self._kill = kill
        self._asked: set[tuple[int, int]] = set()
        self._kill_at = time.monotonic() + asked
        self._limit = self._kill_at + KILLED_SECONDS_MAX

    def hurry(self, asked: float = 0.0) -> None:
        """They have no more time than this to end by themselves (seconds)."""
        self._kill_at = min(self._kill_at, time.monotonic() + asked)
        self._limit = self._kill_at + KILLED_SECONDS_MAX

    def step(self) -> bool:
        """Look, and signal what is there. Whether it is over: nothing is left, or the limit has passed."""
        kills = time.monotonic() >= self._kill_at
        if kills:
            self._kill()
        self.left = []
        for pid in self._find():
            found = look(pid)
            if found is None or found.ended:
                continue
            self.left.append(pid)
            if kills or (pid, found.born) not in self._asked:
                tell(found, signal.SIGKILL if kills else self._first)
            if (pid, found.born) not in self._asked:
                self._asked.add((pid, found.born))
                self.found += 1
        return not self.left or time.monotonic() > self._limit

    def run(self, between: Callable[[], object] = lambda: None) -> list[int]:
        """Do it; what could not be ended. between: is called between two looks."""
        pause = PAUSE_SECONDS
        while not self.step():
            time.sleep(pause)
            between()
            pause = min(pause * 1.5, PAUSE_SECONDS_MAX)
        return self.left

    async def run_beside(self, *, first_done: bool = False) -> list[int]:
        """The same in an event loop, which is not held up. first_done: the first step was taken already."""
        pause = PAUSE_SECONDS
        while first_done or not await asyncio.to_thread(self.step):
            first_done = False
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, PAUSE_SECONDS_MAX)
        return self.left


def tell(found: Look, number: signal.Signals) -> bool:
    """Send a signal to a process, if it is still the same; whether that was allowed."""
    try:
        handle = os.pidfd_open(found.pid)
    except AttributeError:
        handle = -1
    except OSError:
        return True  # it has gone
    try:
        again = look(found.pid)
        if again is None or again.born != found.born:
            return True
        if handle >= 0:
            signal.pidfd_send_signal(handle, number)
        else:
            os.kill(found.pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    finally:
        if handle >= 0:
            os.close(handle)
    return True


class Survivor(msgspec.Struct, frozen=True):
    """A process that could not be ended. why: as far as it can be seen."""

    pid: int
    command: str
    why: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command}{', ' if self.why else ''}{self.why})"


def survivors(pids: Collection[int]) -> list[Survivor]:
    """Describe the processes that could not be ended."""
    return [Survivor(pid, command_of(pid), _why(pid)) for pid in living(pids)]


def command_of(pid: int) -> str:
    """Return what a process runs, for people; "?" if that is not shown."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        text = words or Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        return "".join(c if c.isprintable() else "?" for c in text)[:COMMAND_CHARACTERS_MAX] or "?"
    return "?"


def _why(pid: int) -> str:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    owner = int(fields.get("Uid", "0").split()[0])
    if os.geteuid() not in (0, owner):
        return f"it belongs to user {owner}"
    state = fields.get("State", "").split()[:1]
    return "the kernel waits for a device" if state == ["D"] else ""
