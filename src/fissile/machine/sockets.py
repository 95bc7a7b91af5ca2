"""Listening sockets, made by the supervisor and inherited by replicas.

They outlive every replica: while one is replaced, connections wait in the queue instead of failing.
"""

import errno
import os
import socket
from contextlib import suppress

from fissile.errors import ConfigError
from fissile.rpc.listening import BACKLOG
from fissile.rpc.paths import addressed

HOST = "127.0.0.1"
PREFERRED_PORT = 8000
SOCKET = ".sock"
# The folder of second names of the sockets' files.
SPARES = "spare"
# Who may connect: the owner, or everybody (who has to prove himself then).
OWNERS, EVERYBODYS = 0o600, 0o666


def listen_unix(path: str, mode: int = OWNERS) -> socket.socket:
    """A listening Unix socket at a path, to which those may connect who may write to it (mode)."""
    sock = _bound(socket.SOCK_STREAM, path, mode)
    sock.setblocking(False)
    return sock


def listen_handover(path: str, mode: int = OWNERS) -> socket.socket:
    """Listen for connections that another replica has accepted."""
    return _bound(socket.SOCK_SEQPACKET, path, mode)


def _bound(kind: socket.SocketKind, path: str, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        remove_unix(path)
        with suppress(OSError):  # on Linux the file has these rights from its first moment
            os.fchmod(sock.fileno(), mode)
        with addressed(path) as short:
            sock.bind(short)
        os.chmod(path, mode)
        spare = _spare(path)
        with suppress(OSError):  # of a file system without hard links
            os.makedirs(os.path.dirname(spare), 0o700, exist_ok=True)
            os.link(path, spare)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def remove_unix(path: str) -> None:
    """Remove the file of a Unix socket, and what was kept to restore it. It may be gone."""
    for name in (path, _spare(path)):
        with suppress(OSError):
            os.unlink(name)


def _spare(path: str) -> str:
    """A second name of a socket's file. Whoever removes the sockets in a folder leaves it alone."""
    folder, name = os.path.split(path)
    return os.path.join(folder, SPARES, name.removesuffix(SOCKET))


def restore(folder: str) -> list[str]:
    """Put back the sockets of a folder that somebody has removed, while their spares are there; their paths.

    They are the same sockets: whoever listens on one goes on. It costs two readings of small folders.
    """
    spares = os.path.join(folder, SPARES)
    try:
        kept = os.listdir(spares)
        there = set(os.listdir(folder))
    except OSError:
        return []
    restored: list[str] = []
    for name in kept:
        if name + SOCKET not in there:
            path = os.path.join(folder, name + SOCKET)
            with suppress(OSError):
                os.link(os.path.join(spares, name), path)
                restored.append(path)
    return restored


def listen_tcp(port: int, purpose: str, setting: str) -> socket.socket:
    """A listening socket on this machine's loopback; port 0 is any free one.

    Raises ConfigError that names the purpose and the setting by which the port is chosen.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except (OSError, OverflowError) as error:
        sock.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "is taken by another program" if taken else f"cannot be used ({error})"
        raise ConfigError(
            f"port {port}, wanted for {purpose}, {why}", remedy=f"choose another with {setting} (0 is any free one)"
        ) from None
    return sock


def listen_public(port: int | None, component: str) -> socket.socket:
    """The public listener of a component: on this port, or else on the usual one or any free one."""
    if port is None:
        try:
            return listen_tcp(PREFERRED_PORT, component, "--port")
        except ConfigError:
            port = 0
    return listen_tcp(port, component, "--port")


def url(sock: socket.socket) -> str:
    """The HTTP address of a listening TCP socket."""
    return f"http://{HOST}:{sock.getsockname()[1]}"
