"""With a replica ends what it has started: sessions, pools, daemons, and the server behind a wrapper.

An ending takes its time, and nobody waits for it but who needs it to be over: the next replica in the same slot, which
might find its port taken or two of a kind at work, and whoever removes the control group.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Container, Iterable

import msgspec

from fissile.machine.leftover_processes import ASKED_SECONDS, Ending, left_anywhere, left_by, living, survivors
from fissile.machine.procfs import Mark, ancestors, descendants, mark_of
from fissile.names import ServiceName, SetName
from fissile.orchestrator.awaited import NO_SLOT
from fissile.orchestrator.replica import Replica
from fissile.supervisor.processes import Process
from fissile.supervisor.state import SupervisorState


class UnderWay(msgspec.Struct, frozen=True, eq=False):
    """What a replica left is being ended."""

    replica: Replica
    ending: Ending
    task: "asyncio.Task[None]"


class Endings:
    """Of one application. zygotes: those that live. log: tells people."""

    def __init__(self, state: SupervisorState, zygotes: Callable[[], set[int]], log: Callable[[str], None]) -> None:
        self._state = state
        self._zygotes = zygotes
        self._log = log
        self._under_way: dict[int, UnderWay] = {}

    def begin(
        self, replica: Replica, process: Process, first: signal.Signals = signal.SIGTERM, asked: float = ASKED_SECONDS
    ) -> "asyncio.Task[None] | None":
        """A replica has ended: end what it left; None if that was nothing. first, asked: see `Ending`."""
        pid, mark = process.child.pid, self._state.folder.mark().of(replica.serial)
        enforcement, zygote = self._state.limits.enforcement, process.parent
        # Where its zygote lives, that has adopted its orphans by the time that its end is known.
        adopted = zygote in self._zygotes()
        known = {one.child.pid for one in self._state.processes.by_serial.values()}

        def find() -> list[int]:
            left = left_by(pid, mark, zygote, known) if adopted else left_anywhere(mark.application, _is(mark))
            return living([*left, *enforcement.members(replica.key)])

        ending = Ending(find, first, asked, lambda: enforcement.kill(replica.key))
        if adopted and ending.step():
            return None
        name = replica.service if replica.slot == NO_SLOT else f"{replica.service}.{replica.slot}"
        task = asyncio.get_running_loop().create_task(self._end(replica.serial, name, ending, adopted))
        self._under_way[replica.serial] = UnderWay(replica, ending, task)
        return task

    def family(self, replica: Replica, process: Process) -> list[int]:
        """A replica's process and all that it has started, daemons included while its zygote lives."""
        pid = process.child.pid
        known = {one.child.pid for one in self._state.processes.by_serial.values()}
        daemons = left_by(pid, self._state.folder.mark().of(replica.serial), process.parent, known)
        return [pid, *descendants(pid), *daemons]

    async def _end(self, serial: int, name: str, ending: Ending, first_done: bool) -> None:
        try:
            left = await ending.run_beside(first_done=first_done)
        finally:
            self._under_way.pop(serial, None)
        if ending.found:
            many = "processes that it had" if ending.found > 1 else "process that it had"
            self._log(f"{name}: {ending.found} {many} started ended with it")
        for one in survivors(left):
            self._log(f"{name}: {one}, which it had started, cannot be ended")

    def hurry(self, serial: int) -> None:
        """What a replica left has no more time."""
        found = self._under_way.get(serial)
        if found is not None:
            found.ending.hurry()

    async def over(
        self, *, name: SetName | ServiceName | None = None, slot: int = -1, serials: Iterable[int] = ()
    ) -> None:
        """Wait until what was left in a slot of a replica set, or by a service's migrations, has ended; and what these
        replicas left.
        """
        wanted = set(serials)
        tasks = [
            one.task
            for serial, one in self._under_way.items()
            if serial in wanted or _place(one.replica) == (name, slot)
        ]
        if tasks:
            await asyncio.wait(tasks)

    async def end_dead(self, alive: Iterable[int]) -> int:
        """End what was left by replicas that are not among these, by serial; how many there were."""
        application = self._state.folder.mark()
        serials = {application.of(serial).serial for serial in alive}
        zygotes = self._zygotes()

        def find() -> list[int]:
            left = left_anywhere(application.application, lambda serial: serial not in serials)
            # A zygote, its spare and what its import has started are of no replica, and belong to it.
            return [pid for pid in left if not zygotes & {pid, *ancestors(pid)} or self._dead(pid, serials)]

        ending = Ending(find)
        await ending.run_beside()
        self._lament(ending.left)
        return ending.found

    async def end_left(self) -> int:
        """End what was left by replicas that are no more, whoever supervised them; how many there were."""
        state = self._state
        alive = {replica.serial for found in state.observed.sets.values() for replica in found.replicas.values()}
        strays = {mark.serial for pid in state.app.strays if (mark := mark_of(pid)) is not None}
        return await self.end_dead(alive | state.processes.migrating | strays)

    def _dead(self, pid: int, serials: Container[int]) -> bool:
        mark = mark_of(pid)
        return mark is not None and mark.serial > 0 and mark.serial not in serials

    async def end_all(self, *, children: bool) -> int:
        """End all that is the application's; how many there were. children: and all that descends from this process."""
        application = self._state.folder.mark().application
        own = os.getpid()
        ending = Ending(lambda: left_anywhere(application) + (living(descendants(own)) if children else []))
        await ending.run_beside()
        self._lament(ending.left)
        return ending.found - len(ending.left)

    def _lament(self, left: list[int]) -> None:
        for one in survivors(left):
            self._log(f"{one} cannot be ended")

    async def close(self) -> None:
        """End at once what is still being ended."""
        for one in self._under_way.values():
            one.ending.hurry()
        await asyncio.gather(*(one.task for one in self._under_way.values()), return_exceptions=True)


def _is(mark: Mark) -> Callable[[int], bool]:
    return lambda serial: serial == mark.serial


def _place(replica: Replica) -> tuple[SetName | ServiceName, int]:
    """Migrations have no slot, and those of a service run one after the other whatever its build."""
    return (replica.service if replica.slot == NO_SLOT else replica.set), replica.slot
