"""This process as the supervisor of an application, in the foreground or in the background."""

import asyncio
import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvloop

from fissile.api.server import ApiServer
from fissile.daemon.project import named_folder
from fissile.daemon.signals import StopSignals, run_unless
from fissile.machine import process_marks, process_secrets
from fissile.machine.logfiles import LogFiles
from fissile.machine.reaper import keep_reaping
from fissile.runtime.loading import enter_folder
from fissile.runtime.named import as_named
from fissile.runtime.process import YOUNG_OBJECTS
from fissile.settings.schema import Settings
from fissile.supervisor.endpoints import LOGS, Endpoints, state_of
from fissile.supervisor.report import Report
from fissile.supervisor.supervisor import Supervisor

# mallopt(3): the number of heaps.
M_ARENA_MAX = -8
# How often a start is asked what it waits for.
LOOK_SECONDS = 0.1

Ready = Callable[[Endpoints], None]
Log = Callable[[str], None]


async def run_services(
    settings: Settings,
    topology: str,
    port: int | None,
    ready: Ready,
    log: Log,
    *,
    detached: bool = False,
    fresh: bool = False,
    resume: bool = False,
    report: Report | None = None,
) -> None:
    """Supervise an application until a signal comes.

    detached: replicas outlive this process. fresh, resume: as of `Supervisor`. report: tells whoever waits how the
    start goes. Raises FissileError.
    """
    signals = StopSignals(log)
    enter_folder(settings.root)
    # A supervisor started from within an application must not be found, and ended, as a part of that.
    process_marks.take_off()
    # Secrets are taken from the environment before anything is started that would inherit them, and the memory that
    # holds them is closed to other processes of this user.
    process_secrets.take()
    process_secrets.close_to_others()
    adopts = process_marks.adopt_orphans()
    logs = LogFiles(state_of(named_folder(settings)) / LOGS) if detached else None
    supervisor = Supervisor(
        settings, topology, port=port, logs=logs, detached=detached, fresh=fresh, resume=resume, adopts=adopts
    )
    api = ApiServer(supervisor, signals.first.set, port=settings.machine.api_port)
    waiter = _Waiter(report, supervisor, signals)

    async def start() -> Endpoints:
        await supervisor.start()
        await api.start()
        return supervisor.endpoints()

    async def stop() -> None:
        # New orders are refused first: one that was accepted now would start replicas beside those that end.
        supervisor.parts.publisher.announce_stop()
        await api.close()
        if not waiter.gave_up:
            await supervisor.stop()
        elif report is not None:
            report.given_up(goes_on=await supervisor.give_up("nobody waits for it any more"))

    telling = asyncio.create_task(waiter.tell())
    waiter.listen()
    reaping = asyncio.create_task(keep_reaping(supervisor.own_children)) if adopts else None
    try:
        endpoints = await run_unless(signals.first, start())
        if endpoints is not None:
            ready(endpoints)
            _freeze()
            await signals.first.wait()
    finally:
        telling.cancel()
        await run_unless(signals.second, stop())  # cancelled half way, it kills what is left
        # Last: what the stop ends becomes a zombie of this process, which has to be reaped before it counts as gone.
        if reaping is not None:
            reaping.cancel()


class _Waiter:
    """Whoever waits for a start, by the `Report` to them. gave_up: they have left, so the start is undone."""

    def __init__(self, report: Report | None, supervisor: Supervisor, signals: StopSignals) -> None:
        self._report = report if report is not None and report.fd >= 0 else None
        self._supervisor = supervisor
        self._signals = signals
        self.gave_up = False

    def listen(self) -> None:
        """Hear from now on whether they took that all is up, or left."""
        if self._report is not None:
            asyncio.get_running_loop().add_reader(self._report.fd, self._answered)

    def _answered(self) -> None:
        answer = self._report.answered() if self._report is not None else None
        if self._report is None or answer is None:
            return
        # Before the descriptor is closed: its number may be another's right after.
        asyncio.get_running_loop().remove_reader(self._report.fd)
        if answer:
            self._report.close()
        else:
            self.gave_up = True
            self._signals.first.set()

    async def tell(self) -> None:
        """Tell them what the start waits for."""
        while self._report is not None and self._report.fd >= 0:
            self._report.waiting(self._supervisor.waits)
            await asyncio.sleep(LOOK_SECONDS)


def supervise(
    settings: Settings,
    topology: str,
    port: int | None,
    *,
    report: Report,
    log: Log,
    fresh: bool = False,
    resume: bool = False,
) -> None:
    """Be the supervisor of an application in the background, until told to stop; or the successor of a dead one.

    topology: "" is the one that runs already, or else that of the settings. fresh, resume: as of `Supervisor`.
    Raises FissileError, and leaves alone what ran before.
    """
    _share_heap()
    uvloop.run(
        run_services(
            settings, topology, port, report.ready, log, detached=True, fresh=fresh, resume=resume, report=report
        )
    )


def stop_orphaned(root: Path, *, who: str, why: str) -> None:
    """Stop what a dead supervisor left in a folder, in order. Raises ConfigError if there is nothing."""
    settings = Settings(app="", root=str(root.resolve()), named=str(as_named(root)))

    async def stop() -> None:
        supervisor = Supervisor(settings, "", logs=LogFiles(state_of(root) / LOGS), detached=True)
        await supervisor.start(adopt_only=True)
        await supervisor.parts.shutdown.mark_stopped(who=who, why=why)
        await supervisor.stop()

    uvloop.run(stop())


def _freeze() -> None:
    """Exempt what the start has made from garbage collection: it stays, and each look through it delays the API."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def _share_heap() -> None:
    """Give all threads one heap: they seldom run at the same time, and each heap of its own keeps what it freed.

    mallopt(3), of glibc; other systems do as they do.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
