"""Listening sockets, made by the supervisor and inherited by replicas.

They outlive every replica: while one is replaced, connections wait in the queue instead of failing.
"""

import errno
import os
import socket
from contextlib import suppress

from fissile.errors import ConfigError
from fissile.rpc.listening import BACKLOG

HOST = "127.0.0.1"
PREFERRED_PORT = 8000


def listen_unix(path: str) -> socket.socket:
    """A listening Unix socket at a path."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_handover(path: str) -> socket.socket:
    """Where a replica takes connections that another one has accepted."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
        sock.bind(path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


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
