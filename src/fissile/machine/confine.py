"""Confines a new replica before its own code runs: it enters its limits and walls, and becomes its user.

The order is forced. Control groups and limits are entered with the supervisor's rights. The rules of Landlock name
paths that only those rights may reach. Then the user changes; last the domain and the filter are entered, for good.
"""

import ctypes
import os
import resource
import struct
import sys
from functools import partial
from pathlib import Path

from fissile.machine import landlock, seccomp, warden
from fissile.machine.walls import Confinement, Machine, User, Walls

PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP = 4, 8, 24
CAPABILITY_VERSION_3 = 0x20080522
CAPABILITIES_MAX = 64
CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, NET_BIND_SERVICE, SYS_PTRACE = 0, 1, 3, 5, 6, 7, 10, 19
# Of root. It reads and writes files of other users where Landlock lets it, becomes another user, listens at port 80.
KEPT = (DAC_OVERRIDE, KILL, SETGID, SETUID, NET_BIND_SERVICE)
# Of root's warden: it alters files of other users in the service's folders, and looks at the calls of root's processes.
OF_WARDEN = (*KEPT, CHOWN, FOWNER, SYS_PTRACE)


def machine() -> Machine:
    """Return what this machine can enforce."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return Machine(landlock.interface_version(), seccomp.architecture() is not None, root)


def enter(confinement: Confinement, label: str) -> None:
    """Enter a confinement for good. `label` names the replica to people. Raises OSError."""
    walls = confinement.walls
    # Fork the warden before anything else: afterwards it would be in the replica's control group, count as its process
    # and memory, and stand behind the same walls.
    guard = _hire(walls, label) if walls is not None else None
    for file in confinement.groups:
        with open(file, "w") as group:
            group.write(str(os.getpid()))
    if confinement.files_max is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (confinement.files_max, confinement.files_max))
    if walls is not None:
        _enter_walls(walls, guard)


def _enter_walls(walls: Walls, guard: warden.Hired | None) -> None:
    version = landlock.interface_version()
    domain = landlock.Domain(walls) if version else None
    become(walls.user, of_root=KEPT)
    landlock.gain_nothing()
    if domain is not None:
        domain.enter()
    own = seccomp.architecture()
    if own is not None:
        _filter(own, guard, version)
    if walls.temporary and "tempfile" in sys.modules:
        import tempfile

        tempfile.tempdir = None  # of the zygote; where this one's is stands in its environment


def _hire(walls: Walls, label: str) -> warden.Hired | None:
    own = seccomp.architecture()
    if own is None or not landlock.interface_version():
        return None
    folders = [path for path in walls.write if Path(path).is_dir()]
    return warden.hire(folders, own, partial(become, walls.user, of_root=OF_WARDEN, of_user=(SYS_PTRACE,)), label)


def _filter(own: seccomp.Architecture, guard: warden.Hired | None, version: int) -> None:
    truncating = version >= landlock.TRUNCATE_VERSION
    if guard is None:
        # Without Landlock nobody knows which folders are its own: who it is decides.
        seccomp.install(own, judged=seccomp.RET_ALLOW, truncating=True)
        return
    try:
        listener = seccomp.install(own, judged=seccomp.RET_USER_NOTIF, truncating=truncating)
    except OSError:
        # Before Linux 5.0, or where somebody outside listens already.
        guard.socket.close()
        seccomp.install(own, judged=seccomp.REFUSED, truncating=truncating)
    else:
        warden.appoint(guard, listener)


def become(user: User | None, *, of_root: tuple[int, ...], of_user: tuple[int, ...] = ()) -> None:
    """Be another user, or root, with these capabilities alone; nothing for those who have none. Raises OSError."""
    if user is not None:
        _bound(of_user)
        ctypes.CDLL(None).prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        _hold(of_user)
        # Else its own entry in /proc would be root's.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    elif os.geteuid() == 0:
        _bound(of_root)
        _hold(of_root)


def _bound(kept: tuple[int, ...]) -> None:
    """No program that is executed gets any other capability (capabilities(7))."""
    libc = ctypes.CDLL(None)
    for number in range(CAPABILITIES_MAX):
        if number not in kept:
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # those that the kernel does not have are no loss


def _hold(kept: tuple[int, ...]) -> None:
    """Have these capabilities alone (capset(2)). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    held = sum(1 << number for number in kept)
    low, high = held & 0xFFFFFFFF, held >> 32
    sets = struct.pack("=6I", low, low, 0, high, high, 0)
    if libc.capset(struct.pack("=Ii", CAPABILITY_VERSION_3, 0), sets) < 0:
        number = ctypes.get_errno()
        raise OSError(number, "capabilities cannot be given up")
