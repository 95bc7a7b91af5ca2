"""A child of the zygote, from the fork to the first line of the application.

What runs here has the zygote's memory and rights, and not yet any limit. Each step is where it is because a later one
could not undo or replace it: see the comments.
"""

import asyncio
import fcntl
import gc
import os
import socket
import sys
from typing import Any

import msgspec

from fissile.machine import process_marks, proctitle
from fissile.machine.confine import enter
from fissile.machine.environment import variables
from fissile.machine.zygote import sealed_letters
from fissile.machine.zygote.protocol import Exec, Fork
from fissile.runtime import process

# The first descriptor that a program gets from systemd, and so from here (sd_listen_fds(3)).
LISTEN_FDS_START = 3
EXIT_NOT_FOUND = 127
ORDER: Any = Fork | Exec


class ForkRequest(msgspec.Struct, frozen=True):
    """What a new child has: the descriptors that came with the order, and its event loop if it was preforked.

    The first descriptor is the letter with the order in full; stdout, stderr and the listening sockets follow.
    """

    fds: list[int]
    loop: asyncio.AbstractEventLoop | None = None


def run(request: ForkRequest) -> int:
    """Become the replica, and return its exit code."""
    # A session of its own, and so a process group: a signal to the group reaches whatever the replica starts in it, but
    # neither the zygote nor other replicas.
    os.setsid()
    letter, out, err, *listening = request.fds
    # Before anything can fail: what is printed from here on belongs to the log of this replica, not to the zygote's.
    os.dup2(out, 1)
    os.dup2(err, 2)
    # Only now, in the child, is the letter read: what the zygote has once read is in the memory of every replica.
    order: Fork | Exec = sealed_letters.read(letter, ORDER)
    for fd in (letter, out, err):
        os.close(fd)
    # The mark before the walls: a warden that the walls need is forked from here, and inherits it; a confined process
    # may lack the right to set a limit.
    marked = process_marks.become(order.spec.set, order.spec.serial)
    # The walls before the first line that others wrote: nothing of a release may run with the zygote's rights.
    enter(order.confinement, order.spec.service)
    if isinstance(order, Exec):
        return execute(order, listening, marked)
    os.environ.update(order.environment | marked)
    proctitle.become(f"{order.spec.service}.{'migrations' if order.spec.migrate else order.spec.slot}")
    gc.enable()  # the zygote has turned it off, so that a collection does not copy pages that are shared
    sockets = [socket.socket(fileno=fd) for fd in listening]
    return process.run(order.spec, sockets, order.control_address, order.control_token, request.loop)


def execute(order: Exec, listening: list[int], marked: dict[str, str]) -> int:
    """Become another program. Returns only if that fails.

    Args:
        order: Says which one, and where.
        listening: Descriptors of its listening sockets.
        marked: Variables to add to its environment.
    """
    first = LISTEN_FDS_START
    # Move all of them out of the way first: one may have the number at which another is to be. The copies close
    # themselves at exec; those that dup2 makes do not, and are what the program inherits.
    parked = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, first + len(listening)) for fd in listening]
    for number, fd in enumerate(parked):
        os.dup2(fd, first + number)
    environment = variables(order.raw) | order.environment | marked
    if listening:
        environment |= {"LISTEN_FDS": str(len(listening)), "LISTEN_PID": str(os.getpid())}
    program = order.arguments[0]
    try:
        os.chdir(order.folder)
        os.execvpe(program, list(order.arguments), environment)
    except OSError as error:
        print(f"{program} cannot be run: {error.strerror}", file=sys.stderr, flush=True)
        return EXIT_NOT_FOUND
