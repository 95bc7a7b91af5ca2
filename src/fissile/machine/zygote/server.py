"""The zygote: a process that imports the application once and forks replicas of it on demand.

A fork costs a few milliseconds where an exec costs more than a hundred, and replicas share the memory of what
was imported. It has one thread and no event loop, so that a fork copies nothing half done.

It is its replicas' parent and keeps a copy of their listening sockets. So a supervisor may die: the
zygote remembers what there is, and tells the next one all of it. In the foreground, where nothing may
be left behind, it ends all replicas instead.

It knows nothing that one service alone may know: every replica of every service begins with its memory. Secrets pass
through it unread (see sealed), and what has to see all of them at once, the check of the application against its
settings, is done by a child that ends with that.

A spare waits for the next order: a child that is forked already and has its event loop. Most of what
a birth costs is paid before anybody waits for it, at the price of one small process per zygote.
"""

import asyncio
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from fissile.component.declaration import class_mark
from fissile.component.graph import Graph
from fissile.component.topology import Topology, check_name, topology_for
from fissile.errors import ConfigError, FissileError
from fissile.machine import mark, withheld
from fissile.machine import proctitle as title
from fissile.machine.confine import enter
from fissile.machine.environment import variables
from fissile.machine.peers import Complaints, Doorman
from fissile.machine.printing import flush_output, unfailing_output
from fissile.machine.procfs import descendants
from fissile.machine.remains import Ending, living
from fissile.machine.zygote import sealed
from fissile.machine.zygote.leftovers import Watch, sentences
from fissile.machine.zygote.protocol import (
    AckExit,
    AdoptChild,
    Begin,
    ChildExited,
    ChildRunning,
    Drop,
    Examined,
    Exec,
    Exited,
    Fork,
    Forked,
    ForkFailed,
    FromZygote,
    Hello,
    Import,
    Inventory,
    Keep,
    Kept,
    Listen,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Retire,
    Settled,
    TooLarge,
    ToZygote,
    clipped,
    receive,
    send,
)
from fissile.machine.zygote.reads import Reads
from fissile.machine.zygote.renewal import Renewal
from fissile.names import ServiceName
from fissile.releases.fingerprint import outside, release_of
from fissile.releases.installed import installed, working_folder
from fissile.releases.packages import Missing, differences
from fissile.releases.release import Release
from fissile.runtime import replica
from fissile.runtime.control import ReplicaSpec
from fissile.runtime.forked import keep_from_programs
from fissile.runtime.host import MIGRATE, configured
from fissile.runtime.loading import NOT_COPIED, enter_folder, import_from_copy, load_application, load_object
from fissile.runtime.places import edited, runs_from
from fissile.runtime.unhandled import show_unhandled
from fissile.settings.application import standing_alone
from fissile.settings.load import resolve
from fissile.settings.schema import Settings

ORPHAN_SECONDS_MAX = 12.0
REAP_SECONDS = 0.05
# A migration that was done while nobody supervised: nobody else knows, so it would be run again.
REMEMBER_SECONDS_MAX = 60.0
# Orders come in bursts: the next spare is made once it is quiet.
SPARE_AFTER_SECONDS = 0.1
# For a spare to take its order; then another child is forked instead.
SPARE_SECONDS_MAX = 1.0
TAKEN = b"+"
LISTEN_FDS_START = 3
EXIT_NOT_FOUND = 127
ORDER: Any = Fork | Exec


class ForkRequest(msgspec.Struct, frozen=True):
    """In the child: the descriptors that came with the order, its loop if it was a spare.

    What it is for is in the letter among them.
    """

    fds: list[int]
    loop: asyncio.AbstractEventLoop | None = None


class Noticed(msgspec.Struct, frozen=True):
    """What people should know of an import. left: what replicas that are forked from it share; live: of its code.

    read: where it has read variables that are in the replicas of one service alone.
    """

    left: tuple[str, ...] = ()
    live: str = ""
    read: dict[str, str] = {}


class PreforkedWorker(msgspec.Struct, frozen=True):
    """A child that waits for its order on the other end of a socket."""

    pid: int
    connection: socket.socket


