"""The Unix socket at which the next supervisor finds a zygote."""

import os
import socket

from fissile.machine.peers import peer_of
from fissile.machine.sockets import listen_unix, remove_unix
from fissile.rpc.paths import addressed


class AdoptionSocket:
    """A zygote listens here, and accepts whoever supervises it next.

    Args:
        path: Of the socket. None: the zygote ends with its supervisor, so nothing is listened at.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self._listener: socket.socket | None = None

    def __repr__(self) -> str:
        return f"<AdoptionSocket {self.path}>"

    def listen(self) -> socket.socket | None:
        """Make a new socket at the path, for a zygote to inherit or to get. Raises OSError."""
        if self.path is None:
            return None
        self.close()
        self._listener = listen_unix(self.path)
        return self._listener

    def connect(self) -> socket.socket | None:
        """Connect to a zygote that outlived its supervisor; None if there is none."""
        if self.path is None:
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with addressed(self.path) as path:
                sock.connect(path)
        except OSError as error:
            sock.close()
            if isinstance(error, ConnectionRefusedError):
                # Its zygote is gone, and no other can come here: this supervisor has locked the state folder.
                self.remove()
            return None
        return sock

    def close(self) -> None:
        """Close this process's copy; the zygote goes on listening at its own."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def remove(self) -> None:
        """Have nobody find the zygote any more."""
        if self.path is not None:
            remove_unix(self.path)


def listener_pid(sock: socket.socket) -> int | None:
    """Return the process that listens where a socket is connected to (SO_PEERCRED, unix(7)).

    None if the system does not say, or if it was this process that called listen(2).
    """
    peer = peer_of(sock)
    return peer.pid if peer is not None and peer.pid not in (0, os.getpid()) else None
