"""A replica of an ASGI or WSGI application that knows nothing of Fissile.

The application is imported, its lifespan is run if it has one, and an edge serves it. So it is started,
drained, watched and scaled like any other service, without a line of Fissile in it.
"""

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from fissile.errors import ConfigError, FissileError
from fissile.runtime.control import Drain, Heartbeat, Move, ReplicaSpec, Routes
from fissile.runtime.doors import Doors
from fissile.runtime.loading import enter_folder, load_object
from fissile.runtime.reporter import Reporter
from fissile.runtime.unhandled import let_info_pass
from fissile.telemetry.pulse import Pulse

LIFESPAN_SECONDS_MAX = 60.0


class AsgiStartFailed(FissileError):
    """The application did not start; its author has to fix it."""


class AsgiReplica:
    """One application on inherited listening sockets; to its supervisor the same as a replica of components.

    sockets: those of its door, and last the one on which other replicas hand connections over.
    stop_requested: set once it is to end, as `order` says.
    """

    def __init__(self, spec: ReplicaSpec, sockets: list[socket.socket]) -> None:
        self.spec = spec
        self.reporter = Reporter(spec)
        self.stop_requested = asyncio.Event()
        self.order = Drain(spec.drain_seconds_max)
        self.pulse = Pulse()
        self.doors = Doors(spec.release, self.pulse)
        self._sockets = sockets
        self._lifespan: Lifespan | None = None

    def __repr__(self) -> str:
        return f"<replica {self.spec.set} {self.spec.slot}: {self.busy()} requests in flight>"

    async def start(self) -> None:
        """Import the application, start it, then open the door. Raises FissileError."""
        spec = self.spec
        enter_folder(spec.folder or spec.root)
        app = load_asgi(spec.guest, spec.application, Path(spec.root), spec.concurrency)
        let_info_pass()
        if spec.guest == "asgi":
            # Before the door opens: the protocol promises that no request comes before the start-up is done.
            self._lifespan = Lifespan(app)
            await self._lifespan.start()
        self.apply_routes(spec.routes)
        *listening, handoff = self._sockets
        await self.doors.open(spec.service, app, listening)
        self.doors.receive(handoff)

    def apply_routes(self, routes: Routes) -> None:
        """Share the public door as these routes say from now on."""
        self.doors.apply_routes(routes)
        # Last: if sharing raises, no supervisor counts on these routes.
        self.reporter.routes_applied = routes.version

    def busy(self) -> int:
        """Requests in flight."""
        return self.doors.stats.in_flight()

    def pinned(self) -> tuple[str, ...]:
        """Releases with requests in flight."""
        return self.doors.stats.pinned()

    def heartbeat(self, lag_seconds: float) -> Heartbeat:
        """The figures of now. lag_seconds: how late the event loop is."""
        stats = self.doors.stats
        return self.reporter.heartbeat(
            lag_seconds, requests=stats.in_flight(), traffic=stats.traffic(), kept=self.doors.kept()
        )

    def move(self, order: Move) -> None:
        """Move kept connections to other replicas."""
        self.doors.move(order)

    def request_stop(self, order: Drain) -> None:
        """Drain within the order's limit, then stop. A later order gives less time, or heirs."""
        self.reporter.start_draining()
        self.order = order
        self.stop_requested.set()
        self.doors.hurry(order)

    async def stop(self) -> None:
        """Answer what was asked, then stop the application."""
        # Before the drain counts connections: none may come in behind it.
        self.doors.stop_receiving()
        await self.doors.drain(self.order)
        # After it: no request may find the application shut down.
        if self._lifespan is not None:
            await self._lifespan.stop()


class Lifespan:
    """The ASGI lifespan protocol (asgi.readthedocs.io/en/latest/specs/lifespan.html), seen from the server."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._orders: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises AsgiStartFailed. An application that does not know the protocol needs no start."""
        self._task = asyncio.create_task(self._run())
        answer = await self._ask("lifespan.startup")
        if answer.get("type") == "lifespan.startup.failed":
            raise AsgiStartFailed(f"the application does not start: {answer.get('message') or 'it does not say why'}")

    async def stop(self) -> None:
        """Have it stop; its failure to do so keeps nobody waiting for long."""
        with suppress(AsgiStartFailed):
            await self._ask("lifespan.shutdown")
        if self._task is not None:
            self._task.cancel()

    async def _ask(self, kind: str) -> dict[str, Any]:
        task = self._task
        if task is None or task.done():
            return {}
        self._orders.put_nowait({"type": kind})
        answer = asyncio.create_task(self._answers.get())
        try:
            await asyncio.wait({answer, task}, timeout=LIFESPAN_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if task.done():
                return {}  # it raised: by the protocol's words, it does without
            raise AsgiStartFailed(f"the application has not answered {kind} within {LIFESPAN_SECONDS_MAX:g} s")
        finally:
            answer.cancel()

    async def _run(self) -> None:
        scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        with suppress(Exception):
            await self._app(scope, self._orders.get, self._answers.put)


def load_asgi(kind: str, target: str, root: Path, threads_max: int) -> Any:
    """The application as ASGI. Raises ConfigError with file and line of its author's mistake."""
    app = load_object(target, root)
    if not callable(app):
        raise ConfigError(
            f"{target} is not an application: it is a {type(app).__name__}", remedy=f"name its {kind} callable"
        )
    if kind == "asgi":
        return app
    try:
        from a2wsgi import WSGIMiddleware
    except ImportError:
        raise ConfigError("a WSGI application needs a2wsgi", remedy="pip install a2wsgi") from None
    wsgi: Any = app
    return WSGIMiddleware(wsgi, workers=threads_max)