class ChildRecord(msgspec.Struct):
    """A replica. status: how it ended, once it has, and when (monotonic seconds).

    pidfd: of one that another zygote forked, else -1.
    """

    pid: int
    spec: ReplicaSpec
    pidfd: int = -1
    ended: bool = False
    status: int | None = None
    ended_at: float = 0.0


class Zygote:
    """Serves orders until the supervisor is gone; with `keep`, until all its replicas are gone too.

    listener: where the next supervisor finds it.
    """

    def __init__(self, connection: socket.socket, listener: socket.socket | None = None) -> None:
        self._connection: socket.socket | None = connection
        self._listener = listener
        self._wards: dict[int, ChildRecord] = {}
        self._kept: dict[str, int] = {}
        self._spare: PreforkedWorker | None = None
        self._graph: Graph | None = None
        marked = mark.own()
        self._doorman = Doorman(marked.application if marked is not None else "", lambda: (os.getpid(),))
        self._complaints = Complaints(lambda text: print(text, file=sys.stderr, flush=True))
        self._keep = False
        # By what it began, and what came of it, for the next supervisor.
        self._letters: list[int] = []
        self._renewal = Renewal()
        self._spares = True
        self._poll = select.poll()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.signal(signal.SIGCHLD, _noticed)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def serve(self) -> ForkRequest | None:
        """Returns in a child with what it is for; in the zygote with None, at the end."""
        if self._connection is not None:
            self._poll.register(self._connection, select.POLLIN)
            self._tell(Hello())
        self._poll.register(self._wake_read, select.POLLIN)
        if self._listener is not None:
            self._poll.register(self._listener, select.POLLIN)
        while True:
            wants_spare = self._graph is not None and self._spare is None and self._spares
            seconds = SPARE_AFTER_SECONDS if wants_spare else self._remembers()
            ready = {fd for fd, _ in self._poll.poll(seconds * 1000 if seconds is not None else None)}
            if not ready and wants_spare and self._graph is not None:
                birth = self._make_spare(self._graph)
                if birth is not None:
                    return birth
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reap()
            self._bury_fosterlings(ready)
            listener = self._listener if self._listener is not None and self._listener.fileno() in ready else None
            # Orders first: at the other door anybody may stand, and as often as he likes.
            if self._connection is not None and self._connection.fileno() in ready:
                received = self._received()
                if received is not None:
                    birth = self._obey(*received)
                    if birth is not None:
                        return birth
            if listener is not None and listener is self._listener:
                self._meet(listener)
            if self._connection is None and not self._stays():
                return None

    def _received(self) -> tuple[ToZygote, list[int]] | None:
        """The supervisor's next order; if it is gone, None, and it is forgotten."""
        received = None
        try:
            received = receive(self._connection) if self._connection is not None else None
        except (TooLarge, msgspec.DecodeError) as error:
            # Whoever waits for an answer to it waits in vain; but all that lives here goes on.
            self._complaints.about(f"an order was passed over: {error}", time.monotonic())
            return None
        except OSError:
            pass
        if received is None:
            self._forsaken()
        return received

    def _forsaken(self) -> None:
        """The supervisor is gone."""
        if self._connection is not None:
            self._poll.unregister(self._connection)
            self._connection.close()
            self._connection = None

    def _stays(self) -> bool:
        """Whether there is something to wait for without a supervisor; if not, nothing is left behind."""
        anybody = any(not ward.ended for ward in self._wards.values())
        if self._keep and (anybody or self._remembers() is not None):
            return True
        self._spares = False
        self._drop_spare()
        if not self._keep:
            self._end_orphans()
        Ending(lambda: living(descendants(os.getpid()))).run(between=self._reap)
        return False

    def _remembers(self) -> float | None:
        """For how long it is to be known still that a migration is done, with nobody there to hear it (seconds)."""
        if self._connection is not None:
            return None
        done = [ward.ended_at for ward in self._wards.values() if ward.ended and ward.spec.migrate]
        left = max(done, default=-inf) + REMEMBER_SECONDS_MAX - time.monotonic()
        return left if left > 0.0 else None

    def _listen(self, listener: socket.socket) -> None:
        if self._listener is not None:
            self._poll.unregister(self._listener)
            self._listener.close()
        self._listener = listener
        self._poll.register(listener, select.POLLIN)

    def _meet(self, listener: socket.socket) -> None:
        """Another supervisor takes over: the folder's lock says that there is no other."""
        connection, _ = listener.accept()
        why = self._doorman.refusal(connection)
        if why:
            self._complaints.about(f"an order was refused: {why}", time.monotonic())
            connection.close()
            return
        self._forsaken()
        self._connection = connection
        self._poll.register(connection, select.POLLIN)
        self._tell(Hello())

    def _obey(self, message: ToZygote, fds: list[int]) -> ForkRequest | None:
        if isinstance(message, (Fork, Exec)):
            if isinstance(message, Fork) and self._spare is not None and self._use(self._spare, message, fds):
                return None
            return self._fork(message, fds)
        if isinstance(message, Begin):
            self._keep, self._letters = message.keep, fds
            self._tell(self._begin(message))
        elif isinstance(message, Import):
            import_all(message.modules, self._renewal)
            self._drop_spare()  # the next one knows them
        elif isinstance(message, Keep):
            self._drop(message.name)
            (self._kept[message.name],) = fds
        elif isinstance(message, Listen):
            (fd,) = fds
            self._listen(socket.socket(fileno=fd))
        elif isinstance(message, Drop):
            self._drop(message.name)
        elif isinstance(message, Retire):
            self._spares = False
            self._drop_spare()
        elif isinstance(message, AckExit):
            ward = self._wards.get(message.pid)
            if ward is not None and ward.ended:
                del self._wards[message.pid]
        elif isinstance(message, Ping):
            self._tell(Pong(message.number))
        elif isinstance(message, AdoptChild):
            (pidfd,) = fds
            self._wards[message.pid] = ChildRecord(message.pid, message.spec, pidfd)
            self._poll.register(pidfd, select.POLLIN)
        else:
            self._introduce()
        return None

    def _begin(self, order: Begin) -> Examined | LoadFailed:
        try:
            graph, noticed = load(order, self._renewal)
            trouble = self._examine(graph, noticed)
        except FissileError as error:
            return LoadFailed(clipped(str(error)))
        if trouble:
            return LoadFailed(trouble)
        if graph is not None:
            warm(graph)
        self._graph = graph
        return Examined()

    def _examine(self, graph: Graph | None, noticed: Noticed) -> str:
        """Have a child check the application; why that could not be done, or ""."""
        flush_output()
        try:
            pid = os.fork()
        except OSError as error:
            return f"the system refuses a process: {error}"
        if pid == 0:
            _examiner(graph, noticed, *self._letters)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return f"the check of the application ended with exit code {code}: see the log of the zygote" if code else ""

    def _drop(self, name: str) -> None:
        fd = self._kept.pop(name, None)
        if fd is not None:
            os.close(fd)

    def _introduce(self) -> None:
        """Tell a new supervisor all that it has to know."""
        for ward in list(self._wards.values()):
            if ward.ended:
                self._tell(ChildExited(ward.pid, ward.spec, ward.status))
            else:
                handle = _pidfd(ward.pid)
                self._tell(ChildRunning(ward.pid, ward.spec, bool(handle)), handle)
                _close_all(handle)
        for name, fd in self._kept.items():
            self._tell(Kept(name), [fd])
        self._tell(Inventory(os.getpid()), self._letters)

    def _tell(self, message: FromZygote, fds: list[int] | None = None) -> bool:
        """Say something to the supervisor; whether there was one to hear it."""
        if self._connection is None:
            return False
        try:
            send(self._connection, message, fds)
        except OSError:
            return False  # it is gone: poll says so next
        except TooLarge as error:
            self._complaints.about(f"a report was not sent: {error}", time.monotonic())
            return False
        return True

    def _make_spare(self, graph: Graph) -> ForkRequest | None:
        """Returns in the spare, once it is wanted."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        flush_output()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            self._spares = False  # the machine is full, and who orders a replica hears of it
            return None
        if pid:
            theirs.close()
            self._spare = PreforkedWorker(pid, ours)
            return None
        ours.close()
        self._leave()
        loop = replica.rehearse(graph)
        received = receive(theirs)
        if received is None:
            os._exit(0)
        theirs.send(TAKEN)
        theirs.close()
        order, fds = received
        assert isinstance(order, Fork)
        return ForkRequest(fds, loop)

    def _use(self, spare: PreforkedWorker, order: Fork, fds: list[int]) -> bool:
        """Give the order to the spare; whether it has taken it: one that hangs does not, nor one that is gone."""
        self._spare = None
        try:
            spare.connection.settimeout(SPARE_SECONDS_MAX)
            send(spare.connection, order, fds)
            taken = spare.connection.recv(len(TAKEN)) == TAKEN
        except OSError:
            taken = False
        finally:
            spare.connection.close()
        if not taken:
            with suppress(ProcessLookupError):
                os.kill(spare.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
            return False
        self._born(spare.pid, order, fds)
        return True

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.connection.close()  # it ends by that
            self._spare = None

    def _born(self, pid: int, order: Fork | Exec, fds: list[int]) -> None:
        self._wards[pid] = ChildRecord(pid, order.spec)
        _close_all(fds)
        handle = _pidfd(pid)
        self._tell(Forked(order.order, pid, bool(handle)), handle)
        _close_all(handle)

    def _fork(self, order: Fork | Exec, fds: list[int]) -> ForkRequest | None:
        flush_output()
        try:
            pid = os.fork()
        except OSError as error:
            _close_all(fds)
            self._tell(ForkFailed(order.order, str(error)))
            return None
        if pid == 0:
            self._leave()
            return ForkRequest(fds)
        self._born(pid, order, fds)
        return None

    def _leave(self) -> None:
        """In the child: let go of all that is the zygote's own, other services' sockets above all."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _close_all([self._wake_read, self._wake_write, *self._kept.values(), *self._letters])
        _close_all([ward.pidfd for ward in self._wards.values() if ward.pidfd >= 0])
        for sock in (self._connection, self._listener):
            if sock is not None:
                sock.close()
        withheld.close_to_others(closed=False)  # debuggers of the application may look
        self._drop_spare()  # our copy of its connection
        self._renewal.renew()
        self._wards.clear()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._spare is not None and pid == self._spare.pid:
                self._drop_spare()
            elif pid in self._wards:
                self._bury(self._wards[pid], os.waitstatus_to_exitcode(status))

    def _bury_fosterlings(self, ready: set[int]) -> None:
        for ward in [ward for ward in self._wards.values() if ward.pidfd in ready]:
            self._poll.unregister(ward.pidfd)
            os.close(ward.pidfd)
            ward.pidfd = -1
            self._bury(ward, None)

    def _bury(self, ward: ChildRecord, status: int | None) -> None:
        """Report an end, and remember it until a supervisor has noted it: this one may be dying."""
        ward.ended, ward.status, ward.ended_at = True, status, time.monotonic()
        self._tell(Exited(ward.pid, status))

    def _end_orphans(self) -> None:
        """The supervisor is gone for good: end all replicas, gently first."""
        limit = time.monotonic() + ORPHAN_SECONDS_MAX
        self._signal_all(signal.SIGTERM)
        while self._living() and time.monotonic() < limit:
            time.sleep(REAP_SECONDS)
            self._reap()
        self._signal_all(signal.SIGKILL)
        self._reap()

    def _living(self) -> list[ChildRecord]:
        return [ward for ward in self._wards.values() if not ward.ended]

    def _signal_all(self, number: signal.Signals) -> None:
        for ward in self._living():  # not reaped yet, so the numbers are still theirs
            os.kill(ward.pid, number)


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


