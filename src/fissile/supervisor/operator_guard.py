"""Refuses orders from the application's own processes: a replica in wrong hands may not order its supervisor."""

import os
import socket
from collections.abc import Callable

from fissile.errors import ConfigError
from fissile.machine.peers import REMEDY, REPLICAS_MAY_NOT, PeerPolicy
from fissile.supervisor.loader import ReleaseLoader
from fissile.supervisor.state import SupervisorState


class OperatorGuard:
    """Looks who connects to the Unix sockets by which a supervisor takes orders."""

    def __init__(self, state: SupervisorState, loader: ReleaseLoader, complain: Callable[[str], None]) -> None:
        self._state = state
        self._loader = loader
        self._complain = complain
        self._policy: PeerPolicy | None = None

    def begin(self) -> None:
        """The state folder is open. Raises ConfigError where a replica has started this supervisor."""
        self._policy = PeerPolicy(self._state.folder.mark().application, self._members)
        if self._policy.owns_us():
            raise ConfigError(REPLICAS_MAY_NOT, remedy=REMEDY)

    def refuses(self, connection: socket.socket) -> bool:
        """Whether whoever connected may not order this supervisor. The log says so."""
        why = self._policy.refusal(connection) if self._policy is not None else ""
        if why:
            self._complain(f"an order was refused: {why}")
        return bool(why)

    def _members(self) -> set[int]:
        """The processes of this application that are known here."""
        zygotes = {zygote.pid for zygote in self._loader.all() if zygote.pid is not None}
        return {os.getpid(), *zygotes, *self._state.processes.pids(), *self._state.app.strays}
