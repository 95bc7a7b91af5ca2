"""The composition root: the one module that knows every room, and puts an application on its feet.

`run` serves in the foreground until a signal comes. A monolith needs none of the platform: its sockets
and components live in this process. Any other topology is a supervisor and its replicas.
"""

import asyncio
import hmac
import logging
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import uvloop

from fissile.component.graph import Graph
from fissile.component.topology import MONOLITH_SERVICE, Topology, topology_for
from fissile.rpc.access import token_digest
from fissile.runtime.control import DRAIN_SECONDS_MAX
from fissile.runtime.loading import load_application
from fissile.runtime.monolith import Monolith
from fissile.runtime.settings import Settings, load, resolve
from fissile.supervisor.desk import Supervision, SupervisorStatus
from fissile.supervisor.operator import operator
from fissile.supervisor.sockets import listen_public, listen_tcp, url
from fissile.supervisor.state import Endpoints, ServiceEndpoints, StateFolder, read_endpoints
from fissile.supervisor.supervisor import TOKEN_BYTES, Supervisor

MONOLITH = "monolith"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"

T = TypeVar("T")
Ready = Callable[[Endpoints], None]
Say = Callable[[str], None]


class Project(msgspec.Struct, frozen=True, eq=False):
    """An application with its settings and the topology that was chosen."""

    settings: Settings
    graph: Graph
    topology: Topology


def settings_of(target: str | Path, profile: str | None = None) -> Settings:
    """The settings of a folder with fissile.toml, of that file, or of "module:attribute" in this folder.

    Raises ConfigError.
    """
    module, _, attribute = str(target).partition(":")
    if attribute.isidentifier() and all(map(str.isidentifier, module.split("."))) and not Path(target).exists():
        return Settings(app=str(target), root=str(Path.cwd()))
    return load(Path(target), profile)


def open_project(target: str | Path, *, topology: str | None = None, profile: str | None = None) -> Project:
    """Read the settings and import the application into this process. Raises ConfigError."""
    settings = settings_of(target, profile)
    graph = load_application(settings.app, Path(settings.root))
    settings = resolve(settings, graph)
    return Project(settings, graph, topology_for(graph, topology or settings.topology, settings.topologies))


def run(settings: Settings, topology: str, port: int | None, *, ready: Ready, say: Say) -> None:
    """Run an application in the foreground until it is told to stop.

    ready: called once all is up. say: for what people should know. Raises FissileError.
    """
    if topology == MONOLITH:
        uvloop.run(_run_monolith(settings, port, ready, say))
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
            self._say("stopping; once more to stop at once")
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


async def _run_services(settings: Settings, topology: str, port: int | None, ready: Ready, say: Say) -> None:
    signals = StopSignals(say)
    supervisor = Supervisor(settings, topology, port=port)
    endpoints = await _unless(signals.first, supervisor.start())
    if endpoints is not None:
        try:
            ready(endpoints)
            await signals.first.wait()
        finally:
            await _unless(signals.second, supervisor.stop())  # given up half way, it kills what is left


async def _run_monolith(settings: Settings, port: int | None, ready: Ready, say: Say) -> None:
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    state = StateFolder(Path(settings.root))
    state.open()
    sockets: list[socket.socket] = []
    try:
        graph = load_application(settings.app, Path(settings.root))
        settings = resolve(settings, graph)
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
        )
        addresses = {component: url(sock) for component, sock in public.items()}
        service = ServiceEndpoints(url(gateway), addresses, tuple(graph.components), (os.getpid(),))
        endpoints = Endpoints(os.getpid(), graph.name, MONOLITH, token, {MONOLITH_SERVICE: service})
        await _serve(monolith, endpoints, state, ready, say)
    finally:
        for sock in sockets:
            sock.close()
        state.close()


async def _serve(monolith: Monolith, endpoints: Endpoints, state: StateFolder, ready: Ready, say: Say) -> None:
    signals = StopSignals(say)

    async def start() -> bool:
        await monolith.start()
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


def restart(root: Path, service: str) -> int:
    """Replace a running service's replicas without losing a request; how many were replaced."""
    return _ask(root, lambda supervision: supervision.restart(service))


def status(root: Path) -> SupervisorStatus:
    """The services of the application that runs in this folder."""
    return _ask(root, lambda supervision: supervision.status())


def _ask(root: Path, question: Callable[[Supervision], Awaitable[T]]) -> T:
    endpoints = read_endpoints(root)

    async def ask() -> T:
        async with operator(endpoints) as supervision:
            return await question(supervision)

    return uvloop.run(ask())
