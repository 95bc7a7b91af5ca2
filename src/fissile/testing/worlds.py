"""An application in a runner: what a behaviour test needs of it, alike in each.

- `direct`: one process, plain calls.
- `copied`: the same, with every argument and result passed through the codec.
- `rpc`: a host per component in one process, the real wire over a memory network; idempotent methods
  run twice now and then.
- `processes`: a supervisor with a real process per component.
"""

import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx
import msgspec

from fissile.component.graph import Graph
from fissile.component.interface import Method
from fissile.component.reference import Ref, generate
from fissile.daemon.inspection import Project, open_project
from fissile.errors import Unavailable
from fissile.rpc.access import Access, token_digest
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.deadline import environment
from fissile.rpc.server import Server
from fissile.rpc.stub import remote
from fissile.runtime.control import OPERATOR
from fissile.runtime.host import Host
from fissile.supervisor.endpoints import Endpoints
from fissile.supervisor.supervisor import Supervisor
from fissile.testing.memory import MemoryNetwork

T = TypeVar("T")

RUNNERS = ("direct", "copied", "rpc", "processes")
REPEAT_SHARE = 0.2
HTTP_SECONDS_MAX = 20.0
TEST = "Test"


class World:
    """A running application.

    Attributes:
        graph: The application under test.
        runner: How it runs: `direct`, `copied`, `rpc` or `processes`.
    """

    def __init__(self, graph: Graph, runner: str) -> None:
        self.graph = graph
        self.runner = runner
        self._down: set[str] = set()

    def get(self, cls: type[T]) -> T:
        """Return a reference to a component, as a caller outside the application holds it.

        Args:
            cls: The component's class, or the interface that it implements.

        Raises:
            KeyError: The application has no such component.
        """
        return cast(T, self.reference(self.graph.component_of(cls).name))

    def reference(self, name: str) -> Ref:
        """Return a reference to the component of this name."""
        raise NotImplementedError

    def client(self, cls: type, **options: Any) -> httpx.AsyncClient:
        """Return an HTTP client for a component's public listener. Close it, or use it in `async with`.

        Args:
            cls: A component with an `http()` method.
            **options: Passed to `httpx.AsyncClient`.
        """
        raise NotImplementedError

    def down(self, name: str) -> AbstractAsyncContextManager[None]:
        """Make a component unreachable for the duration of the context."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start the application."""

    async def stop(self) -> None:
        """Stop it and leave nothing behind."""


class LocalWorld(World):
    """`direct` and `copied`: all components in one host."""

    def __init__(self, project: Project, runner: str) -> None:
        super().__init__(project.graph, runner)
        self._host = Host(
            project.graph,
            project.graph.components,
            config=project.settings.components,
            environment=environment(
                copy_always=runner == "copied", timeout_seconds=project.settings.calls.timeout_seconds
            ),
            decorate=self._gate,
        )

    def _gate(self, caller: str, target: str, reference: Ref) -> Ref:
        """The reference, failing while its target is down."""
        gated = Ref(self.graph.components[target].interface)
        for method in self.graph.components[target].interface.methods.values():
            names = {"_call": getattr(reference, method.name), "_down": self._down, "_fail": _unavailable}
            template = _GATED_STREAM if method.streaming else _GATED
            vars(gated)[method.name] = generate(template, method, names)
        return gated

    async def start(self) -> None:
        await self._host.start()

    async def stop(self) -> None:
        failures = await self._host.stop()
        if failures:
            raise failures[0]

    def reference(self, name: str) -> Ref:
        return self._host.reference(TEST, name)

    def client(self, cls: type, **options: Any) -> httpx.AsyncClient:
        app = self._host.asgi(self.graph.component_of(cls).name)
        return _client(httpx.ASGITransport(app=app), f"http://{cls.__name__.lower()}", options)

    @asynccontextmanager
    async def down(self, name: str) -> AsyncGenerator[None]:
        self._down.add(name)
        try:
            yield
        finally:
            self._down.discard(name)


_GATED = """
async def {name}({parameters}):
    if _method.component in _down:
        raise _fail(_method)
    return await _call({passed})
"""

_GATED_STREAM = """
async def {name}({parameters}):
    if _method.component in _down:
        raise _fail(_method)
    async for _item in _call({passed}):
        yield _item
"""


def _unavailable(method: Method) -> Unavailable:
    return Unavailable(f"{method.label} is down", origin=method.label, remedy="the test took it down")


