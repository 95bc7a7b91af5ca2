"""An ASGI or WSGI application that knows nothing of Fissile, served as a replica.

It is imported, its lifespan is run where it has one, and the edge serves it: so it is started, drained,
watched and scaled as any other service, without a line of ours in it.
"""

import asyncio
import os
import socket
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from fissile.errors import ConfigError, FissileError
from fissile.runtime.control import Drain, Heartbeat, Move, ReplicaHello, ReplicaSpec, Routes
from fissile.runtime.differences import Differences
from fissile.runtime.edge import Edge
from fissile.runtime.handover import Handover
from fissile.runtime.ledger import Ledger
from fissile.runtime.loading import enter_folder, load_object
from fissile.runtime.outside import Outside
from fissile.runtime.unhandled import let_info_pass
from fissile.telemetry.pulse import Pulse

LIFESPAN_SECONDS_MAX = 60.0


class GuestFailed(FissileError):
    """The application did not start: its author's to mend."""


class Guest:
    """One application on inherited listening sockets; the same as a Replica to whoever supervises it."""

    def __init__(self, spec: ReplicaSpec, sockets: list[socket.socket]) -> None:
        self.spec = spec
        self.hello = ReplicaHello(spec.service, spec.set, spec.slot, spec.serial, os.getpid(), spec.build, spec.release)
        self.ended = asyncio.Event()
        self.order = Drain(spec.drain_seconds_max)
        self.pulse = Pulse()
        self.differences = Differences()
        self.outside = Outside()
        self._beats = count(1)
        self.ledger = Ledger(spec.release, self.pulse)
        self.applied = 0
        self._handover: Handover | None = None
        self._sockets = sockets
        self._edge: Edge | None = None
        self._lifespan: Lifespan | None = None

    async def start(self) -> None:
        """Import the application, start it, then open the door. Raises FissileError."""
        enter_folder(self.spec.folder or self.spec.root)
        app = load_guest(self.spec.guest, self.spec.application, Path(self.spec.root), self.spec.concurrency)
        let_info_pass()
        if self.spec.guest == "asgi":
            self._lifespan = Lifespan(app)
            await self._lifespan.start()
        self._edge = Edge(app, self.ledger, door=self.spec.service)
        self.follow(self.spec.routes)
        edge, (*listening, handover) = self._edge, self._sockets
        for sock in listening:
            await edge.start(sock)
        self._handover = Handover(handover, lambda _, connection, kept: edge.take(connection, kept=kept))

    def follow(self, routes: Routes) -> None:
        """Share the public door as these routes say from now on."""
        self.applied = routes.version
        self.ledger.follow(routes)
        if self._edge is not None:
            self._edge.share(routes.elsewhere.get(self.spec.service))

    def busy(self) -> int:
        """Requests that are under way."""
        return self.ledger.in_flight()

    def heartbeat(self, lag_seconds: float) -> Heartbeat:
        """What it does just now."""
        return Heartbeat(
            self.hello,
            lag_seconds,
            0,
            requests=self.ledger.in_flight(),
            routes=self.applied,
            traffic=self.ledger.traffic(),
            differences=self.differences.news(),
            kept={self.spec.service: self._edge.kept()} if self._edge is not None else {},
            number=next(self._beats),
        )

    def move(self, order: Move) -> None:
        """Hand kept connections over."""
        if self._edge is not None:
            self._edge.move(order.away.get(self.spec.service, {}))

    def finish(self, order: Drain) -> None:
        """End: drain within the order's limit, then stop. Said again: with less time, or with heirs."""
        self.hello = msgspec.structs.replace(self.hello, draining=True)
        self.order = order
        self.ended.set()
        if self._edge is not None:
            self._edge.hurry(order.seconds_max, order.idle_seconds_max, order.heirs.get(self.spec.service, ()))

    async def stop(self) -> None:
        """Answer what is asked, then stop the application."""
        if self._handover is not None:
            self._handover.close()
        if self._edge is not None:
            order = self.order
            heirs = order.heirs.get(self.spec.service, ())
            await self._edge.drain(order.seconds_max, idle_seconds_max=order.idle_seconds_max, heirs=heirs)
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
        """Raises GuestFailed. An application that does not know the protocol needs no start."""
        self._task = asyncio.create_task(self._run())
        answer = await self._ask("lifespan.startup")
        if answer.get("type") == "lifespan.startup.failed":
            raise GuestFailed(f"the application does not start: {answer.get('message') or 'it does not say why'}")

    async def stop(self) -> None:
        """Have it stop; its failure to do so keeps nobody waiting for long."""
        with suppress(GuestFailed):
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
            raise GuestFailed(f"the application has not answered {kind} within {LIFESPAN_SECONDS_MAX:g} s")
        finally:
            answer.cancel()

    async def _run(self) -> None:
        scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        with suppress(Exception):
            await self._app(scope, self._orders.get, self._answers.put)


def load_guest(kind: str, target: str, root: Path, threads_max: int) -> Any:
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
