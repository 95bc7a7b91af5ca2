"""The listening sockets of an application's services, and what becomes of them.

They outlive every replica, and the supervisor too: the zygote keeps a copy of each.
"""

import os
import socket
from contextlib import suppress

from fissile.orchestrator.routes import routes as routed_slots
from fissile.supervisor.fleet import Fleet
from fissile.supervisor.messages import Loaded
from fissile.supervisor.nursery import Nursery
from fissile.supervisor.service import Service
from fissile.supervisor.sockets import listen_public, listen_tcp, listen_unix


class Doors:
    """Opens the sockets of a fleet, and closes those that nobody needs any more."""

    def __init__(self, fleet: Fleet, nursery: Nursery) -> None:
        self._fleet = fleet
        self._nursery = nursery

    async def open(self, loaded: Loaded, first_port: int | None, kept: dict[str, socket.socket] | None = None) -> None:
        """Make all sockets, or take those that were kept. first_port: of the first public listener.

        Raises ConfigError where a port is taken.
        """
        kept = kept or {}
        for name, components in loaded.services.items():
            settings = self._fleet.settings.service(name)
            http = tuple(component for component in components if component in loaded.http)
            service = self._fleet.services[name] = Service(name, components, http, settings)
            if settings.guest or (settings.command and settings.ports == "inherited"):
                setting = f"`port` under [services.{name}]"
                sock = kept.get(f"public {name}") or listen_tcp(settings.port, name, setting)
                await self._open_public(service, name, sock)
            if settings.foreign:
                continue
            service.gateway = kept.get(f"gateway {name}") or listen_tcp(
                settings.port, f"the HTTP/JSON API of {name}", f"`port` under [services.{name}]"
            )
            await self._nursery.keep(f"gateway {name}", service.gateway)
            for label, sock in kept.items():
                kind, _, rest = label.partition(" ")
                if kind == "slot" and rest.rpartition(".")[0] == name:
                    service.slots[int(rest.rpartition(".")[2])] = sock
            for number in range(max(1, self._fleet.desired.services[name].replicas)):
                await self.slot(service, number)
        port = first_port
        # The page that people open is the last in start order: nobody else calls it.
        for component in reversed(loaded.http):
            service = next(s for s in self._fleet.services.values() if component in s.components)
            await self._open_public(
                service, component, kept.get(f"public {component}") or listen_public(port, component)
            )
            port = 0

    async def _open_public(self, service: Service, name: str, sock: socket.socket) -> None:
        service.public[name] = sock
        await self._nursery.keep(f"public {name}", sock)

    async def slot(self, service: Service, number: int) -> socket.socket:
        """The socket of a slot; it stays while the slot's replicas come and go."""
        found = service.slots.get(number)
        if found is None:
            found = service.slots[number] = listen_unix(self._fleet.state.socket_path(f"{service.name}.{number}"))
            await self._nursery.keep(f"slot {service.name}.{number}", found)
        return found

    async def tidy(self) -> None:
        """Close the sockets of slots that nobody needs any more. Slot 0 stays: a call there wakes the service."""
        for name, service in self._fleet.services.items():
            if len(service.slots) <= 1:
                continue
            found = self._fleet.observed.service(name)
            used = (
                {r.slot for r in found.replicas.values()}
                | set(routed_slots(self._fleet.desired.services[name], found))
                | {0}
            )
            for slot in [slot for slot in service.slots if slot not in used]:
                del service.slots[slot]
                found.slots.pop(slot, None)
                await self._nursery.drop(f"slot {name}.{slot}")
                with suppress(OSError):
                    os.unlink(self._fleet.state.socket_path(f"{name}.{slot}"))
