"""A replica that is started by exec instead of a fork: for code that cannot be forked (`spawn = true`).

Its order, tokens included, comes in a file without a name, inherited as descriptor 3; its listening
sockets follow.
"""

import os
import socket
import sys

import msgspec

from fissile.runtime import replica
from fissile.runtime.forked import keep_from_programs
from fissile.runtime.unhandled import show_unhandled
from fissile.supervisor.logfiles import unfailing_output
from fissile.supervisor.messages import Fork
from fissile.supervisor.zygote import LISTEN_FDS_START


def order_file(order: Fork) -> int:
    """An order as a file that nobody else can open; its descriptor."""
    fd = os.memfd_create("order")
    with open(os.dup(fd), "wb") as file:
        file.write(msgspec.msgpack.encode(order))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def main() -> int:
    """The program."""
    with open(LISTEN_FDS_START, "rb") as file:
        order = msgspec.msgpack.decode(file.read(), type=Fork)
    count = int(os.environ.pop("LISTEN_FDS", "1"))
    os.environ.pop("LISTEN_PID", None)
    unfailing_output()
    keep_from_programs(*range(LISTEN_FDS_START + 1, LISTEN_FDS_START + count))
    sockets = [socket.socket(fileno=LISTEN_FDS_START + number) for number in range(1, count)]
    show_unhandled()
    return replica.run(order.spec, sockets, order.control_address, order.control_token)


if __name__ == "__main__":
    sys.exit(main())
