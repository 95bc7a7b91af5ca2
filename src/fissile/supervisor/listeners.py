"""The listening sockets of an application's services, and what becomes of them.

They outlive every replica, and the supervisor too: the zygote keeps a copy of each.
"""

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from fissile.errors import ConfigError
from fissile.machine.sockets import listen_public, listen_tcp, listen_unix, remove_unix
from fissile.machine.zygote.client import ZygoteClient
from fissile.names import SetName
from fissile.orchestrator.routes import needed_slots
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.service import Service
from fissile.supervisor.state import SupervisorState


class Listeners:
    """Opens the listening sockets of an application, and closes those that nobody needs any more.

    zygotes: all of them: each keeps a copy, so that one is enough for the next supervisor.
    kept: by name, as a zygote keeps them: "gateway SERVICE", "public COMPONENT", "slot SET.NUMBER".
    """

    def __init__(self, state: SupervisorState, zygotes: Callable[[], list[ZygoteClient]]) -> None:
        self._state = state
        self._zygotes = zygotes
        self.kept: dict[str, socket.socket] = {}
        self._shared: dict[str, Service] = {}

    async def adopt(self, found: Iterable[Mapping[str, socket.socket]]) -> None:
        """Take what zygotes kept for a dead supervisor. Whoever lacks one gets it: the others may be gone next time."""
        for sockets in found:
            for label, sock in sockets.items():
                if self.kept.setdefault(label, sock) is not sock:
                    sock.close()
        for label, sock in list(self.kept.items()):
            await self._tell(label, sock)

    async def open(self, loaded: LoadedRelease, first_port: int | None, before_port: int = 0) -> None:
        """Make the sockets of a release, but for those that there are.

        first_port: of the page that people open; None: the usual one, 0: any. before_port: that which it had, and gets
        again where no other is asked for. Raises ConfigError where a port is taken; then nothing was made.
        """
        before = dict(self.kept)
        made: dict[SetName, Service] = {}
        try:
            for name, set_name in loaded.spec.sets.items():
                settings, components = loaded.settings.service(name), loaded.imported.services[name]
                http = tuple(component for component in components if component in loaded.imported.http)
                service = made[set_name] = Service(set_name, name, components, http, settings)
                setting = f"`port` under [services.{name}]"
                if settings.command and settings.ports == "inherited":
                    service.public[name] = self._kept(f"public {name}", listen_tcp, settings.port, name, setting)
                if not settings.foreign:
                    purpose = f"the HTTP/JSON API of {name}"
                    service.gateway = self._kept(f"gateway {name}", listen_tcp, settings.port, purpose, setting)
            port = first_port
            by_name = {service.name: service for service in made.values()}
            for page, name in loaded.public_listeners():
                own = by_name[name].settings.port if page == name else 0
                by_name[name].public[page] = self._kept(f"public {page}", _listen, page, port, own, before_port)
                port = before_port = 0
        except BaseException:
            for label in [label for label in self.kept if label not in before]:
                self.kept.pop(label).close()
            raise
        for set_name, service in made.items():
            known = self._shared.setdefault(set_name, service)
            # A set is made of its own release's settings, components and doors; where it is called is the same in all.
            service.slots, service.ports = known.slots, known.ports
            if known is service:
                self._find_slots(service)
        loaded.sets = made
        for label, sock in list(self.kept.items()):
            if label not in before:
                await self._tell(label, sock)

    def port_of(self, loaded: LoadedRelease) -> int:
        """Of the page that people open; 0: there is none."""
        first = next((page for page, _ in loaded.public_listeners()), None)
        sock = self.kept.get(f"public {first}")
        return int(sock.getsockname()[1]) if sock is not None else 0

    def _kept(self, label: str, listen: Any, *arguments: Any) -> socket.socket:
        sock = self.kept.get(label)
        if sock is None:
            sock = self.kept[label] = listen(*arguments)
        return sock

    async def _tell(self, label: str, sock: socket.socket) -> None:
        """Every zygote keeps a copy."""
        for zygote in self._zygotes():
            await zygote.sockets.keep(label, sock)

    def _find_slots(self, service: Service) -> None:
        """Those that a dead supervisor has left."""
        for label, sock in self.kept.items():
            if label.startswith("slot ") and _set_of(label) == service.set:
                service.slots[int(label.rpartition(".")[2])] = sock

    async def slot(self, service: Service, number: int) -> socket.socket:
        """The socket of a slot; it stays while the slot's replicas come and go."""
        found = service.slots.get(number)
        if found is None:
            label = f"{service.set}.{number}"
            found = service.slots[number] = listen_unix(
                self._state.folder.socket_path(label), self._state.folder.socket_mode
            )
            self.kept[f"slot {label}"] = found
            await self._tell(f"slot {label}", found)
        return found

    def paths(self) -> dict[str, tuple[SetName, int]]:
        """Where the sockets of slots are: replica set and slot, by path."""
        labels = [label.removeprefix("slot ") for label in self.kept if label.startswith("slot ")]
        return {
            self._state.folder.socket_path(label): (_set_of(label), int(label.rpartition(".")[2])) for label in labels
        }

    async def renew(self, name: SetName, number: int) -> None:
        """A new socket for a slot whose own was removed for good: for the next replica there. Raises OSError."""
        await self._close(f"slot {name}.{number}")
        service = self._state.sets.live().get(name)
        if service is not None:
            service.slots.pop(number, None)
            await self.slot(service, number)

    async def tidy(self) -> None:
        """Close the sockets of slots that nobody needs any more."""
        for name, service in self._state.sets.live().items():
            want = self._state.desired.sets.get(name)
            if len(service.slots) <= 1 or want is None:
                continue
            found = self._state.observed.replica_set(name)
            used = needed_slots(want, found)
            for slot in [slot for slot in service.slots if slot not in used]:
                found.slots.pop(slot, None)
                service.slots.pop(slot, None)
                await self._close_slot(f"{service.set}.{slot}")

    async def _close_slot(self, label: str) -> None:
        await self._close(f"slot {label}")
        remove_unix(self._state.folder.socket_path(label))

    async def _close(self, label: str) -> None:
        sock = self.kept.pop(label, None)
        if sock is None:
            return  # somebody else was faster
        sock.close()
        for zygote in self._zygotes():
            await zygote.sockets.drop(label)

    async def close_unused(self) -> None:
        """Close what belongs to no live release."""
        live = {name for release in self._state.desired.releases() for name in release.sets.values()}
        self._shared = {name: service for name, service in self._shared.items() if name in live}
        for label in [label for label in self.kept if label.startswith("slot ") and _set_of(label) not in live]:
            await self._close_slot(label.removeprefix("slot "))
        releases = [self._state.releases.made(release.name) for release in self._state.desired.releases()]
        services = [service for made in releases for service in made.values()]
        used = {f"gateway {service.name}" for service in services if service.gateway is not None}
        used |= {f"public {label}" for service in services for label in service.public}
        for label in [label for label in self.kept if not label.startswith("slot ") and label not in used]:
            await self._close(label)

    def close(self) -> None:
        """Close all."""
        for sock in self.kept.values():
            sock.close()
        self.kept.clear()


def _set_of(label: str) -> SetName:
    """The replica set that a slot's socket belongs to."""
    return SetName(label.removeprefix("slot ").rpartition(".")[0])


def _listen(page: str, asked: int | None, own: int, before: int) -> socket.socket:
    """A page's listener. asked: for the first page alone; own: by the file; before: which it had. 0: none of them."""
    if asked:
        return listen_tcp(asked, page, "--port")
    if own:
        return listen_tcp(own, page, f"`port` under [services.{page}], or --port")
    if before:
        with suppress(ConfigError):  # somebody else has it by now
            return listen_tcp(before, page, "--port")
    return listen_public(asked, page)
