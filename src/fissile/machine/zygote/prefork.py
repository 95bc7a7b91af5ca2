"""A child that is forked before anybody needs it, and waits for its order.

Most of what a start costs is paid before anybody waits for it, at the price of one small process per zygote.
"""

import os
import signal
import socket
from contextlib import suppress

import msgspec

from fissile.component.graph import Graph
from fissile.machine.zygote.child import ForkRequest
from fissile.machine.zygote.protocol import Fork, receive, send
from fissile.runtime import prewarm

# For a preforked child to take its order; then another child is forked instead.
TAKE_SECONDS_MAX = 1.0
TAKEN = b"+"


class PreforkedWorker(msgspec.Struct, frozen=True):
    """A waiting child, as the zygote sees it. connection: the child has the other end."""

    pid: int
    connection: socket.socket

    def take(self, order: Fork, fds: list[int]) -> bool:
        """Give it an order. Returns whether it has taken it; if not, it is killed.

        One that hangs does not answer, nor does one that is gone. It must not live on: it may have the order, and would
        be a second replica beside the one that is forked instead.
        """
        try:
            self.connection.settimeout(TAKE_SECONDS_MAX)
            send(self.connection, order, fds)
            taken = self.connection.recv(len(TAKEN)) == TAKEN
        except OSError:
            taken = False
        finally:
            self.connection.close()
        if not taken:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        return taken

    def close(self) -> None:
        """Dismiss it: it ends when its connection closes."""
        self.connection.close()


def wait_for_order(connection: socket.socket, graph: Graph) -> ForkRequest:
    """In the child: prepare, and wait for the order; end if the zygote dismisses it."""
    # Before the wait: what this writes to becomes the child's own memory now, and not when somebody waits for it.
    loop = prewarm.prewarm(graph)
    received = receive(connection)
    if received is None:
        os._exit(0)  # no callback of atexit: they are the application's, which has not run here
    connection.send(TAKEN)
    connection.close()
    order, fds = received
    assert isinstance(order, Fork)
    return ForkRequest(fds, loop)
