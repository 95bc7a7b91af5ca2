"""What runs in an application's folder and how it is reached, as the file endpoints.json says it.

Whoever only asks imports this and no more: it reads, and starts in a few milliseconds.
"""

import os
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.formats import ENDPOINTS as FORMAT
from fissile.formats import FISSILE
from fissile.machine.procfs import application_of, born, still_there
from fissile.runtime.named import as_named

FOLDER = ".fissile"
ENDPOINTS = "endpoints.json"
LOGS = "logs"
JOURNAL = "journal.db"


class NotServed(ConfigError):
    """An application that takes no orders.

    state: "stopped"; "starting"; "stopping"; "unsupervised", where its services go on without a supervisor;
    "foreground"; or "other version", which this one does not understand.
    """

    def __init__(self, message: str, *, remedy: str, state: str) -> None:
        super().__init__(message, remedy=remedy)
        self.state = state


class OtherEndpoints(NotServed):
    """What runs was started by another version of Fissile. supervised: whether its supervisor lives."""

    def __init__(self, file: Path, by: str, pid: int, *, supervised: bool) -> None:
        super().__init__(
            f"what runs was started by {by}: see {file}",
            remedy=f"use that version; or end it in order with `kill {pid}`, and start it with this one"
            if supervised
            else "use that version, whose `up` takes it over; or end it with the `fissile down` of that one (in order) "
            "or of this one (in no order)",
            state="other version",
        )
        self.supervised = supervised


class ServiceEndpoints(msgspec.Struct, frozen=True):
    """Where a service is reached.

    gateway: its HTTP/JSON address; public: addresses by component. token: its own for HTTP/JSON, where it
    is a program that has one.
    """

    gateway: str
    public: dict[str, str]
    components: tuple[str, ...]
    pids: tuple[int, ...]
    token: str = ""


class Endpoints(msgspec.Struct, frozen=True):
    """What endpoints.json holds. token: for HTTP/JSON. background: whether replicas outlive the supervisor.

    zygote: its pid; None while there is none, and where it ends with the supervisor.
    api: the supervisor's own address, if there is one, with its token; and the Unix socket of the same.
    births: of all replicas in the background, as `descent` knows them, by process number. release: the one that most
    requests go to; resumed: whether it is what ran last, and not the code that the folder held at the start.
    warnings: what people should know of what runs, though it is no mistake.
    """

    pid: int
    application: str
    topology: str
    token: str
    services: dict[str, ServiceEndpoints]
    zygote: int | None = None
    births: dict[int, int] = {}
    api: str = ""
    api_token: str = ""
    api_socket: str = ""
    release: str = ""
    resumed: bool = False
    warnings: tuple[str, ...] = ()
    background: bool = False
    # When supervisor and zygote began, as `births` has it of replicas: a number alone may be another's by now.
    # None: not known, as where there is no /proc.
    born: int | None = None
    zygote_born: int | None = None
    # Of the folder where it was written, as the mark has it: in a copy of that one it tells of somebody else.
    folder: str = ""
    # It takes no orders any more: the application is being stopped.
    stopping: bool = False
    # See `formats`. fissile: the version that wrote it.
    format: int = FORMAT.number
    fissile: str = FISSILE

    def supervisor_lives(self) -> bool:
        """Whether the process that wrote it is there still."""
        return lives(self.pid, self.born)

    def zygote_lives(self) -> bool:
        """Whether the zygote is."""
        return self.zygote is not None and lives(self.zygote, self.zygote_born)

    def copied_to(self, state: Path) -> bool:
        """Whether it came into this state folder with a copy of another one. Raises OSError."""
        return self.folder not in ("", identity_of(state))


class _Head(msgspec.Struct, frozen=True):
    """What every version says, with the same meaning. One without a format is of the first."""

    format: int = 1
    fissile: str = ""
    pid: int = 0
    born: int | None = None
    zygote: int | None = None
    zygote_born: int | None = None
    births: dict[int, int] = {}

    def refuse(self, file: Path, root: Path) -> None:
        """Raises OtherEndpoints where another version wrote it; NotServed where nothing of that is left."""
        if FORMAT.reads(self.format):
            return
        supervised = bool(self.pid) and lives(self.pid, self.born)
        adopted = self.zygote is not None and lives(self.zygote, self.zygote_born)
        if not supervised and not adopted and not still_there(self.births):
            raise nothing_runs(root)
        raise OtherEndpoints(file, FORMAT.strange(self.format, self.fissile), self.pid, supervised=supervised)


