"""Calls between services, on a network in memory, on Unix sockets and on TCP."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from shelves import GRAPH

from fissile.component.context import CallContext, call_context
from fissile.errors import DeadlineExceeded, IncompatibleContract, Overloaded, PermissionDenied, Unavailable


async def test_many_calls_at_once(rig: Any) -> None:
    await rig.serve()
    shelf = rig.call()
    answers = await asyncio.gather(*(shelf.read(f"k{i}") for i in range(200)))
    assert answers == [f"K{i}" for i in range(200)]
    assert len(rig.channels[0].ready) == 1


@pytest.mark.parametrize("rig", ["memory"], indirect=True)
async def test_after_a_long_outage_a_call_gets_through_at_once(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fissile.rpc.channel.random.random", lambda: 0.999)
    address = await rig.serve()
    shelf = rig.call()
    assert await shelf.read("before") == "BEFORE"
    rig.network.cut(address)
    for _ in range(2):  # while callers wait, the pauses between attempts grow
        with pytest.raises(Unavailable, match="no replica was there"):
            await shelf.read("meanwhile")
    waiting = asyncio.create_task(shelf.read("after"))
    await asyncio.sleep(0)
    rig.network.listen(address, rig.servers[0].protocol)
    assert await waiting == "AFTER"


async def test_a_full_queue_refuses_at_once(rig: Any, until: Callable[..., Any]) -> None:
    await rig.serve(concurrency=2, queue=3)
    shelf = rig.call()
    calls = [asyncio.create_task(shelf.write()) for _ in range(5)]
    await until(lambda: rig.servers[0].running == 2 and len(rig.servers[0].waiting) == 3)
    with pytest.raises(Overloaded) as caught:
        await shelf.read("more")
    assert caught.value.retry_after_seconds > 0
    rig.shelves[0].gate.set()
    assert sorted(await asyncio.gather(*calls)) == [1, 2, 3, 4, 5]
    assert await shelf.read("now") == "NOW"


async def test_a_call_that_was_given_up_in_the_queue_never_runs(rig: Any, until: Callable[..., Any]) -> None:
    await rig.serve(concurrency=1, queue=3)
    shelf = rig.call()
    first = asyncio.create_task(shelf.write())
    await until(lambda: rig.servers[0].running == 1)
    second = asyncio.create_task(shelf.write())
    await until(lambda: len(rig.servers[0].waiting) == 1)
    second.cancel()
    await asyncio.wait({second})
    assert await_none(rig)
    rig.shelves[0].gate.set()
    assert await first == 1
    assert await shelf.read("x") == "X"
    assert rig.shelves[0].begun == 1


def await_none(rig: Any) -> bool:
    return rig.shelves[0].begun == 1


async def test_calls_go_to_the_less_busy_replica(rig: Any, until: Callable[..., Any]) -> None:
    for _ in range(3):
        await rig.serve()
    shelf = rig.call()
    await shelf.read("connect")
    await until(lambda: len(rig.channels[0].ready) == 3)
    calls = [asyncio.create_task(shelf.wait()) for _ in range(30)]
    await until(lambda: sum(each.begun for each in rig.shelves) == 30)
    assert all(5 <= each.begun <= 15 for each in rig.shelves)
    for each in rig.shelves:
        each.gate.set()
    await asyncio.gather(*calls)


async def test_a_broken_connection_is_retried_only_where_it_is_safe(rig: Any, until: Callable[..., Any]) -> None:
    await rig.serve()
    shelf = rig.call()
    safe, unsafe = asyncio.create_task(shelf.wait()), asyncio.create_task(shelf.write())
    await until(lambda: rig.shelves[0].begun == 2)
    rig.shelves[0].gate.set()
    for connection in list(rig.servers[0].connections):
        connection.transport.abort()
    with pytest.raises(Unavailable, match="not idempotent"):
        await unsafe
    assert await safe >= 1


async def test_a_replica_that_drains_finishes_what_it_has(rig: Any, until: Callable[..., Any]) -> None:
    await rig.serve()
    shelf = rig.call()
    call = asyncio.create_task(shelf.write())
    await until(lambda: rig.shelves[0].begun == 1)
    drain = asyncio.create_task(rig.servers[0].drain(5.0))
    await until(lambda: not rig.channels[0].ready)
    assert not drain.done()
    rig.shelves[0].gate.set()
    assert await call == 1
    assert await drain


@pytest.mark.parametrize("rig", ["unix", "tcp"], indirect=True)
async def test_a_call_that_is_on_its_way_when_its_replica_drains_is_answered(rig: Any, until: Any) -> None:
    """Its caller knew of nothing, and nothing else is in flight that would keep the replica."""
    await rig.serve()
    assert await rig.call().read("another") == "ANOTHER"
    await rig.channels[0].close()
    await until(lambda: not rig.servers[0].connections)
    shelf = rig.call()
    assert await shelf.read("a") == "A"
    rig.shelves[0].gate.set()
    call = asyncio.create_task(shelf.write())
    await asyncio.sleep(0)
    assert await rig.servers[0].drain(5.0)
    await rig.servers[0].close()
    assert await call == 1


async def test_a_drain_does_not_wait_for_callers_that_call_nothing(rig: Any) -> None:
    await rig.serve()
    shelf = rig.call()
    assert await shelf.read("a") == "A"
    begun = time.monotonic()
    assert await rig.servers[0].drain(5.0)
    assert time.monotonic() - begun < 0.5


async def test_a_stream_ends_in_order_if_it_can_while_its_replica_drains(rig: Any) -> None:
    await rig.serve()
    stream = rig.call().follow()
    assert await anext(stream) == 1
    drain = asyncio.create_task(rig.servers[0].drain(5.0))
    rig.shelves[0].gate.set()
    assert [item async for item in stream] == [1]
    assert await drain


async def test_a_stream_that_stays_open_is_told_to_move(rig: Any) -> None:
    await rig.serve()
    stream = rig.call().follow()
    assert await anext(stream) == 1
    drain = asyncio.create_task(rig.servers[0].drain(0.2))
    with pytest.raises(Unavailable, match=r"is being replaced(.|\n)*open it again"):
        await anext(stream)
    assert await drain


async def test_a_drain_that_takes_too_long_says_so(rig: Any, until: Callable[..., Any]) -> None:
    await rig.serve()
    shelf = rig.call()
    call = asyncio.create_task(shelf.write())
    await until(lambda: rig.shelves[0].begun == 1)
    assert not await rig.servers[0].drain(0.05)
    await rig.servers[0].close()
    with pytest.raises(Unavailable):
        await call


async def test_a_caller_without_a_reference_is_refused(rig: Any) -> None:
    await rig.serve()
    with pytest.raises(PermissionDenied, match="constructor parameter"):
        await rig.call(caller="Other").read("x")
    assert await rig.call().read("x") == "X"


async def test_a_wrong_token_is_refused(rig: Any) -> None:
    await rig.serve()
    with pytest.raises(Unavailable, match="token is not known"):
        await rig.call(token="guess").read("x")


async def test_another_contract_is_refused_for_that_method_alone(rig: Any) -> None:
    await rig.serve()
    good = {method.label: method.fingerprint for method in _methods()}
    shelf = rig.call(contracts={**good, "Shelf.read": "0" * 16})
    with pytest.raises(IncompatibleContract, match=r"Shelf\.read"):
        await shelf.read("x")
    rig.shelves[0].gate.set()
    assert await shelf.wait() == 1


async def test_a_contract_of_another_release_that_is_understood(rig: Any) -> None:
    await rig.serve()
    server, good = rig.servers[0], {method.label: method.fingerprint for method in _methods()}
    other = "0" * 16
    server.access = msgspec.structs.replace(server.access, understood={good["Shelf.read"]: frozenset({other})})
    shelf = rig.call(contracts={**good, "Shelf.read": other, "Shelf.wait": other})
    assert await shelf.read("x") == "X"
    with pytest.raises(IncompatibleContract, match=r"Shelf\.wait"):
        await shelf.wait()


def _methods() -> list[Any]:
    return list(GRAPH.components["Shelf"].interface.methods.values())


async def test_nobody_there(rig: Any) -> None:
    rig.addresses.append({"memory": "memory:x", "unix": "unix:/nowhere", "tcp": "tcp:127.0.0.1:1"}[rig.kind])
    with pytest.raises(Unavailable, match="cannot be reached"):
        await rig.call().read("x")


async def test_new_routes_move_the_calls(rig: Any, until: Callable[..., Any]) -> None:
    first = await rig.serve()
    second = await rig.serve()
    rig.addresses = [first]
    shelf = rig.call()
    assert await shelf.read("x") == "X"
    rig.channels[0].route([second])
    rig.shelves[1].gate.set()
    assert await shelf.wait() == 1
    assert rig.shelves[1].begun == 1


@pytest.mark.parametrize("rig", ["memory"], indirect=True)
async def test_new_routes_move_the_calls_that_wait(rig: Any) -> None:
    """Though there was no replica at all before."""
    address = await rig.serve()
    rig.addresses = ["memory:nobody"]
    shelf = rig.call()
    call = asyncio.create_task(shelf.read("x"))
    await asyncio.sleep(0.02)
    begun = time.monotonic()
    rig.channels[0].route([address])
    assert await call == "X"
    assert time.monotonic() - begun < 0.5


@pytest.mark.parametrize("rig", ["memory"], indirect=True)
async def test_a_call_waits_for_the_next_where_the_only_replica_welcomes_it_and_drains(rig: Any) -> None:
    address = await rig.serve()
    await rig.serve()
    rig.addresses = [address]
    rig.servers[0].draining = True
    begun = time.monotonic()
    call = asyncio.create_task(rig.call().read("x"))
    await asyncio.sleep(0.02)
    rig.network.listen(address, rig.servers[1].protocol)
    assert await call == "X"
    assert time.monotonic() - begun < 0.8


async def test_calls_whose_time_was_up_say_nothing_of_their_callee(rig: Any) -> None:
    """As those of a task that outlives its request: they run nothing, and the breaker stays closed for others."""
    await rig.serve()
    shelf = rig.call()

    async def too_late() -> None:
        call_context.set(CallContext(1, 1, deadline=time.monotonic() - 1.0, timeout=1.0))
        for _ in range(10):
            with pytest.raises(DeadlineExceeded):
                await shelf.echo(b"")
            with pytest.raises(DeadlineExceeded):
                await anext(shelf.follow())

    assert await shelf.read("a") == "A"
    await asyncio.create_task(too_late())
    assert await shelf.read("b") == "B"
    assert rig.shelves[0].begun == 0


@pytest.mark.parametrize("rig", ["unix"], indirect=True)
@pytest.mark.parametrize("connected", [False, True])
async def test_a_thread_with_an_event_loop_of_its_own_may_call(rig: Any, connected: bool, until: Any) -> None:
    """As it may where all is one process; and its loop, which ends, is nobody else's."""
    await rig.serve()
    shelf = rig.call()
    if connected:
        assert await shelf.read("a") == "A"

    async def calls() -> list[Any]:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(shelf.write(), 0.05)
        return [
            await shelf.read("b"),
            [len(page) async for page in shelf.pages(40, 50_000)],
            await anext(shelf.follow()),
        ]

    for _ in range(2):
        assert (await asyncio.to_thread(lambda: asyncio.run(calls())))[:2] == ["B", [50_000] * 40]
    assert await shelf.read("c") == "C"
    await until(lambda: not rig.channels[0].in_flight() and not rig.servers[0].running)
