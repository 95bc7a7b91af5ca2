"""PURE. What the facts of a machine mean for an application: one rule for each thing that is looked at.

A fault is what keeps the application from running as its settings say. A warning costs something: speed, a limit that
is not held, room that gets short.
"""

from collections.abc import Callable, Iterable, Iterator

from fissile.machine.checks.facts import Check, Facts, PortState, State

PYTHON_LEAST = (3, 11)
# pidfd_open(2), by which the end of a process is noticed, and clone3.
KERNEL_LEAST = (5, 4)
LANDLOCK_KERNEL = (5, 13)
# With fewer, signals, truncation or abstract sockets are not confined (landlock(7)).
LANDLOCK_WHOLE = 6
CONTROLLERS = ("memory", "cpu", "pids")
FILES_GOOD, FILES_LEAST = 4096, 256
TASKS_LEFT_GOOD = 256
WATCHES_GOOD, INSTANCES_GOOD = 8192, 128
FREE_BYTES_GOOD, FREE_BYTES_LEAST = 1024**3, 64 * 1024**2
FREE_FILES_GOOD = 10_000
# A clock before this one is wrong: Fissile was written later (2026-01-01).
CLOCK_LEAST = 1_767_225_600.0

Rule = Callable[[Facts], Iterable[Check]]


def examine(facts: Facts) -> list[Check]:
    """All checks, in the order in which people read them."""
    return [check for rule in RULES for check in rule(facts)]


def _ok(name: str, found: str) -> Check:
    return Check(name, State.OK, found)


def _warning(name: str, found: str, consequence: str, remedy: str) -> Check:
    return Check(name, State.WARNING, found, consequence, remedy)


def _fault(name: str, found: str, consequence: str, remedy: str) -> Check:
    return Check(name, State.FAULT, found, consequence, remedy)


def _settings(facts: Facts) -> Iterator[Check]:
    if facts.mistakes:
        yield _fault("settings", facts.mistakes, "nothing can be started", "mend what is named")
    elif facts.file:
        yield _ok("settings", f"{facts.file} is valid{'; the application runs' if facts.runs else ''}")
    else:
        yield _ok("settings", "there is no fissile.toml here: the machine alone is looked at")


def _versions(facts: Facts) -> Iterator[Check]:
    shown = f"{facts.implementation} {'.'.join(map(str, facts.python))}"
    if facts.python[:2] < PYTHON_LEAST:
        yield _fault("python", shown, "Fissile needs 3.11 or newer", "use a newer Python")
    elif facts.implementation != "CPython":
        yield _fault("python", shown, "replicas are forked as CPython allows", "use CPython")
    elif facts.optimized is False:
        yield _warning(
            "python",
            f"{shown}, built without profile-guided optimization",
            "Python code runs 10 to 30 % slower",
            "use your distribution's Python, or build it with --enable-optimizations",
        )
    else:
        yield _ok("python", f"{shown}{', built with profile-guided optimization' if facts.optimized else ''}")
    if facts.system != "Linux":
        yield _fault("kernel", facts.system, "only `fissile run` of a monolith works", "use Linux for `fissile up`")
    elif _numbers(facts.kernel) < KERNEL_LEAST:
        yield _fault("kernel", facts.kernel, "the end of a process is not noticed", "use Linux 5.4 or newer")
    else:
        yield _ok("kernel", f"{facts.system} {facts.kernel}")


def _packages(facts: Facts) -> Iterator[Check]:
    yield _ok("fissile", facts.packages.get("fissile", ""))
    if not facts.packages.get("uvloop"):
        yield _fault("uvloop", "is not installed", "`run` and `up` do not start", "pip install uvloop")
    else:
        yield _ok("uvloop", facts.packages["uvloop"])
    if not facts.packages.get("websockets"):
        yield _warning(
            "websockets",
            "is not installed",
            "websockets are answered as if they were plain HTTP",
            "pip install websockets",
        )
    else:
        yield _ok("websockets", facts.packages["websockets"])
    if facts.wants.wsgi and not facts.packages.get("a2wsgi"):
        names = ", ".join(facts.wants.wsgi)
        yield _fault("a2wsgi", "is not installed", f"wsgi services do not start: {names}", "pip install a2wsgi")