def state_of(folder: Path) -> Path:
    """Where the state of the application is that is named by a path.

    In its folder. Where the path is a link that is switched from one folder to the next, as `current` of Capistrano, it
    is beside the link: earlier folders are removed one day. A `.fissile` in the folder that is there already, or a link
    to one that is shared, goes first.
    """
    named = as_named(folder)
    inside, beside = named / FOLDER, named.parent / f".{named.name}{FOLDER}"
    if not named.is_symlink():
        return Path(os.path.realpath(inside)) if inside.is_symlink() else inside
    if beside.is_dir() or not (os.path.lexists(inside) or not os.access(named.parent, os.W_OK)):
        return beside
    return Path(os.path.realpath(inside))


def identity_of(state: Path) -> str:
    """The name that the processes carry whose state a folder holds, see `application_of`. Raises OSError."""
    real = Path(os.path.realpath(state))
    own = real.name != FOLDER and real.is_dir()
    return application_of(real if own else real.parent)


def nothing_runs(root: Path) -> ConfigError:
    """The error of whoever asks for something that runs; another one where the folder is not there."""
    if not root.is_dir():
        return NotServed(
            f"{root} is not a folder" if root.exists() else f"there is no folder {root}",
            remedy="change to the application's folder, or name it with -C",
            state="stopped",
        )
    return NotServed(
        f"nothing runs in {root.resolve()}",
        remedy="start it with `fissile run` or `fissile up`, or name the folder in which it runs with -C",
        state="stopped",
    )


def read_endpoints(root: Path) -> Endpoints:
    """What runs in an application's folder. Raises ConfigError if nothing does, or another version started it.

    Its supervisor may be dead: see `supervised`.
    """
    file = state_of(root) / ENDPOINTS
    try:
        data = file.read_bytes()
        msgspec.json.decode(data, type=_Head).refuse(file, root)
        found = msgspec.json.decode(data, type=Endpoints)
    except (FileNotFoundError, NotADirectoryError):
        raise nothing_runs(root) from None
    except PermissionError:
        raise ConfigError(f"{file} belongs to somebody else", remedy="be the user who started it") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", remedy="start the application anew") from None
    if not found.supervisor_lives() and not found.zygote_lives() and not still_there(found.births):
        raise nothing_runs(root)
    if found.copied_to(file.parent):
        raise NotServed(
            f"nothing runs in {root.resolve()}, which is a copy of a folder whose application runs (pid {found.pid})",
            remedy="start this one as well with `fissile up`, or name the folder of the other with -C",
            state="stopped",
        )
    return found


def lives(pid: int, began: int | None = None) -> bool:
    """Whether a process is there, and has not ended without anybody fetching its status (a zombie).

    began: when, as `born` has it; whoever began at another time is somebody else.
    """
    if began is not None:
        return born(pid) == began
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except OSError:
        return not Path("/proc/self/stat").exists()  # no such file system: the signal alone has to do


def supervised(root: Path) -> Endpoints:
    """The endpoints of what runs in a folder, with a living supervisor. Raises ConfigError."""
    found = read_endpoints(root)
    if not found.supervisor_lives():
        adopted = found.zygote_lives()
        dead = f"the supervisor of {found.application} (pid {found.pid})"
        raise NotServed(
            f"{dead if adopted else f'{dead} and its zygote'} died; its services go on without it",
            remedy="`fissile up` starts another, which takes them over"
            if adopted
            else "`fissile up` ends them in order and starts them anew; `fissile down` ends them",
            state="unsupervised",
        )
    if found.stopping:
        raise NotServed(
            f"{found.application} is stopping (pid {found.pid}), and takes no orders any more",
            remedy="`fissile down` waits until all has ended; `fissile up` starts it then",
            state="stopping",
        )
    if not found.api and (found.background or found.zygote):
        raise NotServed(
            f"{found.application} is starting (pid {found.pid}), and takes no orders yet",
            remedy="ask again when all its services are ready; `fissile logs` shows what they print",
            state="starting",
        )
    if not found.api:
        raise NotServed(
            f"{found.application} runs as one process (pid {found.pid}): nothing supervises it",
            remedy="stop it where it runs, with Ctrl-C, and start it with `fissile up`",
            state="foreground",
        )
    return found
