"""The zygote's end of the socket to its supervisor, and of the socket at which the next supervisor comes."""

import select
import socket
import time

import msgspec

from fissile.machine.peers import PeerPolicy, ThrottledLog
from fissile.machine.zygote.protocol import FromZygote, Hello, TooLarge, ToZygote, receive, send


class SupervisorLink:
    """A blocking connection to whoever supervises now; none while there is nobody.

    Args:
        poll: Watches the sockets of this link.
        connection: To the supervisor that has started this zygote.
        listener: Where the next supervisor comes; None if the zygote ends with this one.
        peer_policy: Says who may supervise.
        complaints: What people should know.
    """

    def __init__(
        self,
        poll: select.poll,
        connection: socket.socket,
        listener: socket.socket | None,
        peer_policy: PeerPolicy,
        complaints: ThrottledLog,
    ) -> None:
        self._poll = poll
        self._connection: socket.socket | None = connection
        self._listener = listener
        self._peer_policy = peer_policy
        self._complaints = complaints

    def __repr__(self) -> str:
        return f"<SupervisorLink {'connected' if self.is_connected else 'alone'}>"

    def open(self) -> None:
        """Say hello, and watch both sockets."""
        if self._connection is not None:
            self._poll.register(self._connection, select.POLLIN)
            self.tell(Hello())
        if self._listener is not None:
            self._poll.register(self._listener, select.POLLIN)

    @property
    def is_connected(self) -> bool:
        """Whether there is a supervisor, as far as the socket tells."""
        return self._connection is not None

    def has_order(self, ready: set[int]) -> bool:
        """Whether the supervisor's socket is among those that are ready."""
        return self._connection is not None and self._connection.fileno() in ready

    def knocking(self, ready: set[int]) -> socket.socket | None:
        """Return the socket at which another supervisor comes, if it is among those that are ready."""
        return self._listener if self._listener is not None and self._listener.fileno() in ready else None

    def receive(self) -> tuple[ToZygote, list[int]] | None:
        """Return the supervisor's next order with its descriptors. None if there is none, or no supervisor any more."""
        received = None
        try:
            received = receive(self._connection) if self._connection is not None else None
        except (TooLarge, msgspec.DecodeError) as error:
            # Whoever waits for an answer to it waits in vain; but all that lives here goes on.
            self._complaints.write(f"an order was passed over: {error}", time.monotonic())
            return None
        except OSError:
            pass
        if received is None:
            self._disconnect()
        return received

    def tell(self, message: FromZygote, fds: list[int] | None = None) -> bool:
        """Say something to the supervisor. Returns whether there was one to hear it."""
        if self._connection is None:
            return False
        try:
            send(self._connection, message, fds)
        except OSError:
            return False  # it is gone: poll says so next
        except TooLarge as error:
            self._complaints.write(f"a report was not sent: {error}", time.monotonic())
            return False
        return True

    def accept(self, listener: socket.socket) -> None:
        """Let another supervisor take over, if it may, and if it has not been replaced by a new listener meanwhile."""
        if listener is not self._listener:
            return  # an order of this turn has brought another one
        connection, _ = listener.accept()
        why = self._peer_policy.refusal(connection)
        if why:
            self._complaints.write(f"an order was refused: {why}", time.monotonic())
            connection.close()
            return
        # The state folder's lock says that the one before is dead, even if its socket does not tell it yet.
        self._disconnect()
        self._connection = connection
        self._poll.register(connection, select.POLLIN)
        self.tell(Hello())

    def listen(self, listener: socket.socket) -> None:
        """Have the next supervisor come to another socket."""
        if self._listener is not None:
            self._poll.unregister(self._listener)
            self._listener.close()
        self._listener = listener
        # Once more, though it listens already: who connects is told who has called this last (SO_PEERCRED, unix(7)),
        # and kills that process if it hangs. It must not be the supervisor that has made the socket.
        listener.listen()
        self._poll.register(listener, select.POLLIN)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._poll.unregister(self._connection)
            self._connection.close()
            self._connection = None

    def detach(self) -> None:
        """In a child: close its copies, which are the zygote's own."""
        for sock in (self._connection, self._listener):
            if sock is not None:
                sock.close()
        self._connection = self._listener = None
