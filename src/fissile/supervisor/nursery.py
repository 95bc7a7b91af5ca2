"""The supervisor's side of the zygote: orders forks, and knows when each child ends.

The zygote sends a pidfd with every child, so that a signal never hits a stranger that got the number
of a dead one. A zygote that dies takes no replica with it: the next fork brings up another, which is
told of the children, and they are watched by their pidfds. A supervisor that dies takes nothing with it
either: the next one asks the zygote what there is (`adopt`).
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from fissile.errors import ConfigError, FissileError
from fissile.rpc.paths import addressed
from fissile.runtime.control import ReplicaSpec
from fissile.runtime.forked import receive_descriptors
from fissile.supervisor import mark, sealed, title
from fissile.supervisor.descent import Mark
from fissile.supervisor.messages import (
    FDS_MAX,
    HEAD,
    Buried,
    Confinement,
    Drop,
    Enquire,
    Examined,
    Exec,
    Exited,
    Fork,
    Forked,
    ForkFailed,
    Foster,
    FromZygote,
    Import,
    Keep,
    Kept,
    Known,
    Load,
    Loaded,
    LoadFailed,
    Noted,
    Retire,
    Told,
    ToZygote,
    decode_from_zygote,
    encode,
    public,
)
from fissile.supervisor.sockets import listen_unix, remove_unix

ADOPT_SECONDS_MAX = 10.0
VARIABLES = "FISSILE_"
CLOSE_SECONDS_MAX = 5.0
READ_BYTES = 64 * 1024
OUTCOME: Any = Loaded | LoadFailed


class ForkError(FissileError):
    """A replica could not be forked: the machine's fault, or the zygote died."""


UNCONFINED = Confinement()


