"""Restarts that a person asks for: of the same code, with all that is read at import read anew.

A fresh zygote imports the release from its copy, so nothing that was not deployed becomes live. It is there before
anything is touched: if it cannot be made, as with a mistake in a file of settings, what runs goes on. Other services of
the release go on with the zygote that they were made by, for their replicas would else differ among each other.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec

from fissile.errors import ConfigError, StartError
from fissile.machine.environment import Environment
from fissile.machine.zygote.client import ZygoteClient
from fissile.names import ServiceName, SetName, service_of
from fissile.orchestrator.acts import Change, RestartService
from fissile.orchestrator.restart_rules import Read, asleep, behind, how_it_ended, imported_anew, next_revision
from fissile.supervisor.changes import Changes
from fissile.supervisor.listeners import Listeners
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.loader import ReleaseLoader
from fissile.supervisor.packages import check, explained, installed_now
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.status import RestartOrder
from fissile.supervisor.step_signal import StepSignal


class StartFailed(StartError):
    """A replica did not become ready: most often its application's fault; the message has its own words."""


class Restarted(msgspec.Struct, frozen=True):
    """What a restart did.

    replicas: how many were replaced, services: by service, in the order of the restart. read: files of settings that
    were there to be read anew; environment: the one that they have, in words. asleep: services that are scaled to
    zero. others: services of the same release that go on with something else, as it was read earlier. warnings: what
    people should know of what was imported anew.
    """

    replicas: int
    services: dict[ServiceName, int]
    read: tuple[str, ...] = ()
    environment: str = ""
    asleep: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Restarter:
    """Of one application. preparing: held while a release is imported that is to be deployed."""

    def __init__(
        self,
        state: SupervisorState,
        loader: ReleaseLoader,
        listeners: Listeners,
        changes: Changes,
        signal: StepSignal,
        preparing: asyncio.Lock,
    ) -> None:
        self._state = state
        self._loader = loader
        self._listeners = listeners
        self._changes = changes
        self._signal = signal
        self._preparing = preparing
        self._turn = asyncio.Lock()
        # By order of arrival; the lock is fair, so whoever is first has the turn.
        self._asked: dict[object, tuple[str, str]] = {}

    def asked(self) -> tuple[RestartOrder, ...]:
        """Those that are not over: first the one that is under way, then those that wait for it."""
        return tuple(
            RestartOrder(service, who, waiting=bool(place)) for place, (service, who) in enumerate(self._asked.values())
        )

    async def restart(
        self,
        services: list[ServiceName],
        who: str,
        why: str,
        environment: Environment | None = None,
        *,
        packages: bool = False,
    ) -> Restarted:
        """Replace the replicas of these services, one service after another, without losing a request.

        environment: another than they have had so far. packages: though they are others than the release was made
        with. Raises FissileError; what was not replaced serves on.
        """
        async with self._in_turn(services, who):
            fresh = await self._fresh(services, environment, packages=packages)
            before = {name: loaded.zygote for name, (loaded, _) in fresh.items()}
            for loaded, zygote in fresh.values():
                loaded.zygote = zygote
                self._loader.take_zygote(zygote)
            done: dict[ServiceName, int] = {}
            left = asleep(self._state.desired, services)
            try:
                for service in (one for one in services if one not in left):
                    done[service] = await self._replace(service, fresh, who, why, before=list(done))
            finally:
                await self._settle(before)
            return self._told(done, left, fresh)

    async def restart_set(self, name: SetName, who: str, why: str, zygote: str = "") -> int:
        """Replace a replica set's replicas; how many. zygote: by which the new ones are made. Raises StartFailed."""
        state, end = self._state, None
        revision = next_revision(state.desired, state.observed, name)
        await self._changes.change(Change(who, RestartService(name, revision, zygote), why))
        while end is None:
            await self._signal.next_step()
            end = how_it_ended(state.desired, state.observed, name, revision)
        if end.trouble is not None:
            trouble = str(end.trouble)
            raise StartFailed(
                trouble,
                remedy="mend that, and restart again; the old replica serves on",
                service=service_of(name),
                last_lines=state.output.of_set(name, trouble),
            )
        return end.replicas

    @asynccontextmanager
    async def _in_turn(self, services: list[ServiceName], who: str) -> AsyncGenerator[None]:
        order = object()
        self._asked[order] = services[0] if len(services) == 1 else "", who
        try:
            async with self._turn:
                yield
        finally:
            del self._asked[order]

    async def _replace(
        self,
        service: ServiceName,
        fresh: dict[str, tuple[LoadedRelease, ZygoteClient]],
        who: str,
        why: str,
        *,
        before: list[str],
    ) -> int:
        """One service's replicas; how many. before: services that were restarted already."""
        count = 0
        for name in self._state.desired.sets_of(service):
            found = fresh.get(self._state.desired.sets[name].release)
            try:
                count += await self.restart_set(name, who, why, found[1].name if found is not None else "")
            except StartFailed as error:
                told = f"{service}: {error.message}" if before else error.message
                more = f"; {', '.join(before)} had been restarted before it" if before else ""
                raise StartFailed(
                    told + more, remedy=error.remedy, service=error.service, last_lines=error.last_lines
                ) from None
        return count

    async def _fresh(
        self, services: list[ServiceName], environment: Environment | None, *, packages: bool
    ) -> dict[str, tuple[LoadedRelease, ZygoteClient]]:
        """By release, a zygote that has imported it just now. Raises ConfigError or PackagesChanged."""
        found: dict[str, tuple[LoadedRelease, ZygoteClient]] = {}
        async with self._preparing:
            try:
                for name in self._anew(services, environment):
                    loaded = self._state.releases.by_name[name]
                    found[name] = loaded, await self._load(loaded, environment, packages=packages)
                for name, (loaded, _) in found.items():
                    if self._state.releases.by_name.get(name) is not loaded:
                        raise ConfigError(
                            f"release {name} has been replaced meanwhile", remedy="see `fissile status`, and ask again"
                        )
            except BaseException:
                for _, zygote in found.values():
                    await self._loader.close_zygote(zygote)
                raise
        return found

    def _anew(self, services: list[ServiceName], environment: Environment | None) -> list[str]:
        """The releases that have to be imported again: a program reads its files itself when it starts.

        None where there is no copy of the code: its folder may hold other code by now. Raises ConfigError where another
        environment is wanted all the same.
        """
        state = self._state
        if not self._state.detached:
            if environment is not None:
                raise ConfigError(
                    "what runs in the foreground has the environment that it was started with",
                    remedy="stop it with Ctrl-C, and start it in the new one; or use `fissile up`",
                )
            return []
        return imported_anew(state.desired, services, state.sets.programs(), moves=environment is not None)

    async def _load(self, loaded: LoadedRelease, environment: Environment | None, *, packages: bool) -> ZygoteClient:
        settled = loaded.zygote.application.load.settled
        try:
            found = await self._loader.load(
                loaded.settings,
                loaded.release.topology,
                self._listeners.kept,
                settled=settled,
                environment=environment,
            )
        except ConfigError as error:
            if settled is None:
                raise
            raise explained(error, settled.installed, await installed_now(self._state, self._loader)) from None
        try:
            missing = found.imported.missing
            if settled is not None and not packages:
                check(loaded.release.name, missing, settled.installed, "it is restarted with those of now")
        except BaseException:
            await self._loader.give_up(found)
            raise
        return found.zygote

    async def _settle(self, before: dict[str, ZygoteClient]) -> None:
        """A zygote by which nothing came up is no better than the one before."""
        used = {want.zygote for want in self._state.desired.sets.values()}
        for name, zygote in before.items():
            loaded = self._state.releases.by_name.get(name)
            if loaded is None:
                continue
            if loaded.zygote.name in used:
                self._loader.environment = loaded.zygote.application.environment
            elif zygote.name in self._state.releases.zygotes:
                loaded.zygote = zygote
        await self._loader.tidy()

    def _told(
        self,
        done: dict[ServiceName, int],
        left: list[ServiceName],
        fresh: dict[str, tuple[LoadedRelease, ZygoteClient]],
    ) -> Restarted:
        state = self._state
        others = behind(
            state.desired,
            [service for service in state.sets.services() if service not in done],
            state.sets.programs(),
            {name: _read(state.releases.zygote_of(name)) for name in state.desired.sets},
            {release: _read(zygote) for release, (_, zygote) in fresh.items()},
        )
        read = {path: None for _, zygote in fresh.values() for path in zygote.application.load.files}
        given = [
            str(state.releases.zygote_of(name).application.environment)
            for one in done
            for name in state.desired.sets_of(one)
        ]
        shown = given[0] if given and self._state.detached else ""
        warnings = tuple(
            dict.fromkeys(one for _, zygote in fresh.values() for one in zygote.application.loaded.warnings)
        )
        return Restarted(sum(done.values()), done, tuple(read), shown, tuple(left), tuple(others), warnings)


def _read(zygote: ZygoteClient) -> Read:
    return Read(zygote.application.load.files, zygote.application.environment.block)
