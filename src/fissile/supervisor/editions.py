"""The releases that are loaded: each in a zygote of its own, which forks replicas of it.

A zygote stays for as long as some service is made by it: a service that a deploy does not touch goes on with the import
that it was started from, and so does one that was not restarted when another was. So all replicas of a service have
read the same files, and have the same environment. After that it stays as the parent of what it has forked.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fissile.errors import ConfigError
from fissile.machine.environment import Environment, taken
from fissile.machine.programs import check_programs
from fissile.machine.zygote.client import Found, Nursery
from fissile.machine.zygote.protocol import Load, Settled
from fissile.orchestrator.restart_rules import zygotes_in_use
from fissile.settings.schema import Settings
from fissile.supervisor.fleet import Edition, Fleet
from fissile.supervisor.state import ZYGOTE_SOCKET

TOKEN_BYTES = 4

COPIES = "copying the code"

Pipes = Callable[[str], tuple[int, int]]


class Editions:
    """Loads releases for a fleet. keep: whether zygotes outlive a supervisor that dies."""

    def __init__(self, fleet: Fleet, pipes: Pipes, *, keep: bool) -> None:
        self._fleet = fleet
        self._pipes = pipes
        self.keep = keep
        self._loading: set[Nursery] = set()
        self._retired: list[Nursery] = []
        self.environment = taken()
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

    def _nursery(self, load: Load, path: str) -> Nursery:
        return Nursery(load, self._pipes, path if self.keep else None, self._fleet.state.mark())

    async def load(
        self,
        settings: Settings,
        topology: str,
        kept: dict[str, socket.socket],
        *,
        settled: Settled | None = None,
        forced: Mapping[str, str] | None = None,
        environment: Environment | None = None,
        root: Path | None = None,
    ) -> Edition:
        """Import a release. kept: the sockets that zygotes keep. settled, forced: as of `Load`. environment: another
        than the application's own so far. root: the application's folder, if it is another one from now on.

        Raises ConfigError, and leaves nothing behind.
        """
        source = str(root or self._fleet.root)
        source = source if settings.root != source else ""
        name = secrets.token_hex(TOKEN_BYTES)
        load = Load(
            settings,
            topology,
            self.keep,
            source=source,
            zygote=name,
            environment=environment or self.environment,
            settled=settled,
            forced=dict(forced or {}),
        )
        nursery = self._nursery(load, self._fleet.state.socket_path(f"{ZYGOTE_SOCKET}-{name}"))
        self._loading.add(nursery)
        try:
            with self.does(f"importing {nursery.target}" if nursery.target else "reading the settings"):
                loaded = await nursery.start()
            limits = self._fleet.limits_for(settings, root)
            for label, sock in list(kept.items()):
                await nursery.keep(label, sock)
        except BaseException:
            await nursery.close()
            self._loading.discard(nursery)
            raise
        return Edition(loaded, settings, nursery, limits)

    def take(self, edition: Edition) -> None:
        """A release that was loaded is one that is needed."""
        self._fleet.editions[edition.release.name] = edition
        self.take_nursery(edition.nursery)

    def take_nursery(self, nursery: Nursery) -> None:
        """From now on `tidy` decides when it is needed no more."""
        self._loading.discard(nursery)
        self._fleet.nurseries[nursery.name] = nursery

    async def adopt(self) -> list[tuple[Nursery, Found]]:
        """The zygotes that outlived a dead supervisor. Raises OtherFissile, and leaves all of them alone."""
        adopted: list[tuple[Nursery, Found]] = []
        paths = self._fleet.state.zygotes() if self.keep else []
        nurseries = [self._nursery(Load(self._fleet.settings, "", self.keep), path) for path in paths]
        # At once: one that hangs, as in an import, takes its time to be given up.
        told = await asyncio.gather(*(nursery.adopt() for nursery in nurseries), return_exceptions=True)
        for refused in told:
            if isinstance(refused, BaseException):
                for nursery in nurseries:
                    nursery.let_go()
                raise refused
        for nursery, found in zip(nurseries, told, strict=True):
            if isinstance(found, Found):
                adopted.append((nursery, found))
                self._fleet.nurseries[nursery.name] = nursery
        # The newest first: it is the one that its release is made by, where nothing else is said.
        adopted.sort(key=lambda one: one[0].load.at, reverse=True)
        if adopted:
            self.environment = max((nursery.environment for nursery, _ in adopted), key=lambda one: one.since)
        return adopted

    async def check_programs(self, edition: Edition) -> Edition:
        """The same, if all its programs can be run; else it is given up. Raises ConfigError."""
        roots, environment = (Path(edition.settings.root), self._fleet.root), edition.nursery.environment.general()
        try:
            await asyncio.to_thread(check_programs, edition.settings, edition.loaded.services, roots, environment)
        except ConfigError:
            await self.give_up(edition)
            raise
        return edition

    async def give_up(self, edition: Edition) -> None:
        """A release that was loaded in vain."""
        await self.close_nursery(edition.nursery)

    async def close_nursery(self, nursery: Nursery) -> None:
        """One that was made in vain."""
        self._fleet.nurseries.pop(nursery.name, None)
        self._loading.discard(nursery)
        await nursery.close()

    async def retire(self, nursery: Nursery) -> None:
        """Nothing of this release is to be started any more."""
        self._fleet.nurseries.pop(nursery.name, None)
        await nursery.retire()
        self._retired.append(nursery)

    async def tidy(self) -> None:
        """Let go of what no live release and no replica needs."""
        desired = self._fleet.desired
        for name in self._fleet.editions.keys() - desired.needed():
            del self._fleet.editions[name]
        used = {edition.nursery.name for edition in self._fleet.editions.values()}
        used.update(zygotes_in_use(desired, self._fleet.observed))
        for name in [name for name in self._fleet.nurseries if name not in used]:
            await self.retire(self._fleet.nurseries[name])
        await self.close_idle()

    async def close_idle(self) -> None:
        """End the zygotes of earlier releases whose last replica has gone."""
        for nursery in [nursery for nursery in self._retired if nursery.idle]:
            self._retired.remove(nursery)
            await nursery.close()

    def all(self) -> list[Nursery]:
        """Of all zygotes that live, or may."""
        return [*self._fleet.nurseries.values(), *self._retired, *self._loading]

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
        self._forget()

    def _forget(self) -> None:
        """What was let go of is not closed after that: the sockets at which it is found are the next supervisor's."""
        self._fleet.editions.clear()
        self._fleet.nurseries.clear()
        self._loading.clear()
        self._retired.clear()

    async def close(self) -> None:
        """End all zygotes, and whatever lives of them."""
        for nursery in self.all():
            await nursery.close()
        self._forget()
