"""What a call means, the same in every topology."""

import asyncio
import os
import time
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import pytest

from fissile import DeadlineExceeded, InvalidArgument, RemoteError, Unavailable
from fissile.testing.worlds import World

pytestmark = pytest.mark.topologies("tests/topologies/probe")


def probe(world: World) -> Any:
    """The module of the application, as the world has imported it."""
    import sys

    return sys.modules[world.graph.components["Caller"].cls.__module__]


async def until(condition: Any, seconds_max: float = 5.0) -> None:
    """Wait for something that another task or process is about to do."""
    limit = time.monotonic() + seconds_max
    while not await condition():
        assert time.monotonic() < limit, "it did not happen in time"
        await asyncio.sleep(0.005)


async def test_values_arrive_exactly(world: World) -> None:
    module = probe(world)
    sent = module.Everything(-(2**63), Decimal("0.10"), module.moment(), b"\x00\xff", (1, 2, 3))
    assert await world.reference("Callee").echo(sent) == sent


async def test_a_caller_never_sees_a_callees_change(world: World) -> None:
    mine, kept, result = await world.reference("Caller").mutate()
    assert mine == ["first", "changed by the caller"]
    assert kept == ["first", "changed by the callee"]
    assert result == ["first", "changed by the callee", "changed in the result"]


async def test_a_declared_error_arrives_as_itself(world: World) -> None:
    assert await world.reference("Caller").what_arrives("declared") == ("Refused", "no money 9.99 ('no money',)")


@pytest.mark.parametrize(("how", "name"), [("subclass", "probe.StillMoreRefused"), ("other", "KeyError")])
async def test_any_other_error_arrives_as_remote_error(world: World, how: str, name: str) -> None:
    assert await world.reference("Caller").what_arrives(how) == ("RemoteError", name)
    with pytest.raises(RemoteError) as caught:
        await world.reference("Callee").refuse(how)
    assert "refuse" in caught.value.traceback_text
    assert caught.value.origin == "Callee.refuse"


async def test_a_deadline_ends_a_call_and_cancels_its_callee(world: World) -> None:
    callee = world.reference("Callee")
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        await callee.slow(30.0)
    assert 0.15 < time.monotonic() - begun < 3.0
    assert "Callee.slow" in str(caught.value)

    async def cancelled() -> bool:
        return await callee.cancellations() == 1

    await until(cancelled)


async def test_a_nested_call_has_only_what_is_left(world: World) -> None:
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await world.reference("Caller").nested()
    assert time.monotonic() - begun < 3.0

    async def cancelled() -> bool:
        return await world.reference("Callee").cancellations() == 1

    await until(cancelled)


async def test_a_task_that_outlives_its_call_has_its_deadline(world: World) -> None:
    await world.reference("Caller").begin()
    assert await world.reference("Caller").outcome() == "deadline_exceeded"


async def test_a_task_that_outlives_its_call_runs_nothing_and_harms_nobody(world: World) -> None:
    caller = world.reference("Caller")
    await caller.begin_many()
    found = (await caller.outcome()).replace("Callee.count", "METHOD").replace("Callee.pid", "METHOD").split(" | ")
    assert len(set(found)) == 1  # all of them the same: no breaker opens over calls that were never made
    assert "METHOD was not called: the time of the call that it would be part of was up" in found[0]
    assert "context=contextvars.Context()" in found[0]
    assert await world.reference("Callee").produced() == 0
    assert (await caller.reach()).isdecimal()


async def test_cancellation_reaches_the_callee(world: World) -> None:
    callee = world.reference("Callee")
    call = asyncio.create_task(callee.patient(4.0))
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    async def cancelled() -> bool:
        return await callee.cancellations() == 1

    await until(cancelled)


async def test_a_stream_comes_in_order_and_whole(world: World) -> None:
    numbers = [int.from_bytes(item[:4], "big") async for item in world.reference("Callee").count(5000)]
    assert numbers == list(range(5000))


