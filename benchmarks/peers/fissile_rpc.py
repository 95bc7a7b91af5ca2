"""Fissile's own call, with everything that a replica has on: deadline, trace, release, permission,
balancing, breaker, retry budget, bounded queue and counters on both sides.

The caller balances between as many replicas as its address names (separated by ",").
"""

import asyncio
import random
import socket
from functools import cache
from typing import Any

from work import HANDLER_SECONDS, ITEMS, LOCALE, USER, Caller, Carts

from fissile import Application
from fissile.component.context import CallContext, call_context
from fissile.component.wiring import CELLS
from fissile.errors import RemoteError
from fissile.rpc.access import Access, token_digest
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.server import Server
from fissile.rpc.stub import remote
from fissile.runtime.host import Host
from fissile.telemetry.recorder import Recorder

TOKEN = "the caller's token"
TOPOLOGY = {"caller": ("Caller",), "carts": ("Carts",)}
RELEASE = "r2026-11-01"
app = Application(Caller, Carts, name="benchmark")
_kept: list[Any] = []


def _listen(address: str) -> socket.socket:
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(rest)
    else:
        host, _, port = rest.rpartition(":")
        sock = socket.socket(socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
    sock.listen(128)
    sock.setblocking(False)
    return sock


async def serve(address: str) -> None:
    """Listen."""
    host = Host(app, ("Carts",))
    await host.start()
    access = Access({token_digest(TOKEN): "caller"}, TOPOLOGY, {"Caller": frozenset({"Carts"})})
    server = Server("carts", host.exports(), access, observe=Recorder(CELLS).observe)
    await server.start(_listen(address))
    _kept.append(server)


@cache
def _reference(address: str) -> Any:
    interface = app.components["Carts"].interface
    channel = Channel(
        "carts",
        address.split(","),
        caller_service="caller",
        token=TOKEN,
        callers=("Caller",),
        contracts=contracts_of([interface]),
    )
    return remote(interface, channel, caller="Caller", observe=Recorder(CELLS).observe), channel


async def connect(address: str, _callers: int) -> Any:
    """Connect: one channel carries the calls of all callers."""
    reference, channel = _reference(address)
    # As in a service: what calls is itself serving a request that has a trace and a release.
    call_context.set(CallContext(random.getrandbits(128), random.getrandbits(64), False, RELEASE))
    while len(channel.ready) < len(address.split(",")):
        await reference.cart(USER, LOCALE)
        await asyncio.sleep(0.01)

    async def call() -> Any:
        return await reference.cart(USER, LOCALE)

    async def found() -> Any:
        return await reference.deep(USER, LOCALE, True)

    async def broken() -> None:
        try:
            await reference.deep(USER, LOCALE, False)
        except RemoteError:
            return
        raise AssertionError("an error of the callee did not reach its caller")

    async def wait() -> int:
        return await reference.wait(HANDLER_SECONDS)

    async def turn() -> int:
        return await reference.turn(HANDLER_SECONDS)

    def items() -> Any:
        return reference.items(ITEMS)

    return {"cart": call, "found": found, "broken": broken, "wait": wait, "turn": turn, "items": items}