def load(order: Begin, renewal: Renewal) -> tuple[Graph | None, Noticed]:
    """Import the application, if there is one; and what people should know of it. Raises ConfigError."""
    root = Path(order.root)
    graph: Graph | None = None
    watch = Watch()
    if order.source:
        runs_from(order.root, order.source)
        import_from_copy(Path(order.source), root)
    enter_folder(root / order.folder)
    os.environ.update(order.environment)
    reads = Reads(name for name in order.own if name not in os.environ)
    if order.folder:
        # Imported here once, its replicas are forks that share its memory. Several could get in each other's way.
        with renewal.watching():
            load_object(order.target, root / order.folder)
    elif order.target:
        with renewal.watching(), reads.watching():
            graph = load_application(order.target, root)
    return graph, Noticed(tuple(sentences(watch.left())), _live_warning(order), reads.found)


def _examiner(graph: Graph | None, noticed: Noticed, order: int, answer: int) -> NoReturn:
    """In a child of its own: read one letter, write the other, and end: other services' secrets end with it."""
    code = 1
    try:
        try:
            found = examine(sealed.read(order, Load), graph, noticed)
        except FissileError as error:
            found = LoadFailed(str(error))
        sealed.write(answer, found)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        flush_output()
        os._exit(code)


def examine(order: Load, graph: Graph | None, noticed: Noticed) -> Loaded:
    """Check an application against all its settings, variables included. Raises ConfigError."""
    settings = order.settings
    services: dict[ServiceName, tuple[str, ...]] = {}
    check_name(order.topology, settings.topologies)
    settings = resolve(settings, graph, order.environment.components())
    if graph is not None:
        topology = topology_for(graph, order.topology, settings.topologies)
        _check_config(graph, settings)
        _check_foreign(graph, topology, settings)
        services = {ServiceName(name): members for name, members in topology.services.items()}
    # A database has to be there before those who use it.
    services = {**{ServiceName(name): () for name in standing_alone(settings, graph)}, **services}
    _check_folders(settings, services)
    forks = any(not one.spawn and not one.command for one in map(settings.service, services))
    found = installed(
        settings.root, order.source or settings.root, working_folder(), files=outside(Path(settings.root))
    )
    release = release_of(settings, graph, order.topology, services, found, order.forced)
    missing: tuple[Missing, ...] = ()
    if order.settled is not None:
        missing = differences(order.settled.installed, found)
        release, found = _settled(order.settled, release), order.settled.installed
    components = list(graph.components.values()) if graph is not None else []
    return Loaded(
        graph.name if graph is not None else Path(settings.root).name,
        services,
        {c.name: tuple(r.target for r in c.references) for c in components},
        tuple(c.name for c in components if c.http),
        settings.components,
        release,
        tuple(c.name for c in components if not c.foreign and callable(getattr(c.cls, MIGRATE, None))),
        {c.name: lost for c in components if (mark := class_mark(c.cls)) and (lost := mark.volatile_state)},
        tuple(filter(None, (*(noticed.left if forks else ()), noticed.live, *_unset(noticed, settings, services)))),
        found,
        missing,
    )


