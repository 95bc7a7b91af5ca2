"""The composition root: the one module that knows every room, and puts an application on its feet.

`run` serves in the foreground until a signal comes. A monolith needs none of the platform: its sockets
and components live in this process. Any other topology is a supervisor and its replicas.
"""

import asyncio
import ctypes
import gc
import hmac
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import uvloop

from fissile.api.server import ApiServer
from fissile.component.graph import Graph
from fissile.component.topology import BUILT_IN, MONOLITH_SERVICE, Topology, check_name, topology_for
from fissile.errors import ConfigError, FissileError
from fissile.machine import process_marks, process_secrets
from fissile.machine.leftover_processes import Survivor, left_anywhere
from fissile.machine.logfiles import LogFiles, collect
from fissile.machine.procfs import born
from fissile.machine.reaper import keep_reaping
from fissile.machine.sockets import listen_public, listen_tcp, url
from fissile.names import ServiceName
from fissile.orchestrator.acts import ACTOR
from fissile.releases.fingerprint import outside, release_of
from fissile.releases.installed import installed, working_folder
from fissile.releases.release import Release
from fissile.rpc.access import token_digest
from fissile.runtime.control import DRAIN_SECONDS_MAX
from fissile.runtime.forked import disown
from fissile.runtime.loading import enter_folder, inside, load_application
from fissile.runtime.monolith import Monolith
from fissile.runtime.named import as_named
from fissile.runtime.places import authors
from fissile.runtime.process import YOUNG_OBJECTS
from fissile.runtime.unhandled import let_info_pass, show_unhandled
from fissile.settings.load import load, resolve
from fissile.settings.schema import LimitSettings, Settings
from fissile.supervisor import report
from fissile.supervisor.endpoints import LOGS, Endpoints, ServiceEndpoints, state_of
from fissile.supervisor.service import TOKEN_BYTES
from fissile.supervisor.state_folder import StateFolder, unusable
from fissile.supervisor.supervisor import Supervisor

MONOLITH = "monolith"
NOT_HELD = "one process serves all components: `limits`, `isolate` and `user` have no effect here; use `fissile up`"
M_ARENA_MAX = -8
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# How often it is looked what a start waits for.
LOOK_SECONDS = 0.1
# How often it is shown.
TICK_SECONDS = 0.2
# Until the files of processes that were killed are closed.
CLOSED_SECONDS_MAX = 1.0

T = TypeVar("T")
Ready = Callable[[Endpoints], None]
Say = Callable[[str], None]


class GivenUp(FissileError):
    """Somebody wanted it to end before it was done."""


class Waits(Protocol):
    """Shows people what is waited for."""

    def for_(self, text: str) -> None:
        """For this, from now on."""
        ...

    def tick(self) -> None:
        """Time has passed."""
        ...

    def ending(self, *, at_once: bool) -> None:
        """It is given up. at_once: nothing is to be ended in order."""
        ...


class Project(msgspec.Struct, frozen=True, eq=False):
    """An application with its settings and the topology that was chosen."""

    settings: Settings
    graph: Graph
    topology: Topology


def placed(folder: Path, target: str) -> tuple[Path, str]:
    """The folder of an application, and "module:attribute" where that is to run, else "".

    The target may name the folder, or its fissile.toml, from the other one on: so it was before there was -C.
    """
    module, _, attribute = target.partition(":")
    is_module = attribute.isidentifier() and all(map(str.isidentifier, module.split(".")))
    return (folder, target) if is_module and not (folder / target).exists() else (folder / target, "")


def settings_of(folder: Path, target: str = "", profile: str | None = None) -> Settings:
    """The settings of a folder with fissile.toml; or of "module:attribute" in it. Raises ConfigError."""
    folder, app = placed(folder, target)
    return Settings(app=app, root=str(folder.resolve())) if app else load(folder, profile)


def open_project(folder: Path, target: str = "", *, topology: str | None = None, profile: str | None = None) -> Project:
    """Read the settings and import the application into this process. Raises ConfigError."""
    settings, graph, grouped = look_at(folder, target, topology=topology, profile=profile)
    if graph is None:
        raise ConfigError(f"{settings.file} names no application", remedy='add app = "module:attribute"')
    return Project(settings, graph, grouped)


