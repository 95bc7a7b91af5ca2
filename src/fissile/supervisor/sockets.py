"""The state folder of a running application, its lock, and the listening sockets of its services.

A slot's socket is made once and outlives its replicas: a caller that connects while the next replica
starts just waits in the socket's queue.
"""

import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

import msgspec

from fissile.errors import ConfigError

STATE_FOLDER = ".fissile"
ENDPOINTS = "endpoints.json"
BACKLOG = 1024
# sun_path holds 108 bytes (man 7 unix), the last of them 0; a file name needs its share of them.
FOLDER_BYTES_MAX = 60


class ServiceEndpoints(msgspec.Struct):
    """Where one service is reached: its HTTP/JSON API, and its public listeners by component."""

    gateway: str
    public: dict[str, str] = {}
    components: tuple[str, ...] = ()


class Endpoints(msgspec.Struct):
    """Where a running application is reached; what `fissile call` reads. token: for the gateways."""

    pid: int
    application: str
    topology: str
    token: str
    services: dict[str, ServiceEndpoints]
    control: str = ""
    control_token: str = ""


class StateFolder:
    """`.fissile/` beside fissile.toml: private, locked by the one process that runs the application."""

    def __init__(self, root: Path) -> None:
        self.path = root / STATE_FOLDER
        self.sockets = self.path
        self._lock = -1

    def open(self) -> None:
        """Make it and lock it. Raises ConfigError if the application runs already."""
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            self.path.chmod(0o700)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"the state folder {self.path} cannot be made: {error}", remedy="make it writable"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = -1
            raise ConfigError(
                f"the application in {self.path.parent} runs already",
                remedy="stop the other `fissile run` first, or run a copy in another folder",
            ) from None
        self._clear()
        if len(os.fsencode(str(self.path.resolve()))) > FOLDER_BYTES_MAX:
            digest = hashlib.sha256(os.fsencode(str(self.path.resolve()))).hexdigest()[:8]
            self.sockets = Path(tempfile.mkdtemp(prefix=f"fissile-{digest}-"))

    def _clear(self) -> None:
        for file in self.path.glob("*.sock"):
            file.unlink(missing_ok=True)
        (self.path / ENDPOINTS).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove what only a running application has, and unlock."""
        if self._lock < 0:
            return
        self._clear()
        if self.sockets != self.path:
            shutil.rmtree(self.sockets, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1

    def publish(self, endpoints: Endpoints) -> None:
        """Write where the application is reached; readable by its owner alone."""
        file = self.path / ENDPOINTS
        draft = file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(endpoints)))
        draft.replace(file)

    def listen_unix(self, name: str) -> tuple[socket.socket, str]:
        """A listening Unix socket, and its address."""
        path = self.sockets / f"{name}.sock"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(path))
        sock.listen(BACKLOG)
        sock.setblocking(False)
        return sock, f"unix:{path}"


def read_endpoints(root: Path) -> Endpoints:
    """Where the application in this folder is reached. Raises ConfigError if it does not run."""
    file = root / STATE_FOLDER / ENDPOINTS
    try:
        return msgspec.json.decode(file.read_bytes(), type=Endpoints)
    except (OSError, msgspec.DecodeError):
        raise ConfigError(
            f"no application runs in {root.resolve()}", remedy="start it with `fissile run`, or name its folder"
        ) from None


def listen_tcp(port: int, what: str, host: str = "127.0.0.1") -> socket.socket:
    """A listening TCP socket. Raises ConfigError where the port is taken."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        raise ConfigError(
            f"port {port} for {what} cannot be used: {error}",
            remedy="stop what uses it, or choose another (0 takes any free one)",
        ) from None
    sock.setblocking(False)
    return sock


def url(sock: socket.socket) -> str:
    """The address of a listening TCP socket as a URL."""
    host, port = sock.getsockname()[:2]
    return f"http://{host}:{port}"
