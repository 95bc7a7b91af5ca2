"""The supervisor's side of the zygote: orders forks, and knows when each child ends.

The zygote sends a pidfd with every child, so that a signal never hits a stranger that got the number
of a dead one. A zygote that dies takes no replica with it: the next fork brings up another, and the
children of the old one are watched by their pidfds.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from fissile.errors import ConfigError, FissileError
from fissile.runtime.control import ReplicaSpec
from fissile.supervisor import title
from fissile.supervisor.messages import (
    FDS_MAX,
    HEAD,
    Exited,
    Fork,
    Forked,
    ForkFailed,
    FromZygote,
    Load,
    Loaded,
    LoadFailed,
    ToZygote,
    decode_from_zygote,
    encode,
)

CLOSE_SECONDS_MAX = 5.0
READ_BYTES = 64 * 1024


class ForkError(FissileError):
    """A replica could not be forked: the machine's fault, or the zygote died."""


class Child:
    """A forked replica. `exited` gets its exit code, a negative signal number, or None if not known."""

    def __init__(self, pid: int, handle: int | None) -> None:
        self.pid = pid
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._handle = handle

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still lives."""
        if self.exited.done():
            return
        with suppress(ProcessLookupError):
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, number)
            else:
                os.kill(self.pid, number)

    def watch(self) -> None:
        """Learn of the end by the pidfd: nobody is left to report it."""
        loop = asyncio.get_running_loop()
        if self._handle is None:
            self.ended(None)
        else:
            loop.add_reader(self._handle, self.ended, None)

    def ended(self, status: int | None) -> None:
        """It has ended."""
        if self._handle is not None:
            asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
            self._handle = None
        if not self.exited.done():
            self.exited.set_result(status)


class Nursery:
    """One zygote and its children. pipes: gives a process's stdout and stderr by its name."""

    def __init__(self, load: Load, pipes: Callable[[str], tuple[int, int]]) -> None:
        self.children: dict[int, Child] = {}
        self._load = load
        self._pipes = pipes
        self._zygote: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._loaded: asyncio.Future[Loaded | LoadFailed] | None = None
        self._orders: dict[int, asyncio.Future[Child]] = {}
        self._last_order = 0
        self._data = bytearray()
        self._handles: list[int] = []
        self._sending = asyncio.Lock()
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The zygote's own pid while it lives."""
        return self._zygote.pid if self._zygote is not None and self._socket is not None else None

    async def start(self) -> Loaded:
        """Start the zygote and have it load the application. Raises ConfigError with the author's mistake."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        out, err = self._pipes("zygote")
        try:
            self._zygote = subprocess.Popen(  # noqa: ASYNC220 -- milliseconds, once
                [sys.executable, "-m", "fissile.supervisor.zygote", str(theirs.fileno()), title.PADDING],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise ForkError(f"Python cannot be started: {error}", remedy="see what the machine lacks") from None
        finally:
            theirs.close()
            os.close(out)
            os.close(err)
        ours.setblocking(False)
        self._socket = ours
        loop = asyncio.get_running_loop()
        self._loaded = loop.create_future()
        loop.add_reader(ours.fileno(), self._readable, ours)
        await self._send(self._load, [])
        answer = await self._loaded
        if isinstance(answer, LoadFailed):
            raise ConfigError(answer.message)
        return answer

    async def fork(self, spec: ReplicaSpec, control_address: str, control_token: str, fds: list[int]) -> Child:
        """Fork a replica; fds: stdout, stderr, listening sockets. Raises ForkError."""
        async with self._starting:
            if self._socket is None:
                await self.start()
        self._last_order += 1
        order = Fork(self._last_order, spec, control_address, control_token)
        answer = self._orders[order.order] = asyncio.get_running_loop().create_future()
        try:
            await self._send(order, fds)
            return await answer
        finally:
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
            data, handles, _, _ = socket.recv_fds(sock, READ_BYTES, FDS_MAX)
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
            handle = self._handles.pop(0) if message.handle else None
            child = self.children[message.pid] = Child(message.pid, handle)
            child.exited.add_done_callback(lambda _: self._forget(child))
            waiting = self._orders.get(message.order)
            if waiting is not None and not waiting.done():
                waiting.set_result(child)
            else:
                child.signal(signal.SIGKILL)  # whoever ordered it has given up
        elif isinstance(message, Exited):
            child = self.children.get(message.pid)
            if child is not None:
                child.ended(message.status)
        elif isinstance(message, ForkFailed):
            waiting = self._orders.get(message.order)
            if waiting is not None and not waiting.done():
                waiting.set_exception(
                    ForkError(f"the system refuses a process: {message.message}", remedy="raise its limits")
                )
        elif self._loaded is not None and not self._loaded.done():
            self._loaded.set_result(message)

    def _forget(self, child: Child) -> None:
        if self.children.get(child.pid) is child:
            del self.children[child.pid]

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
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_exception(error)
        for waiting in self._orders.values():
            if not waiting.done():
                waiting.set_exception(error)
        for child in list(self.children.values()):
            child.watch()

    async def close(self) -> None:
        """End all children that are left, and the zygote."""
        for child in list(self.children.values()):
            child.signal(signal.SIGKILL)
        left = [child.exited for child in self.children.values()]
        if left:
            await asyncio.wait(left, timeout=CLOSE_SECONDS_MAX)
        self._lost()
        if self._zygote is not None:
            # It ends with its socket; what may hold it up is the application's own import.
            try:
                await asyncio.to_thread(self._zygote.wait, 0.5 if self._loaded and self._loaded.done() else 0.0)
            except subprocess.TimeoutExpired:
                self._zygote.kill()
                await asyncio.to_thread(self._zygote.wait)


async def _writable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready = loop.create_future()
    loop.add_writer(sock.fileno(), lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(sock.fileno())
