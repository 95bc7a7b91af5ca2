"""The nouns of a proposal: services with their roles, what was assumed, what is unclear, what is left to do."""

import enum
import re
from collections.abc import Mapping

import msgspec

from fissile.settings.proposal.compose import Store

PORT = 8000


class Role(enum.Enum):
    """What a service is there for."""

    WEB = "it answers at a port"
    WORKER = "it listens nowhere: a queue's worker, a scheduler"


class Service(msgspec.Struct, frozen=True):
    """One service as it is proposed.

    Attributes:
        name: Its name in fissile.toml.
        kind: asgi, wsgi or command.
        runs: "module:attribute", or a command line.
        said: Where that comes from, for a comment.
        role: What it is there for.
        folder: Where it runs.
        port: Its fixed port; 0: any.
        ready: How it is seen to be ready.
        ports: Whether its replicas share a port; see fissile.toml.
        replicas: How many processes.
        environment: Variables.
        after: Services that come first.
        before: Commands that run once for each release, before its first process.
        env_files: Files of variables, which are not read here: they may hold secrets.
        interpreter: The Python that has its packages; "": the one that Fissile runs in.
        notes: What people should know, for comments.
    """

    name: str
    kind: str
    runs: str
    said: str = ""
    role: Role = Role.WEB
    folder: str = "."
    port: int = 0
    ready: str = ""
    ports: str = ""
    replicas: int = 1
    environment: Mapping[str, str] = {}
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    interpreter: str = ""
    notes: tuple[str, ...] = ()


class Proposal(msgspec.Struct, frozen=True):
    """A first fissile.toml, before it is written.

    Attributes:
        app: Fissile's own application, "module:attribute", or "".
        services: All others.
        stores: Databases and the like, which run elsewhere.
        assumed: What was taken for the likeliest.
        unclear: What could not be told.
        to_do: What has to be done before `fissile up`.
    """

    app: str = ""
    services: tuple[Service, ...] = ()
    stores: tuple[Store, ...] = ()
    assumed: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()
    to_do: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing was found that could be started."""
        return not self.app and not any(one.role is Role.WEB for one in self.services)


def service_name(text: str) -> str:
    """A text as the name of a service: small letters, digits, - and _."""
    name = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_0123456789")[:40]
    return name or "web"


def told_apart(services: list[Service]) -> list[Service]:
    """The same with names and fixed ports that are each other's own."""
    names: set[str] = set()
    ports: set[int] = set()
    found: list[Service] = []
    for one in services:
        name, port, number = one.name, one.port, 2
        while name in names:
            name, number = f"{one.name[:36]}-{number}", number + 1
        while port and port in ports:
            port += 1
        names.add(name)
        ports.add(port)
        found.append(msgspec.structs.replace(one, name=name, port=port))
    return found
