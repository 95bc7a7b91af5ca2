"""The composition root: the one module that knows every room, and puts a running application together."""

import asyncio
import hmac
import logging
import os
import secrets
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import uvloop

from fissile.component.graph import Graph
from fissile.component.interface import read_interface
from fissile.component.topology import Topology, topology_for
from fissile.errors import ConfigError
from fissile.rpc.access import token_digest
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.stub import remote
from fissile.runtime.control import OPERATOR
from fissile.runtime.loading import load_application
from fissile.runtime.monolith import Monolith
from fissile.runtime.settings import Settings, load, resolve
from fissile.supervisor.sockets import Endpoints, ServiceEndpoints, StateFolder, listen_tcp, read_endpoints, url
from fissile.supervisor.supervisor import TOKEN_BYTES, Admin, ServiceStatus, Supervisor

DRAIN_SECONDS_MAX = 10.0
T = TypeVar("T")


class Project(msgspec.Struct, frozen=True, eq=False):
    """An application with its settings and the topology that was chosen."""

    settings: Settings
    graph: Graph
    topology: Topology


def open_project(path: Path, *, topology: str | None = None, profile: str | None = None) -> Project:
    """Read the settings in a folder and import its application. Raises ConfigError."""
    settings = load(path, profile)
    graph = load_application(settings.app, Path(settings.root))
    settings = resolve(settings, graph)
    chosen = topology_for(graph, topology or settings.topology, settings.topologies)
    unknown = [name for name in settings.services if not _is_service(name, graph, settings)]
    if unknown:
        raise ConfigError(
            f"[services.{unknown[0]}] is a service of no topology",
            remedy=f"services of {chosen.name!r} are: {', '.join(chosen.services)}",
        )
    return Project(settings, graph, chosen)


def _is_service(name: str, graph: Graph, settings: Settings) -> bool:
    topologies = ["monolith", "microservices", *settings.topologies]
    return any(name in topology_for(graph, each, settings.topologies).services for each in topologies)


def run(project: Project, *, port: int = 0, ready: Callable[[Endpoints], None], say: Callable[[str], None]) -> None:
    """Run in the foreground until SIGINT or SIGTERM. Raises ConfigError if it cannot start."""
    monolith = project.topology.name == "monolith"
    uvloop.run(_run_monolith(project, port, ready) if monolith else _run_services(project, port, ready, say))


def _asked_to_stop() -> asyncio.Event:
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    return asked


async def _run_services(
    project: Project, port: int, ready: Callable[[Endpoints], None], say: Callable[[str], None]
) -> None:
    asked = _asked_to_stop()
    supervisor = Supervisor(project.settings, project.graph, project.topology, port=port, say=say)
    starting = asyncio.ensure_future(supervisor.start())
    stopping = asyncio.ensure_future(asked.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return
    ready(starting.result())
    broken = asyncio.ensure_future(supervisor.broken.wait())
    await asyncio.wait({stopping, broken}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    broken.cancel()
    await supervisor.stop()


async def _run_monolith(project: Project, port: int, ready: Callable[[Endpoints], None]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    asked = _asked_to_stop()
    settings, graph = project.settings, project.graph
    (service,) = project.topology.services
    folder = StateFolder(Path(settings.root))
    folder.open()
    try:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        digest = token_digest(token)
        gateway = listen_tcp(settings.service(service).port, "the HTTP/JSON API")
        listeners = [name for name, component in graph.components.items() if component.http]
        public = {name: listen_tcp(port if name == listeners[-1] else 0, name) for name in listeners}
        whole = Monolith(
            graph,
            config=settings.components,
            gateway=gateway,
            public=public,
            authorize=lambda given: hmac.compare_digest(token_digest(given), digest),
            timeout_seconds=settings.calls.timeout_seconds,
        )
        addresses = {name: url(sock) for name, sock in public.items()}
        found = ServiceEndpoints(url(gateway), addresses, tuple(graph.components))
        endpoints = Endpoints(os.getpid(), graph.name, project.topology.name, token, {service: found})
        await whole.start()
        folder.publish(endpoints)
        ready(endpoints)
        await asked.wait()
        for error in await whole.stop(DRAIN_SECONDS_MAX):
            logging.getLogger("fissile").error("while stopping: %s", error)
    finally:
        folder.close()


def restart_service(root: Path, service: str) -> int:
    """Replace a running service's replicas without losing a request; how many were replaced."""

    async def ask(admin: Admin) -> int:
        return await admin.restart(service)

    return _ask(root, ask)


def status(root: Path) -> tuple[ServiceStatus, ...]:
    """The services of the application that runs in this folder."""

    async def ask(admin: Admin) -> tuple[ServiceStatus, ...]:
        return await admin.status()

    return _ask(root, ask)


def _ask(root: Path, question: Callable[[Admin], Coroutine[Any, Any, T]]) -> T:
    endpoints = read_endpoints(root)
    if not endpoints.control:
        raise ConfigError(
            f"{endpoints.application!r} runs as a monolith in one process (pid {endpoints.pid}): it has no supervisor",
            remedy="run it with --topology microservices, or restart that process",
        )

    async def ask() -> T:
        contract, _ = read_interface(Admin)
        channel = Channel(
            "supervisor",
            [endpoints.control],
            caller_service=OPERATOR,
            token=endpoints.control_token,
            callers=(OPERATOR,),
            contracts=contracts_of([contract]),
        )
        try:
            return await question(cast(Admin, remote(contract, channel, caller=OPERATOR)))
        finally:
            await channel.close()

    return uvloop.run(ask())
