"""Reads /proc: which process descends from which, and to whom it belongs. Alters nothing.

A process may have gone, and another may have its number, between any two looks. So whoever acts on what is found
here holds a pidfd first, and looks once more. Sources: proc_pid_stat(5), proc_tid_children(5), proc_pid_limits(5),
proc_pid_environ(5). Where there is no /proc, nobody is found.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

PROC = "/proc"
# What a replica and all that it starts carry in their environment: APPLICATION:SET:SERIAL.
VARIABLE = "FISSILE_REPLICA"
# And in the soft limit of file locks, which Linux hands down and has not looked at since 2.4.25 (getrlimit(2)).
RLIMIT_LOCKS = 10
SERIAL_BITS = 22
APPLICATION_BITS = 40
ANCESTORS_MAX = 1000
_LOCKS = b"\nMax file locks"


class Mark(msgspec.Struct, frozen=True):
    """Whose a process is. application: see `application_of`. serial: of its replica; 0: of none, as the zygote."""

    application: str
    serial: int

    def number(self) -> int:
        """As the limit of file locks holds it."""
        return int(self.application, 16) << SERIAL_BITS | self.kept().serial

    def kept(self) -> "Mark":
        """As it is found again: there is no room for all of a serial."""
        return Mark(self.application, self.serial % (1 << SERIAL_BITS))

    def of(self, serial: int) -> "Mark":
        """The same application's mark for a replica."""
        return Mark(self.application, serial).kept()


class Look(msgspec.Struct, frozen=True):
    """A process as it was just now. born: clock ticks since the machine began. ended: a zombie."""

    pid: int
    parent: int
    group: int
    session: int
    born: int
    ended: bool


def look(pid: int) -> Look | None:
    """A process, or None if there is none."""
    try:
        with open(f"{PROC}/{pid}/stat", "rb", buffering=0) as file:
            # The second field is the command in parentheses, and may hold anything.
            fields = file.read(4096).rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 20:
        return None
    return Look(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), fields[0] in b"ZX")


def born(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine did; None if it is gone, or a zombie."""
    found = look(pid)
    return None if found is None or found.ended else found.born


def still_there(births: Mapping[int, int]) -> list[int]:
    """Return the processes of a list that have not ended, by number and time of birth."""
    return [pid for pid, when in births.items() if born(pid) == when]


def parent(pid: int) -> int | None:
    """The process that a process is a child of now; 0: of none in this namespace."""
    found = look(pid)
    return None if found is None else found.parent


def session(pid: int) -> int | None:
    """The session of a process (setsid(2)): the number of whoever began it."""
    found = look(pid)
    return None if found is None else found.session


def ancestors(pid: int) -> list[int]:
    """Parent, its parent and so on, to the first process. Empty where the process is gone.

    An ancestor that goes while one looks ends the list early, and never lets a stranger in.
    """
    found: list[int] = []
    here = look(pid)
    while here is not None and here.parent > 0 and len(found) < ANCESTORS_MAX:
        above = look(here.parent)
        again = look(here.pid)
        # A parent that went meanwhile has left its number, and its child another parent.
        if above is None or again is None or again.parent != above.pid or above.born > here.born:
            break
        found.append(above.pid)
        here = above
    return found


def children(pid: int) -> list[int] | None:
    """The children of a process, zombies included; None where the system does not list them (CONFIG_PROC_CHILDREN)."""
    found: list[int] = []
    try:
        tasks = os.listdir(f"{PROC}/{pid}/task")
    except OSError:
        return []
    for task in tasks:
        try:
            with open(f"{PROC}/{pid}/task/{task}/children", "rb", buffering=0) as file:
                while data := file.read(1 << 16):
                    found += map(int, data.split())
        except OSError:
            if not os.path.exists(f"{PROC}/self/task/{os.getpid()}/children"):
                return None
    return found


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, nearest first, zombies included."""
    found: list[int] = []
    ahead = [pid]
    while ahead:
        here = children(ahead.pop())
        if here is None:
            return _descendants([pid])
        here = [one for one in here if one not in found]
        found += here
        ahead += here
    return found


def _descendants(roots: Iterable[int]) -> list[int]:
    """The same by a look at everyone."""
    below: dict[int, list[int]] = defaultdict(list)
    for pid in everyone():
        here = look(pid)
        if here is not None:
            below[here.parent].append(pid)
    found: list[int] = []
    ahead = list(roots)
    while ahead:
        here = below.pop(ahead.pop(), [])
        found += here
        ahead += here
    return found


def everyone() -> list[int]:
    """All processes that are shown to us."""
    try:
        return [int(name) for name in os.listdir(PROC) if name.isdecimal()]
    except OSError:
        return []


def application_of(folder: Path) -> str:
    """The name that all processes of the application in a folder carry in their marks. Raises OSError.

    Made of the folder itself and not of its path: another container may have the same path.
    """
    import hashlib

    found = folder.stat()
    digest = hashlib.sha256(f"{found.st_dev}:{found.st_ino}".encode()).hexdigest()
    return digest[: APPLICATION_BITS // 4]


def mark_of(pid: int) -> Mark | None:
    """Whose a process is, by the mark that it inherited; None where it has none, or has taken it off.

    A mark is a help against mistakes, and no proof: a process may alter its own.
    """
    return mark_by_limit(pid) or _by_environment(pid)


def mark_by_limit(pid: int) -> Mark | None:
    """The same by the limit alone: what is in a stranger's environment never enters this process."""
    try:
        with open(f"{PROC}/{pid}/limits", "rb", buffering=0) as file:
            words = file.read(4096).partition(_LOCKS)[2].split(maxsplit=1)
    except OSError:
        return None
    return from_number(int(words[0])) if words and words[0].isdigit() else None


def from_number(number: int) -> Mark | None:
    """Return the mark in a limit of file locks, if it is one."""
    application, serial = number >> SERIAL_BITS, number % (1 << SERIAL_BITS)
    if not 0 < application < 1 << APPLICATION_BITS:
        return None
    return Mark(f"{application:0{APPLICATION_BITS // 4}x}", serial)


def _by_environment(pid: int) -> Mark | None:
    try:
        with open(f"{PROC}/{pid}/environ", "rb") as file:
            data = b"\0" + file.read()
    except OSError:
        return None
    value = data.partition(f"\0{VARIABLE}=".encode())[2].partition(b"\0")[0].decode(errors="replace")
    application, _, rest = value.partition(":")
    serial = rest.rpartition(":")[2]
    if len(application) != APPLICATION_BITS // 4 or not serial.isdecimal():
        return None
    return Mark(application, int(serial)).kept()
