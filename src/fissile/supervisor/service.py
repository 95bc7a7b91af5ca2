"""What a service needs to be run: its sockets, and the secrets by which its replicas prove who they are."""

import secrets
import socket
from collections.abc import Iterator

import msgspec

TOKEN_BYTES = 24


class Service:
    """One service. slots: the listening sockets of its replicas, by slot; public: by component."""

    def __init__(self, name: str, components: tuple[str, ...], http: tuple[str, ...], gateway: socket.socket) -> None:
        self.name = name
        self.components = components
        self.http = http
        self.gateway = gateway
        self.public: dict[str, socket.socket] = {}
        self.slots: dict[int, socket.socket] = {}

    def sockets(self) -> Iterator[socket.socket]:
        """All that listen for it."""
        yield from self.slots.values()
        yield self.gateway
        yield from self.public.values()


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


def _token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)
