"""Resource limits of each replica, and the mechanism that enforces them.

A replica has a control group of its own, so that one that runs out of memory is killed alone, and the
kernel says so. Control groups v2 are used where they are delegated to us, v1 where only those are there;
with neither, open files are limited by rlimit and memory is watched (`over`). Processes are not limited by
RLIMIT_NPROC, because that counts all of a user's processes, whoever they belong to.

Sources: docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/; getrlimit(2).
"""

import os
import re
import resource
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.machine import landlock
from fissile.machine.users import SEARCH, WRITE, find_user, out_of_reach, python_out_of_reach
from fissile.machine.walls import User, within
from fissile.orchestrator.reasons import OutOfMemory
from fissile.orchestrator.reasons.reason import size_text
from fissile.settings.schema import LimitSettings

CPU_PERIOD_US = 100_000
MEMORY_BYTES_MIN = 16 * 1024 * 1024
REMOVE_SECONDS_MAX = 1.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ROOT = Path("/sys/fs/cgroup")
V1_CONTROLLERS = ("memory", "cpu", "cpuacct", "pids")
V2_CONTROLLERS = ("memory", "cpu", "pids")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


LimitStatus = dict[str, str | int | float | list[str] | None]


class Limits(msgspec.Struct, frozen=True):
    """memory_bytes; cpu in cores; open files of a process; processes and threads; disk: folders to write to.

    None: as much as there is. Whose disk is limited is confined. user: under which it runs, confined as well.
    """

    memory_bytes: int | None = None
    cpu: float | None = None
    files: int | None = None
    processes: int | None = None
    disk: tuple[str, ...] | None = None
    user: User | None = None

    @property
    def grouped(self) -> bool:
        """Whether any of them needs a control group."""
        return self.memory_bytes is not None or self.cpu is not None or self.processes is not None

    def shown(self) -> "LimitStatus":
        """For people and programs."""
        memory = None if self.memory_bytes is None else size_text(self.memory_bytes)
        return {
            "memory": memory,
            "cpu": self.cpu,
            "files": self.files,
            "processes": self.processes,
            "disk": None if self.disk is None else list(self.disk),
        }


class Usage(msgspec.Struct, frozen=True):
    """What a replica uses. out_of_memory: whether the kernel killed one of its processes for lack of memory."""

    memory_bytes: int | None = None
    peak_bytes: int | None = None
    out_of_memory: bool = False


def parse_size(text: str | int) -> int:
    """Bytes of "256M" or "1.5G" (binary units), or of a number. Raises ValueError."""
    if isinstance(text, int):
        return text
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f"{text!r} is not a size: write it as in 256M or 1.5G")
    return int(float(found[1]) * UNITS[found[2].upper()])


def limits_of(
    service: str, settings: LimitSettings, root: str, *, isolate: bool = False, user: str = "", state: str = ""
) -> Limits:
    """The limits of a service, checked against this machine. root: where its folders are.

    isolate, user: whether it is confined all the same, and under whom. state: the folder that no service may write to.
    Raises ConfigError with every one that does not fit.
    """
    mistakes: list[str] = []
    memory: int | None = None
    if settings.memory is not None:
        try:
            memory = parse_size(settings.memory)
        except ValueError as error:
            mistakes.append(f"memory: {error}")
        else:
            installed = PAGE_BYTES * os.sysconf("SC_PHYS_PAGES")
            if not MEMORY_BYTES_MIN <= memory <= installed:
                mistakes.append(
                    f"memory = {settings.memory!r}: write between {size_text(MEMORY_BYTES_MIN)} and "
                    f"{size_text(installed)}, which this machine has"
                )
    cores = os.cpu_count() or 1
    if settings.cpu is not None and not 0.01 <= settings.cpu <= cores:
        mistakes.append(f"cpu = {settings.cpu:g}: write between 0.01 and {cores}, the cores of this machine")
    files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if settings.files is not None and not 64 <= settings.files <= files_max:
        mistakes.append(f"files = {settings.files}: write between 64 and {files_max}, which this user may open")
    disk, found, more = _confinement(settings.disk, root, isolate=isolate, user=user, state=state)
    mistakes += more
    if mistakes:
        listed = "\n".join(f"  - {mistake}" for mistake in mistakes)
        raise ConfigError(
            f"[services.{service}] does not fit this machine:\n{listed}",
            remedy="mend that in fissile.toml or on this machine; nothing was altered",
        )
    return Limits(memory, settings.cpu, settings.files, settings.processes, disk, found)


