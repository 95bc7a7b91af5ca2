"""The channels of a replica when its routes change, and when it ends."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fissile.component.declaration import component
from fissile.component.graph import Graph
from fissile.component.wiring import CELLS
from fissile.errors import Unavailable
from fissile.machine.sockets import listen_unix
from fissile.rpc.access import Access, token_digest
from fissile.rpc.server import Export, Server
from fissile.runtime.control import Callee, ReplicaSpec, Routes
from fissile.runtime.upstreams import Upstreams
from fissile.telemetry.recorder import Recorder


@component
class Shelf:
    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def wait(self) -> None:
        await self.gate.wait()


@component
class Reader:
    def __init__(self, shelf: Shelf) -> None: ...


GRAPH = Graph(Reader, Shelf)
NOBODY = Routes(release="r1")


@pytest.mark.parametrize("steps", [0, 3])
async def test_a_way_that_is_not_taken_any_more_ends_with_the_replica(tmp_path: Path, steps: int) -> None:
    path = str(tmp_path / "shelf.sock")
    access = Access({token_digest("t"): "reader"}, {"reader": ("Reader",)}, {"Reader": frozenset({"Shelf"})})
    server = Server("shelf", {"Shelf": Export(GRAPH.components["Shelf"].interface, Shelf())}, access)
    await server.start(listen_unix(path))
    routes = msgspec.structs.replace(
        NOBODY, callees={"shelf": Callee("shelf", (f"unix:{path}",))}, targets={"r1": {"Shelf": "shelf"}}
    )
    spec = ReplicaSpec("none", "", "reader", "reader", 0, "b", "r1", ("Reader",), routes, "t", {})
    upstreams = Upstreams(GRAPH, spec, Recorder(CELLS))
    upstreams.apply_routes(routes)
    shelf: Any = upstreams.reference("Reader", "Shelf")
    call = asyncio.create_task(shelf.wait())
    await _until(lambda: server.running == 1)
    upstreams.apply_routes(NOBODY)
    for _ in range(steps):
        await asyncio.sleep(0)
    assert not call.done()
    async with asyncio.timeout(5.0):
        await upstreams.close()
        with pytest.raises(Unavailable):
            await call
    await _until(lambda: not server.connections)
    await server.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5.0):
        while not condition():
            await asyncio.sleep(0.005)
