"""Passing a connection on to another process: one that was just accepted, or one that is kept between two requests.

Two builds of a public door share its clients by that, and replicas of one build share those who keep their connections.

Both builds accept on the same listening socket. Which of them a connection belongs to is decided by chance at
the share that the rollout says, and its descriptor goes to a replica of that one (SCM_RIGHTS, unix(7)). Whoever
cannot be reached takes none: then it is served where it was accepted.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from fissile.rpc.paths import addressed
from fissile.runtime.forked import receive_descriptors

DOOR_BYTES_MAX = 256
# After the name of the door, where the connection was answered before.
KEPT = b"\0"


class Handover:
    """Where a replica takes connections from others.

    listener: an inherited socket. take: gets the name of the door, the connection, and whether it was answered before.
    """

    def __init__(self, listener: socket.socket, take: Callable[[str, socket.socket, bool], None]) -> None:
        self._take = take
        self._listener = listener
        self._peers: set[socket.socket] = set()
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            while True:
                peer, _ = self._listener.accept()
                peer.setblocking(False)
                self._peers.add(peer)
                asyncio.get_running_loop().add_reader(peer.fileno(), self._readable, peer)

    def _readable(self, peer: socket.socket) -> None:
        if not self._receive(peer):
            asyncio.get_running_loop().remove_reader(peer.fileno())
            self._peers.discard(peer)
            peer.close()

    def _receive(self, peer: socket.socket) -> bool:
        """Take all that has come; whether more may come."""
        try:
            while True:
                door, handles = receive_descriptors(peer, DOOR_BYTES_MAX, 1)
                if not handles:
                    return False
                self._take(door.removesuffix(KEPT).decode(), socket.socket(fileno=handles[0]), door.endswith(KEPT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Take no more; those that were sent already are still taken."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener.fileno())
        with suppress(OSError):
            # Who connects from now on is refused, and keeps what he would have sent; those who have are in the queue.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accept_last()
        self._listener.close()
        for peer in self._peers:
            loop.remove_reader(peer.fileno())
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RD)  # from now on its sends fail, and it serves them itself
            self._receive(peer)
            peer.close()
        self._peers.clear()

    def _accept_last(self) -> None:
        with suppress(OSError):
            self._accept()


class Passer:
    """Hands connections over to others."""

    def __init__(self) -> None:
        self._peers: dict[str, socket.socket] = {}

    def hand_over(self, connection: socket.socket, door: str, address: str, *, kept: bool = False) -> bool:
        """Whether the replica at a path took it; this process keeps its copy, to be closed by the caller.

        kept: it was answered before.
        """
        peer = self._peers.get(address)
        try:
            if peer is None:
                peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                peer.setblocking(False)
                self._peers[address] = peer
                with addressed(address) as path:
                    peer.connect(path)
            socket.send_fds(peer, [door.encode() + (KEPT if kept else b"")], [connection.fileno()])
        except OSError:
            # Its queue is full, or it is gone: it may be asked again.
            self._peers.pop(address).close()
            return False
        return True

    def close(self) -> None:
        """Let go of all."""
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()
