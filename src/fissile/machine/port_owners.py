"""Finds the process that listens at a port, so that a stranger's answer is not taken for a program's own.

Sources: proc_net_tcp (docs.kernel.org/networking/proc_net_tcp.html), which lists those that listen before all others;
proc_pid_fd(5). Another user's descriptors are not shown, nor what is in another network namespace.
"""

import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec

from fissile.machine.leftover_processes import command_of
from fissile.machine.procfs import everyone, look
from fissile.machine.sockets import HOST

LISTENS = b"0A"
CONNECT_SECONDS_MAX = 0.25
V4_MAPPED = b"\0" * 10 + b"\xff\xff"
# Where a connection to HOST may arrive: at its own address, at all, and at both in the words of IPv6.
EVERYWHERE = b"\0" * 16
LOOPBACK = socket.inet_aton(HOST)
PLACES = {LOOPBACK, b"\0" * 4, EVERYWHERE, V4_MAPPED + LOOPBACK, V4_MAPPED + b"\0" * 4}


class Holder(msgspec.Struct, frozen=True):
    """The process that listens at a port. pid: 0 if it is not shown."""

    pid: int = 0
    command: str = ""

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command})" if self.pid else "a program that is not shown"


NOBODY_KNOWN = Holder()


def listening(port: int) -> set[str]:
    """The sockets (inode numbers) that listen where a connection to HOST at this port arrives."""
    return {inode for inode, number, address in _listening() if number == port and address in PLACES}


def ports_of(pids: Iterable[int]) -> list[int]:
    """Return the ports at which these processes listen, at any address."""
    every = list(pids)
    return sorted({number for inode, number, _ in _listening() if any(held_by(pid, {inode}) for pid in every)})


def _listening() -> Iterator[tuple[str, int, bytes]]:
    """The sockets that listen: their inode numbers, ports and addresses."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError), open(f"/proc/net/{table}", "rb") as file:
            next(file, None)
            for line in file:
                words = line.split(maxsplit=10)
                if words[3] != LISTENS:
                    break
                place, _, number = words[1].partition(b":")
                yield words[9].decode(), int(number, 16), _address(place)


def _address(text: bytes) -> bytes:
    """An address as the table has it: words of four bytes, each a number of this machine's order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words)


def held_by(pid: int, sockets: set[str]) -> bool:
    """Whether a process has one of these sockets open, as far as that is shown."""
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(entry.path)
                if target.startswith("socket:[") and target[8:-1] in sockets:
                    return True
    return False


def listens(pids: Iterable[int], port: int) -> bool:
    """Whether one of these processes listens at a port."""
    sockets = listening(port)
    return bool(sockets) and any(held_by(pid, sockets) for pid in pids)


def holder(port: int, not_of: Iterable[int] = ()) -> Holder | None:
    """Return who else listens at a port; None if nobody does. If somebody does, every process is looked at."""
    sockets, ours = listening(port), set(not_of)
    for pid in everyone() if sockets else ():
        if held_by(pid, sockets):
            if pid not in ours:
                return Holder(pid, command_of(pid))
            sockets = {one for one in sockets if not held_by(pid, {one})}
            if not sockets:
                return None
    return NOBODY_KNOWN if _answers(port) else None


def _answers(port: int) -> bool:
    """Whether a connection is accepted: what is shown in no table may still be there, or shown where none arrives."""
    with suppress(OSError), socket.create_connection((HOST, port), CONNECT_SECONDS_MAX):
        return True
    return False


def since(pid: int, born: int | None) -> bool:
    """Whether a process began after this time (clock ticks)."""
    found = look(pid)
    return found is not None and born is not None and found.born >= born