def _confinement(
    disk: tuple[str, ...] | None, root: str, *, isolate: bool, user: str, state: str
) -> tuple[tuple[str, ...] | None, User | None, list[str]]:
    """Where a service may write (None: it is not confined), as whom it runs, and what does not fit."""
    mistakes: list[str] = []
    if (disk is not None or isolate) and not landlock.interface_version():
        what = "disk" if disk is not None else "isolate"
        mistakes.append(f"{what}: this kernel does not confine services (it has no Landlock): leave it out")
    if disk is None and not isolate and not user:
        return None, None, mistakes
    folders = tuple(str((Path(root) / folder).resolve()) for folder in disk or ())
    for folder in folders:
        if not Path(folder).is_dir():
            mistakes.append(f"disk: there is no folder {folder}: make it")
        # Landlock knows no exception: in a folder that a service may write to it may write everywhere.
        if state and (within(state, folder) or within(folder, state)):
            mistakes.append(
                f"disk: {folder} is not apart from {state}, by which Fissile runs the application: "
                "name folders beside it"
            )
    if not user:
        return folders, None, mistakes
    try:
        found = find_user(user)
    except ConfigError as error:
        return folders, None, [*mistakes, f"{error.message}: {error.remedy}"]
    barred = [python_out_of_reach(found), out_of_reach(found, Path(state or root).parent, SEARCH)]
    barred += [out_of_reach(found, Path(folder), WRITE | SEARCH) for folder in folders if Path(folder).is_dir()]
    return folders, found, [*mistakes, *(f"user = {user!r}: {why}" for why in dict.fromkeys(barred) if why)]


class Enforcement:
    """Nobody but rlimits and our own watch: the way without control groups."""

    name = "rlimits and watch"

    def __init__(self, missing: str = "") -> None:
        self.missing = missing

    def prepare(self, key: str, limits: Limits) -> tuple[str, ...]:
        """Make a replica's group; the files to which it writes its process number. Raises ConfigError."""
        return ()

    def usage(self, key: str, pid: int) -> Usage:
        """Return what a replica uses, as far as it is known."""
        return Usage(resident_bytes(pid))

    def members(self, key: str) -> list[int]:
        """The processes in a replica's group."""
        return []

    def kill(self, key: str) -> None:
        """Kill them all at once, where the kernel does that; it does not wait."""

    def remove(self, key: str) -> None:
        """The replica is gone."""

    def sweep(self, keep: set[str]) -> None:
        """Remove the groups of replicas that are gone, of which nobody knew."""


class Groups(Enforcement):
    """Control groups: one folder per replica, below each of `parents` (one per controller in v1)."""

    def __init__(self, name: str, parents: Mapping[str, Path], missing: str = "") -> None:
        super().__init__(missing)
        self.name = name
        self._parents = parents
        self._v2 = name == "cgroup v2"

    def _folders(self, key: str) -> list[Path]:
        return [parent / key for parent in dict.fromkeys(self._parents.values())]

    def prepare(self, key: str, limits: Limits) -> tuple[str, ...]:
        """See Enforcement."""
        try:
            for folder in self._folders(key):
                folder.mkdir(parents=True, exist_ok=True)
            for controller, file, value in self._values(limits):
                if controller in self._parents:
                    (self._parents[controller] / key / file).write_text(value)
        except OSError as error:
            raise ConfigError(
                f"the limits of {key} cannot be set: {error}", remedy="give the supervisor its own control group"
            ) from None
        return tuple(str(folder / "cgroup.procs") for folder in self._folders(key))

    def _values(self, limits: Limits) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = []
        if limits.memory_bytes is not None:
            memory = str(limits.memory_bytes)
            found.append(("memory", "memory.max" if self._v2 else "memory.limit_in_bytes", memory))
            swap = "memory.memsw.limit_in_bytes"
            if self._v2:
                found += [("memory", "memory.swap.max", "0"), ("memory", "memory.oom.group", "1")]
            elif (self._parents.get("memory", ROOT) / swap).exists():
                found.append(("memory", swap, memory))
        if limits.cpu is not None:
            quota = str(int(limits.cpu * CPU_PERIOD_US))
            if self._v2:
                found.append(("cpu", "cpu.max", f"{quota} {CPU_PERIOD_US}"))
            else:
                found.append(("cpu", "cpu.cfs_period_us", str(CPU_PERIOD_US)))
                found.append(("cpu", "cpu.cfs_quota_us", quota))
        if limits.processes is not None:
            found.append(("pids", "pids.max", str(limits.processes)))
        return found

    def usage(self, key: str, pid: int) -> Usage:
        """See Enforcement."""
        if "memory" not in self._parents:
            return Usage(resident_bytes(pid))
        folder = self._parents["memory"] / key
        events = _table(folder / ("memory.events" if self._v2 else "memory.oom_control"))
        return Usage(
            _number(folder / ("memory.current" if self._v2 else "memory.usage_in_bytes")) or resident_bytes(pid),
            _number(folder / ("memory.peak" if self._v2 else "memory.max_usage_in_bytes")),
            events.get("oom_kill", 0) > 0,
        )

    def members(self, key: str) -> list[int]:
        """See Enforcement."""
        found: list[int] = []
        for folder in self._folders(key):
            with suppress(OSError):
                found += map(int, (folder / "cgroup.procs").read_text().split())
        return found

    def kill(self, key: str) -> None:
        """See Enforcement. Since Linux 5.14, in v2."""
        if self._v2:
            for folder in self._folders(key):
                with suppress(OSError):
                    (folder / "cgroup.kill").write_text("1")

    def remove(self, key: str) -> None:
        """See Enforcement."""
        for folder in self._folders(key):
            limit = time.monotonic() + REMOVE_SECONDS_MAX
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    # The kernel has not let go of the last process yet; `sweep` comes again.
                    if time.monotonic() > limit:
                        break
                    time.sleep(0.001)

    def sweep(self, keep: set[str]) -> None:
        """See Enforcement."""
        for parent in dict.fromkeys(self._parents.values()):
            with suppress(OSError):
                for folder in [entry for entry in parent.iterdir() if entry.is_dir() and entry.name not in keep]:
                    if not self._v2 or folder.name != "supervisor":
                        with suppress(OSError):
                            folder.rmdir()
                if not keep:
                    parent.rmdir()