async def test_a_stream_does_not_run_ahead_of_its_consumer(world: World) -> None:
    callee = world.reference("Callee")
    async with aclosing(callee.count(10_000, 10_000)) as items:
        async for _ in items:
            break
        await asyncio.sleep(0.2)
        assert await callee.produced() < 200

    async def closed() -> bool:
        return await callee.cancellations() == 1

    await until(closed)


@pytest.mark.parametrize("items", [3, 100_000])
async def test_a_stream_is_late_though_its_items_came_before_they_were_wanted(world: World, items: int) -> None:
    """items: as many as are sent at once, and more."""
    async with aclosing(world.reference("Callee").brief_count(items)) as stream:
        assert await anext(stream) == 0
        await asyncio.sleep(0.3)
        with pytest.raises(DeadlineExceeded):
            await anext(stream)


async def test_a_stream_that_fails_in_the_middle(world: World) -> None:
    seen = []
    with pytest.raises(RemoteError) as caught:
        async for item in world.reference("Callee").breaking():
            seen.append(item)
    assert seen == [1]
    assert caught.value.type_name == "KeyError"


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("exit", "SystemExit"),
        ("interrupt", "KeyboardInterrupt"),
        ("group", "BaseExceptionGroup"),
        ("inside", "asyncio.exceptions.CancelledError"),
    ],
)
async def test_whatever_a_callee_raises_is_an_error_of_the_call(world: World, how: str, name: str) -> None:
    before = await world.reference("Callee").pid()
    assert await world.reference("Caller").bad_end(how) == (f"RemoteError {name}", f"RemoteError {name}")
    with pytest.raises(RemoteError) as caught:
        await world.reference("Callee").ends_badly(how)
    assert (caught.value.type_name, caught.value.origin) == (name, "Callee.ends_badly")
    assert await world.reference("Callee").pid() == before


async def test_a_callee_that_swallows_its_cancellation_is_late_all_the_same(world: World) -> None:
    with pytest.raises(DeadlineExceeded):
        await world.reference("Callee").swallows()
    this = asyncio.current_task()
    assert this is not None
    assert this.cancelling() == 0


async def test_named_variables_travel_one_way(world: World) -> None:
    found = await world.reference("Caller").contexts("de")
    # A stream has a context of its own, in which what it sets stays.
    assert found == ["de"] * 5 + ["de", "de", "changed", "de", "de"]
    probe(world).LOCALE.set("fr")
    assert (await world.reference("Callee").surroundings())[0] == "fr"
    assert probe(world).LOCALE.get() == "fr"


async def test_other_variables_stay_where_they_are(world: World) -> None:
    *seen, left = await world.reference("Caller").threads("mine")
    assert left == "mine"
    # A direct call hides nothing; `copied` and production's sample tell.
    assert set(seen) == ({"mine"} if world.runner == "direct" else {"none"})


async def test_a_variable_that_cannot_travel(world: World) -> None:
    if world.runner == "direct":
        pytest.skip("a direct call does not look at variables: `copied` and production's sample do")
    told = "InvalidArgument Callee.surroundings: the context variable 'locale' cannot travel: it is a list"
    assert await world.reference("Caller").untravelled() == told


async def test_the_trace_goes_along(world: World) -> None:
    mine, theirs = await world.reference("Caller").traces()
    assert mine == theirs
    assert int(mine, 16)


async def test_arguments_of_the_wrong_type(world: World) -> None:
    if world.runner == "direct":
        pytest.skip("a direct call does not check immutable arguments: pyright and `copied` do")
    with pytest.raises(InvalidArgument, match=r"Callee\.slow\(seconds\)"):
        await world.reference("Callee").slow("long")


async def test_a_callee_that_is_down(world: World) -> None:
    async with world.down("Callee"):
        with pytest.raises(Unavailable):
            await world.reference("Callee").pid()
        assert await world.reference("Caller").reach() == "unavailable"

    async def back() -> bool:
        return await world.reference("Caller").reach() != "unavailable"

    await until(back, 15.0)


async def test_where_topologies_differ(world: World) -> None:
    """In `processes` each component has a process of its own; nothing else tells them apart."""
    pids = {await world.reference("Caller").pid(), await world.reference("Callee").pid(), os.getpid()}
    assert len(pids) == (3 if world.runner == "processes" else 1)