def _control_groups(facts: Facts) -> Iterator[Check]:
    missing = [one for one in CONTROLLERS if one not in facts.controllers]
    wanted = f" ({', '.join(facts.wants.limits)})" if facts.wants.limits else ""
    held = f"limits{wanted} of memory are watched twice a second, and those of cpu and processes are not held"
    remedy = "start it by systemd with Delegate=yes: `fissile up --systemd` prints a unit"
    if not facts.cgroup:
        yield _warning("control groups", "are not there", held, "mount cgroup2 at /sys/fs/cgroup")
    elif not facts.delegated:
        yield _warning("control groups", f"v{facts.cgroup}, not delegated to this user", held, remedy)
    elif missing:
        lacking = f"v{facts.cgroup}, delegated without {', '.join(missing)}"
        yield _warning("control groups", lacking, f"these limits{wanted} are not held by the kernel", remedy)
    else:
        yield _ok("control groups", f"v{facts.cgroup}, delegated, with {', '.join(CONTROLLERS)}")


def _walls(facts: Facts) -> Iterator[Check]:
    found = f"version {facts.landlock}"
    named = ", ".join(facts.wants.confined)
    if facts.landlock >= LANDLOCK_WHOLE:
        yield _ok("landlock", found)
    elif facts.landlock:
        yield _warning(
            "landlock",
            found,
            "confined services are not kept from signals and abstract sockets of others",
            "use Linux 6.12 or newer for version 6",
        )
    else:
        why = "is turned off" if _numbers(facts.kernel) >= LANDLOCK_KERNEL else "is not in this kernel"
        remedy = "boot with lsm=landlock,…, use Linux 5.13 or newer, or allow it in the container"
        if named:
            yield _fault("landlock", why, f"isolate and limits.disk are refused: {named}", remedy)
        else:
            yield _warning("landlock", why, "isolate and limits.disk cannot be used", remedy)
    if facts.seccomp:
        yield _ok("seccomp", "system calls of confined services can be filtered")
    else:
        make = _fault if named else _warning
        yield make("seccomp", "is not there", "confined services are not held", "use x86_64 or aarch64, with seccomp")
    if facts.wants.user and not facts.root:
        named = ", ".join(facts.wants.user)
        yield _fault(
            "user", "this is not root", f"services with `user` do not start: {named}", "start as root, or leave it out"
        )


def _ports(facts: Facts) -> Iterator[Check]:
    for port in facts.ports:
        name = f"port {port.number}"
        if port.state is PortState.TAKEN:
            yield _fault(
                name,
                "is taken by another program",
                f"{port.service} cannot be started",
                f"end it (`ss -ltnp 'sport = :{port.number}'` shows it), or name another port",
            )
        elif port.state is PortState.DENIED:
            remedy = (
                f"put a proxy before it, or set sysctl net.ipv4.ip_unprivileged_port_start={port.number}"
                if port.number < facts.lowest_port
                else "name another port"
            )
            yield _fault(name, f"cannot be listened at: {port.why}", f"{port.service} cannot be started", remedy)
        else:
            yield _ok(name, f"{port.service} {'runs there' if port.state is PortState.OURS else 'can have it'}")
    if not facts.ports:
        yield _ok("ports", f"users may listen at {facts.lowest_port} and above")


