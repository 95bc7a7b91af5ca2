"""What runs in an application's folder and how it is reached, as the file endpoints.json says it.

`api.discovery` reads that file for commands. Both import no more than that takes, and start in a few milliseconds.
"""

import os
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.formats import ENDPOINTS as FORMAT
from fissile.formats import FISSILE
from fissile.machine.procfs import application_of, born
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
