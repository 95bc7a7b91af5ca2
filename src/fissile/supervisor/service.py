"""What a service needs to be run: its sockets, and the secrets by which its replicas prove who they are."""

import secrets
import select
import socket
from collections.abc import Iterable, Iterator

import msgspec

from fissile.machine.probe import TCP
from fissile.machine.sockets import HOST
from fissile.names import ServiceName, SetName
from fissile.settings.schema import ServiceSettings

TOKEN_BYTES = 24


class Service:
    """One service at one build: what its replica set is made of.

    slots: the listening sockets of its replicas, by slot; public: by component, or by the service's own name
    where it has none, shared by all its builds; ports: of the programs that open their own, by serial. gateway: of
    HTTP/JSON, shared too; None where another program is the service.
    """

    def __init__(
        self,
        set_name: SetName,
        name: ServiceName,
        components: tuple[str, ...],
        http: tuple[str, ...],
        settings: ServiceSettings,
    ) -> None:
        self.set = set_name
        self.name = name
        self.components = components
        self.http = http
        self.settings = settings
        self.gateway: socket.socket | None = None
        self.public: dict[str, socket.socket] = {}
        self.slots: dict[int, socket.socket] = {}
        self.ports: dict[int, int] = {}

    def doors(self) -> tuple[str, ...]:
        """The names of its public doors, as its replicas know them."""
        return (self.name,) if self.settings.guest else self.http

    def sockets(self) -> Iterator[socket.socket]:
        """All that listen for it."""
        yield from self.slots.values()
        if self.gateway is not None:
            yield self.gateway
        yield from self.public.values()

    def knocked(self) -> bool:
        """Whether a connection waits at one of its sockets, on which nobody accepts."""
        poll = select.poll()
        for sock in self.sockets():
            poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

    def port(self, serial: int) -> int:
        """Where the program with a serial listens: at the fixed port, or at one of its own."""
        if self.settings.ports == "inherited":
            return int(self.public[self.name].getsockname()[1])
        if self.settings.ports == "reuseport":
            serial = 0
        if self.settings.port:
            return self.settings.port
        if serial not in self.ports:
            self.ports[serial] = free_port()
        return self.ports[serial]

    def ready(self) -> str:
        """How to see that its program serves."""
        return self.settings.ready or ("/health" if self.components else TCP)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


class Secrets(msgspec.Struct):
    """All tokens of an application; they outlive a supervisor, so that replicas know its successor.

    operator: for tools that call components. gateway: for HTTP/JSON. api: for the supervisor's own API.
    services: by which each proves itself to others; control: to the supervisor.
    """

    operator: str
    gateway: str
    api: str
    services: dict[str, str] = {}
    control: dict[str, str] = {}

    @classmethod
    def new(cls) -> "Secrets":
        """Fresh ones."""
        return cls(_token(), _token(), _token())

    def add(self, service: str) -> None:
        """Tokens for a service."""
        self.services[service] = _token()
        self.control[service] = _token()

    def forget(self, services: Iterable[str]) -> None:
        """The tokens of services that are no more."""
        for service in services:
            self.services.pop(service, None)
            self.control.pop(service, None)


def _token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)
