"""The replicas of one zygote, as its supervisor knows them."""

import asyncio
import signal
from collections.abc import Iterator

from fissile.machine.zygote.process_handle import ProcessHandle
from fissile.runtime.control import ReplicaSpec


class ChildTable:
    """Replicas that run, each with its specification, so that another zygote can be told of them.

    It outlives the zygote: replicas go on when their zygote dies, and the next one adopts them.
    """

    def __init__(self) -> None:
        self._running: dict[int, ProcessHandle] = {}
        self._specs: dict[int, ReplicaSpec] = {}
        # Their end was seen, but their zygote has not said yet how they ended.
        self._unexplained: dict[int, ProcessHandle] = {}
        self._has_reporter = False

    def __repr__(self) -> str:
        return f"<ChildTable {sorted(self._running)}>"

    def __len__(self) -> int:
        return len(self._running)

    def attach(self) -> None:
        """A zygote is connected, and reports how its children end."""
        self._has_reporter = True

    def add(self, pid: int, pidfd: int | None) -> ProcessHandle:
        """Watch a new child."""
        child = self._running[pid] = ProcessHandle(pid, pidfd)
        child.exited.add_done_callback(lambda _: self._forget(child))
        return child

    def describe(self, child: ProcessHandle, spec: ReplicaSpec) -> None:
        """Remember what a child is, if it still runs."""
        if not child.exited.done():
            self._specs[child.pid] = spec

    def described(self) -> Iterator[tuple[ProcessHandle, ReplicaSpec]]:
        """Yield every child whose specification is known."""
        for child in list(self._running.values()):
            spec = self._specs.get(child.pid)
            if spec is not None:
                yield child, spec

    def explain(self, pid: int, status: int | None) -> None:
        """The zygote reports how a child ended."""
        child = self._running.get(pid) or self._unexplained.pop(pid, None)
        if child is not None:
            child.ended(status)
        self._unexplained.pop(pid, None)

    def _forget(self, child: ProcessHandle) -> None:
        # The number may be another child's by now: this runs a turn of the loop after the end.
        if self._running.get(child.pid) is child:
            del self._running[child.pid]
            self._specs.pop(child.pid, None)
            if child.exited.result() is None and self._has_reporter:
                self._unexplained[child.pid] = child

    def orphan(self) -> None:
        """The zygote is gone: the pidfds alone tell of ends from now on."""
        self._has_reporter = False
        self._unexplained.clear()
        for child in list(self._running.values()):
            child.watch_alone()

    def kill(self) -> list[asyncio.Future[int | None]]:
        """Kill all children, and return the futures of their ends."""
        for child in list(self._running.values()):
            child.signal(signal.SIGKILL)
        return [child.exited for child in self._running.values()]

    def detach(self) -> None:
        """Leave all children as they are, and know of them no more."""
        for child in self._running.values():
            child.detach()
        self._running.clear()
