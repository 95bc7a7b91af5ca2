"""Whether it is a program itself that answers at its port.

A stranger on the port makes nobody ready. Where the owner cannot be known, as with another user's program or one in a
container, it counts that the port was free before the start and that the program lives a second later.
"""

import asyncio
import time

from fissile.errors import ConfigError
from fissile.machine.port_owners import NOBODY_KNOWN, Holder, holder, listens, ports_of, since
from fissile.machine.procfs import mark_of
from fissile.orchestrator.replica import Replica
from fissile.supervisor.endings import Endings
from fissile.supervisor.processes import Process
from fissile.supervisor.service import Service
from fissile.supervisor.state import SupervisorState

LIVES_SECONDS = 1.0
FREE_PORT_ATTEMPTS_MAX = 5
UNKNOWN = "whether it listens itself cannot be seen"


class Ownership:
    """Of the ports of an application's programs."""

    def __init__(self, state: SupervisorState, endings: Endings) -> None:
        self._state = state
        self._endings = endings

    async def check_free(self, replica: Replica, service: Service) -> None:
        """Before the start of a program: its port must be nobody's. Raises ConfigError with who has it."""
        settings = service.settings
        if not settings.command or settings.ports == "inherited":
            return
        for _ in range(FREE_PORT_ATTEMPTS_MAX):
            port = service.port(replica.serial)
            found = await asyncio.to_thread(self._taken, port, settings.ports == "reuseport")
            if found is None:
                return
            if settings.port or settings.ports == "reuseport":
                raise ConfigError(
                    f"port {port}, where {service.name} is to listen, is taken by {found}",
                    remedy=f"end that program, or choose another `port` under [services.{service.name}]",
                )
            service.ports.pop(replica.serial, None)

    def _taken(self, port: int, shared: bool) -> Holder | None:
        found = holder(port)
        if found is None or not shared or not found.pid:
            return found
        mark = mark_of(found.pid)
        return None if mark is not None and mark.application == self._state.folder.mark().application else found

    async def is_its_own(self, replica: Replica, process: Process, port: int, begun: list[float]) -> bool:
        """Whether it is the program that answers. begun: when somebody first did; empty before."""
        if not begun:
            begun.append(time.monotonic())
        if await asyncio.to_thread(self._listens, replica, process, port):
            self._state.processes.port_holders.pop(replica.serial, None)
            return True
        if time.monotonic() < begun[0] + LIVES_SECONDS:
            return False
        found = await asyncio.to_thread(holder, port) or NOBODY_KNOWN
        if found.pid and not replica.unheard and not since(found.pid, process.born):
            return False  # a stranger that was there before
        self._state.processes.port_holders[replica.serial] = f"{found} listens in its place" if found.pid else UNKNOWN
        return True

    def what_is_missing(self, replica: Replica) -> str:
        """Why a program is not ready, as far as that can be seen; "" otherwise."""
        process, service = self._state.processes.by_serial.get(replica.serial), self._state.sets.service(replica.set)
        if process is None or not service.settings.command or service.settings.ports == "inherited":
            return ""
        port, found = service.port(replica.serial), ports_of(self._endings.family(replica, process))
        if port in found:
            return f"it listens at port {port}, but does not answer there as `ready` says"
        where = f", but at {', '.join(map(str, found))}" if found else ""
        return f"it does not listen at port {port} (in its environment as PORT){where}"

    def _listens(self, replica: Replica, process: Process, port: int) -> bool:
        return listens(self._endings.family(replica, process), port)
