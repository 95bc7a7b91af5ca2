"""The processes behind replicas."""

from collections.abc import Iterator

import msgspec

from fissile.machine.procfs import look
from fissile.machine.zygote.client import ProcessHandle
from fissile.supervisor.control_server import ReplicaSession


class Process(msgspec.Struct, frozen=True, eq=False):
    """What stands behind a replica: its process, when that began, and its session on the control socket.

    born: see `procfs`; None where that is not known. parent: whose child it was at first; 0 where nobody knows.
    root: the folder of the code that it runs, and reads from as long as it lives.
    """

    child: ProcessHandle
    session: ReplicaSession
    born: int | None
    parent: int
    root: str

    def __repr__(self) -> str:
        return f"<Process pid={self.child.pid} serial={self.session.serial} born={self.born}>"


def process_of(child: ProcessHandle, session: ReplicaSession, root: str = "") -> Process:
    """The process of a child, with what the system says of it now."""
    found = look(child.pid)
    # A number may be another process's by the time that it is asked: the time of birth tells them apart.
    when = found.born if found is not None and not found.ended else None
    return Process(child, session, when, found.parent if found is not None else 0, root)


class ProcessTable:
    """The processes of an application's replicas, by serial.

    migrating: serials of the processes that run migrations; they are no replicas. port_holders: who answers at a
    program's port, in words and by serial, where it cannot be seen that it is the program itself.
    """

    def __init__(self) -> None:
        self.by_serial: dict[int, Process] = {}
        self.migrating: set[int] = set()
        self.port_holders: dict[int, str] = {}

    def pids(self) -> set[int]:
        """Their process numbers."""
        return {process.child.pid for process in self.by_serial.values()}

    def births(self) -> Iterator[tuple[int, int]]:
        """When each began, by process number; without those of which that is not known."""
        for process in self.by_serial.values():
            if process.born is not None:
                yield process.child.pid, process.born

    def folders(self) -> set[str]:
        """The folders of code that they were started from."""
        return {process.root for process in self.by_serial.values()}
