"""The supervisor's end of a zygote: starts it, asks for replicas, hears of their ends."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.supervisor.zygote import MESSAGE_BYTES_MAX, Exited, Fork, Forked, Imported, ImportFailed, Said

IMPORT_SECONDS_MAX = 60.0


class ZygoteGone(Exception):
    """The zygote ended: its replicas end too."""


class Forker:
    """One zygote. on_exit is told (pid, exit code) of each replica's end; on_gone when the zygote ends."""

    def __init__(
        self, application: str, root: Path, on_exit: Callable[[int, int], None], on_gone: Callable[[], None]
    ) -> None:
        self._application = application
        self._root = root
        self._on_exit = on_exit
        self._on_gone = on_gone
        self._asked: deque[asyncio.Future[int]] = deque()
        self._imported: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._link: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start the zygote and wait until it has imported the application. Raises ConfigError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        command = [sys.executable, "-m", "fissile.supervisor.zygote", str(number), self._application, str(self._root)]
        # A session of its own: Ctrl-C in the terminal goes to the supervisor alone, which stops all in order.
        self._process = subprocess.Popen(  # noqa: ASYNC220 -- a spawn of a few milliseconds, once
            command, pass_fds=[number], start_new_session=True, stdin=subprocess.DEVNULL
        )
        theirs.close()
        ours.setblocking(False)
        self._link = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._readable)
        try:
            async with asyncio.timeout(IMPORT_SECONDS_MAX):
                await self._imported
        except TimeoutError:
            raise ConfigError(
                f"{self._application} was not imported within {IMPORT_SECONDS_MAX:g} s",
                remedy="look for what its modules do at import",
            ) from None
        except ZygoteGone:
            raise ConfigError(
                f"the process that imports {self._application} ended", remedy="its output above says why"
            ) from None

    def _readable(self) -> None:
        assert self._link is not None
        while True:
            try:
                data = self._link.recv(MESSAGE_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._gone()
                return
            self._said(msgspec.json.decode(data, type=Said))

    def _said(self, said: Said) -> None:
        if isinstance(said, Exited):
            self._on_exit(said.pid, said.code)
        elif isinstance(said, Forked):
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_result(said.pid)
        elif not self._imported.done():
            if isinstance(said, Imported):
                self._imported.set_result(None)
            elif isinstance(said, ImportFailed):  # pyright: ignore[reportUnnecessaryIsInstance]
                self._imported.set_exception(ConfigError(said.message))

    def _gone(self) -> None:
        self._detach()
        waiting = [*self._asked, self._imported]
        for future in waiting:
            if not future.done():
                future.set_exception(ZygoteGone())
        self._asked.clear()
        self._on_gone()

    def _detach(self) -> None:
        if self._link is not None:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._link.close()
            self._link = None

    async def fork(self, request: Fork, output: int, sockets: list[socket.socket]) -> int:
        """Fork a replica; its pid. Raises ZygoteGone."""
        if self._link is None:
            raise ZygoteGone
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        descriptors = [output, *(sock.fileno() for sock in sockets)]
        try:
            socket.send_fds(self._link, [msgspec.json.encode(request)], descriptors)
        except OSError:
            raise ZygoteGone from None
        return await answer

    async def stop(self) -> None:
        """End the zygote. Its replicas are to be stopped before."""
        self._detach()
        process = self._process
        if process is None:
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(5.0):
                await loop.run_in_executor(None, process.wait)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, 9)
            process.wait()
