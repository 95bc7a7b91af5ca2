"""Components in one process: made, wired, started in dependency order, stopped in reverse.

The same host runs a monolith (all components) and a replica (those of its service): what is not in
this process is reached through the `remote` that its owner gives.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from fissile.component.declaration import Lazy
from fissile.component.graph import Component, Graph
from fissile.component.reference import Ref
from fissile.component.wiring import Environment, Surroundings, local_reference
from fissile.errors import ConfigError, FissileError
from fissile.rpc.deadline import environment as real_environment
from fissile.rpc.server import Export

# What a component's own code may raise when it is made, started or stopped: whoever hosts it decides when to exit.
FAILURES = (Exception, SystemExit)
# A component's optional method, run once per release before any of its replicas starts.
MIGRATE = "migrate"

Remote = Callable[[str, str], Ref]
Decorate = Callable[[str, str, Ref], Ref]


class StartError(FissileError):
    """A component could not be made or started: its author's to mend; nothing of the service runs."""


def _of_component(error: BaseException) -> bool:
    """Whether a life cycle's method failed by itself: also by a cancellation that nobody asked of the current task."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return isinstance(error, FAILURES)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def configured(component: Component, table: Mapping[str, Any]) -> dict[str, Any]:
    """The config structs of a component by constructor parameter.

    Raises ConfigError with every unknown key, missing field and wrong value.
    """
    allowed = {name for config in component.configs for name in field_names(config.type)}
    mistakes = [f"unknown key {key!r}" for key in table if key not in allowed]
    made: dict[str, Any] = {}
    for config in component.configs:
        fields = field_names(config.type)
        try:
            made[config.parameter] = msgspec.convert(
                {key: value for key, value in table.items() if key in fields}, config.type, strict=False
            )
        except msgspec.ValidationError as error:
            mistakes.append(str(error))
    if mistakes:
        keys = ", ".join(sorted(allowed)) or "none: it takes no config struct"
        raise ConfigError(
            f"[components.{component.name}] has mistakes:\n" + "\n".join(f"  - {m}" for m in mistakes),
            remedy=f"its keys are: {keys}",
        )
    return made


def field_names(kind: Any) -> tuple[str, ...]:
    """The fields of a config struct or dataclass."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(kind.__struct_fields__)


class Host:
    """Some components of an application in this process.

    config: tables by component. remote: makes the reference that `caller` holds to a `target`
    outside of this process. decorate: may replace any reference (the testing kit's way in).
    """

    def __init__(
        self,
        graph: Graph,
        components: Iterable[str],
        *,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        environment: Environment | None = None,
        remote: Remote | None = None,
        decorate: Decorate | None = None,
    ) -> None:
        self.graph = graph
        wanted = set(components)
        self.components = tuple(name for name in graph.components if name in wanted)
        others = [name for name in self.components if graph.components[name].foreign]
        if others:
            raise ConfigError(
                f"{', '.join(others)} is implemented by no class: another program does that",
                remedy=f'write command = "..." under [services.{others[0].lower()}], and use `fissile run`',
            )
        self._config = config or {}
        self._environment = environment or real_environment()
        self._surroundings = Surroundings(graph.context)
        self._remote = remote
        self._decorate = decorate
        self._instances: dict[str, Any] = {}
        self._started: list[str] = []
        self._asgi: dict[str, Any] = {}
        self._make()

    def _make(self) -> None:
        """Make every component, callees first. Raises StartError or ConfigError."""
        problems: list[ConfigError] = []
        settings: dict[str, dict[str, Any]] = {}
        for name in self.components:
            try:
                settings[name] = configured(self.graph.components[name], self._config.get(name, {}))
            except ConfigError as error:
                problems.append(error)
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise ConfigError("\n".join(str(problem) for problem in problems))
        for name in self.components:
            component = self.graph.components[name]
            arguments: dict[str, Any] = dict(settings[name])
            for reference in component.references:
                arguments[reference.parameter] = (
                    Lazy(self._resolver(name, reference.target))
                    if reference.lazy
                    else self.reference(name, reference.target)
                )
            try:
                self._instances[name] = component.cls(**arguments)
            except FAILURES as error:
                raise StartError(f"{name} cannot be made: {_said(error)}") from error

    def _resolver(self, caller: str, target: str) -> Callable[[], Ref]:
        return lambda: self.reference(caller, target)

    def reference(self, caller: str, target: str) -> Ref:
        """The reference that `caller` holds to `target`; a direct one if it is in this process."""
        if target in self._instances:
            interface = self.graph.components[target].interface
            found = local_reference(interface, self._instances[target], self._environment, self._surroundings)
        elif self._remote is not None:
            found = self._remote(caller, target)
        else:
            raise KeyError(f"{target} is not in this process, and there is no way to another")
        return found if self._decorate is None else self._decorate(caller, target, found)

    def instance(self, name: str) -> Any:
        """The component itself."""
        return self._instances[name]

    def exports(self) -> dict[str, Export]:
        """All components of this process as a server exports them."""
        return {name: Export(self.graph.components[name].interface, self._instances[name]) for name in self.components}

    def http_components(self) -> tuple[str, ...]:
        """Those with a public listener, in the order of their start."""
        return tuple(name for name in self.components if self.graph.components[name].http)

    def asgi(self, name: str) -> Any:
        """The ASGI app that a component mounts; made once. Raises StartError."""
        if name not in self._asgi:
            try:
                self._asgi[name] = self._instances[name].http()
            except FAILURES as error:
                raise StartError(f"{name} cannot make its pages: {_said(error)}") from error
        return self._asgi[name]

    async def migrate(self, components: Iterable[str]) -> None:
        """Run these components' migrations, in dependency order. Raises StartError."""
        wanted = set(components)
        for name in self.components:
            migrate = getattr(self._instances[name], MIGRATE, None)
            if name in wanted and migrate is not None:
                try:
                    await migrate()
                except BaseException as error:
                    if not _of_component(error):
                        raise
                    raise StartError(f"{name} cannot be migrated: {_said(error)}") from error

    async def start(self, *, migrate: bool = True) -> None:
        """Start all in dependency order. On failure what was started is stopped; raises StartError.

        migrate: run their migrations before, as where nobody else does that.
        """
        if migrate:
            await self.migrate(self.components)
        for name in self.components:
            start = getattr(self._instances[name], "start", None)
            try:
                if start is not None:
                    await start()
            except BaseException as error:
                if not _of_component(error):
                    raise
                await self.stop()
                raise StartError(f"{name} cannot be started: {_said(error)}") from error
            self._started.append(name)
        self._surroundings.settle()

    async def stop(self) -> list[Exception]:
        """Stop all in reverse order; what fails to stop is returned and keeps no other from stopping."""
        failures: list[Exception] = []
        while self._started:
            stop = getattr(self._instances[self._started.pop()], "stop", None)
            try:
                if stop is not None:
                    await stop()
            except BaseException as error:
                if not _of_component(error):
                    raise
                failures.append(error if isinstance(error, Exception) else RuntimeError(_said(error)))
        return failures
