"""The Unix socket at which replicas report and get their commands, and the tokens by which they prove who they are."""

import asyncio
import os
import socket
from collections.abc import Collection, Iterable
from contextlib import suppress

import msgspec

from fissile.journal.journal import JournalError
from fissile.machine.logfiles import LogFiles
from fissile.machine.output import Logs
from fissile.machine.sockets import listen_unix
from fissile.orchestrator.acts import ACTOR
from fissile.rpc.server import Server
from fissile.supervisor.changes import SECRETS
from fissile.supervisor.control_server import ControlServer
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.state import CONTROL_SOCKET, SupervisorState


class ControlSocket:
    """Opens the control server to the services of all live releases, and to no others.

    logs: they leave room for the longest name.
    """

    def __init__(
        self, state: SupervisorState, control: ControlServer, events: EventRecorder, logs: Logs | LogFiles
    ) -> None:
        self._state = state
        self._control = control
        self._events = events
        self._logs = logs
        self._server: Server | None = None
        self._socket: socket.socket | None = None

    @property
    def _path(self) -> str:
        return self._state.folder.socket_path(CONTROL_SOCKET)

    async def open(self) -> None:
        """Let replicas report. They find the socket at the same path under each supervisor."""
        self._server = self._control.server(self._state.secrets.control)
        await self._listen(self._server)

    async def _listen(self, server: Server) -> None:
        self._socket = listen_unix(self._path, self._state.folder.socket_mode)
        await server.start(self._socket)

    async def renew(self, there: Collection[str]) -> None:
        """Make the socket anew where its file is not among the names that are there. Raises OSError."""
        if os.path.basename(self._path) not in there and self._server is not None:
            await self._listen(self._server)

    def admit(self, services: Iterable[str]) -> None:
        """Make tokens for services that are new, and let them report."""
        secrets = self._state.secrets
        for name in services:
            if name not in secrets.services:
                secrets.add(name)
        if self._server is not None:
            self._server.access = self._control.access(secrets.control)
        self._logs.width = max(len(name) for name in [*secrets.services, ACTOR])

    async def dismiss(self) -> None:
        """Forget the tokens of services that no live release has."""
        if self.strip():
            self.admit(())
            with suppress(JournalError):  # the next end of a rollout, or the next supervisor, does it again
                data = msgspec.msgpack.encode(self._state.secrets)
                await asyncio.to_thread(self._events.journal.keep, SECRETS, data)

    def strip(self) -> bool:
        """Forget them here alone. Whether there were any."""
        secrets = self._state.secrets
        gone = secrets.services.keys() - self._state.desired.live_services()
        secrets.forget(gone)
        return bool(gone)

    async def close(self) -> None:
        """Take no reports any more."""
        if self._server is not None:
            await self._server.close()
            self._server = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
