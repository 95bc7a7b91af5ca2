"""SHELL. Looks at the machine, and leaves it as it is: the folder that it tries things in is removed again."""

import ctypes
import errno
import fcntl
import os
import platform
import resource
import shutil
import socket
import struct
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fissile.machine import landlock, seccomp
from fissile.machine.checks.facts import Facts, Port, PortState
from fissile.machine.limits import ROOT as CONTROL_GROUPS
from fissile.machine.sockets import HOST
from fissile.version import VERSION

PACKAGES = ("uvloop", "websockets", "a2wsgi")
PROC = Path("/proc/sys")
PR_GET_SECCOMP = 21
STA_UNSYNC = 0x40
TIMEX_BYTES_MAX = 512
USERS_PORT_LEAST = 1024
DISTRIBUTIONS = ("/usr/bin/",)
NAME_OF_TRIAL = ".fissile-doctor-"


def gather(folder: Path, ports: Iterable[tuple[int, str]], own_ports: frozenset[int] = frozenset()) -> Facts:
    """The facts of this machine. folder: the state of the application, or where it would be.

    ports: (number, service) that its settings name. own_ports: those at which it already listens.
    """
    files, files_most = (
        -1 if one == resource.RLIM_INFINITY else one for one in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    _, tasks_most = resource.getrlimit(resource.RLIMIT_NPROC)
    group, controllers, delegated = control_groups()
    trouble, executable = tried(folder)
    free_bytes, free_files = _room(folder)
    return Facts(
        system=platform.system(),
        kernel=platform.release(),
        python=sys.version_info[:3],
        implementation=platform.python_implementation(),
        optimized=optimized(sysconfig.get_config_vars(), os.path.realpath(sys.executable)),
        packages={"fissile": VERSION} | {name: _version(name) for name in PACKAGES},
        cgroup=group,
        controllers=controllers,
        delegated=delegated,
        landlock=landlock.interface_version(),
        seccomp=_filters(),
        root=os.geteuid() == 0,
        lowest_port=_number(PROC / "net/ipv4/ip_unprivileged_port_start", USERS_PORT_LEAST),
        ports=tuple(try_port(number, service, number in own_ports) for number, service in sorted(set(ports))),
        files=files,
        files_most=files_most,
        tasks=_tasks(),
        tasks_most=-1 if tasks_most == resource.RLIM_INFINITY or os.geteuid() == 0 else tasks_most,
        watches=_number(PROC / "fs/inotify/max_user_watches", 1_000_000),
        instances=_number(PROC / "fs/inotify/max_user_instances", 1024),
        zones=_zones(),
        folder=str(folder),
        trouble=trouble,
        executable=executable,
        free_bytes=free_bytes,
        free_files=free_files,
        now=time.time(),
        synchronized=_synchronized(),
    )


def control_groups(
    root: Path = CONTROL_GROUPS, own: Path = Path("/proc/self/cgroup")
) -> tuple[int, tuple[str, ...], bool]:
    """Version, controllers and whether our own group is ours to divide. Nothing is made or moved."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return 0, (), False
    if (root / "cgroup.controllers").exists():
        path = next((path for _, controllers, path in lines if not controllers), "/")
        place = root / path.lstrip("/")
        with suppress(OSError):
            controllers = tuple((place / "cgroup.controllers").read_text().split())
            writable = all(os.access(place / name, os.W_OK) for name in ("", "cgroup.procs", "cgroup.subtree_control"))
            return 2, controllers, writable and path != "/"
        return 2, (), False
    places = {one: path for _, controllers, path in lines for one in controllers.split(",") if one}
    granted: list[str] = []
    for controller, path in places.items():
        place = root / controller / path.lstrip("/")
        # In a container the path is the host's, and the mount is our own group already.
        place = place if place.is_dir() else root / controller
        if os.access(place, os.W_OK) and (place / "cgroup.procs").exists():
            granted.append(controller)
    return (1 if places else 0), tuple(granted), bool({"memory", "cpu"} & {*granted})


def tried(folder: Path) -> tuple[str, bool]:
    """What fails of all that a state folder is used for, and whether programs may run there."""
    place = folder
    while not place.is_dir() and place != place.parent:
        place = place.parent
    what = "it cannot be written to"
    try:
        trial = Path(tempfile.mkdtemp(prefix=NAME_OF_TRIAL, dir=place))
    except OSError as error:
        return f"{what}: {error.strerror}", True
    try:
        what = "files cannot be locked"
        with (trial / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            what = "files cannot be written to the disk"
            lock.write("x")
            lock.flush()
            os.fsync(lock.fileno())
        what = "files cannot be renamed"
        (trial / "lock").rename(trial / "other")
        what = "links cannot be made"
        (trial / "link").symlink_to("other")
        what = "modes are not kept"
        if (trial / "other").chmod(0o600) or (trial / "other").stat().st_mode & 0o777 != 0o600:
            return what, True
        what = "sockets cannot be made"
        # By a descriptor of the folder, because a socket's path may have 107 bytes alone (unix(7)).
        fd = os.open(trial, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(f"/proc/self/fd/{fd}/socket")
        finally:
            os.close(fd)
        return "", not os.statvfs(trial).f_flag & os.ST_NOEXEC
    except OSError as error:
        return f"{what}: {error.strerror}", True
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def try_port(number: int, service: str, ours: bool) -> Port:
    """Whether a service could listen at a port: by listening at it for a moment."""
    if ours:
        return Port(number, service, PortState.OURS)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, number))
            sock.listen(1)
        except OSError as error:
            state = PortState.TAKEN if error.errno == errno.EADDRINUSE else PortState.DENIED
            return Port(number, service, state, error.strerror or "")
    return Port(number, service, PortState.FREE)


def _version(name: str) -> str:
    with suppress(PackageNotFoundError):
        return version(name)
    return ""


def optimized(variables: Mapping[str, object], home: str) -> bool | None:
    """Whether the interpreter was built with profile-guided optimization; None: it does not say.

    home: where its executable really is. Distributions build theirs with it, by rules of their own that leave no trace.
    """
    arguments = variables.get("CONFIG_ARGS")
    if home.startswith(DISTRIBUTIONS):
        return True
    return "--enable-optimizations" in arguments if isinstance(arguments, str) and arguments else None


def _filters() -> bool:
    """Whether this kernel has seccomp (prctl(2)), and its system calls are known here."""
    if seccomp.architecture() is None:
        return False
    return ctypes.CDLL(None, use_errno=True).prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0


def _tasks() -> int:
    """Processes of this user, each with its threads: what RLIMIT_NPROC counts."""
    total, uid = 0, os.getuid()
    with suppress(OSError):
        for entry in os.scandir("/proc"):
            with suppress(OSError):
                if entry.name.isdecimal() and entry.stat().st_uid == uid:
                    total += len(os.listdir(f"/proc/{entry.name}/task"))
    return total


def _number(file: Path, otherwise: int) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return otherwise


def _zones() -> bool:
    """Whether any time zone with rules of its own is there."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo("Europe/Paris")
    except (ZoneInfoNotFoundError, OSError, ValueError):
        return False
    return True


def _room(folder: Path) -> tuple[int, int]:
    """What the disk has left for this user, in bytes and in files; -1: it does not say."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        found = os.statvfs(place)
    except OSError:
        return -1, -1
    return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else -1


def _synchronized() -> bool | None:
    """What the kernel says of its clock (adjtimex(2)); None: nothing. In a container it is the host's clock."""
    with suppress(AttributeError, OSError):
        timex = ctypes.create_string_buffer(TIMEX_BYTES_MAX)  # with modes = 0 it is only read
        if ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0:
            return None
        (status,) = struct.unpack_from("@i", timex, _timex_status())
        return not status & STA_UNSYNC
    return None


def _timex_status() -> int:
    """Where the status stands: after modes, and the longs offset, freq, maxerror and esterror."""

    class Timex(ctypes.Structure):
        _fields_ = [
            ("modes", ctypes.c_uint),
            *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
            ("status", ctypes.c_int),
        ]

    return Timex.status.offset
