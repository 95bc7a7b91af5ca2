"""Clients who come again and again: they keep their connection, and some are to stay in the release that they have.

A kept connection stays with the replica that answered it, until that one drains or is told that others have too few. A
replica that drains passes it on to those who take over, between two requests.
"""

from typing import TYPE_CHECKING

import msgspec

from fissile.runtime.traffic_split import RELEASE_HEADER
from fissile.simulation.machine import Phase, Process

if TYPE_CHECKING:
    from fissile.simulation.deploys import DeployWorld

COUNT = 3
# Between two requests of one client.
PAUSE_SECONDS = 0.5
STICKY_HEADER = "client"


class Client(msgspec.Struct, eq=False):
    """One of them. cookie: as it was set last. named: the release that it asks for; "": none, "?": the one that it got.

    at: the replica that has its connection.
    """

    number: int
    cookie: bytes = b""
    named: str = ""
    at: Process | None = None


class Clients:
    """Of one world."""

    def __init__(self, world: "DeployWorld") -> None:
        self.world = world
        self.dice = world.chance("clients")
        self.all = [Client(number, named="?" if number == 0 else "") for number in range(COUNT)]
        self.requests = self.moved = self.kept = 0
        for client in self.all:
            world.clock.after(PAUSE_SECONDS, self._ask, client)

    def kept_at(self, process: Process) -> int:
        """How many connections a replica has."""
        return sum(client.at is process for client in self.all)

    def move(self, giver: Process, takers: dict[int, int]) -> None:
        """Some of a replica's clients go to others. takers: how many to which serial."""
        there = {p.serial: p for p in self.world.machine.processes.values() if p.serves}
        for serial, count in takers.items():
            for client in [one for one in self.all if one.at is giver][:count]:
                if serial in there:  # who cannot be reached takes none
                    client.at = there[serial]
                    self.moved += 1

    def _ask(self, client: Client) -> None:
        world = self.world
        world.clock.after(2 * PAUSE_SECONDS * self.dice.random(), self._ask, client)
        edge = self._connected(client)
        if edge is None:
            return
        release, cookie = edge.split.choose(self._headers(client))
        if cookie:
            client.cookie = cookie.partition(b";")[0]
        if client.named:
            client.named = release
        self.requests += 1
        world.visits.begin(edge, release)

    def _headers(self, client: Client) -> list[tuple[bytes, bytes]]:
        headers = [(STICKY_HEADER.encode(), str(client.number).encode())]
        if client.cookie:
            headers.append((b"cookie", client.cookie))
        if client.named:
            headers.append((RELEASE_HEADER, client.named.encode()))
        return headers

    def _connected(self, client: Client) -> Process | None:
        """The replica that answers its next request; None while there is none."""
        edge = client.at
        if edge is not None and edge.phase is Phase.DRAINING and edge.heirs:
            there = [p for p in self.world.machine.processes.values() if p.serial in edge.heirs and p.serves]
            if there:
                edge = self.dice.choice(there)
                self.moved += 1
        if edge is not None and edge.phase in (Phase.SERVING, Phase.DRAINING):
            self.kept += 1
            client.at = edge
        else:
            client.at = self.world.visits.accepting()
        return client.at
