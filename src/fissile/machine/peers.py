"""Decides who may connect to a local socket: no replica, and nothing that it started, may control its supervisor.

A path's rights say which user may come, and all of an application is mostly one user. So the doors by which a
supervisor and its zygotes are ordered look at the process itself. The kernel tells who connected (SO_PEERCRED), and
holds its number for as long as we look (SO_PEERPIDFD, Linux 6.5; before, a pidfd of it, and no proof that it was the
same process when it connected). Zygotes and supervisors adopt what replicas leave behind, so a descendant of a replica
has one of them above it for good. Where all that were above it have died, the mark that it has inherited tells.

Sources: unix(7), socket(7), pidfd_open(2), prctl(2) for PR_SET_CHILD_SUBREAPER and PR_SET_NO_NEW_PRIVS.
"""

import os
import socket
import struct
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import msgspec

from fissile.machine.pidfd import ends_within, open_pidfd
from fissile.machine.procfs import look, mark_by_limit

SO_PEERPIDFD = 77
LOOKS_MAX = 10
DEPTH_MAX = 1000
_CREDENTIALS = struct.Struct("3i")
_CONFINED = b"\nNoNewPrivs:\t1"
REPLICAS_MAY_NOT = "a replica of this application may not order its own supervisor"
REMEDY = "do it from outside of the application: from a shell, or from a timer that no replica has started"
COMPLAINT_SECONDS = 10.0


class Peer(msgspec.Struct, frozen=True):
    """The process that connected. pid: 0 if it is in another container."""

    pid: int
    uid: int


def peer_of(connection: socket.socket) -> Peer | None:
    """The other side of a Unix socket, as it was when it connected; None where the system does not tell."""
    option: Any = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    try:
        pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    except OSError:
        return None
    return Peer(pid, uid)


class PeerPolicy:
    """Decides which peers may control one application.

    application: its name in marks (see procfs). members: processes that belong to it, whatever their marks say;
    their descendants do, too.
    """

    def __init__(self, application: str, members: Callable[[], Collection[int]]) -> None:
        self._application = application
        self._members = members

    def refusal(self, connection: socket.socket) -> str:
        """Why whoever connected may not come in, or ""."""
        peer = peer_of(connection)
        if peer is None:
            return ""  # the rights of the path have to do
        if peer.uid not in (0, os.geteuid()):
            return f"user {peer.uid} may not order what belongs to user {os.geteuid()}"
        if peer.pid in (0, os.getpid()):
            return ""
        handle = _held(connection, peer.pid)
        try:
            for _ in range(LOOKS_MAX):
                line = lineage(peer.pid)
                if handle is not None and ends_within(handle, 0.0):
                    break
                if line:
                    return self._judged(line)
        finally:
            if handle is not None:
                os.close(handle)
        return f"process {peer.pid} ended before it could be seen who it was"

    def owns_us(self) -> bool:
        """Whether this process was itself started by a replica of the application."""
        marks = [mark_by_limit(pid) for pid in lineage(os.getpid())[1:]]
        return self._application in [mark.application for mark in marks if mark is not None]

    def _judged(self, line: list[int]) -> str:
        """line: a process, its parent and so on."""
        members = self._members()
        if any(pid in members for pid in line):
            return REPLICAS_MAY_NOT
        marks = {mark.application for pid in line if (mark := mark_by_limit(pid)) is not None}
        if self._application in marks:
            return REPLICAS_MAY_NOT
        if marks and _confined(line[0]):
            return "a confined replica of another application may not order this one"
        return ""


def lineage(pid: int) -> list[int]:
    """A process, its parent and so on up to the first one; empty where that altered while one looked."""
    line: list[int] = []
    here = look(pid)
    while here is not None and len(line) < DEPTH_MAX:
        line.append(here.pid)
        if here.parent == 0:
            return line
        above = look(here.parent)
        again = look(here.pid)
        # A parent that went meanwhile has left its number, and its child another parent.
        if again is None or again.parent != here.parent or (above is not None and above.born > here.born):
            return []
        here = above
    return []


def _held(connection: socket.socket, pid: int) -> int | None:
    """A descriptor of the peer, so that its number is nobody else's while it is open; None: the system has none."""
    with suppress(OSError):
        return connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    return open_pidfd(pid)


def _confined(pid: int) -> bool:
    """Whether a process has given up privileges for good, as all do that are confined."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return _CONFINED in file.read()
    except OSError:
        return True


class ThrottledLog:
    """Lines for a log, one in COMPLAINT_SECONDS: a peer may come back as often as it likes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._silent_until = 0.0
        self._unsaid = 0

    def write(self, text: str, now: float) -> None:
        """Say it, or count it (now: monotonic seconds)."""
        if now < self._silent_until:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more like this were not written)" if self._unsaid else ""
        self._say(f"{text}{more}")
        self._silent_until, self._unsaid = now + COMPLAINT_SECONDS, 0