def look_at(
    folder: Path, target: str = "", *, topology: str | None = None, profile: str | None = None, like: str = ""
) -> tuple[Settings, Graph | None, Topology]:
    """The same, also of a folder that has only services in other technologies: None then. Raises ConfigError.

    like: the topology where none is asked for; "", or one that is not there any more: that of the settings.
    """
    settings = settings_of(folder, target, profile)
    graph = None
    if settings.app:
        with inside(settings.root):
            graph = load_application(settings.app, Path(settings.root))
    settings = resolve(settings, graph)
    known = {*BUILT_IN, *settings.topologies}
    name = topology or (like if like in known else settings.topology)
    if graph is None:
        check_name(name, settings.topologies)
        return settings, None, Topology(name, {})
    return settings, graph, topology_for(graph, name, settings.topologies)


def release_here(settings: Settings, topology: str) -> Release:
    """The release that the folder of an application holds now; its code is imported into this process.

    Raises ConfigError.
    """
    with inside(settings.root):
        graph = load_application(settings.app, Path(settings.root)) if settings.app else None
    services: dict[ServiceName, tuple[str, ...]] = {}
    settings = resolve(settings, graph)
    if graph is not None:
        grouped = topology_for(graph, topology, settings.topologies).services
        services = {ServiceName(name): members for name, members in grouped.items()}
    alone: dict[ServiceName, tuple[str, ...]] = {
        ServiceName(name): () for name, one in settings.services.items() if one.foreign and name not in services
    }
    found = installed(settings.root, working_folder(), files=outside(Path(settings.root)))
    return release_of(settings, graph, topology, {**alone, **services}, found)


def release_from(document: object) -> Release:
    """A release as the API gives it. Raises ConfigError where another Fissile wrote it."""
    try:
        return msgspec.convert(document, Release)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"what runs was started by another version of Fissile: {error}", remedy="use that version, or start it anew"
        ) from None


def run(settings: Settings, topology: str, port: int | None, *, ready: Ready, say: Say, direct: bool = False) -> None:
    """Run an application in the foreground until it is told to stop.

    ready: called once all is up. say: for what people should know. direct: in one process, calls between components
    are plain calls; else they pass values, errors and context exactly as a wire would. Raises FissileError.
    """
    if topology == MONOLITH and settings.app and not any(one.foreign for one in settings.services.values()):
        uvloop.run(_run_monolith(settings, port, ready, say, copied=not direct))
    else:
        uvloop.run(_run_services(settings, topology, port, ready, say))


