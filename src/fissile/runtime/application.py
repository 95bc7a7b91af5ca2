"""The application as its author holds it: a checked graph that any ASGI server can run whole."""

from collections.abc import Mapping
from typing import Any

from fissile.component.graph import Graph
from fissile.errors import ConfigError
from fissile.rpc.deadline import environment
from fissile.runtime.host import Host


class Application(Graph):
    """Components and their references, checked as a graph when it is declared.

    Raises DeclarationError with every mistake and its remedy.
    """

    def asgi(self, *, config: Mapping[str, Mapping[str, Any]] | None = None) -> Any:
        """The whole application as one ASGI app, for any ASGI server, with no platform at all.

        The component with `http()` that starts last answers requests; `lifespan` starts and stops all.
        config: tables by component, as under [components] in fissile.toml.
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
