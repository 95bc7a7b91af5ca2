"""The process of a zygote: started by this supervisor, or found running and adopted."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress

from fissile.machine import proctitle
from fissile.machine.environment import Environment
from fissile.machine.pidfd import ends_within, open_pidfd

# The program that is the zygote.
SERVER = "fissile.machine.zygote.server"


class ZygoteProcess:
    """One zygote as the system sees it.

    A zygote that was started here is a child: it is waited for, and its number stays its own until then. An adopted
    one is held by a pidfd.
    """

    def __init__(self, pid: int, popen: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._popen = popen
        self._pidfd = open_pidfd(pid) if popen is None else None

    def __repr__(self) -> str:
        return f"<ZygoteProcess pid {self.pid}{'' if self.is_child else ', adopted'}>"

    @classmethod
    def spawn(
        cls, connection: socket.socket, listener: socket.socket | None, out: int, err: int, environment: Environment
    ) -> "ZygoteProcess":
        """Start a zygote. Raises OSError.

        Args:
            connection: Its end of the socket to this supervisor.
            listener: Where the next supervisor finds it, if it is to outlive this one.
            out: Its stdout.
            err: Its stderr.
            environment: Of the application; variables of components are left out.
        """
        inherited = [sock.fileno() for sock in (connection, listener) if sock is not None]
        popen = subprocess.Popen(
            [
                sys.executable,
                "-P",  # the folder that it is started in is not searched for modules
                "-m",
                SERVER,
                str(connection.fileno()),
                str(listener.fileno()) if listener is not None else "-1",
                proctitle.PADDING,
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            pass_fds=inherited,
            # Every replica has its zygote's environment. Components' variables travel in the order to load instead,
            # each to its own service alone.
            env=environment.general(),
            # A session of its own: Ctrl-C in the supervisor's terminal must not reach the parent of all replicas.
            start_new_session=True,
        )
        return cls(popen.pid, popen)

    @property
    def is_child(self) -> bool:
        """Whether this supervisor started it, and so has to reap it."""
        return self._popen is not None

    def is_running(self) -> bool:
        """Whether a child still runs; reaps it if not. False for an adopted one, which is nobody's to reap here."""
        return self._popen is not None and self._popen.poll() is None

    def kill(self) -> None:
        """Kill it; its replicas live on."""
        with suppress(ProcessLookupError):
            if self._popen is not None:
                self._popen.kill()  # not reaped yet, so the number is still its own
            elif self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)

    async def end(self, seconds: float) -> None:
        """Wait until it has ended by itself; kill it after `seconds`."""
        if self._popen is not None:
            try:
                await asyncio.to_thread(self._popen.wait, seconds)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                await asyncio.to_thread(self._popen.wait)
        elif self._pidfd is not None and not await asyncio.to_thread(ends_within, self._pidfd, seconds):
            self.kill()

    def detach(self) -> None:
        """Leave it as it is, and hold nothing of it any more."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


class KilledZygotes:
    """Zygotes that hung and were killed, until they are reaped.

    A child that is not reaped keeps its number. It is kept for a while on purpose: who has just read the number of a
    zygote, from /proc or from a status, must not find a stranger under it.
    """

    def __init__(self) -> None:
        self._killed: list[tuple[float, ZygoteProcess]] = []

    def add(self, process: ZygoteProcess, now: float) -> None:
        """Keep a zygote that was killed (now: monotonic seconds)."""
        self._killed.append((now, process))

    def pids(self) -> set[int]:
        """Return their process numbers."""
        return {process.pid for _, process in self._killed}

    def reap(self, before: float) -> None:
        """Reap those that were killed at or before a time, as far as they have ended."""
        self._killed = [(at, process) for at, process in self._killed if at > before or process.is_running()]