class StopSignals:
    """The first signal asks for an orderly end, the second for an end at once."""

    def __init__(self, say: Say) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._say = say
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        if not self.first.is_set():
            self.first.set()
            self._say("stopping; Ctrl-C again stops at once")
        else:
            self.second.set()


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Do the work, and give it up (None) when the event comes before its end."""
    doing = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not doing.done():
        doing.cancel()
        await asyncio.wait({doing})
    return None if doing.cancelled() else doing.result()


async def _run_services(
    settings: Settings,
    topology: str,
    port: int | None,
    ready: Ready,
    say: Say,
    *,
    detached: bool = False,
    fresh: bool = False,
    resume: bool = False,
    told: report.Report | None = None,
) -> None:
    """detached, fresh, resume: as of `Supervisor`. told: how the start goes."""
    signals = StopSignals(say)
    given_up = False
    enter_folder(settings.root)
    process_marks.take_off()
    process_secrets.take()
    process_secrets.close_to_others()
    adopts = process_marks.adopt_orphans()
    logs = LogFiles(state_of(_named(settings)) / LOGS) if detached else None
    supervisor = Supervisor(
        settings, topology, port=port, logs=logs, detached=detached, fresh=fresh, resume=resume, adopts=adopts
    )
    api = ApiServer(supervisor, signals.first.set, port=settings.machine.api_port)

    async def start() -> Endpoints:
        await supervisor.start()
        await api.start()
        return supervisor.endpoints()

    async def stop() -> None:
        supervisor.parts.publisher.announce_stop()
        await api.close()
        if not given_up:
            await supervisor.stop()
        elif told is not None:
            told.given_up(goes_on=await supervisor.give_up("nobody waits for it any more"))

    def answered() -> None:
        nonlocal given_up
        answer = told.answered() if told is not None else None
        if told is None or answer is None:
            return
        asyncio.get_running_loop().remove_reader(told.fd)
        if answer:
            told.close()
        else:
            given_up = True
            signals.first.set()

    async def tell() -> None:
        while told is not None and told.fd >= 0:
            told.waiting(supervisor.waits)
            await asyncio.sleep(LOOK_SECONDS)

    telling = asyncio.create_task(tell())
    if told is not None and told.fd >= 0:
        asyncio.get_running_loop().add_reader(told.fd, answered)
    reaping = asyncio.create_task(keep_reaping(supervisor.own_children)) if adopts else None
    try:
        endpoints = await _unless(signals.first, start())
        if endpoints is not None:
            ready(endpoints)
            _settle()
            await signals.first.wait()
    finally:
        telling.cancel()
        await _unless(signals.second, stop())  # given up half way, it kills what is left
        if reaping is not None:
            reaping.cancel()


def supervise(
    settings: Settings,
    topology: str,
    port: int | None,
    *,
    told: report.Report,
    say: Say,
    fresh: bool = False,
    resume: bool = False,
) -> None:
    """Be the supervisor of an application in the background, until told to stop; or the successor of a dead one.

    topology: "" is the one that runs already, or else that of the settings. fresh, resume: see `Supervisor`.
    Raises FissileError, and leaves alone what ran before.
    """
    _spare_memory()
    uvloop.run(
        _run_services(settings, topology, port, told.ready, say, detached=True, fresh=fresh, resume=resume, told=told)
    )


def _settle() -> None:
    """What the start has made stays: looking through it again and again would hold up whoever asks the API."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def _spare_memory() -> None:
    """One heap for all threads: they seldom run at the same time, and each heap of its own keeps what it freed.

    mallopt(3), of glibc; other systems do as they do.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def up(settings: Settings, options: list[str], waits: Waits) -> Endpoints:
    """Start a supervisor in the background and wait until all is up. options: of `fissile supervise`.

    Told to end by a signal meanwhile, it ends what it has begun, and raises GivenUp. Raises ConfigError or StartError
    with what keeps it from starting.
    """
    folder = state_of(_named(settings))
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        LogFiles(folder / LOGS)
        log = os.open(folder / LOGS / f"{ACTOR}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise unusable(folder, error) from None
    listener = report.Listener()
    command = [sys.executable, "-P", "-m", "fissile", "supervise", *options, "--ready-fd", str(listener.fd)]
    process: subprocess.Popen[bytes] | None = None

    def give_up(times: int) -> None:
        if times == 1:
            listener.give_up()
        elif process is not None:
            process.terminate()

    with stop_signals(give_up) as told:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fd],
                start_new_session=True,
            )
        finally:
            os.close(log)
            listener.passed_on()
        try:
            return _heard(listener, process, waits, told, folder / LOGS / f"{ACTOR}.log")
        except FissileError:
            collect(folder / LOGS)  # what was printed after the supervisor's last look
            raise
        finally:
            listener.close()


def _heard(
    listener: report.Listener, process: "subprocess.Popen[bytes]", waits: Waits, told: list[int], log: Path
) -> Endpoints:
    """What becomes of a start. told: the signals that have come."""
    goes_on, seen = False, 0

    def tick() -> None:
        nonlocal seen
        if len(told) != seen:
            seen = len(told)
            waits.ending(at_once=seen > 1)
        waits.tick()

    for message in listener.messages(TICK_SECONDS, tick):
        if isinstance(message, report.Waiting):
            if not told:
                waits.for_(message.text)
            tick()
        elif isinstance(message, report.AllUp):
            if not told:
                listener.take()
                return message.endpoints
        elif isinstance(message, report.Failed):
            process.wait()
            raise message.error()
        else:
            goes_on = message.goes_on
    code = process.wait()
    if told:
        raise GivenUp(
            "the start was given up: what ran before goes on, and `fissile up` takes it over"
            if goes_on
            else "the start was given up: nothing is left of it"
        )
    raise ConfigError(f"the supervisor ended with exit code {code} before all was up", remedy=f"see {log}")


@contextmanager
def stop_signals(received: Callable[[int], None]) -> Generator[list[int]]:
    """Within it, signals that would end this process are reported to `received` instead, with how many have come.

    Those that it was started to ignore stay ignored, as by nohup(1). Yields those that have come.
    """
    told: list[int] = []

    def tell(number: int, _frame: object) -> None:
        told.append(number)
        received(len(told))

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    taken = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in taken:
        signal.signal(number, tell)
    try:
        yield told
    finally:
        for number in taken:
            signal.signal(number, before[number])


def _named(settings: Settings) -> Path:
    """The application's folder as it was named."""
    return Path(settings.named or settings.root)


