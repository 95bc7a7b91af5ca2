"""PURE. Decides which walls a service stands behind, and with which rules. `confine` builds them.

Three levels (docs/reference/isolation.md): *none*; *confined*, by `limits.disk` or `isolate`; *user*, by `user`, which
is confined as well. Landlock knows no exception to a rule: what is allowed below a folder is allowed in all of it. So
reading is allowed beside what is hidden: for each folder above it, in every other entry (`readable`).
"""

import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

import msgspec

DEVICES = "/dev"
# Devices that are folders, and those that every program takes for granted.
DEVICE_FOLDERS = ("/dev/shm", "/dev/pts", "/dev/mqueue")
NONE, CONFINED, USER = "none", "confined", "user"
WRITE, READ, METADATA, PRIVILEGES = "write", "read", "metadata", "privileges"
PTRACE, SIGNALS, ABSTRACT_SOCKETS = "ptrace", "signals", "abstract sockets"
SCOPES_VERSION = 6


class User(msgspec.Struct, frozen=True):
    """Another user of the system, as passwd(5) has it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class Walls(msgspec.Struct, frozen=True):
    """The walls of one replica. All paths are absolute, without links.

    write: the folders and files that it may write to. hidden: what it may not read, but for what is `shown` in it.
    listed: whether the names in hidden folders may be listed, because it works in a folder above them.
    temporary: its own folder for temporary files. user: under which it runs; None: that of the supervisor.
    """

    write: tuple[str, ...]
    hidden: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    listed: bool = False
    temporary: str = ""
    user: User | None = None


class Confinement(msgspec.Struct, frozen=True):
    """Everything that a replica enters before its own code runs.

    Attributes:
        groups: Files of control groups to which its process number is written.
        files_max: How many files it may open; None is no limit.
        disk: Folders and files that it may write to, as in `walls`; None is all.
        walls: The walls that it stands behind; None is none.
    """

    groups: tuple[str, ...] = ()
    files_max: int | None = None
    disk: tuple[str, ...] | None = None
    walls: Walls | None = None


class Machine(msgspec.Struct, frozen=True):
    """What a kernel can enforce. landlock: its version, 0 without. seccomp: whether its call numbers are known."""

    landlock: int
    seccomp: bool
    root: bool


class Mount(msgspec.Struct, frozen=True):
    """A place at which a part of a file system is seen. device: which one; root: which part of it."""

    device: str
    root: str
    point: str


class Standing(msgspec.Struct, frozen=True):
    """The walls of a service for people and programs. missing: why each of the others does not stand."""

    level: str = NONE
    walls: tuple[str, ...] = ()
    missing: dict[str, str] = {}


NO_WALLS = Standing()


def standing(machine: Machine, *, confined: bool, user: str = "") -> Standing:
    """Return the walls that stand around a service on this machine."""
    if not confined:
        return NO_WALLS
    no_landlock = "" if machine.landlock else "this kernel has no Landlock"
    scopes = "" if machine.landlock >= SCOPES_VERSION else "this kernel's Landlock has no scopes (Linux 6.12)"
    no_seccomp = "" if machine.seccomp else "system calls are filtered on x86_64 and aarch64 alone"
    why = {
        WRITE: no_landlock,
        READ: no_landlock,
        METADATA: no_landlock or no_seccomp,
        PRIVILEGES: no_seccomp,
        PTRACE: no_landlock,
        SIGNALS: no_landlock or scopes,
        ABSTRACT_SOCKETS: no_landlock or scopes,
    }
    walls = [name for name, missing in why.items() if not missing]
    if user:
        walls.append(f"{USER}:{user}")
    return Standing(
        USER if user else CONFINED, tuple(walls), {name: missing for name, missing in why.items() if missing}
    )


def within(path: str, folder: str) -> bool:
    """Whether a path is a folder, or in it."""
    return PurePosixPath(path).is_relative_to(folder)


def readable(
    hidden: Iterable[str], shown: Iterable[str], entries: Callable[[str], Iterable[str]], top: str = "/"
) -> list[str]:
    """The paths below which reading is to be allowed, so that all is readable but what is hidden.

    shown: what is readable in a hidden folder; it may hold hidden ones again. entries: the paths in a folder, links
    left out: what they lead to is somewhere itself.
    """
    hidden = tuple(hidden)
    found = _beside(top, hidden, entries)
    for path in shown:
        found += _beside(path, [one for one in hidden if one != path and within(one, path)], entries)
    return list(dict.fromkeys(found))


def _beside(path: str, hidden: Iterable[str], entries: Callable[[str], Iterable[str]]) -> list[str]:
    below = [one for one in hidden if within(one, path)]
    if not below:
        return [path]
    if path in below:
        return []
    return [found for entry in entries(path) for found in _beside(entry, below, entries)]


def mounted(table: str) -> tuple[Mount, ...]:
    """Parse /proc/PID/mountinfo (proc_pid_mountinfo(5)); later mounts lie over earlier ones."""
    lines = [line.split(" ") for line in table.splitlines()]
    return tuple(Mount(line[2], _unescaped(line[3]), _unescaped(line[4])) for line in lines if len(line) > 4)


def _unescaped(path: str) -> str:
    """Blanks and the like are octal there."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def seen_anywhere(paths: Iterable[str], mounts: Iterable[Mount]) -> tuple[str, ...]:
    """Paths, and all others by which the same is reached: a folder that is mounted twice (bind) has two."""
    mounts = tuple(mounts)
    found: dict[str, None] = {}
    for path in paths:
        found[path] = None
        above = [mount for mount in mounts if _below(path, mount.point) is not None]
        if not above:
            continue
        # max takes the first of equals, and the last mount at a place hides those below.
        own = max(reversed(above), key=lambda mount: len(mount.point))
        inside = _joined(own.root, _below(path, own.point) or "")
        for mount in mounts:
            if mount.device != own.device:
                continue
            rest = _below(inside, mount.root)
            if rest is not None:
                found[_joined(mount.point, rest)] = None
            elif _below(mount.root, inside) is not None:
                found[mount.point] = None
    return tuple(found)


def _below(path: str, folder: str) -> str | None:
    """The rest of a path in a folder; None where it is elsewhere. Quick, for there may be thousands of mounts."""
    if path == folder:
        return ""
    folder = folder.rstrip("/") + "/"
    return path[len(folder) :] if path.startswith(folder) else None


def _joined(folder: str, rest: str) -> str:
    return f"{folder.rstrip('/')}/{rest}" if rest else folder