class Child:
    """A forked replica. `exited` gets its exit code, a negative signal number, or None if not known."""

    def __init__(self, pid: int, handle: int | None) -> None:
        self.pid = pid
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.handle = handle

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still lives."""
        if self.exited.done():
            return
        with suppress(ProcessLookupError):
            if self.handle is not None:
                signal.pidfd_send_signal(self.handle, number)
            else:
                os.kill(self.pid, number)

    def watch(self) -> None:
        """Learn of the end by the pidfd: nobody is left to report it."""
        loop = asyncio.get_running_loop()
        if self.handle is None:
            self.ended(None)
        else:
            loop.add_reader(self.handle, self.ended, None)

    def ended(self, status: int | None) -> None:
        """It has ended."""
        if self.handle is not None:
            asyncio.get_running_loop().remove_reader(self.handle)
            os.close(self.handle)
            self.handle = None
        if not self.exited.done():
            self.exited.set_result(status)


class Found(msgspec.Struct, frozen=True):
    """What a zygote that outlived its supervisor had kept. buried: who died meanwhile, and how."""

    zygote: int
    load: Load
    loaded: Loaded
    children: tuple[tuple[Child, ReplicaSpec], ...]
    buried: tuple[tuple[ReplicaSpec, int | None], ...]
    sockets: dict[str, socket.socket]


class Memory(msgspec.Struct, frozen=True):
    """By what a zygote began that outlived its supervisor, and what came of it."""

    pid: int
    load: Load
    loaded: Loaded


class Nursery:
    """One zygote and its children.

    pipes: gives a process's stdout and stderr by its name. path: the Unix socket at which a zygote that
    outlives the supervisor is found; without one it ends with the supervisor, and all replicas too. marked: how
    the zygote and all that come of it are marked.
    """

    def __init__(
        self,
        load: Load,
        pipes: Callable[[str], tuple[int, int]],
        path: str | None = None,
        marked: Mark | None = None,
    ) -> None:
        self.children: dict[int, Child] = {}
        self._load = load
        self._pipes = pipes
        self._path = path
        self._mark = marked
        self._listener: socket.socket | None = None
        self._zygote: subprocess.Popen[bytes] | None = None
        self._zygote_pid: int | None = None
        self._socket: socket.socket | None = None
        self._loaded: asyncio.Future[Examined | LoadFailed] | None = None
        self._told: asyncio.Future[Memory] | None = None
        self._orders: dict[int, asyncio.Future[Child]] = {}
        self._specs: dict[int, ReplicaSpec] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._buried: list[tuple[ReplicaSpec, int | None]] = []
        self._imported: set[str] = set()
        self._notes: set[asyncio.Task[None]] = set()
        self._last_order = 0
        self._data = bytearray()
        self._handles: list[int] = []
        self._sending = asyncio.Lock()
        self._starting = asyncio.Lock()
        self._retired = False

    @property
    def idle(self) -> bool:
        """Whether it has no children, and none is on its way."""
        return not self.children and not self._orders

    async def retire(self) -> None:
        """It forks no more, and only looks after the children that it has."""
        if not self._retired:
            self._retired = True
            with suppress(ForkError):
                await self._send(Retire(), [])

    @property
    def pid(self) -> int | None:
        """The zygote's own pid while it lives."""
        return self._zygote_pid if self._socket is not None else None

    async def start(self) -> Loaded:
        """Start the zygote and have it load the application. Raises ConfigError with the author's mistake."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        inherited = [theirs.fileno()]
        if self._path is not None:
            if self._listener is not None:
                self._listener.close()
            self._listener = listen_unix(self._path)
            inherited.append(self._listener.fileno())
        out, err = self._pipes("zygote")
        listener = str(inherited[1]) if len(inherited) > 1 else "-1"
        try:
            self._zygote = subprocess.Popen(  # noqa: ASYNC220 -- milliseconds, once
                [sys.executable, "-m", "fissile.supervisor.zygote", str(inherited[0]), listener, title.PADDING],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=inherited,
                # Components' own variables go by the order to load, each to its own service alone.
                env={k: v for k, v in os.environ.items() if not k.startswith(VARIABLES)},
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise ForkError(f"Python cannot be started: {error}", remedy="see what the machine lacks") from None
        finally:
            theirs.close()
            os.close(out)
            os.close(err)
        self._zygote_pid = self._zygote.pid
        mark.put_on(self._zygote.pid, self._mark)  # it imports nothing of the application before it is told to
        self._loaded = asyncio.get_running_loop().create_future()
        self._listen(ours)
        answer = await self._examined(self._loaded)
        if isinstance(answer, LoadFailed):
            raise ConfigError(answer.message)
        await self._hand_down()
        return answer

    async def _examined(self, done: "asyncio.Future[Examined | LoadFailed]") -> Loaded | LoadFailed:
        """Have the zygote import the application, and a child of it check it."""
        variables = {k: v for k, v in os.environ.items() if k.startswith(VARIABLES)}
        letters = [sealed.seal(msgspec.structs.replace(self._load, variables=variables)), sealed.blank()]
        try:
            await self._send(self._load.begin(), letters)
            answer = await done
            return answer if isinstance(answer, LoadFailed) else sealed.read(letters[1], OUTCOME)
        finally:
            close_all(letters)

    async def _hand_down(self) -> None:
        """To a new zygote what an old one knew."""
        for child in list(self.children.values()):
            spec = self._specs.get(child.pid)
            if spec is not None and child.handle is not None:
                await self._send(Foster(child.pid, spec), [child.handle])
        if self._imported:
            await self._send(Import(tuple(self._imported)), [])
        for name, sock in list(self._sockets.items()):
            await self._send(Keep(name), [sock.fileno()])

    async def adopt(self) -> Found | None:
        """Take over the zygote of a dead supervisor; None if there is none."""
        if self._path is None:
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with addressed(self._path) as path:
                sock.connect(path)
        except OSError as error:
            sock.close()
            if isinstance(error, ConnectionRefusedError):
                remove_unix(self._path)  # its zygote is gone, and nobody else can come to it: the folder is locked
            return None
        self._listen(sock)
        self._told = asyncio.get_running_loop().create_future()
        try:
            await self._send(Enquire(), [])
            async with asyncio.timeout(ADOPT_SECONDS_MAX):
                told = await self._told
        except (ForkError, TimeoutError):
            self._lost()
            return None
        self._load = told.load
        self._zygote_pid = told.pid
        children = tuple((child, self._specs[child.pid]) for child in self.children.values())
        buried, self._buried = tuple(self._buried), []
        return Found(told.pid, told.load, told.loaded, children, buried, self._sockets)

    def _listen(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable, sock)

    async def prepare(self, modules: Iterable[str]) -> None:
        """Have the zygote import what a replica had to import by itself, so that the next need not."""
        new = tuple(name for name in modules if name not in self._imported)
        if new:
            self._imported.update(new)
            with suppress(ForkError):  # only time is lost
                await self._send(Import(new), [])

    async def keep(self, name: str, sock: socket.socket) -> None:
        """Have the zygote keep a listening socket for the next supervisor."""
        self._sockets[name] = sock
        if self._path is not None:
            with suppress(ForkError):  # the next zygote gets them all
                await self._send(Keep(name), [sock.fileno()])

    async def drop(self, name: str) -> None:
        """Such a socket is needed no more."""
        if self._sockets.pop(name, None) is None:
            return
        if self._path is not None:
            with suppress(ForkError):
                await self._send(Drop(name), [])

    async def keep_just(self, sockets: Mapping[str, socket.socket]) -> None:
        """These are all that the zygote is to keep."""
        for name, sock in list(self._sockets.items()):
            if sockets.get(name) is not sock:
                await self.drop(name)
        for name, sock in sockets.items():
            if name not in self._sockets:
                await self.keep(name, sock)

    async def fork(
        self,
        spec: ReplicaSpec,
        control_address: str,
        control_token: str,
        fds: list[int],
        *,
        environment: dict[str, str] | None = None,
        confinement: Confinement = UNCONFINED,
    ) -> Child:
        """Fork a replica; fds: stdout, stderr, listening sockets. Raises ForkError."""
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
    ) -> Child:
        """Run a program as a replica; fds: stdout, stderr, listening sockets. Raises ForkError."""
        return await self._order(lambda number: Exec(number, spec, arguments, environment, folder, confinement), fds)

    async def _order(self, make: Callable[[int], Fork | Exec], fds: list[int]) -> Child:
        async with self._starting:
            if self._socket is None:
                await self.start()
        self._last_order += 1
        order = make(self._last_order)
        answer = self._orders[order.order] = asyncio.get_running_loop().create_future()
        letter = sealed.seal(order)
        try:
            await self._send(order.public(), [letter, *fds])
            child = await answer
            if not child.exited.done():
                self._specs[child.pid] = public(order.spec)
            return child
        finally:
            os.close(letter)
            self._orders.pop(order.order, None)

    async def _send(self, message: ToZygote, fds: list[int]) -> None:
        body = encode(message)
        async with self._sending:
            loop = asyncio.get_running_loop()
            sock = self._socket
            if sock is None:
                raise ForkError("the zygote died", remedy="see the log; another one is started with the next replica")
            try:
                while True:
                    try:
                        socket.send_fds(sock, [HEAD.pack(len(body))], fds)
                        break
                    except BlockingIOError:
                        await _writable(loop, sock)
                await loop.sock_sendall(sock, body)
            except OSError:
                self._lost()
                raise ForkError("the zygote died", remedy="see the log for its last words") from None

    def _readable(self, sock: socket.socket) -> None:
        try:
            data, handles = receive_descriptors(sock, READ_BYTES, FDS_MAX)
        except BlockingIOError:
            return
        except OSError:
            data, handles = b"", []
        self._handles += handles
        if not data:
            self._lost()
            return
        self._data += data
        while len(self._data) >= HEAD.size:
            size = HEAD.size + HEAD.unpack_from(self._data)[0]
            if len(self._data) < size:
                return
            body = bytes(self._data[HEAD.size : size])
            del self._data[:size]
            self._act(decode_from_zygote(body))

    def _act(self, message: FromZygote) -> None:
        if isinstance(message, Forked):
            # Descriptors come in the order of the messages that they belong to.
            child = self._child(message.pid, message.handle)
            waiting = self._orders.get(message.order)
            if waiting is not None and not waiting.done():
                waiting.set_result(child)
            else:
                child.signal(signal.SIGKILL)  # whoever ordered it has given up
        elif isinstance(message, Exited):
            child = self.children.get(message.pid)
            if child is not None:
                child.ended(message.status)
            self._note(message.pid)
        elif isinstance(message, ForkFailed):
            waiting = self._orders.get(message.order)
            if waiting is not None and not waiting.done():
                waiting.set_exception(
                    ForkError(f"the system refuses a process: {message.message}", remedy="raise its limits")
                )
        elif isinstance(message, Known):
            self._child(message.pid, message.handle)
            self._specs[message.pid] = message.spec
        elif isinstance(message, Buried):
            self._buried.append((message.spec, message.status))
            self._note(message.pid)
        elif isinstance(message, Kept):
            self._sockets[message.name] = sock = socket.socket(fileno=self._handles.pop(0))
            sock.setblocking(False)
        elif isinstance(message, Told):
            letters, self._handles = self._handles[:2], self._handles[2:]
            if self._told is not None and not self._told.done():
                order, answer = letters
                self._told.set_result(Memory(message.pid, sealed.read(order, Load), sealed.read(answer, Loaded)))
            close_all(letters)
        elif self._loaded is not None and not self._loaded.done():
            self._loaded.set_result(message)

    def _note(self, pid: int) -> None:
        """Tell the zygote that an end is known."""

        async def tell() -> None:
            with suppress(ForkError):
                await self._send(Noted(pid), [])

        task = asyncio.get_running_loop().create_task(tell())
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    def _child(self, pid: int, handle: bool) -> Child:
        child = self.children[pid] = Child(pid, self._handles.pop(0) if handle else None)
        child.exited.add_done_callback(lambda _: self._forget(child))
        return child

    def _forget(self, child: Child) -> None:
        if self.children.get(child.pid) is child:
            del self.children[child.pid]
            self._specs.pop(child.pid, None)

    def _lost(self) -> None:
        sock, self._socket = self._socket, None
        if sock is None:
            return
        asyncio.get_running_loop().remove_reader(sock.fileno())
        sock.close()
        self._data.clear()
        for handle in self._handles:
            os.close(handle)
        self._handles.clear()
        error = ForkError("the zygote died", remedy="see the log for its last words")
        for waiting in (self._loaded, self._told, *self._orders.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
        for child in list(self.children.values()):
            child.watch()

    def let_go(self) -> None:
        """Leave the zygote and all its children as they are, and know of them no more."""
        self.children.clear()
        self._lost()
        if self._listener is not None:
            self._listener.close()

    async def close(self) -> None:
        """End all children that are left, and the zygote."""
        for child in list(self.children.values()):
            child.signal(signal.SIGKILL)
        left = [child.exited for child in self.children.values()]
        if left:
            await asyncio.wait(left, timeout=CLOSE_SECONDS_MAX)
        self._lost()
        if self._listener is not None:
            self._listener.close()
        if self._path is not None:
            remove_unix(self._path)
        if self._zygote is not None:
            # It ends with its socket; what may hold it up is the application's own import.
            try:
                await asyncio.to_thread(self._zygote.wait, 0.5 if self._loaded and self._loaded.done() else 0.0)
            except subprocess.TimeoutExpired:
                self._zygote.kill()
                await asyncio.to_thread(self._zygote.wait)


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)


async def _writable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready = loop.create_future()
    loop.add_writer(sock.fileno(), lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(sock.fileno())