def _limits(facts: Facts) -> Iterator[Check]:
    shown = "without limit" if facts.files < 0 else f"{facts.files} for each process"
    most = facts.files_most if facts.files_most >= 0 else FILES_GOOD
    remedy = f"`ulimit -n {max(most, FILES_GOOD)}` before, or LimitNOFILE= in the unit"
    if 0 <= facts.files < FILES_LEAST:
        yield _fault("open files", shown, "connections are refused early", remedy)
    elif 0 <= facts.files < FILES_GOOD:
        yield _warning("open files", shown, f"a replica holds about {facts.files - 100} connections", remedy)
    else:
        yield _ok("open files", shown)
    left = facts.tasks_most - facts.tasks
    if facts.tasks_most >= 0 and left < TASKS_LEFT_GOOD:
        yield _warning(
            "processes",
            f"{facts.tasks} of {facts.tasks_most} for this user",
            "replicas cannot be forked when there are no more",
            "`ulimit -u` before, or LimitNPROC= in the unit",
        )
    else:
        yield _ok("processes", "without limit" if facts.tasks_most < 0 else f"{facts.tasks} of {facts.tasks_most}")
    if facts.watches < WATCHES_GOOD or facts.instances < INSTANCES_GOOD:
        yield _warning(
            "inotify",
            f"{facts.instances} instances, {facts.watches} watches",
            "`up` does not start when this user has no more of them",
            f"sysctl fs.inotify.max_user_watches={WATCHES_GOOD * 8} fs.inotify.max_user_instances={INSTANCES_GOOD}",
        )
    else:
        yield _ok("inotify", f"{facts.instances} instances, {facts.watches} watches")


def _disk(facts: Facts) -> Iterator[Check]:
    if facts.trouble:
        yield _fault(
            "state folder",
            f"{facts.folder}: {facts.trouble}",
            "`up` cannot keep its state there",
            "put the application on a local file system that you can write to",
        )
    elif not facts.executable:
        yield _warning(
            "state folder",
            f"{facts.folder} is mounted noexec",
            "programs of the application do not run from their release's copy",
            "mount it without noexec",
        )
    else:
        yield _ok("state folder", f"{facts.folder} can be written, locked and renamed in")
    if facts.free_bytes < 0:
        return
    shown = f"{facts.free_bytes / 1024**3:.1f} GiB left"
    if facts.free_bytes < FREE_BYTES_LEAST:
        yield _fault("disk", shown, "the journal and logs cannot be written", "make room on the disk")
    elif facts.free_bytes < FREE_BYTES_GOOD:
        yield _warning(
            "disk", shown, "copies of releases and logs fill it", "make room, or lower `keep` under [releases]"
        )
    elif 0 <= facts.free_files < FREE_FILES_GOOD:
        lacking = f"{facts.free_files} files can still be made"
        yield _warning(
            "disk", lacking, "copies of releases use them up", "remove files, or lower `keep` under [releases]"
        )
    else:
        yield _ok("disk", shown)


def _time(facts: Facts) -> Iterator[Check]:
    if facts.zones:
        yield _ok("time zones", "can be read")
    else:
        remedy = "apt-get install tzdata, or pip install tzdata"
        yield _warning("time zones", "are not there", "zoneinfo.ZoneInfo fails in the application", remedy)
    if facts.now < CLOCK_LEAST:
        yield _warning(
            "clock", "is years behind", "history, logs and certificates have wrong times", "set it: timedatectl"
        )
    elif facts.synchronized is False:
        yield _warning(
            "clock",
            "is not synchronized",
            "times in history and logs drift from those of other machines",
            "run an NTP client: timedatectl set-ntp true",
        )
    else:
        yield _ok("clock", "is synchronized" if facts.synchronized else "is set")


def _numbers(release: str) -> tuple[int, ...]:
    """The first two numbers of a kernel's release: "6.12.3-amd64"."""
    first, _, rest = release.partition(".")
    second = "".join(one for one in rest.partition(".")[0] if one.isdecimal())
    return (int(first) if first.isdecimal() else 0, int(second) if second else 0)


RULES: tuple[Rule, ...] = (_settings, _versions, _packages, _control_groups, _walls, _ports, _limits, _disk, _time)
