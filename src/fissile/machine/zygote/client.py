"""The supervisor's side of a zygote: has replicas forked, and replaces a zygote that dies or hangs.

A zygote that dies takes no replica with it: another is started, and told of the children. One that hangs is found by
its silence (`look`), killed, and replaced in the same way. A supervisor that dies takes nothing with it either: the
next one asks the zygote what there is (`adopt`).

What is true of one zygote process alone lives in `session`; what outlasts it lives here: the order to import
(`imported`), the replicas (`children`), and the sockets that each zygote keeps (`kept_sockets`).
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum, auto

from fissile.errors import ConfigError
from fissile.machine import process_marks
from fissile.machine.environment import parted
from fissile.machine.last_lines import LastLines
from fissile.machine.procfs import Mark
from fissile.machine.walls import Confinement
from fissile.machine.zygote.adoption_socket import AdoptionSocket, listener_pid
from fissile.machine.zygote.children import ChildTable
from fissile.machine.zygote.errors import ForkError, LoadDied, OtherFissile, ZygoteHung
from fissile.machine.zygote.imported import ImportedApplication
from fissile.machine.zygote.kept_sockets import KeptSockets
from fissile.machine.zygote.process_handle import ProcessHandle
from fissile.machine.zygote.protocol import (
    AdoptChild,
    Exec,
    Fork,
    Keep,
    Listen,
    Load,
    Loaded,
    LoadFailed,
    Retire,
    ToZygote,
)
from fissile.machine.zygote.respawner import Respawner
from fissile.machine.zygote.session import Found, ZygoteSession
from fissile.machine.zygote.zygote_process import KilledZygotes, ZygoteProcess
from fissile.runtime.control import ReplicaSpec

# The number of a zygote that was killed stays its own for so long: whoever has just read it looks at nobody else by it.
NUMBER_SECONDS = 10.0
ORDER_ATTEMPTS = 2
CLOSE_SECONDS_MAX = 5.0
# A zygote gives a second to what its import has started.
END_SECONDS_MAX = 2.0
UNCONFINED = Confinement()


class _Stage(Enum):
    """How far the life of a client has come."""

    ACTIVE = auto()
    RETIRED = auto()
    CLOSED = auto()


class ZygoteClient:
    """One release's zygote, and the replicas that it has forked.

    Args:
        load: What the zygote is to import.
        pipes: Returns descriptors for stdout and stderr, by the name of a process.
        path: The Unix socket at which the next supervisor finds the zygote. Without one the zygote ends with this
            supervisor, and all replicas too.
        marked: How the zygote and everything that comes of it is marked.

    Attributes:
        application: What the zygote imports.
        sockets: What the zygote keeps for the next supervisor.
    """

    def __init__(
        self,
        load: Load,
        pipes: Callable[[str], tuple[int, int]],
        path: str | None = None,
        marked: Mark | None = None,
    ) -> None:
        self.application = ImportedApplication(load)
        self.sockets = KeptSockets(self._tell)
        self._children = ChildTable()
        # What has happened since the last look.
        self._events: list[tuple[str, str]] = []
        self._pipes = pipes
        self._adoption = AdoptionSocket(path)
        self._mark = marked
        self._session: ZygoteSession | None = None
        # One zygote is started at a time, whoever needs it first: an order, or the respawner.
        self._starting = asyncio.Lock()
        self._respawner = Respawner(self._replace, self._events)
        # Modules that every zygote imports besides the application.
        self._modules: set[str] = set()
        self._killed = KilledZygotes()
        self._stage = _Stage.ACTIVE

    def __repr__(self) -> str:
        return f"<ZygoteClient {self.name} {self._stage.name.lower()}, {self._session}, {self._children}>"

    # -- what there is

    @property
    def name(self) -> str:
        """The name by which the desired state tells it from other zygotes of the same release."""
        return self.application.load.zygote

    @property
    def path(self) -> str | None:
        """Where the next supervisor finds its zygote."""
        return self._adoption.path

    @property
    def pid(self) -> int | None:
        """The zygote's process number while it lives."""
        return self._session.pid if self._session is not None and self._session.is_connected else None

    @property
    def idle(self) -> bool:
        """Whether it has no children, and forks none."""
        return not self._children and not (self._session is not None and self._session.is_forking)

    def own(self) -> set[int]:
        """Return the processes that this client reaps itself."""
        return self._killed.pids() | ({self.pid} if self.pid is not None else set())

    @property
    def trouble(self) -> str:
        """What people should know of the zygote; "" if all is well."""
        if self._stage is not _Stage.ACTIVE or not self.application.succeeded:
            return ""
        if self._session is not None and not self._session.is_connected:
            return f"zygote {self._session.pid} is gone: another one is being started"
        suspicion = self._session.suspicion if self._session is not None else ""
        return suspicion or self.application.changed_packages

    def look(self) -> list[tuple[str, str]]:
        """Look after the zygote, every LOOK_SECONDS: kill it if it hangs, replace it if it is gone.

        Returns what has happened since the last look: the kinds of events of the history, each with its text.
        """
        self._killed.reap(time.monotonic() - NUMBER_SECONDS)
        if self._session is None or not self._session.is_connected:
            self._respawn()
        else:
            self._session.look()
        events = list(self._events)
        self._events.clear()
        return events

    # -- starting a zygote, or taking one over

    async def start(self) -> Loaded:
        """Start the zygote and have it load the application. Raises ConfigError with the author's mistake."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        listener = self._adoption.listen()
        out, err = self._pipes("zygote")
        printed = LastLines(out)
        try:
            process = ZygoteProcess.spawn(theirs, listener, out, err, self.application.environment)
        except OSError as error:
            ours.close()
            printed.close()
            raise ForkError(f"Python cannot be started: {error}", remedy="see what the machine lacks") from None
        finally:
            # The zygote's copies have to be the only ones: with one of them here, its end would not close the socket.
            theirs.close()
            os.close(out)
            os.close(err)
        # From outside, and before it is told to import: nothing of the application can run without the mark.
        process_marks.put_on(process.pid, self._mark)
        session = self._connect(ours, process)
        try:
            files = await asyncio.to_thread(self.application.files_now)
            answer = await session.load(self.application.ordered(time.time(), files))
        except (ZygoteHung, OtherFissile):
            raise
        except ForkError:
            raise LoadDied(
                f"the process that imports {self.application.target} has ended",
                remedy="mend what ends it; `fissile logs zygote` shows all that it printed",
                service="zygote",
                last_lines=[self.application.in_source(line) for line in printed.read()],
            ) from None
        finally:
            printed.close()
        if isinstance(answer, LoadFailed):
            session.close()  # it can fork nothing, and ends when its socket closes
            raise ConfigError(self.application.in_source(answer.message))
        self.application.settle(answer)
        await self._hand_over(session)
        return answer

    def _connect(self, sock: socket.socket, process: ZygoteProcess | None) -> ZygoteSession:
        if self._session is not None:
            self._session.detach()
        self._session = ZygoteSession(sock, process, self._children, self._on_end)
        return self._session

    async def _hand_over(self, session: ZygoteSession) -> None:
        """Tell a new zygote what the one before it knew. Raises ForkError."""
        for child, spec in self._children.described():
            if child.pidfd is not None:
                await session.send(AdoptChild(child.pid, spec), [child.pidfd])
        if self._modules:
            await session.import_modules(tuple(self._modules))
        for name, sock in list(self.sockets.by_name.items()):
            await session.send(Keep(name), [sock.fileno()])

    async def adopt(self) -> Found | None:
        """Take over the zygote of a dead supervisor; None if there is none.

        Raises OtherFissile if it belongs to another version; then it goes on as it is.
        """
        sock = self._adoption.connect()
        if sock is None:
            return None
        # By a pidfd from here on: if it dies during the adoption, a kill must not hit the next owner of its number.
        pid = listener_pid(sock)
        session = self._connect(sock, ZygoteProcess(pid) if pid is not None else None)
        try:
            found = await session.adopt()
        except OtherFissile:
            raise
        except (ForkError, TimeoutError):
            if session.process is not None:
                # It hangs, and holds ports that others will want.
                session.process.kill()
                self._adoption.remove()
            session.close()
            return None
        self.application.adopt(found.load, found.loaded)
        self.sockets.adopt(found.sockets)
        return found

    async def renew(self) -> None:
        """Have the zygote listen at a new socket, instead of one that was removed for good. Raises OSError."""
        if self.pid is not None:
            listener = self._adoption.listen()
            if listener is not None:
                await self._tell(Listen(), [listener.fileno()])

    async def _tell(self, message: ToZygote, fds: list[int]) -> None:
        """Tell a zygote that outlives the supervisor. It may miss it: `_hand_over` tells the next zygote everything."""
        if self._adoption.path is not None and self._session is not None:
            with suppress(ForkError):
                await self._session.send(message, fds)

    # -- replacing a zygote

    def _on_end(self, kind: str, text: str) -> None:
        """The zygote has died, or was killed because it hung."""
        self._events.append((kind, text))
        process = self._session.process if self._session is not None else None
        if kind == "ZygoteHung" and process is not None and process.is_child:
            self._killed.add(process, time.monotonic())
        self._respawn()  # now, not at the next look: whoever needs a replica next waits the less

    def _respawn(self) -> None:
        """Replace a zygote that is gone: its replicas need a parent that outlives the supervisor."""
        if self.application.succeeded and self._stage is _Stage.ACTIVE:
            self._respawner.respawn()

    async def _replace(self) -> None:
        async with self._starting:
            if self._session is None or not self._session.is_connected:
                await self.start()
                told = (f"zygote {self.pid} has taken the place of another", self.application.changed_packages)
                self._events.append(("ZygoteStarted", "; ".join(filter(None, told))))

    # -- forking

    async def prepare(self, modules: Iterable[str]) -> None:
        """Have the zygote import what a replica had to import by itself, so that the next need not."""
        new = tuple(name for name in modules if name not in self._modules)
        if new:
            self._modules.update(new)
            with suppress(ForkError):  # only time is lost
                if self._session is not None:
                    await self._session.import_modules(new)

    async def fork(
        self,
        spec: ReplicaSpec,
        control_address: str,
        control_token: str,
        fds: list[int],
        *,
        environment: dict[str, str] | None = None,
        confinement: Confinement = UNCONFINED,
    ) -> ProcessHandle:
        """Fork a replica. `fds`: stdout, stderr, listening sockets. Raises ForkError."""
        return await self._order(
            lambda number: Fork(number, spec, control_address, control_token, environment or {}, confinement), fds
        )

    async def execute(
        self,
        spec: ReplicaSpec,
        arguments: tuple[str, ...],
        environment: dict[str, str],
        folder: str,
        fds: list[int],
        *,
        confinement: Confinement = UNCONFINED,
    ) -> ProcessHandle:
        """Run a program as a replica. `fds`: stdout, stderr, listening sockets. Raises ForkError."""
        text, raw = parted(environment)
        return await self._order(lambda number: Exec(number, spec, arguments, text, folder, confinement, raw), fds)

    async def _order(self, make: Callable[[int], Fork | Exec], fds: list[int]) -> ProcessHandle:
        """Give an order; once more, to the next zygote, if the first was killed before it took it."""
        for attempt in range(1, ORDER_ATTEMPTS + 1):
            try:
                # Under the lock: the respawner may be starting a zygote at this moment, and one is enough.
                async with self._starting:
                    if self._session is None or not self._session.is_connected:
                        await self.start()
                assert self._session is not None
                return await self._session.fork(make, fds)
            except ZygoteHung:
                if attempt == ORDER_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    # -- ending

    async def retire(self) -> None:
        """Have no more forked; the zygote only looks after the children that it has."""
        if self._stage is _Stage.ACTIVE:
            self._stage = _Stage.RETIRED
            if self._session is not None:
                with suppress(ForkError):
                    await self._session.send(Retire(), [])

    def detach(self) -> None:
        """Leave the zygote and all its children as they are, and know of them no more."""
        self._stage = _Stage.CLOSED
        self._respawner.close()
        self._children.detach()  # first: a child that is still watched would count as an orphan when the session closes
        if self._session is not None:
            self._session.detach()
        self._adoption.close()

    async def close(self) -> None:
        """End all children that are left, and the zygote."""
        self._stage = _Stage.CLOSED
        self._respawner.close()
        ends = self._children.kill()
        if ends:
            # The zygote is still there: it reaps them, and says how they ended.
            await asyncio.wait(ends, timeout=CLOSE_SECONDS_MAX)
        self._adoption.close()
        self._adoption.remove()
        if self._session is not None:
            self._session.close()
            if self._session.process is not None:
                # It ends when its socket closes, unless its import holds it up, or it hangs.
                await self._session.process.end(END_SECONDS_MAX)
            self._session.detach()
        self._killed.reap(time.monotonic())