def _settled(known: Settled, found: Release) -> Release:
    """The release that this is, if it is still called in the same way. Raises ConfigError."""
    if (found.services, found.contracts) == (known.release.services, known.release.contracts):
        return known.release
    raise ConfigError(
        f"release {known.release.name} has other components or methods when it is imported now: they depend on its "
        "environment or on packages",
        remedy="`fissile deploy` makes a new release of it",
    )


def _live_warning(order: Begin) -> str:
    """What is imported from the folder that people edit all the same."""
    if not order.source:
        return ""
    source, copy = Path(order.source), Path(order.root)
    live: list[str] = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        own = file.startswith(f"{source}/") and not file.startswith(f"{copy}/")
        if own and not any(part in NOT_COPIED or part.startswith(".") for part in Path(file).relative_to(source).parts):
            live.append(name)
    if not live:
        return ""
    return f"{', '.join(sorted(live)[:5])} is imported from {source} itself: what is edited there is in no release"


def _check_foreign(graph: Graph, topology: Topology, settings: Settings) -> None:
    """Every component has somebody who implements it."""
    mistakes: list[str] = []
    for service, components in topology.services.items():
        one = settings.service(service)
        missing = [name for name in components if graph.components[name].foreign]
        if missing and not one.command:
            mistakes.append(
                f"{', '.join(missing)} is implemented by no class: name its program with "
                f'command = "..." under [services.{service}]'
            )
        elif one.guest:
            mistakes.append(f"[services.{service}] has {one.guest}, but {service} consists of components: use command")
        elif one.command and any(graph.components[name].http for name in components):
            mistakes.append(f"[services.{service}] has a command, but a component with http(): leave it in Python")
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def _unset(noticed: Noticed, settings: Settings, services: Iterable[str]) -> Iterator[str]:
    """Variables of services that the import has asked for, and could not get."""
    for name, place in noticed.read.items():
        held = [service for service in services if name in settings.service(service).environment]
        forked = [service for service in held if not settings.service(service).spawn]
        if forked:
            yield (
                f"{name} is in `environment` of {' and '.join(forked)} alone, but it is read while the application is "
                f"imported, once for all services ({edited(place)}): read it in start(), or say spawn = true"
            )


