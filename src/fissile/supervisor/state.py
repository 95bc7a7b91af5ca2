"""The folder .fissile next to fissile.toml: one supervisor's lock, sockets and endpoints.

Only its owner may look into it. What a killed supervisor left there is cleaned by the next one; two at
a time are refused.
"""

import fcntl
import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.supervisor.orphans import orphans

FOLDER = ".fissile"
ENDPOINTS = "endpoints.json"
LOCK = "lock"
LOGS = "logs"
JOURNAL = "journal.db"
# A Unix socket's path may have 107 bytes on Linux and 103 on macOS.
SOCKET_PATH_BYTES_MAX = 103
SOCKET_NAME_BYTES_MAX = 66


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

    zygote: its pid; 0 while there is none, and where it ends with the supervisor.
    api: the supervisor's own address, if there is one, with its token; and the Unix socket of the same.
    births: of all replicas in the background, as `orphans` knows them, by process number. release: the one that most
    requests go to; resumed: whether it is what ran last, and not the code that the folder held at the start.
    """

    pid: int
    application: str
    topology: str
    token: str
    services: dict[str, ServiceEndpoints]
    zygote: int = 0
    births: dict[int, int] = {}
    api: str = ""
    api_token: str = ""
    api_socket: str = ""
    release: str = ""
    resumed: bool = False
    background: bool = False


ZYGOTE_SOCKET = "zygote"


def nothing_runs(root: Path) -> ConfigError:
    """The error of whoever asks for something that runs."""
    return ConfigError(
        f"nothing runs in {root.resolve()}",
        remedy="start it with `fissile run` or `fissile up`, or name its folder with --path",
    )


def read_endpoints(root: Path) -> Endpoints:
    """What runs in an application's folder. Raises ConfigError if nothing does.

    Its supervisor may be dead: see `supervised`.
    """
    file = root / FOLDER / ENDPOINTS
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Endpoints)
    except (FileNotFoundError, NotADirectoryError):
        raise nothing_runs(root) from None
    except PermissionError:
        raise ConfigError(f"{file} belongs to somebody else", remedy="be the user who started it") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", remedy="start the application anew") from None
    if not lives(found.pid) and not (found.zygote and lives(found.zygote)) and not orphans(found.births):
        raise nothing_runs(root)
    return found


def lives(pid: int) -> bool:
    """Whether a process is there, and has not ended without anybody fetching its status (a zombie)."""
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
    if not lives(found.pid):
        raise ConfigError(
            f"the supervisor of {found.application} (pid {found.pid}) died; its services go on without it",
            remedy="`fissile up` starts another, which takes them over",
        )
    if not found.api:
        raise ConfigError(
            f"{found.application} runs as one process (pid {found.pid}): nothing supervises it",
            remedy="run it with `fissile up`, or restart that process",
        )
    return found


class StateFolder:
    """The folder, locked while it is open. `sockets` is where Unix sockets go."""

    def __init__(self, root: Path) -> None:
        self.path = root / FOLDER
        self.sockets = self.path
        self._lock = -1

    def open(self) -> None:
        """Make the folder and lock it. Raises ConfigError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            self._lock = self._locked()
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be used: {error.strerror}", remedy="make its parent a folder you can write to"
            ) from None
        self.sockets = self._socket_folder()

    def _locked(self) -> int:
        file = self.path / LOCK
        while True:
            fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(fd, 32).decode("ascii", "replace").strip()
                os.close(fd)
                by = f" (pid {holder})" if holder else ""
                raise ConfigError(
                    f"this application runs already{by}: {self.path} is locked",
                    remedy="stop that one first, or run a copy of the folder",
                ) from None
            # Whoever held it before may have removed the file between our open and our lock.
            if file.exists() and os.path.samestat(os.fstat(fd), file.stat()):
                os.ftruncate(fd, 0)
                os.write(fd, f"{os.getpid()}\n".encode())
                return fd
            os.close(fd)

    def _socket_folder(self) -> Path:
        path = self.path.resolve()
        if len(os.fsencode(path)) + 1 + SOCKET_NAME_BYTES_MAX <= SOCKET_PATH_BYTES_MAX:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        short = Path(tempfile.gettempdir()) / f"fissile-{os.getuid()}-{digest}"
        with suppress(FileExistsError):
            short.mkdir(mode=0o700)
        found = short.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise ConfigError(
                f"{short} is not a private folder of yours", remedy="remove it, or set TMPDIR to a folder of your own"
            )
        return short

    def left(self) -> dict[int, int]:
        """The births of the replicas that were known here last."""
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self.path / ENDPOINTS).read_bytes(), type=Endpoints).births
        return {}

    def clean(self) -> None:
        """Remove what was left of those who run no more."""
        for file in [*self.path.iterdir(), *self.sockets.iterdir()]:
            if file.suffix in (".sock", ".stacks") or file.name == ENDPOINTS:
                file.unlink(missing_ok=True)

    def socket_path(self, name: str) -> str:
        """Where the Unix socket of this name is."""
        return str(self.sockets / f"{name}.sock")

    def zygotes(self) -> list[str]:
        """The Unix sockets at which zygotes may be found that outlived their supervisor."""
        return [str(path) for path in self.sockets.glob(f"{ZYGOTE_SOCKET}-*.sock")]

    def publish(self, endpoints: Endpoints) -> None:
        """Publish the endpoints: readers see the old ones or the new ones, never a half."""
        draft = self.path / f"{ENDPOINTS}.new"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(endpoints)))
        draft.rename(self.path / ENDPOINTS)

    def let_go(self) -> None:
        """Leave the folder to the next supervisor as it is."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def close(self) -> None:
        """Remove what was made, the folder too if nothing else is in it."""
        if self._lock < 0:
            return
        self.clean()
        (self.path / LOCK).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = -1
        for folder in {self.sockets, self.path}:
            with suppress(OSError):
                folder.rmdir()
