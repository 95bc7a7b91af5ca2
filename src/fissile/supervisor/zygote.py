"""The zygote: a process that imports the application once and forks replicas of it on demand.

A fork costs a few milliseconds where an exec costs hundreds, and replicas share the memory of what
was imported. It has one thread and no event loop, so that a fork copies nothing half done. It is its
replicas' parent: it tells the supervisor how each one ended, and when the supervisor is gone it ends
them all, because a foreground run must leave nothing behind.

A spare waits for the next order: a child that is forked already and has its event loop. Most of what
a birth costs is paid before anybody waits for it, at the price of one small process per zygote.
"""

import asyncio
import gc
import hashlib
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from fissile.component.graph import Graph
from fissile.component.topology import Topology, topology_for
from fissile.errors import ConfigError, FissileError
from fissile.runtime import replica
from fissile.runtime.host import configured
from fissile.runtime.loading import load_application
from fissile.runtime.settings import Settings, resolve
from fissile.supervisor import title
from fissile.supervisor.messages import (
    Exited,
    Fork,
    Forked,
    ForkFailed,
    Load,
    Loaded,
    LoadFailed,
    ToZygote,
    receive,
    send,
)

ORPHAN_SECONDS_MAX = 12.0
REAP_SECONDS = 0.05
# Orders come in bursts: the next spare is made once it is quiet.
SPARE_AFTER_SECONDS = 0.1
LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"


class Birth(msgspec.Struct, frozen=True):
    """In the child: what it is for, the descriptors that came with the order, its loop if it was a spare."""

    order: Fork
    fds: list[int]
    loop: asyncio.AbstractEventLoop | None = None


class Spare(msgspec.Struct, frozen=True):
    """A child that waits for its order on the other end of a socket."""

    pid: int
    connection: socket.socket


