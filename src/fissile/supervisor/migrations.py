"""Migrations: once for each build of a service, in a process of its own, and never two at a time.

Such a process may outlive the supervisor that began it. The next one waits for it and asks its zygote how it ended,
so that what is done is not done again.
"""

import asyncio
import signal
import traceback
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from fissile.errors import FissileError, advises
from fissile.journal.journal import JournalError
from fissile.machine.zygote.client import ProcessHandle
from fissile.names import ServiceName
from fissile.orchestrator.migration_rules import label as label_of
from fissile.orchestrator.migration_rules import pending
from fissile.orchestrator.reasons import CannotStart, InternalError, MigrationEnded, MigrationTooSlow, Reason, Said
from fissile.runtime.control import ReplicaSpec
from fissile.supervisor.control_server import ReplicaSession
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.loaded_release import LoadedRelease

MIGRATION_SECONDS_MAX = 3600.0
# Of one that is given up, to end by itself.
GIVE_UP_SECONDS_MAX = 5.0
REMEMBERED_MAX = 2000
MIGRATED = "migrated"


# Makes a process that runs migrations. Raises ForkError or OSError.
Launch = Callable[
    [LoadedRelease, ServiceName, tuple[str, ...]], Coroutine[Any, Any, tuple[ProcessHandle, ReplicaSession]]
]


class Migrations:
    """Runs the migrations of one application. The journal keeps which are done."""

    def __init__(self, events: EventRecorder, launch: Launch) -> None:
        self._events = events
        self._launch = launch
        self._turn = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._strangers: list[tuple[ReplicaSpec, ProcessHandle, ReplicaSession]] = []

    def pending(self, loaded: LoadedRelease) -> dict[ServiceName, tuple[str, ...]]:
        """The components of a release whose migrations have not been run, by service."""
        return pending(loaded.spec, self.done())

    def adopt(self, spec: ReplicaSpec, child: ProcessHandle, session: ReplicaSession) -> None:
        """A dead supervisor began it: it is waited for before another begins."""
        self._strangers.append((spec, child, session))

    async def note(self, spec: ReplicaSpec, status: int | None) -> None:
        """It ended while nobody supervised. Raises JournalError."""
        if status == 0:
            await self._remember(label_of(spec.service, spec.build))

    async def run_all(self, loaded: LoadedRelease) -> Reason | None:
        """Run what is pending of a release, one after the other; why one failed, if one did."""
        for service, names in self.pending(loaded).items():
            trouble = await self.run(loaded, service, names)
            if trouble is not None:
                return trouble
        return None

    async def run(self, loaded: LoadedRelease, service: ServiceName, names: tuple[str, ...]) -> Reason | None:
        """Run the migrations of a service's components; why that failed, if it did. Cancelled, it ends the process."""
        label = label_of(service, loaded.release.builds[service].name)
        try:
            async with self._turn:
                trouble = await self._wait_for_strangers(label)
                if trouble is not None or label in self.done():
                    return trouble
                return await self._run(loaded, service, names, label)
        except JournalError as error:
            return Said(str(error))
        except Exception as error:
            # Whoever waits for this service would wait for ever.
            self._events.log(f"internal error:\n{traceback.format_exc()}")
            return InternalError(type(error).__name__, str(error))

    async def end(self, release: str) -> None:
        """End those of a release that a dead supervisor began: nobody wants it any more."""
        await _end([child for spec, child, _ in self._strangers if spec.release == release])

    async def _wait_for_strangers(self, label: str) -> Reason | None:
        """Why the one with this label failed, if it did."""
        trouble = None
        while self._strangers:
            spec, child, session = self._strangers[0]
            await asyncio.wait([child.exited])
            status = child.exited.result()
            await self.note(spec, status)
            # Nobody knows how one ended whose zygote is gone: it is run again.
            if status and label_of(spec.service, spec.build) == label:
                trouble = _trouble(spec.service, session, status)
            self._strangers.pop(0)
        return trouble

    async def _run(
        self, loaded: LoadedRelease, service: ServiceName, names: tuple[str, ...], label: str
    ) -> Reason | None:
        self._events.log(f"{service}: migrating {', '.join(names)}")
        launching = asyncio.ensure_future(self._launch(loaded, service, names))
        try:
            child, session = await asyncio.shield(launching)
        except asyncio.CancelledError:
            with suppress(FissileError, OSError):
                child, _ = await launching
                await _end([child])
            raise
        except (FissileError, OSError) as error:
            return CannotStart(str(error), advises(error))
        try:
            async with asyncio.timeout(MIGRATION_SECONDS_MAX):
                status = await asyncio.shield(child.exited)
        except TimeoutError:
            await _end([child])
            return MigrationTooSlow(service, MIGRATION_SECONDS_MAX)
        except asyncio.CancelledError:
            await _end([child])
            raise
        if status != 0:
            return _trouble(service, session, status)
        await self._remember(label)
        return None

    def done(self) -> list[str]:
        """The labels of those that have been run. Raises JournalError."""
        kept = self._events.journal.kept(MIGRATED)
        return msgspec.msgpack.decode(kept, type=list[str]) if kept is not None else []

    async def _remember(self, label: str) -> None:
        """That it is done. One at a time, so that each is written with those before it."""
        async with self._writing:
            done = self.done()
            if label not in done:
                kept = msgspec.msgpack.encode([*done, label][-REMEMBERED_MAX:])
                await asyncio.to_thread(self._events.journal.keep, MIGRATED, kept)


def _trouble(service: str, session: ReplicaSession, status: int | None) -> Reason:
    return session.trouble or MigrationEnded(service, status)


async def _end(children: Collection[ProcessHandle]) -> None:
    """Ask them to end, kill those that do not, and wait for it: no other may begin beside them."""
    for number, seconds_max in ((signal.SIGTERM, GIVE_UP_SECONDS_MAX), (signal.SIGKILL, None)):
        left = [child for child in children if not child.exited.done()]
        for child in left:
            child.signal(number)
        if left:
            await asyncio.wait([child.exited for child in left], timeout=seconds_max)