def down(root: Path, *, who: str, why: str) -> None:
    """Stop what a dead supervisor left in a folder. Raises ConfigError if there is nothing."""
    supervisor_of = Settings(app="", root=str(root.resolve()), named=str(as_named(root)))

    async def stop() -> None:
        supervisor = Supervisor(supervisor_of, "", logs=LogFiles(state_of(root) / LOGS), detached=True)
        await supervisor.start(adopt_only=True)
        await supervisor.parts.shutdown.mark_stopped(who=who, why=why)
        await supervisor.stop()

    uvloop.run(stop())


def clear(root: Path) -> tuple[int, list[Survivor]]:
    """End what is left of an application that nothing supervises any more; how many there were, and who lives on.

    Raises ConfigError where it runs.
    """
    state = StateFolder(as_named(root))
    if not root.is_dir() or not left_anywhere(state.mark().application):
        if state.path.is_dir():
            # What a process printed that was killed after the supervisor's last look.
            collect(state.path / LOGS, seconds_max=CLOSED_SECONDS_MAX)
        return 0, []
    state.open()
    try:
        return state.clear()
    finally:
        collect(state.path / LOGS, seconds_max=CLOSED_SECONDS_MAX)
        state.close()


async def _run_monolith(settings: Settings, port: int | None, ready: Ready, say: Say, *, copied: bool) -> None:
    show_unhandled()
    state = StateFolder(_named(settings))
    state.open()
    state.clear()
    state.clean()
    enter_folder(settings.root)
    process_marks.put_on(0, state.mark())
    sockets: list[socket.socket] = []
    try:
        os.environ.update(settings.service(MONOLITH_SERVICE).environment)
        graph = load_application(settings.app, Path(settings.root))
        let_info_pass()
        settings = resolve(settings, graph)
        if any(one.isolate or one.user or one.limits != LimitSettings() for one in settings.services.values()):
            say(NOT_HELD)
        setting = f"`port` under [services.{MONOLITH_SERVICE}]"
        gateway = listen_tcp(settings.service(MONOLITH_SERVICE).port, "the HTTP/JSON API", setting)
        sockets.append(gateway)
        public: dict[str, socket.socket] = {}
        # The page that people open is the last in start order: nobody else calls it.
        for component in reversed([c.name for c in graph.components.values() if c.http]):
            public[component] = listen_public(port, component)
            sockets.append(public[component])
            port = 0
        token = secrets.token_urlsafe(TOKEN_BYTES)
        digest = token_digest(token)
        monolith = Monolith(
            graph,
            config=settings.components,
            gateway=gateway,
            public=public,
            authorize=lambda given: hmac.compare_digest(token_digest(given), digest),
            timeout_seconds=settings.calls.timeout_seconds,
            copied=copied,
        )
        addresses = {component: url(sock) for component, sock in public.items()}
        service = ServiceEndpoints(url(gateway), addresses, tuple(graph.components), (os.getpid(),))
        endpoints = Endpoints(
            os.getpid(),
            graph.name,
            MONOLITH,
            token,
            {MONOLITH_SERVICE: service},
            born=born(os.getpid()),
            folder=state.mark().application,
        )
        await _serve(monolith, endpoints, state, sockets, ready, say)
    finally:
        for sock in sockets:
            sock.close()
        _, left = await asyncio.to_thread(state.clear)
        for one in left:
            say(f"{one}, which the application had started, cannot be ended")
        state.close()


async def _serve(
    monolith: Monolith,
    endpoints: Endpoints,
    state: StateFolder,
    sockets: list[socket.socket],
    ready: Ready,
    say: Say,
) -> None:
    signals = StopSignals(say)
    disown(sockets, fds=[state.lock])

    async def start() -> bool:
        try:
            await monolith.start()
        except FissileError as error:
            if error.__cause__ is not None:
                print(authors(error.__cause__), end="", file=sys.stderr, flush=True)
            raise
        return True

    async def stop() -> None:
        for failure in await monolith.stop(DRAIN_SECONDS_MAX):
            say(f"while stopping: {type(failure).__name__}: {failure}")

    try:
        if await _unless(signals.first, start()):
            state.publish(endpoints)
            ready(endpoints)
            await signals.first.wait()
    finally:
        await _unless(signals.second, stop())
