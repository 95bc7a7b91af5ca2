"""Looks for Unix sockets that somebody has removed, as those do who clean up, and makes them anew."""

import asyncio
import os
from collections.abc import Collection

from fissile.errors import FissileError
from fissile.machine.sockets import restore
from fissile.names import SetName, service_of
from fissile.orchestrator.acts import ACTOR
from fissile.supervisor.control_socket import ControlSocket
from fissile.supervisor.endpoints import ENDPOINTS
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.listeners import Listeners
from fissile.supervisor.loader import ReleaseLoader
from fissile.supervisor.publisher import EndpointPublisher
from fissile.supervisor.restarter import Restarter
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.tasks import BackgroundTasks

# How often it is looked whether the Unix sockets are still there.
SOCKETS_SECONDS = 1.0


class SocketKeeper:
    """Keeps the files of an application's Unix sockets, and endpoints.json."""

    def __init__(
        self,
        state: SupervisorState,
        events: EventRecorder,
        tasks: BackgroundTasks,
        control: ControlSocket,
        listeners: Listeners,
        loader: ReleaseLoader,
        publisher: EndpointPublisher,
        restarter: Restarter,
    ) -> None:
        self._state = state
        self._events = events
        self._tasks = tasks
        self._control = control
        self._listeners = listeners
        self._loader = loader
        self._publisher = publisher
        self._restarter = restarter

    async def run(self) -> None:
        """Look, and put back, for as long as the supervisor lives."""
        while True:
            await asyncio.sleep(SOCKETS_SECONDS)
            folder = self._state.folder
            for path in restore(str(folder.sockets)):
                self._events.log(f"{path} was removed by somebody, and is put back")
            try:
                await self._renew(set(os.listdir(folder.sockets)))
                if not (folder.path / ENDPOINTS).exists():
                    self._publisher.publish_again()
            except OSError as error:
                self._events.complain(f"sockets that somebody has removed cannot be made anew: {error}")

    async def _renew(self, there: Collection[str]) -> None:
        """Make anew what is not among the names that are there, nor can be put back: its spare is gone, too."""
        await self._control.renew(there)
        api = self._publisher.api_socket
        if api and os.path.basename(api) not in there:
            self._publisher.renew_api()
        for zygote in self._loader.all():
            if zygote.path is not None and os.path.basename(zygote.path) not in there:
                await zygote.renew()
        lost = [where for path, where in self._listeners.paths().items() if os.path.basename(path) not in there]
        for name, number in lost:
            await self._listeners.renew(name, number)
        for name in {name for name, _ in lost}:
            self._tasks.spawn(self._restart(name))

    async def _restart(self, name: SetName) -> None:
        """Replicas listen at what they were given when they began: only new ones have the new sockets."""
        why = "its sockets were removed by somebody"
        self._events.log(f"{service_of(name)} is restarted: {why}")
        try:
            await self._restarter.restart_set(name, ACTOR, why)
        except (FissileError, KeyError) as error:
            self._events.log(f"{service_of(name)} takes no new connections of other services: {error}")