class Zygote:
    """Serves orders until the supervisor is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._children: set[int] = set()
        self._spare: Spare | None = None
        self._graph: Graph | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.signal(signal.SIGCHLD, _noticed)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def serve(self) -> Birth | None:
        """Returns in a child with what it is for; in the zygote with None, at the end."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            wants_spare = self._graph is not None and self._spare is None
            ready = {fd for fd, _ in poll.poll(SPARE_AFTER_SECONDS * 1000 if wants_spare else None)}
            if not ready and self._graph is not None:
                birth = self._make_spare(self._graph)
                if birth is not None:
                    return birth
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reap(report=True)
            if self._connection.fileno() in ready:
                received = receive(self._connection)
                if received is None:
                    self._drop_spare()
                    self._end_orphans()
                    return None
                birth = self._obey(*received)
                if birth is not None:
                    return birth

    def _obey(self, message: ToZygote, fds: list[int]) -> Birth | None:
        if isinstance(message, Load):
            answer, self._graph = load(message)
            send(self._connection, answer)
            return None
        if self._spare is not None and self._use(self._spare, message, fds):
            return None
        return self._fork(message, fds)

    def _make_spare(self, graph: Graph) -> Birth | None:
        """Returns in the spare, once it is wanted."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            self._graph = None  # the machine is full: no more spares, and who orders a replica hears of it
            return None
        if pid:
            theirs.close()
            self._spare = Spare(pid, ours)
            return None
        ours.close()
        self._leave()
        loop = replica.rehearse(graph)
        received = receive(theirs)
        theirs.close()
        if received is None:
            os._exit(0)
        order, fds = received
        assert isinstance(order, Fork)
        return Birth(order, fds, loop)

    def _use(self, spare: Spare, order: Fork, fds: list[int]) -> bool:
        """Give the order to the spare; whether it was still there to take it."""
        self._spare = None
        try:
            send(spare.connection, order, fds)
        except OSError:
            return False
        finally:
            spare.connection.close()
        self._born(spare.pid, order, fds)
        return True

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.connection.close()  # it ends by that
            self._spare = None

    def _born(self, pid: int, order: Fork, fds: list[int]) -> None:
        self._children.add(pid)
        _close_all(fds)
        handle = _pidfd(pid)
        send(self._connection, Forked(order.order, pid, bool(handle)), handle)
        _close_all(handle)

    def _fork(self, order: Fork, fds: list[int]) -> Birth | None:
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            _close_all(fds)
            send(self._connection, ForkFailed(order.order, str(error)))
            return None
        if pid == 0:
            self._leave()
            return Birth(order, fds)
        self._born(pid, order, fds)
        return None

    def _leave(self) -> None:
        """In the child: let go of all that is the zygote's own."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _close_all([self._wake_read, self._wake_write])
        self._connection.close()
        self._drop_spare()  # our copy of its connection

    def _reap(self, *, report: bool) -> None:
        while self._children or self._spare is not None:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._spare is not None and pid == self._spare.pid:
                self._drop_spare()
            elif pid in self._children:
                self._children.discard(pid)
                if report:
                    try:
                        send(self._connection, Exited(pid, os.waitstatus_to_exitcode(status)))
                    except OSError:
                        return  # the supervisor is gone: poll says so next

    def _end_orphans(self) -> None:
        """The supervisor is gone: end all replicas, gently first."""
        limit = time.monotonic() + ORPHAN_SECONDS_MAX
        self._signal_all(signal.SIGTERM)
        while self._children and time.monotonic() < limit:
            time.sleep(REAP_SECONDS)
            self._reap(report=False)
        self._signal_all(signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._children:  # not reaped yet, so the numbers are still theirs
            os.kill(pid, number)


def _noticed(_number: int, _frame: Any) -> None:
    """A handler must exist for the wake-up descriptor to be written."""


def _pidfd(pid: int) -> list[int]:
    """A descriptor that means this process and never another; none where the system has no such thing."""
    try:
        return [os.pidfd_open(pid)]
    except (AttributeError, OSError):
        return []


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def load(order: Load) -> tuple[Loaded, Graph] | tuple[LoadFailed, None]:
    """Import, check, and make everything ready that every replica will need."""
    try:
        graph = load_application(order.settings.app, Path(order.settings.root))
        settings = resolve(order.settings, graph)
        topology = topology_for(graph, order.topology, settings.topologies)
        _check_config(graph, settings)
    except FissileError as error:
        return LoadFailed(str(error)), None
    warm(graph)
    loaded = Loaded(
        graph.name,
        topology.services,
        {c.name: tuple(r.target for r in c.references) for c in graph.components.values()},
        tuple(c.name for c in graph.components.values() if c.http),
        settings.components,
        builds(settings, topology),
        _thread_warning(),
    )
    return loaded, graph


def _check_config(graph: Graph, settings: Settings) -> None:
    """All components' tables now: a mistake must not wait for the replica that trips over it."""
    problems: list[str] = []
    for name, component in graph.components.items():
        try:
            configured(component, settings.components.get(name, {}))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def _thread_warning() -> str:
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if not others:
        return ""
    return f"importing the application starts threads ({', '.join(others)}): replicas are forked without them"


def warm(graph: Graph) -> None:
    """Do what every replica does first, and take what exists out of the garbage collector's sight.

    Frozen objects are never visited again, so their pages stay shared with every replica.
    """
    replica.rehearse(graph).close()
    # Its stream is descriptor 2, whatever that is in each replica.
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, force=True)
    gc.collect()
    gc.freeze()


def builds(settings: Settings, topology: Topology) -> dict[str, str]:
    """Per service, a hash of the code that was imported from the application's folder, and its config."""
    root = Path(settings.root)
    code = hashlib.sha256()
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(root) and "site-packages" not in file:
            code.update(f"{name}\0".encode())
            code.update(hashlib.sha256(Path(file).read_bytes()).digest())
    found: dict[str, str] = {}
    for service, components in topology.services.items():
        own = code.copy()
        config = {name: settings.components.get(name, {}) for name in components}
        own.update(msgspec.json.encode([components, config], order="sorted"))
        found[service] = own.hexdigest()[:12]
    return found


def live(birth: Birth) -> int:
    """In the child: be the replica."""
    order = birth.order
    os.setsid()
    out, err, *listening = birth.fds
    os.dup2(out, 1)
    os.dup2(err, 2)
    _close_all([out, err])
    title.become(f"{order.spec.service}.{order.spec.slot}")
    gc.enable()
    sockets = [socket.socket(fileno=fd) for fd in listening]
    return replica.run(order.spec, sockets, order.control_address, order.control_token, birth.loop)


def main() -> int:
    """The program. Its argument is the number of the inherited socket to the supervisor."""
    gc.disable()  # while importing it would only make work; replicas turn it on again
    sys.stdout.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    birth = Zygote(socket.socket(fileno=int(sys.argv[1]))).serve()
    return 0 if birth is None else live(birth)


if __name__ == "__main__":
    sys.exit(main())