class RpcWorld(World):
    """`rpc`: a host and a server per component, connected by a memory network."""

    def __init__(self, project: Project, runner: str, seed: int) -> None:
        super().__init__(project.graph, runner)
        self._project = project
        self._network = MemoryNetwork()
        self._hosts: dict[str, Host] = {}
        self._servers: dict[str, Server] = {}
        self._channels: list[Channel] = []
        self._chance = random.Random(seed)
        names = tuple(project.graph.components)
        references = {name: frozenset(r.target for r in c.references) for name, c in project.graph.components.items()}
        self._access = Access(
            peers={token_digest(name): name for name in (*names, TEST)},
            members={name: (name,) for name in (*names, TEST)},
            references={**references, TEST: frozenset(names)},
        )
        for name in project.graph.components:
            self._make(name)

    def _repeat(self, _method: Method) -> bool:
        return self._chance.random() < REPEAT_SHARE

    def _make(self, name: str) -> None:
        self._hosts[name] = Host(
            self.graph,
            [name],
            config=self._project.settings.components,
            environment=environment(timeout_seconds=self._project.settings.calls.timeout_seconds),
            remote=self._connect,
        )

    def _connect(self, caller: str, target: str) -> Ref:
        interface = self.graph.components[target].interface
        channel = Channel(
            target,
            [target],
            caller_service=caller,
            token=caller,
            callers=(caller,),
            contracts=contracts_of([interface]),
            connect=self._network.connect,
        )
        self._channels.append(channel)
        return remote(
            interface,
            channel,
            caller=caller,
            timeout_seconds=self._project.settings.calls.timeout_seconds,
            variables=self.graph.context,
        )

    async def start(self) -> None:
        for name, host in self._hosts.items():
            await host.start()
            server = Server(name, host.exports(), self._access, repeat=self._repeat, variables=self.graph.context)
            self._servers[name] = server
            self._network.listen(name, server.protocol)

    async def stop(self) -> None:
        for channel in self._channels:
            await channel.close()
        for server in self._servers.values():
            await server.close()
        failures = [error for host in reversed(self._hosts.values()) for error in await host.stop()]
        if failures:
            raise failures[0]

    def reference(self, name: str) -> Ref:
        return self._connect(TEST, name)

    def client(self, cls: type, **options: Any) -> httpx.AsyncClient:
        name = self.graph.component_of(cls).name
        return _client(httpx.ASGITransport(app=self._hosts[name].asgi(name)), f"http://{name.lower()}", options)

    @asynccontextmanager
    async def down(self, name: str) -> AsyncGenerator[None]:
        self._network.cut(name)
        try:
            yield
        finally:
            self._network.listen(name, self._servers[name].protocol)


class ProcessWorld(World):
    """`processes`: a supervisor, a zygote, and a process per component."""

    def __init__(self, project: Project, runner: str, state: Path) -> None:
        super().__init__(project.graph, runner)
        self._project = project
        self.supervisor = Supervisor(project.settings, project.topology.name, state=state)
        self._channels: list[Channel] = []
        self.endpoints: Endpoints | None = None

    async def start(self) -> None:
        self.endpoints = await self.supervisor.start()

    async def stop(self) -> None:
        for channel in self._channels:
            await channel.close()
        await self.supervisor.stop()

    def reference(self, name: str) -> Ref:
        interface = self.graph.components[name].interface
        service = self._project.topology.service_of(name)
        channel = Channel(
            service,
            self.supervisor.operations.addresses(service),
            caller_service=OPERATOR,
            token=self.supervisor.operator_token,
            callers=(OPERATOR,),
            contracts=contracts_of([interface]),
        )
        self._channels.append(channel)
        return remote(interface, channel, caller=OPERATOR, variables=self.graph.context)

    def url(self, cls: type) -> str:
        """The address of a component's public listener."""
        assert self.endpoints is not None, "the world is not started"
        name = self.graph.component_of(cls).name
        return self.endpoints.services[self._project.topology.service_of(name)].public[name]

    def client(self, cls: type, **options: Any) -> httpx.AsyncClient:
        return _client(httpx.AsyncHTTPTransport(), self.url(cls), options)

    @asynccontextmanager
    async def down(self, name: str) -> AsyncGenerator[None]:
        service = self._project.topology.service_of(name)
        await self.supervisor.operations.hold(service)
        try:
            yield
        finally:
            await self.supervisor.operations.release(service)


def _client(transport: httpx.AsyncBaseTransport, base: str, options: dict[str, Any]) -> httpx.AsyncClient:
    told: dict[str, Any] = {"timeout": HTTP_SECONDS_MAX, "follow_redirects": True, **options}
    return httpx.AsyncClient(transport=transport, base_url=base, **told)


@asynccontextmanager
async def open_world(
    runner: str,
    path: Path,
    *,
    state: Path,
    config: Mapping[str, Mapping[str, Any]] | None = None,
    profile: str | None = None,
    topology: str = "microservices",
    seed: int = 0,
) -> AsyncGenerator[World]:
    """The application in a folder, running.

    runner: one of `RUNNERS`. state: a folder for its sockets. config: tables by component, laid over
    those of fissile.toml (what the application does not have is left out). topology: how `processes`
    splits it. seed: for the repetitions in `rpc`.
    """
    project = open_project(path, topology=topology, profile=profile)
    tables = {name: dict(table) for name, table in project.settings.components.items()}
    for name, table in (config or {}).items():
        if name in project.graph.components:
            tables.setdefault(name, {}).update(table)
    project = msgspec.structs.replace(project, settings=msgspec.structs.replace(project.settings, components=tables))
    world: World
    if runner in ("direct", "copied"):
        world = LocalWorld(project, runner)
    elif runner == "rpc":
        world = RpcWorld(project, runner, seed)
    elif runner == "processes":
        world = ProcessWorld(project, runner, state)
    else:
        raise ValueError(f"there is no runner {runner!r}; use one of {', '.join(RUNNERS)}")
    try:
        await world.start()
        yield world
    finally:
        await world.stop()