def _check_folders(settings: Settings, services: Iterable[str]) -> None:
    """Every service has a folder to run in."""
    missing = [
        f"[services.{name}] runs in {settings.service(name).folder!r}, but there is no such folder in {settings.root}"
        for name in services
        if not Path(settings.root, settings.service(name).folder).is_dir()
    ]
    if missing:
        raise ConfigError("\n".join(missing), remedy="mend `folder`, or make it")


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


def warm(graph: Graph) -> None:
    """Do what every replica does first, and take what exists out of the garbage collector's sight.

    Frozen objects are never visited again, so their pages stay shared with every replica.
    """
    replica.rehearse(graph).close()
    gc.collect()
    gc.freeze()


def import_all(modules: Iterable[str], renewal: Renewal) -> None:
    """Import modules that replicas were seen to import. One that cannot be is left to them."""
    with renewal.watching():
        for name in modules:
            with suppress(Exception):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


def live(birth: ForkRequest) -> int:
    """In the child: be the replica."""
    os.setsid()
    letter, out, err, *listening = birth.fds
    os.dup2(out, 1)
    os.dup2(err, 2)
    order: Fork | Exec = sealed.read(letter, ORDER)
    _close_all([letter, out, err])
    marked = mark.become(order.spec.set, order.spec.serial)
    enter(order.confinement, order.spec.service)
    if isinstance(order, Exec):
        return execute(order, listening, marked)
    os.environ.update(order.environment | marked)
    title.become(f"{order.spec.service}.{'migrations' if order.spec.migrate else order.spec.slot}")
    gc.enable()
    sockets = [socket.socket(fileno=fd) for fd in listening]
    return replica.run(order.spec, sockets, order.control_address, order.control_token, birth.loop)


