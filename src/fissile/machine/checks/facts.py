"""What was found on a machine, and what is said of it."""

import enum

import msgspec


class PortState(enum.StrEnum):
    """Whether a service could listen at its port."""

    FREE = "free"
    OURS = "ours"  # the application itself runs there
    TAKEN = "taken"
    DENIED = "denied"


class Port(msgspec.Struct, frozen=True):
    """A port that a service names. why: the system's own words, where it cannot be listened at."""

    number: int
    service: str
    state: PortState
    why: str = ""


class Wants(msgspec.Struct, frozen=True):
    """What the application's settings ask of the machine. Each names the services that do."""

    limits: tuple[str, ...] = ()
    confined: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    wsgi: tuple[str, ...] = ()


class Facts(msgspec.Struct, frozen=True):
    """One machine, as an application in one folder finds it.

    Attributes:
        system: "Linux" and the like.
        kernel: Its release.
        python: The interpreter's version.
        implementation: "CPython" and the like.
        optimized: Whether it was built with PGO; None: it does not say.
        packages: Versions by name of what Fissile uses; "" where one is missing.
        cgroup: 2, 1 or 0: which version of control groups is mounted.
        controllers: Those of our own group.
        delegated: Whether our own group is ours to divide.
        landlock: The version of its interface; 0: it is not there.
        seccomp: Whether system calls can be filtered here.
        root: Whether this is root.
        lowest_port: The lowest port that users may listen at.
        ports: Those that services name.
        files, files_most: Open files: the limit that counts, and what it may be raised to. -1: none.
        tasks, tasks_most: Processes and threads of this user, and their limit. -1: none.
        watches: How many files inotify may watch for one user.
        instances: How many inotify instances one user may have.
        zones: Whether time zones can be read.
        folder: Where the state of the application is, or would be.
        trouble: What failed there: to write, lock, rename or listen; "": nothing.
        executable: Whether programs may run there.
        free_bytes, free_files: What the disk has left; -1: it does not say.
        now: Seconds since 1970.
        synchronized: Whether the kernel takes its clock for right; None: it does not say.
        file: The application's settings; "" where there are none.
        mistakes: What is wrong with them; "": nothing.
        runs: Whether the application runs.
        wants: What its settings ask for.
    """

    system: str = "Linux"
    kernel: str = "6.12.0"
    python: tuple[int, int, int] = (3, 13, 0)
    implementation: str = "CPython"
    optimized: bool | None = True
    packages: dict[str, str] = {}
    cgroup: int = 2
    controllers: tuple[str, ...] = ()
    delegated: bool = True
    landlock: int = 6
    seccomp: bool = True
    root: bool = False
    lowest_port: int = 1024
    ports: tuple[Port, ...] = ()
    files: int = -1
    files_most: int = -1
    tasks: int = 0
    tasks_most: int = -1
    watches: int = 1_000_000
    instances: int = 1024
    zones: bool = True
    folder: str = ""
    trouble: str = ""
    executable: bool = True
    free_bytes: int = -1
    free_files: int = -1
    now: float = 0.0
    synchronized: bool | None = True
    file: str = ""
    mistakes: str = ""
    runs: bool = False
    wants: Wants = Wants()


class State(enum.StrEnum):
    """How something is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Check(msgspec.Struct, frozen=True):
    """One line of the doctor.

    Attributes:
        name: What was looked at.
        state: How it is.
        found: What was found.
        consequence: What does not work, or only worse; "" where all is well.
        remedy: What to do about it.
    """

    name: str
    state: State
    found: str
    consequence: str = ""
    remedy: str = ""