def detect(application: str, *, root: Path = ROOT, own: Path = Path("/proc/self/cgroup")) -> Enforcement:
    """Return the best mechanism that this machine offers. `application` names its control groups, uniquely."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return Enforcement("this system has no control groups")
    places = {controller: path for _, controllers, path in lines for controller in controllers.split(",")}
    found = _v2(root, places.get("", "/")) if (root / "cgroup.controllers").exists() else None
    if found is not None:
        return found
    parents: dict[str, Path] = {}
    for controller in V1_CONTROLLERS:
        place = root / controller / places.get(controller, "/").lstrip("/")
        # In a container the path is the host's, and the mount is our own group already.
        place = place if place.is_dir() else root / controller
        if os.access(place, os.W_OK) and (place / "cgroup.procs").exists():
            parents[controller] = place / f"fissile-{application}"
    missing = [controller for controller in V1_CONTROLLERS if controller not in parents]
    if "memory" in parents or "cpu" in parents:
        return Groups("cgroup v1", parents, f"not granted: {', '.join(missing)}" if missing else "")
    return Enforcement("no control group is delegated to this user (systemd: Delegate=yes)")


def _v2(root: Path, path: str) -> Enforcement | None:
    """Our own group, if it is ours to divide; a group with processes cannot have limited children."""
    own = root / path.lstrip("/")
    try:
        controllers = set((own / "cgroup.controllers").read_text().split())
        granted = [one for one in V2_CONTROLLERS if one in controllers]
        processes = (own / "cgroup.procs").read_text().split()
        # Moving others about is not ours to do, and the root's processes are everybody's.
        if not granted or path == "/" or processes not in ([], [str(os.getpid())]):
            return None
        leaf = own / "supervisor"
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        (own / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in granted))
    except OSError:
        return None
    missing = [one for one in V2_CONTROLLERS if one not in granted]
    return Groups("cgroup v2", dict.fromkeys(granted, own), f"not granted: {', '.join(missing)}" if missing else "")


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _table(file: Path) -> dict[str, int]:
    try:
        return {name: int(value) for name, value in (line.split() for line in file.read_text().splitlines())}
    except (OSError, ValueError):
        return {}


def resident_bytes(pid: int) -> int | None:
    """The memory of a process by itself (its resident set, shared pages counted whole)."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
            return int(file.read(200).split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return None


def ran_out_of_memory(pid: int, usage: Usage, limits: Limits) -> OutOfMemory | None:
    """If a replica died for want of memory."""
    return OutOfMemory(pid, usage.peak_bytes, limits.memory_bytes) if usage.out_of_memory else None
