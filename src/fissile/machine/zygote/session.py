"""The conversation with one zygote, from its hello to its end."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from fissile.machine.zygote import sealed_letters
from fissile.machine.zygote.children import ChildTable
from fissile.machine.zygote.connection import ZygoteConnection
from fissile.machine.zygote.errors import ForkError, OtherFissile, ZygoteHung, zygote_died
from fissile.machine.zygote.process_handle import ProcessHandle
from fissile.machine.zygote.protocol import (
    AckExit,
    ChildExited,
    ChildRunning,
    Examined,
    Exec,
    Exited,
    Fork,
    Forked,
    ForkFailed,
    FromZygote,
    GetInventory,
    Hello,
    Import,
    Inventory,
    Kept,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    ToZygote,
    decode_from_zygote,
    public,
    stranger,
)
from fissile.machine.zygote.zygote_process import ZygoteProcess
from fissile.orchestrator.hang_detector import HangDetector, Look
from fissile.runtime.control import ReplicaSpec

# Between two looks at a zygote. One that is silent for longer than it may be hangs. How long that is depends on what
# it does: nothing slow; importing what a replica had to import by itself; loading the application.
LOOK_SECONDS = 0.5
SILENT_SECONDS_MAX = 5.0
IMPORT_SECONDS_MAX = 30.0
LOAD_SECONDS_MAX = 600.0
# After so long a silence people are told of it.
SUSPECT_SECONDS = 1.5
# A zygote that is importing when the next supervisor comes answers after that.
ADOPT_SECONDS_MAX = 15.0

OUTCOME: Any = Loaded | LoadFailed
OnEnd = Callable[[str, str], None]


class Found(msgspec.Struct, frozen=True):
    """A zygote that outlived its supervisor, as it describes itself to the next one.

    Attributes:
        zygote: Its process number.
        load: The order by which it imported the application.
        loaded: What came of that.
        children: The replicas that run.
        buried: The replicas that ended meanwhile, and how.
        sockets: The listening sockets that it kept, by name.
    """

    zygote: int
    load: Load
    loaded: Loaded
    children: tuple[tuple[ProcessHandle, ReplicaSpec], ...]
    buried: tuple[tuple[ReplicaSpec, int | None], ...]
    sockets: dict[str, socket.socket]


class ZygoteSession:
    """One connected zygote. All that is known of this zygote alone ends with the session.

    Args:
        sock: Connected to the zygote.
        process: The zygote's process; None where the system does not tell who listens.
        children: Gets the replicas that the zygote forks, or has forked for an earlier supervisor.
        on_end: Called with the kind and the text of an event of the history when the zygote dies or hangs.
    """

    def __init__(self, sock: socket.socket, process: ZygoteProcess | None, children: ChildTable, on_end: OnEnd) -> None:
        self.process = process
        self._children = children
        self._on_end = on_end
        self._connection = ZygoteConnection(sock, self)
        self._greeted = False
        # Pending from the beginning: even the start of the interpreter is part of loading, and may take its time.
        self._loading: asyncio.Future[Examined | LoadFailed] = asyncio.get_running_loop().create_future()
        self._inventory: asyncio.Future[tuple[int, Load, Loaded]] | None = None
        # What belongs to the inventory, while it comes in.
        self._sockets: dict[str, socket.socket] = {}
        self._exited: list[tuple[ReplicaSpec, int | None]] = []
        self._orders: dict[int, asyncio.Future[ProcessHandle]] = {}
        self._last_order = 0
        self._hang_detector = HangDetector()
        # The ping that is answered once all imports are done; 0 if none is under way.
        self._importing = 0
        children.attach()

    def __repr__(self) -> str:
        state = "connected" if self.is_connected else "ended"
        return f"<ZygoteSession pid {self.pid} {state}, {len(self._orders)} orders>"

    @property
    def pid(self) -> int | None:
        """The zygote's process number, if it is known."""
        return self.process.pid if self.process is not None else None

    @property
    def is_connected(self) -> bool:
        """Whether the zygote is there, as far as its socket tells."""
        return self._connection.is_open

    @property
    def is_loading(self) -> bool:
        """Whether it imports the application."""
        return not self._loading.done()

    @property
    def is_forking(self) -> bool:
        """Whether an order is under way."""
        return bool(self._orders)

    # -- what the supervisor asks of it

    async def send(self, message: ToZygote, fds: list[int]) -> None:
        """Send a message and wait until it is written. `fds` stay the caller's. Raises ForkError."""
        await self._connection.send(message, fds)

    async def load(self, order: Load) -> Loaded | LoadFailed:
        """Have the zygote import the application, and a child of it check it. Raises ForkError."""
        # The settings hold every service's secrets. The zygote passes both letters on to the child that checks, unread.
        letters = [sealed_letters.seal(order), sealed_letters.blank()]
        try:
            await self.send(order.begin(), letters)
            answer = await self._loading
            return answer if isinstance(answer, LoadFailed) else sealed_letters.read(letters[1], OUTCOME)
        finally:
            close_all(letters)

    async def adopt(self) -> Found:
        """Ask a zygote of a dead supervisor what there is. Raises ForkError, TimeoutError."""
        self._loading.cancel()  # it has loaded long ago
        self._inventory = asyncio.get_running_loop().create_future()
        await self.send(GetInventory(), [])
        async with asyncio.timeout(ADOPT_SECONDS_MAX):
            pid, load, loaded = await self._inventory
        if self.pid != pid:
            # Not known, or the number of whoever made the socket that the zygote listens at.
            if self.process is not None:
                self.process.detach()
            self.process = ZygoteProcess(pid)
        # Not before the await is over: a child may have ended since the inventory came.
        return Found(pid, load, loaded, tuple(self._children.described()), tuple(self._exited), self._sockets)

    async def fork(self, make: Callable[[int], Fork | Exec], fds: list[int]) -> ProcessHandle:
        """Have it fork a replica. `make` gets the number of the order. Raises ForkError."""
        self._last_order += 1
        order = make(self._last_order)
        answer = self._orders[order.order] = asyncio.get_running_loop().create_future()
        # Tokens and configuration go in a letter, which the zygote does not read: its memory is every replica's.
        letter = sealed_letters.seal(order)
        try:
            await self.send(order.public(), [letter, *fds])
            child = await answer
            self._children.describe(child, public(order.spec))
            return child
        finally:
            os.close(letter)
            self._orders.pop(order.order, None)

    async def import_modules(self, modules: tuple[str, ...]) -> None:
        """Have it import modules. Until the next ping is answered it may be silent for longer. Raises ForkError."""
        self._importing = self._hang_detector.asked + 1
        await self.send(Import(modules), [])

    # -- whether it hangs

    @property
    def _silence_seconds_max(self) -> float:
        if self.is_loading:
            return LOAD_SECONDS_MAX
        return IMPORT_SECONDS_MAX if self._importing else SILENT_SECONDS_MAX

    def look(self) -> None:
        """Look whether it answers, every LOOK_SECONDS; give it up if it hangs."""
        seconds = self._silence_seconds_max
        found = self._hang_detector.look(round(seconds / LOOK_SECONDS))
        if found is Look.ASK:
            self._connection.post(Ping(self._hang_detector.asked))
        elif found is Look.HUNG:
            self._give_up(f"zygote {self.pid} did not answer for {seconds:g} s and was killed")

    @property
    def suspicion(self) -> str:
        """A sentence if it is silent for longer than usual; else ""."""
        silent = self._hang_detector.looks * LOOK_SECONDS
        if silent < SUSPECT_SECONDS or self._silence_seconds_max != SILENT_SECONDS_MAX:
            return ""
        return f"zygote {self.pid} has not answered for {silent:.1f} s: no replica can be started"

    def _give_up(self, text: str) -> None:
        if self.process is not None:
            # Before anything else: if it went on now, it would fork what is ordered again from its successor.
            self.process.kill()
        self.close(ZygoteHung(text, remedy="another one is started"))
        self._on_end("ZygoteHung", text)

    # -- its end

    def close(self, error: ForkError | None = None) -> None:
        """Talk to it no more. Whoever waits for an answer gets the error; its replicas go on."""
        if not self.is_connected:
            return
        error = error or zygote_died()
        self._connection.close(error)
        for waiting in (self._loading, self._inventory, *self._orders.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # seen: nobody may be waiting for it yet
        self._children.orphan()

    def detach(self) -> None:
        """Close it, and hold nothing of the zygote any more."""
        self.close()
        if self.process is not None:
            self.process.detach()

    def disconnected(self) -> None:
        """The zygote died, or has ended after a failed import."""
        if self.is_connected:
            self.close()
            self._on_end("ZygoteDied", f"zygote {self.pid} died")

    def oversized(self, size: int) -> None:
        """It sends a message that is too large: what follows cannot be trusted."""
        self._give_up(f"zygote {self.pid} sent a message of {size} bytes and was killed")

    # -- what it says

    def received(self, body: bytes) -> None:
        """Take a message. The first one says whose Fissile the zygote is."""
        # Until then nothing is decoded: another version's messages may mean something else.
        by = "" if self._greeted else stranger(body)
        try:
            if not by:
                self._greeted = True
                self._handle(decode_from_zygote(body))
        except msgspec.DecodeError as error:
            by = f"another Fissile ({error})"
        if by:
            self.close(self._other_fissile(by))

    def _other_fissile(self, by: str) -> OtherFissile:
        if self._inventory is not None and not self._inventory.done():
            return OtherFissile(
                f"what runs was started by {by}",
                remedy="nothing was touched: use that version; or end it with the `fissile down` of that (in order) "
                "or of this one (in no order)",
            )
        return OtherFissile(
            f"another Fissile was installed since this supervisor began: a zygote of it is {by}",
            remedy="install that one again; or `fissile down`, and `fissile up` with the new one",
        )

    def _handle(self, message: FromZygote) -> None:
        if isinstance(message, Forked):
            self._on_forked(message)
        elif isinstance(message, ForkFailed):
            waiting = self._orders.get(message.order)
            if waiting is not None and not waiting.done():
                waiting.set_exception(
                    ForkError(f"the system refuses a process: {message.message}", remedy="raise its limits")
                )
        elif isinstance(message, Exited):
            self._children.explain(message.pid, message.status)
            self._acknowledge(message.pid)
        elif isinstance(message, Pong):
            self._hang_detector.answer(message.number)
            if message.number >= self._importing:
                self._importing = 0
        elif isinstance(message, ChildRunning):
            child = self._children.add(message.pid, self._connection.take_fd() if message.handle else None)
            self._children.describe(child, message.spec)
        elif isinstance(message, ChildExited):
            self._exited.append((message.spec, message.status))
            self._acknowledge(message.pid)
        elif isinstance(message, Kept):
            self._sockets[message.name] = sock = socket.socket(fileno=self._connection.take_fd())
            sock.setblocking(False)
        elif isinstance(message, Inventory):
            self._on_inventory(message)
        elif isinstance(message, Hello):
            pass
        elif not self._loading.done():
            self._loading.set_result(message)

    def _on_forked(self, message: Forked) -> None:
        child = self._children.add(message.pid, self._connection.take_fd() if message.handle else None)
        waiting = self._orders.get(message.order)
        if waiting is not None and not waiting.done():
            waiting.set_result(child)
        else:
            # Whoever ordered it has given up: it would serve, but nobody would know of it.
            child.signal(signal.SIGKILL)

    def _on_inventory(self, message: Inventory) -> None:
        # Both descriptors are taken in any case: the next message's own would be taken for them.
        order, answer = letters = [self._connection.take_fd(), self._connection.take_fd()]
        try:
            if self._inventory is not None and not self._inventory.done():
                self._inventory.set_result(
                    (message.pid, sealed_letters.read(order, Load), sealed_letters.read(answer, Loaded))
                )
        finally:
            close_all(letters)

    def _acknowledge(self, pid: int) -> None:
        """Tell the zygote that an end is known.

        Until then it keeps the end for the next supervisor: one that dies between the two would lose it.
        """
        if self.is_connected:
            self._connection.post(AckExit(pid))


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)
