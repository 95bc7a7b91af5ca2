"""Accept connections at a public door, and give those that belong to another build to that build's replicas.

Usually the event loop accepts. While the door is split between two builds, connections are accepted by hand
instead, so that each can be given away before a protocol has read anything from it.
"""

import asyncio
import errno
import random
import socket
from collections.abc import Callable
from typing import Any

from fissile.rpc.listening import accept_on, let_in, waiting
from fissile.runtime.connection_handoff import HandoffSender
from fissile.runtime.control import OtherBuild
from fissile.runtime.kept import Kept
from fissile.runtime.lobby import Lobby

ACCEPTS_MAX = 64
# How long a connection that belongs to the other build waits here for one of that build's replicas.
HELD_SECONDS_MAX = 5.0
# Connections that come so soon after one another may be a crowd, and are one if so many wait in the queue.
CROWD_SECONDS = 0.05
CROWD_MIN = 16
CROWD_PART = 8
NO_DESCRIPTOR_SECONDS = 0.05


class Acceptor:
    """Listening sockets of one door, and where each new connection goes.

    door: the name by which other processes know it. protocol: makes the protocol of a connection that is
    served here. sender: passes connections to other replicas.
    """

    def __init__(self, door: str, lobby: Lobby, sender: HandoffSender, protocol: Callable[[], Kept]) -> None:
        self._door = door
        self._lobby = lobby
        self._sender = sender
        self._protocol = protocol
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._other: OtherBuild | None = None
        # Connections of the other build, while it has no replica that could take them.
        self._held: list[socket.socket] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._accepted_at = 0.0
        self._stopped = False

    def __repr__(self) -> str:
        how = "stopped" if self._stopped else "by the loop" if self._other is None else f"split with {self._other}"
        return f"<acceptor of {self._door or 'HTTP/JSON'}: {how}>"

    async def start(self, sock: socket.socket) -> None:
        """Accept on a listening socket, which is closed by `stop`."""
        self._sockets.append(sock)
        if self._other is None:
            await self._listen(sock)
        else:
            self._accept_by_hand(sock)

    async def _listen(self, sock: socket.socket) -> None:
        def accepted() -> Kept:
            self._accept_crowd(sock)
            return self._protocol()

        # A copy: asyncio closes the socket it accepts on, and ours must outlive a switch to accepting by hand.
        server = await accept_on(sock.dup(), accepted)
        if self._stopped or self._other is not None:
            server.close()  # the way of accepting changed during the await
        else:
            self._servers.append(server)

    def share(self, other: OtherBuild | None) -> None:
        """From now on give this share of new connections to the other build of this door; None: keep all.

        If all belong to the other build and it has no replica just now, none is accepted: they wait in the
        socket's queue. The release of this build may have no requests at all by then.
        """
        if other is not None and (other.share <= 0.0 or not (other.addresses or other.share >= 1.0)):
            other = None
        before, self._other = self._other, other
        if self._stopped:
            return
        if other is not None:
            # Readers first: the socket is never without somebody who accepts.
            for sock in self._sockets:
                self._accept_by_hand(sock)
            for server in self._servers:
                server.close()
            self._servers.clear()
        elif before is not None:
            loop = asyncio.get_running_loop()
            for sock in self._sockets:
                # Else it would go on, and take 64 at a time from the replicas that share this socket.
                loop.remove_reader(sock.fileno())
                self._spawn(loop.create_task(self._listen(sock)))
            self._sender.close()
        # Last, under the new shares: a held connection may now be ours, or have a replica to go to.
        held, self._held = self._held, []
        for connection in held:
            self._place(connection)

    def _accept_by_hand(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        if self._other is not None and self._other.addresses:
            loop.add_reader(sock.fileno(), self._accept, sock)
        else:
            loop.remove_reader(sock.fileno())

    def _accept(self, sock: socket.socket, count: int = ACCEPTS_MAX) -> None:
        for _ in range(count):
            try:
                connection, _ = sock.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._accept_later(sock)
                return  # or the queue is empty
            self._place(connection)

    def _accept_later(self, sock: socket.socket) -> None:
        """No descriptor is left: free one and pause, or the loop would spin on a readable socket."""
        self._lobby.make_descriptor()
        loop = asyncio.get_running_loop()
        if self._other is not None and loop.remove_reader(sock.fileno()):
            loop.call_later(NO_DESCRIPTOR_SECONDS, self._accept_again, sock)

    def _accept_again(self, sock: socket.socket) -> None:
        if self._other is not None and not self._stopped:
            self._accept_by_hand(sock)

    def _accept_crowd(self, sock: socket.socket) -> None:
        """Accept many connections at once where many wait: the event loop accepts one a turn.

        Only from a long queue, because replicas that share a socket are to share its connections. And only a
        fraction of the strangers and free descriptors: whoever is closed for a newcomer shall have had a while.
        """
        before, self._accepted_at = self._accepted_at, self._lobby.time()
        if self._accepted_at - before < CROWD_SECONDS and waiting(sock) >= CROWD_MIN:
            self._accept(sock, min(ACCEPTS_MAX, self._lobby.spare() // CROWD_PART))

    def _place(self, connection: socket.socket) -> None:
        """Serve a connection here or give it away. If nobody takes it and this build gets none, hold it."""
        other = self._other
        if other is None or random.random() >= other.share:
            self.take(connection)
            return
        addresses = other.addresses
        if any(self._sender.hand_off(connection, self._door, a) for a in random.sample(addresses, len(addresses))):
            connection.close()
        elif other.share < 1.0 or self._stopped:
            self.take(connection)
        else:
            self._held.append(connection)
            asyncio.get_running_loop().call_later(HELD_SECONDS_MAX, self._held_long, connection)

    def _held_long(self, connection: socket.socket) -> None:
        if connection in self._held:
            self._held.remove(connection)
            self.take(connection)

    def take(self, connection: socket.socket, *, kept: bool = False) -> None:
        """Serve a connection that is accepted already. kept: another process has answered it before."""
        connection.setblocking(False)
        loop = asyncio.get_running_loop()

        def taken(task: "asyncio.Task[None]") -> None:
            if task.cancelled() or task.exception() is not None:
                # The client is gone, or this process stops. Not in the task: it may be cancelled before its
                # first step, and then no `finally` of it runs.
                connection.close()

        protocol = self._taken_over if kept else self._protocol
        task = loop.create_task(_serve_accepted(loop, protocol, connection))
        task.add_done_callback(taken)
        self._spawn(task)

    def _taken_over(self) -> Kept:
        return self._protocol().taken_over()

    def _spawn(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Accept no more; returns when every accepted connection has its protocol."""
        self._stopped = True
        loop = asyncio.get_running_loop()
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            # Before the close: afterwards the loop would watch a number that the next socket gets.
            if self._other is not None:
                loop.remove_reader(sock.fileno())
            sock.close()
        for connection in self._held:
            self.take(connection)
        self._held.clear()
        # What the loop has accepted has no protocol for two more turns; a drain that counted now would miss it.
        await let_in()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _serve_accepted(loop: asyncio.AbstractEventLoop, protocol: Any, connection: socket.socket) -> None:
    await loop.connect_accepted_socket(protocol, connection)
