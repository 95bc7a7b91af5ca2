"""Hand a connection over to another process: one just accepted, or one kept between two requests.

Two builds of a public door share new clients by this, and replicas of one build share kept ones. Both
builds accept on the same listening socket. Chance decides, at the share that the rollout says, which build
a connection belongs to; its descriptor goes to a replica of that build (SCM_RIGHTS, unix(7)). If no replica
can be reached, the connection is served where it was accepted.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from fissile.rpc.paths import addressed
from fissile.runtime.forked import receive_descriptors

DOOR_BYTES_MAX = 256
# Follows the name of the door if the connection was answered before.
KEPT = b"\0"


class HandoffReceiver:
    """Takes connections that other replicas hand over.

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
        """Take no more connections; those that were sent already are still taken."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener.fileno())
        with suppress(OSError):
            # From now on a connect is refused, and its sender keeps the connection; earlier ones are in the queue.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accept_last()
        self._listener.close()
        for peer in self._peers:
            loop.remove_reader(peer.fileno())
            with suppress(OSError):
                # First: from now on its sends fail, and it serves those connections itself.
                peer.shutdown(socket.SHUT_RD)
            # Then: whatever was sent before is in the buffer now, and nothing can follow it.
            self._receive(peer)
            peer.close()
        self._peers.clear()

    def _accept_last(self) -> None:
        with suppress(OSError):
            self._accept()


class HandoffSender:
    """Hands connections over to other replicas."""

    def __init__(self) -> None:
        self._peers: dict[str, socket.socket] = {}

    def hand_off(self, connection: socket.socket, door: str, address: str, *, kept: bool = False) -> bool:
        """Whether the replica at a path took the connection. The caller closes this process's copy.

        kept: the connection was answered before.
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
            # Its queue is full, or it is gone. A new socket is made the next time it is asked.
            self._peers.pop(address).close()
            return False
        return True

    def close(self) -> None:
        """Close the connections to all replicas."""
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()
