"""What a process that the application forks must not keep of the one that serves.

A child of `os.fork`, and so of multiprocessing, is a copy of the replica with its descriptors and its signal handlers.
Left as it is, a signal that is meant for the child is written into the replica's own event loop and ends the replica;
a listening socket outlives the replica in it, and takes connections that nobody answers; and a visitor whose connection
is closed hears nothing of it for as long as the child lives. So each child lets go of all three before its own code
runs. Programs that are executed inherit no descriptor in the first place: all of ours close themselves (O_CLOEXEC,
open(2)).
"""

import asyncio
import faulthandler
import os
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

from fissile.rpc.paths import DESCRIPTORS
from fissile.runtime.stacks import STACKS_SIGNAL

_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, STACKS_SIGNAL)
_ALL_DESCRIPTORS = "/dev/fd"
_ANY_HOST = ("0.0.0.0", "::")


class _Own:
    """What this process has for serving. folders: of the Unix sockets at which it listens, or calls others."""

    def __init__(self, sockets: Iterable[socket.socket], folders: Iterable[str], fds: Iterable[int]) -> None:
        names = [(sock.family, sock.getsockname()) for sock in sockets]
        self._folders = {folder for folder in folders if folder}
        self._folders |= {os.path.dirname(name) for family, name in names if family == socket.AF_UNIX}
        self._places = {name[:2] for family, name in names if family != socket.AF_UNIX}
        self._ports = {name[1] for name in self._places if name[0] in _ANY_HOST}
        # An event loop has one handler for all signals: those that are added later have it, too.
        self._handler = signal.getsignal(signal.SIGTERM)
        loop: Any = asyncio.get_running_loop()
        # The descriptor by which an event loop waits: uvloop's, or asyncio's.
        backend: Callable[[], int] | None = getattr(loop, "_get_backend_id", None)
        selector: Any = getattr(loop, "_selector", None)
        waits = backend() if backend is not None else selector.fileno() if selector is not None else -1
        self._fds = {waits, *fds}

    def leave(self) -> None:
        """In a child: have none of it any more."""
        fds = self._fds | {signal.set_wakeup_fd(-1)}
        faulthandler.unregister(STACKS_SIGNAL)
        for number in _HANDLED:
            # The application's own handlers are its own affair.
            if signal.getsignal(number) == self._handler:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        with suppress(OSError):
            fds |= {fd for fd in map(int, os.listdir(_ALL_DESCRIPTORS)) if self._serves(fd)}
        # Not closed: objects that believe in these numbers would close, or write to, what has got them since.
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in fds - {null, -1}:
            with suppress(OSError):
                os.dup2(null, fd, inheritable=False)
        os.close(null)

    def _serves(self, fd: int) -> bool:
        """Whether a descriptor is a listening socket of ours, a connection that came to one, or one to a neighbour."""
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            return False  # no socket
        try:
            name = sock.getsockname()
            if sock.family == socket.AF_UNIX:
                return self._near(name) or self._near(sock.getpeername())
            return name[:2] in self._places or name[1] in self._ports
        except OSError:
            return False  # connected to nobody
        finally:
            sock.detach()

    def _near(self, name: object) -> bool:
        # A path that was too long for an address begins with a descriptor of its folder: only we make such.
        return isinstance(name, str) and (os.path.dirname(name) in self._folders or name.startswith(f"{DESCRIPTORS}/"))


_own: _Own | None = None
_registered = False


def disown(sockets: Iterable[socket.socket], *, folders: Iterable[str] = (), fds: Iterable[int] = ()) -> None:
    """From now on whatever this process forks lets go of how it serves.

    To be called in the event loop, once its signal handlers are set. sockets: those at which the process listens.
    folders: where the Unix sockets are that it connects to. fds: descriptors that are for it alone, as locks are.
    """
    global _own, _registered
    _own = _Own(sockets, folders, fds)
    if not _registered:
        _registered = True
        os.register_at_fork(after_in_child=_leave)


def _leave() -> None:
    global _own
    own, _own = _own, None
    if own is not None:
        own.leave()


def keep_from_programs(*fds: int) -> None:
    """Have descriptors that were inherited close themselves in whatever this process executes."""
    for fd in fds:
        os.set_inheritable(fd, False)


def receive_descriptors(sock: socket.socket, bytes_max: int, descriptors_max: int) -> tuple[bytes, list[int]]:
    """Data and descriptors from a Unix socket (SCM_RIGHTS, unix(7)); they are for this process alone.

    `socket.recv_fds` gives its flags to nobody (python/cpython#107898). Raises OSError.
    """
    room = socket.CMSG_LEN(descriptors_max * 4)
    flags = cast(int, getattr(socket, "MSG_CMSG_CLOEXEC", 0))  # Linux has it
    data, ancillary, _, _ = sock.recvmsg(bytes_max, room, flags)
    fds: list[int] = []
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += memoryview(raw[: len(raw) // 4 * 4]).cast("i")
    if not flags:
        keep_from_programs(*fds)
    return data, fds