def execute(order: Exec, listening: list[int], marked: dict[str, str]) -> int:
    """In the child: become another program. Returns only when that cannot be. marked: more of its environment."""
    first = LISTEN_FDS_START
    # Out of the way first: a source may lie where a target is to be.
    parked = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, first + len(listening)) for fd in listening]
    for number, fd in enumerate(parked):
        os.dup2(fd, first + number)
    environment = variables(order.raw) | order.environment | marked
    if listening:
        environment |= {"LISTEN_FDS": str(len(listening)), "LISTEN_PID": str(os.getpid())}
    program = order.arguments[0]
    try:
        os.chdir(order.folder)
        os.execvpe(program, list(order.arguments), environment)
    except OSError as error:
        print(f"{program} cannot be run: {error.strerror}", file=sys.stderr, flush=True)
        return EXIT_NOT_FOUND


def main() -> int:
    """The program. Its arguments: the inherited socket to the supervisor, and where the next one comes (-1: none)."""
    gc.disable()  # while importing it would only make work; replicas turn it on again
    # Before the import: whatever takes hold of stdout or stderr there writes to those of its replica after the fork.
    unfailing_output()
    show_unhandled()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mark.adopt_orphans()
    withheld.close_to_others()
    connection, listener = (int(number) for number in sys.argv[1:3])
    keep_from_programs(*(fd for fd in (connection, listener) if fd >= 0))
    sock = None if listener < 0 else socket.socket(fileno=listener)
    if sock is not None:
        sock.listen()  # from now on, who connects is told that this process listens (SO_PEERCRED, unix(7))
    birth = Zygote(socket.socket(fileno=connection), sock).serve()
    if birth is not None:
        return live(birth)
    gc.unfreeze()  # at its end even what is in cycles deletes its temporary files
    return 0


if __name__ == "__main__":
    sys.exit(main())
