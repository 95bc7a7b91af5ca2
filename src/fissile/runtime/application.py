"""The application as its author holds it: a checked graph that any ASGI server can run whole."""

from collections.abc import Mapping
from typing import Any

from fissile.component.graph import Graph
from fissile.errors import ConfigError
from fissile.rpc.deadline import environment
from fissile.runtime.host import Host


class Application(Graph):
    """An application: its components and their references, checked as a graph.

    Args:
        *components: Classes decorated with `@component` or `@interface`.
        name: The application's name.
        context: `ContextVar` objects that travel by value with every call, in every topology. Any other stays in its
            process.

    Raises:
        DeclarationError: The declaration has mistakes. The error lists all of them, each with its remedy.
    """

    def asgi(self, *, config: Mapping[str, Mapping[str, Any]] | None = None) -> Any:
        """Return the whole application as one ASGI app, for any ASGI server and without Fissile's platform.

        Of the components with an `http()` method, the one that starts last answers requests. The ASGI lifespan starts
        and stops all components.

        Args:
            config: Tables by component name, as under `[components]` in fissile.toml.

        Returns:
            An ASGI 3 application.

        Raises:
            ConfigError: No component has an `http()` method, or `config` does not fit the constructors.
        """
        return WholeApp(self, config or {})


class WholeApp:
    """An application as one ASGI app: its first component with `http()` answers, lifespan starts all."""

    def __init__(self, graph: Graph, config: Mapping[str, Mapping[str, Any]]) -> None:
        self.host = Host(graph, graph.components, config=config, environment=environment())
        listeners = self.host.http_components()
        if not listeners:
            raise ConfigError(f"{graph.name} has no component with http()", remedy="add `def http(self)` to one")
        self._listener = listeners[-1]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        await self.host.asgi(self._listener)(scope, receive, send)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            await self.host.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        failures = await self.host.stop()
        kind = "lifespan.shutdown.failed" if failures else "lifespan.shutdown.complete"
        message = {"message": "; ".join(map(str, failures))} if failures else {}
        await send({"type": kind, **message})
