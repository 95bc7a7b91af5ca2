"""The process of one replica, from its start to its exit code.

It gets its sockets from whoever made it, reports to its supervisor, and serves on when there is none. It
ends in three ways only: drained, told to stop, or unable to start.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from pathlib import Path

import uvloop

from fissile.errors import FissileError
from fissile.runtime.asgi_replica import AsgiReplica
from fissile.runtime.control import IDLE_SECONDS_MAX, Drain, ReplicaSpec
from fissile.runtime.control_link import ControlLink
from fissile.runtime.forked import disown
from fissile.runtime.places import authors, edited, runs_from
from fissile.runtime.replica import ComponentReplica

EXIT_STOPPED = 0
EXIT_CANNOT_START = 3
# CPython looks at young objects whenever there are so many more than before: every few requests at once. With
# seven times as many a page takes 7 % less CPU; with more, the young ones leave the processor's caches.
YOUNG_OBJECTS = 5_000
YOUNG_OBJECTS_BY_DEFAULT = (700, 2000)


def run(
    spec: ReplicaSpec,
    sockets: list[socket.socket],
    control_address: str,
    control_token: str,
    loop: asyncio.AbstractEventLoop | None = None,
) -> int:
    """Serve until drained or stopped; the process's exit code.

    sockets: listening sockets: the service's rpc, its gateway, one per component in `spec.http`, and that at which
    it takes connections from other replicas.
    loop: what `prewarm` returned in this process.
    """
    young, *older = gc.get_threshold()
    if young in YOUNG_OBJECTS_BY_DEFAULT:  # else the application has an opinion of its own
        gc.set_threshold(YOUNG_OBJECTS, *older)
    runs_from(spec.root, spec.source)
    with asyncio.Runner(loop_factory=lambda: loop or uvloop.new_event_loop()) as runner:
        return runner.run(_serve(spec, sockets, control_address, control_token))


async def _serve(spec: ReplicaSpec, sockets: list[socket.socket], control_address: str, control_token: str) -> int:
    known = set(sys.modules)
    replica = AsgiReplica(spec, sockets) if spec.guest else ComponentReplica(spec, sockets)
    loop = asyncio.get_running_loop()
    # Before anything is imported: a SIGTERM during a long start is a request to stop, not a crash.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _leave, replica)
    # Also before: what the application forks from now on does not keep our listening sockets open.
    disown(sockets, folders=[os.path.dirname(control_address.removeprefix("unix:"))])
    try:
        if spec.migrate:
            assert isinstance(replica, ComponentReplica)
            return await _migrate(replica)
        if not await _started(replica):
            link = ControlLink(replica, control_address, control_token)
            # Reported, because its end would count as a failure otherwise.
            await asyncio.gather(replica.stop(), link.leaving())
            await link.close()
            return EXIT_STOPPED
    except FissileError as error:
        if error.__cause__ is not None:
            print(authors(error.__cause__), end="", file=sys.stderr)
        told = edited(str(error))
        print(f"cannot start: {told}", file=sys.stderr, flush=True)
        await ControlLink(replica, control_address, control_token).failed(told, error)
        return EXIT_CANNOT_START
    control = ControlLink(replica, control_address, control_token)
    control.imported = tuple(name for name in sys.modules if name not in known and _is_common(name, spec))
    control.start()
    await replica.stop_requested.wait()
    # At once: another replica is started while this one drains.
    await asyncio.gather(replica.stop(), control.leaving())
    await control.close()
    return EXIT_STOPPED


async def _started(replica: ComponentReplica | AsgiReplica) -> bool:
    """Start it; False if it was told to end before that was done."""
    starting, ended = asyncio.ensure_future(replica.start()), asyncio.ensure_future(replica.stop_requested.wait())
    await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        # Cancelled and waited for: `stop` must not run beside a start that is under way.
        starting.cancel()
        await asyncio.wait({starting})
    ended.cancel()
    if starting.cancelled():
        return False
    starting.result()
    return True


def _is_common(module: str, spec: ReplicaSpec) -> bool:
    """Whether a module may be imported ahead for every service; one of a foreign application may have read secrets."""
    file = getattr(sys.modules[module], "__file__", None) or ""
    return not (spec.guest and Path(file).is_relative_to(spec.root))


def _leave(replica: ComponentReplica | AsgiReplica) -> None:
    """Drain because of a signal, as a restart does: another replica takes over."""
    # A second signal must not lift the limits of an order that came meanwhile.
    if not replica.stop_requested.is_set():
        replica.request_stop(Drain(replica.spec.drain_seconds_max, IDLE_SECONDS_MAX))


async def _migrate(replica: ComponentReplica) -> int:
    """Run its migrations. A SIGTERM cancels them, so that the author's `finally` blocks still run."""
    work = asyncio.ensure_future(replica.migrate())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        print("the migration was given up", file=sys.stderr, flush=True)
        return EXIT_CANNOT_START
    return EXIT_STOPPED
