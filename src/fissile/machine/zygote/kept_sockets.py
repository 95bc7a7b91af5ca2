"""The listening sockets that a zygote keeps a copy of, so that they survive a supervisor that dies."""

import socket
from collections.abc import Awaitable, Callable, Mapping

from fissile.machine.zygote.protocol import Drop, Keep

Tell = Callable[[Keep | Drop, list[int]], Awaitable[None]]


class KeptSockets:
    """What the zygote is to keep, by name. `tell` sends it a message, and does nothing while there is no zygote."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._sockets: dict[str, socket.socket] = {}

    def __repr__(self) -> str:
        return f"<KeptSockets {sorted(self._sockets)}>"

    @property
    def by_name(self) -> dict[str, socket.socket]:
        """All of them."""
        return self._sockets

    def adopt(self, sockets: Mapping[str, socket.socket]) -> None:
        """These are what an adopted zygote keeps already."""
        self._sockets = dict(sockets)

    async def keep(self, name: str, sock: socket.socket) -> None:
        """Have the zygote keep a socket for the next supervisor."""
        self._sockets[name] = sock
        await self._tell(Keep(name), [sock.fileno()])

    async def drop(self, name: str) -> None:
        """Have the zygote close its copy."""
        if self._sockets.pop(name, None) is not None:
            await self._tell(Drop(name), [])

    async def keep_only(self, sockets: Mapping[str, socket.socket]) -> None:
        """Have the zygote keep these and no others."""
        for name, sock in list(self._sockets.items()):
            if sockets.get(name) is not sock:
                await self.drop(name)
        for name, sock in sockets.items():
            if name not in self._sockets:
                await self.keep(name, sock)
