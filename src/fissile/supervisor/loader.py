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

import msgspec

from fissile.errors import ConfigError
from fissile.machine.environment import Environment, taken
from fissile.machine.programs import check_programs
from fissile.machine.zygote.client import Found, ZygoteClient
from fissile.machine.zygote.protocol import Load, Settled
from fissile.orchestrator.restart_rules import zygotes_in_use
from fissile.releases.store import ReleaseStore
from fissile.settings.load import load
from fissile.settings.schema import Settings
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.state_folder import ZYGOTE_SOCKET

TOKEN_BYTES = 4

COPIES = "copying the code"

Pipes = Callable[[str], tuple[int, int]]


class ReleaseLoader:
    """Loads releases, from the folder or from the store of those that are kept. log: tells people."""

    def __init__(self, state: SupervisorState, pipes: Pipes, store: ReleaseStore, log: Callable[[str], None]) -> None:
        self._state = state
        self._pipes = pipes
        self._store = store
        self._log = log
        self._loading: set[ZygoteClient] = set()
        self._retired: list[ZygoteClient] = []
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

    def _zygote(self, load: Load, path: str) -> ZygoteClient:
        return ZygoteClient(load, self._pipes, path if self._state.detached else None, self._state.folder.mark())

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
    ) -> LoadedRelease:
        """Import a release. kept: the sockets that zygotes keep. settled, forced: as of `Load`. environment: another
        than the application's own so far. root: the application's folder, if it is another one from now on.

        Raises ConfigError, and leaves nothing behind.
        """
        source = str(root or self._state.root)
        source = source if settings.root != source else ""
        name = secrets.token_hex(TOKEN_BYTES)
        load = Load(
            settings,
            topology,
            self._state.detached,
            source=source,
            zygote=name,
            environment=environment or self.environment,
            settled=settled,
            forced=dict(forced or {}),
        )
        zygote = self._zygote(load, self._state.folder.socket_path(f"{ZYGOTE_SOCKET}-{name}"))
        self._loading.add(zygote)
        try:
            target = zygote.application.target
            with self.does(f"importing {target}" if target else "reading the settings"):
                loaded = await zygote.start()
            limits = self._state.limits.resolve(settings, root or self._state.root)
            for label, sock in list(kept.items()):
                await zygote.sockets.keep(label, sock)
        except BaseException:
            await zygote.close()
            self._loading.discard(zygote)
            raise
        return LoadedRelease(loaded, settings, zygote, limits)

    def reread(self, settings: Settings) -> Settings:
        """The settings as their file has them now."""
        found = load(Path(settings.root) / settings.file, settings.profile or None) if settings.file else settings
        return msgspec.structs.replace(found, named=str(self._state.named))

    async def load_kept(self, name: str) -> LoadedRelease:
        """A release that is wanted, though its zygote is gone. Raises ConfigError."""
        kept = self._store.find(name)
        settings = self.reread(self._store.settings(kept))
        await asyncio.to_thread(self._store.copies.relink, settings)
        found = await self.load(settings, kept.release.topology, {}, settled=Settled(kept.release, kept.installed))
        if found.zygote.application.changed_packages:
            self._log(f"warning: {found.zygote.application.changed_packages}")
        return found

    def take(self, loaded: LoadedRelease) -> None:
        """A release that was loaded is one that is needed."""
        self._state.releases.by_name[loaded.release.name] = loaded
        self.take_zygote(loaded.zygote)

    def take_zygote(self, zygote: ZygoteClient) -> None:
        """From now on `tidy` decides when it is needed no more."""
        self._loading.discard(zygote)
        self._state.releases.zygotes[zygote.name] = zygote

    async def adopt(self) -> list[tuple[ZygoteClient, Found]]:
        """The zygotes that outlived a dead supervisor. Raises OtherFissile, and leaves all of them alone."""
        adopted: list[tuple[ZygoteClient, Found]] = []
        paths = self._state.folder.zygotes() if self._state.detached else []
        zygotes = [self._zygote(Load(self._state.releases.settings, "", self._state.detached), path) for path in paths]
        # At once: one that hangs, as in an import, takes its time to be given up.
        told = await asyncio.gather(*(zygote.adopt() for zygote in zygotes), return_exceptions=True)
        for refused in told:
            if isinstance(refused, BaseException):
                for zygote in zygotes:
                    zygote.detach()
                raise refused
        for zygote, found in zip(zygotes, told, strict=True):
            if isinstance(found, Found):
                adopted.append((zygote, found))
                self._state.releases.zygotes[zygote.name] = zygote
        # The newest first: it is the one that its release is made by, where nothing else is said.
        adopted.sort(key=lambda one: one[0].application.load.at, reverse=True)
        if adopted:
            self.environment = max((zygote.application.environment for zygote, _ in adopted), key=lambda one: one.since)
        return adopted

    async def check_programs(self, loaded: LoadedRelease) -> LoadedRelease:
        """The same, if all its programs can be run; else it is given up. Raises ConfigError."""
        roots = (Path(loaded.settings.root), self._state.root)
        environment = loaded.zygote.application.environment.general()
        try:
            await asyncio.to_thread(check_programs, loaded.settings, loaded.imported.services, roots, environment)
        except ConfigError:
            await self.give_up(loaded)
            raise
        return loaded

    async def give_up(self, loaded: LoadedRelease) -> None:
        """A release that was loaded in vain."""
        await self.close_zygote(loaded.zygote)

    async def close_zygote(self, zygote: ZygoteClient) -> None:
        """One that was made in vain."""
        self._state.releases.zygotes.pop(zygote.name, None)
        self._loading.discard(zygote)
        await zygote.close()

    async def retire(self, zygote: ZygoteClient) -> None:
        """Nothing of this release is to be started any more."""
        self._state.releases.zygotes.pop(zygote.name, None)
        await zygote.retire()
        self._retired.append(zygote)

    async def tidy(self) -> None:
        """Let go of what no live release and no replica needs."""
        desired = self._state.desired
        for name in self._state.releases.by_name.keys() - desired.needed():
            del self._state.releases.by_name[name]
        used = {loaded.zygote.name for loaded in self._state.releases.by_name.values()}
        used.update(zygotes_in_use(desired, self._state.observed))
        for name in [name for name in self._state.releases.zygotes if name not in used]:
            await self.retire(self._state.releases.zygotes[name])
        await self.close_idle()

    async def close_idle(self) -> None:
        """End the zygotes of earlier releases whose last replica has gone."""
        for zygote in [zygote for zygote in self._retired if zygote.idle]:
            self._retired.remove(zygote)
            await zygote.close()

    def all(self) -> list[ZygoteClient]:
        """Of all zygotes that live, or may."""
        return [*self._state.releases.zygotes.values(), *self._retired, *self._loading]

    def pids(self) -> set[int]:
        """The processes of all zygotes, whose ends are waited for where they were begun."""
        return {pid for zygote in self.all() for pid in zygote.own()}

    def look(self) -> list[tuple[str, str]]:
        """See whether every zygote answers; what has happened to them, as `ZygoteClient.look` says it."""
        return [one for zygote in self.all() for one in zygote.look()]

    @property
    def trouble(self) -> str:
        """What people should know of the zygotes; "" where all is well."""
        return "; ".join(zygote.trouble for zygote in self.all() if zygote.trouble)

    def let_go(self) -> None:
        """Leave all zygotes as they are, and know of them no more."""
        for zygote in self.all():
            zygote.detach()
        self._forget()

    def _forget(self) -> None:
        """What was let go of is not closed after that: the sockets at which it is found are the next supervisor's."""
        self._state.releases.by_name.clear()
        self._state.releases.zygotes.clear()
        self._loading.clear()
        self._retired.clear()

    async def close(self) -> None:
        """End all zygotes, and whatever lives of them."""
        for zygote in self.all():
            await zygote.close()
        self._forget()
