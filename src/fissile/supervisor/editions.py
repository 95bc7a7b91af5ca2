"""The releases that are loaded: each in a zygote of its own, which forks replicas of it.

A release that gets no requests any more keeps its zygote only for as long as replicas of it live on, as those of
services that later releases did not alter: it is their parent, and the only one that learns how they end.
"""

import secrets
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

from fissile.runtime.settings import Settings
from fissile.supervisor.fleet import Edition, Fleet
from fissile.supervisor.messages import Load
from fissile.supervisor.nursery import Found, Nursery
from fissile.supervisor.state import ZYGOTE_SOCKET

TOKEN_BYTES = 4

COPIES = "copying the code"

Pipes = Callable[[str], tuple[int, int]]


class Editions:
    """Loads releases for a fleet. keep: whether zygotes outlive a supervisor that dies."""

    def __init__(self, fleet: Fleet, pipes: Pipes, *, keep: bool) -> None:
        self._fleet = fleet
        self._pipes = pipes
        self._keep = keep
        self._loading: set[Nursery] = set()
        self._retired: list[Nursery] = []
        # What takes long before a release is loaded; "": nothing.
        self.doing = ""

    @contextmanager
    def does(self, what: str) -> Generator[None]:
        """Meanwhile, this is what is waited for."""
        before, self.doing = self.doing, what
        try:
            yield
        finally:
            self.doing = before

    def _nursery(self, load: Load, path: str | None = None) -> Nursery:
        if path is None and self._keep:
            path = self._fleet.state.socket_path(f"{ZYGOTE_SOCKET}-{secrets.token_hex(TOKEN_BYTES)}")
        return Nursery(load, self._pipes, path, self._fleet.state.mark())

    async def load(self, settings: Settings, topology: str, kept: dict[str, socket.socket]) -> Edition:
        """Import a release. kept: the sockets that zygotes keep. Raises ConfigError, and leaves nothing behind."""
        source = str(self._fleet.root) if settings.root != str(self._fleet.root) else ""
        nursery = self._nursery(Load(settings, topology, self._keep, source=source))
        self._loading.add(nursery)
        try:
            with self.does(f"importing {nursery.target}" if nursery.target else "reading the settings"):
                loaded = await nursery.start()
            limits = self._fleet.limits_for(settings)
            for label, sock in list(kept.items()):
                await nursery.keep(label, sock)
        except BaseException:
            await nursery.close()
            raise
        finally:
            self._loading.discard(nursery)
        return Edition(loaded, settings, nursery, limits)

    async def adopt(self) -> list[tuple[Nursery, Found]]:
        """The zygotes that outlived a dead supervisor."""
        adopted: list[tuple[Nursery, Found]] = []
        for path in self._fleet.state.zygotes() if self._keep else []:
            nursery = self._nursery(Load(self._fleet.settings, "", self._keep), path)
            found = await nursery.adopt()
            if found is not None:
                adopted.append((nursery, found))
        return adopted

    async def give_up(self, edition: Edition) -> None:
        """A release that was loaded in vain."""
        await edition.nursery.close()

    async def retire(self, nursery: Nursery) -> None:
        """Nothing of this release is to be started any more."""
        await nursery.retire()
        self._retired.append(nursery)

    async def tidy(self) -> None:
        """Let go of what no live release and no replica needs."""
        desired = self._fleet.desired
        needed = {release.name for release in desired.releases()} | {want.release for want in desired.services.values()}
        for name in [name for name in self._fleet.editions if name not in needed]:
            await self.retire(self._fleet.editions.pop(name).nursery)
        await self.close_idle()

    async def close_idle(self) -> None:
        """End the zygotes of earlier releases whose last replica has gone."""
        for nursery in [nursery for nursery in self._retired if nursery.idle]:
            self._retired.remove(nursery)
            await nursery.close()

    def all(self) -> list[Nursery]:
        """Of all zygotes that live, or may."""
        return [*(edition.nursery for edition in self._fleet.editions.values()), *self._retired, *self._loading]

    def look(self) -> list[tuple[str, str]]:
        """See whether every zygote answers; what has happened to them, as `Nursery.look` says it."""
        return [one for nursery in self.all() for one in nursery.look()]

    @property
    def trouble(self) -> str:
        """What people should know of the zygotes; "" where all is well."""
        return "; ".join(nursery.trouble for nursery in self.all() if nursery.trouble)

    def let_go(self) -> None:
        """Leave all zygotes as they are, and know of them no more."""
        for nursery in self.all():
            nursery.let_go()

    async def close(self) -> None:
        """End all zygotes, and whatever lives of them."""
        for nursery in self.all():
            await nursery.close()
        self._fleet.editions.clear()
        self._retired.clear()
