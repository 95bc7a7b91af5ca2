"""A monolith in the foreground: sockets and components live in this process, and nothing supervises it."""

import asyncio
import hmac
import os
import secrets
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from fissile.component.graph import Graph
from fissile.component.topology import MONOLITH_SERVICE
from fissile.daemon.project import named_folder
from fissile.daemon.signals import StopSignals, run_unless
from fissile.errors import FissileError
from fissile.machine import process_marks
from fissile.machine.procfs import born
from fissile.machine.sockets import listen_public, listen_tcp, url
from fissile.rpc.access import token_digest
from fissile.runtime.control import DRAIN_SECONDS_MAX
from fissile.runtime.forked import disown
from fissile.runtime.loading import enter_folder, load_application
from fissile.runtime.monolith import Monolith
from fissile.runtime.places import authors
from fissile.runtime.unhandled import let_info_pass, show_unhandled
from fissile.settings.load import resolve
from fissile.settings.schema import LimitSettings, Settings
from fissile.supervisor.endpoints import Endpoints, ServiceEndpoints
from fissile.supervisor.service import TOKEN_BYTES
from fissile.supervisor.state_folder import StateFolder

MONOLITH = "monolith"
NO_EFFECT = "one process serves all components: `limits`, `isolate` and `user` have no effect here; use `fissile up`"

Ready = Callable[[Endpoints], None]
Log = Callable[[str], None]


async def run_monolith(settings: Settings, port: int | None, ready: Ready, log: Log, *, copied: bool) -> None:
    """Serve every component until a signal comes. copied: calls pass values as a wire would. Raises FissileError."""
    show_unhandled()
    state = StateFolder(named_folder(settings))
    # The lock comes first: of two that start in one folder, the second must not touch what the first has there.
    state.open()
    state.clear()
    state.clean()
    enter_folder(settings.root)
    # Before the application is imported: whatever that starts inherits the mark, and can be found by it.
    process_marks.put_on(0, state.mark())
    sockets: list[socket.socket] = []
    try:
        # The application's modules may read them as they are imported.
        os.environ.update(settings.service(MONOLITH_SERVICE).environment)
        graph = load_application(settings.app, Path(settings.root))
        let_info_pass()
        settings = resolve(settings, graph)
        if any(one.isolate or one.user or one.limits != LimitSettings() for one in settings.services.values()):
            log(NO_EFFECT)
        setting = f"`port` under [services.{MONOLITH_SERVICE}]"
        gateway = listen_tcp(settings.service(MONOLITH_SERVICE).port, "the HTTP/JSON API", setting)
        sockets.append(gateway)
        public = _listen(graph, port, sockets)
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
        await _serve(monolith, endpoints, state, sockets, ready, log)
    finally:
        for sock in sockets:
            sock.close()
        _, left = await asyncio.to_thread(state.clear)
        for one in left:
            log(f"{one}, which the application had started, cannot be ended")
        # Last: another start in this folder waits for the lock, and must find nothing of this one.
        state.close()


def _listen(graph: Graph, port: int | None, sockets: list[socket.socket]) -> dict[str, socket.socket]:
    """Sockets of the components that serve pages, added to `sockets` as they are opened. Raises ConfigError."""
    public: dict[str, socket.socket] = {}
    # The page that people open is the last in start order, because nobody else calls it: it gets the port asked for.
    for component in reversed([c.name for c in graph.components.values() if c.http]):
        public[component] = listen_public(port, component)
        sockets.append(public[component])
        port = 0
    return public


async def _serve(
    monolith: Monolith,
    endpoints: Endpoints,
    state: StateFolder,
    sockets: list[socket.socket],
    ready: Ready,
    log: Log,
) -> None:
    signals = StopSignals(log)
    # A process that the application forks would keep the ports and the lock for as long as it lives.
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
            log(f"while stopping: {type(failure).__name__}: {failure}")

    try:
        if await run_unless(signals.first, start()):
            # Published only now: whoever reads it may call at once.
            state.publish(endpoints)
            ready(endpoints)
            await signals.first.wait()
    finally:
        await run_unless(signals.second, stop())
