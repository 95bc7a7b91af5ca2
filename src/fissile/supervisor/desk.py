"""Where replicas report and get their commands: the supervisor's own socket."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from math import inf

from fissile.rpc.access import Access, token_digest
from fissile.rpc.server import Export, Server
from fissile.runtime.control import (
    CONTROL_CALLER,
    CONTROL_INTERFACE,
    Command,
    Drain,
    Heartbeat,
    Observed,
    ReplicaFailed,
    ReplicaHello,
    Routes,
)

CONCURRENCY = 4096  # every replica holds one stream open


class Link:
    """One replica as it is known by its reports.

    trouble: why it cannot start, in its own words. asked_at: when it was last asked where it stands (monotonic
    seconds).
    What it was ordered last is kept: a command that was under way when the connection broke is said again.
    """

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self.heartbeat: Heartbeat | None = None
        self.trouble = ""
        self.asked_at = -inf
        self._routes: Routes | None = None
        self._drain: Drain | None = None
        self._news = asyncio.Event()

    def tell(self, routes: Routes) -> None:
        """Have it follow these, unless it was told them already."""
        if self._routes is None or self._routes.version != routes.version:
            self._routes = routes
            self._ring()

    def drain(self, order: Drain) -> None:
        """Have it finish its work and end."""
        self._drain = order
        self._ring()

    def _ring(self) -> None:
        """Wake whoever waits, and let those who come later wait anew."""
        self._news.set()
        self._news = asyncio.Event()

    async def commands(self) -> AsyncGenerator[Command]:
        """What holds now, then whatever is new: to a replica that has just attached."""
        routes: Routes | None = None
        drain: Drain | None = None
        while True:
            news = self._news
            if self._routes is not None and self._routes is not routes:
                routes = self._routes
                yield routes
            elif self._drain is not None and self._drain is not drain:
                drain = self._drain
                yield drain
            else:
                await news.wait()


class Desk:
    """Serves Control to replicas. heard: gets every report of a replica that is known here."""

    def __init__(self, heard: Callable[[Link, Observed], None]) -> None:
        self._heard = heard
        self._links: dict[int, Link] = {}

    def link(self, serial: int) -> Link:
        """The link of a replica; made before the replica is, so that none of its reports is missed."""
        return self._links.setdefault(serial, Link(serial))

    def forget(self, serial: int) -> None:
        """A replica has ended."""
        self._links.pop(serial, None)

    async def attach(self, hello: ReplicaHello) -> AsyncGenerator[Command]:
        """See Control."""
        link = self._links.get(hello.serial)
        if link is not None:
            async for command in link.commands():
                yield command

    async def report(self, observation: Observed) -> None:
        """See Control."""
        link = self._links.get(observation.hello.serial)
        if link is None:
            return
        if isinstance(observation, ReplicaFailed):
            link.trouble = observation.message
        elif isinstance(observation, Heartbeat):
            link.heartbeat = observation
        self._heard(link, observation)

    def access(self, control_tokens: Mapping[str, str]) -> Access:
        """Who may report. control_tokens: by service."""
        return Access(
            {token_digest(token): service for service, token in control_tokens.items()},
            dict.fromkeys(control_tokens, (CONTROL_CALLER,)),
            {CONTROL_CALLER: frozenset({CONTROL_INTERFACE.name})},
        )

    def server(self, control_tokens: Mapping[str, str]) -> Server:
        """The desk on the wire. control_tokens: by service."""
        export = {CONTROL_INTERFACE.name: Export(CONTROL_INTERFACE, self)}
        return Server("supervisor", export, self.access(control_tokens), concurrency=CONCURRENCY)
