"""When all places of a replica count as stuck: held by calls whose time is up, and by no others."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from math import inf
from typing import Any

import pytest
import pytest_asyncio

from fissile.component.declaration import component, method
from fissile.component.graph import Graph
from fissile.errors import DeadlineExceeded
from fissile.rpc.access import Access, token_digest
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.server import Export, Server
from fissile.rpc.stub import remote
from fissile.testing.memory import MemoryNetwork

PLACES = 2
LATER = 100.0


@component
class Mule:
    """Does not let itself be cancelled."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def _cling(self) -> None:
        while not self.gate.is_set():
            with suppress(asyncio.CancelledError):
                await self.gate.wait()

    @method(timeout=0.05)
    async def cling(self) -> None:
        await self._cling()

    @method(timeout=inf)
    async def cling_for_ever(self) -> None:
        await self._cling()

    @method(timeout=inf)
    async def news(self) -> AsyncIterator[int]:
        await self.gate.wait()
        yield 1


@component
class Owner:
    def __init__(self, mule: Mule) -> None: ...


class Stable:
    """One server with two places, and a reference to it."""

    def __init__(self) -> None:
        interface = Graph(Owner, Mule).components["Mule"].interface
        self.mule = Mule()
        access = Access(
            peers={token_digest("secret"): "owner"},
            members={"owner": ("Owner",)},
            references={"Owner": frozenset({"Mule"})},
        )
        self.server = Server("mule", {"Mule": Export(interface, self.mule)}, access, concurrency=PLACES)
        network = MemoryNetwork()
        network.listen("memory:0", self.server.protocol)
        self.channel = Channel(
            "mule",
            ["memory:0"],
            caller_service="owner",
            token="secret",
            callers=("Owner",),
            contracts=contracts_of([interface]),
            connect=network.connect,
        )
        self.reference: Any = remote(interface, self.channel, caller="Owner")

    def stuck(self, after_seconds: float = 0.0) -> float:
        return self.server.stuck_seconds(time.monotonic() + after_seconds)


@pytest_asyncio.fixture
async def stable() -> AsyncIterator[Stable]:
    made = Stable()
    yield made
    made.mule.gate.set()
    await made.channel.close()
    await made.server.close()


async def test_places_held_past_the_deadline(stable: Stable, until: Callable[..., Any]) -> None:
    with pytest.raises(DeadlineExceeded):
        await stable.reference.cling()
    assert stable.stuck(LATER) == 0.0  # the other place is free
    with pytest.raises(DeadlineExceeded):
        await stable.reference.cling()
    await until(lambda: stable.stuck() > 0.0)
    assert LATER - 1.0 < stable.stuck(LATER) < LATER + 1.0
    assert stable.server.holders() == {"Mule.cling": PLACES}
    stable.mule.gate.set()
    await until(lambda: stable.server.running == 0)
    assert stable.stuck(LATER) == 0.0


async def test_places_of_callers_that_wait_without_a_deadline(stable: Stable, until: Callable[..., Any]) -> None:
    async def read() -> list[int]:
        return [item async for item in stable.reference.news()]

    calls = [asyncio.create_task(read()) for _ in range(PLACES)]
    await until(lambda: stable.server.running == PLACES)
    assert stable.stuck(LATER) == 0.0
    stable.mule.gate.set()
    assert await asyncio.gather(*calls) == [[1], [1]]


async def test_places_held_for_callers_that_have_gone(stable: Stable, until: Callable[..., Any]) -> None:
    calls = [asyncio.create_task(stable.reference.cling_for_ever()) for _ in range(PLACES)]
    await until(lambda: stable.server.running == PLACES)
    assert stable.stuck(LATER) == 0.0
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await until(lambda: stable.stuck(LATER) > LATER - 1.0)
