"""Whatever a call takes is given back, however it ends: places, the queue, connections, memory."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from peers import Peer
from shelves import SHELF, TooLarge

from fissile.errors import DeadlineExceeded, Overloaded, RemoteError, Unavailable
from fissile.rpc import server as server_module
from fissile.rpc.server import Server
from fissile.wire import events
from fissile.wire.frames import CALLS_MAX, HEADER, OVERHEAD_BYTES, Kind

PING_FRAME = HEADER.pack(OVERHEAD_BYTES, Kind.PING, 7)
Until = Callable[..., Any]
sockets = pytest.mark.parametrize("rig", ["unix", "tcp"], indirect=True)


def at_rest(server: Server) -> bool:
    """Whether every gauge of a server is at zero."""
    gauges = (server.places, server.waiting, server.parked, server.returning)
    return not any(gauges) and not any(one.held or one.wire.calls or one.wire.streams for one in server.connections)


async def test_calls_abandoned_before_the_callee_looked_at_them(rig: Any, until: Until) -> None:
    await rig.serve(concurrency=4, queue=4)
    shelf = rig.call()
    assert await shelf.read("a") == "A"
    for _ in range(20):
        calls = [asyncio.ensure_future(shelf.write()) for _ in range(8)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    await until(lambda: at_rest(rig.servers[0]))
    assert await shelf.read("b") == "B"


@sockets
async def test_a_request_and_its_cancel_in_one_packet(rig: Any, until: Until) -> None:
    peer = await Peer.connect(await rig.serve(concurrency=2), SHELF)
    for streaming in (False, True) * 10:
        call = peer.request("Shelf.follow" if streaming else "Shelf.write", streaming=streaming)
        peer.wire.cancel(call)
        peer.send()
    await until(lambda: rig.servers[0].connections and at_rest(rig.servers[0]))
    assert await rig.call().read("b") == "B"
    peer.reset()


@sockets
@pytest.mark.parametrize("how", ["reset", "rubbish"])
async def test_a_caller_that_breaks_off_with_its_requests(rig: Any, until: Until, how: str) -> None:
    """In the packet that has them, and before the first of them took a step."""
    address = await rig.serve(concurrency=4, queue=4)
    good = rig.call()
    assert await good.read("a") == "A"
    for _ in range(8):
        peer = await Peer.connect(address, SHELF)
        for _ in range(6):
            peer.request("Shelf.write")
        if how == "rubbish":
            peer.wire.out += b"\xff" * 20
        peer.send()
        if how == "reset":
            peer.reset()
        else:
            while await peer.reader.read(1 << 16):
                pass
            peer.writer.close()
    await until(lambda: at_rest(rig.servers[0]) and len(rig.servers[0].connections) == 1)
    assert await good.read("b") == "B"


async def test_a_task_that_somebody_else_cancels_gives_its_place_back_at_the_deadline(rig: Any, until: Until) -> None:
    await rig.serve(concurrency=1)
    shelf = rig.call()
    assert await shelf.read("a") == "A"
    call = asyncio.ensure_future(shelf.write())
    server = rig.servers[0]
    before = asyncio.all_tasks()
    while not server.places:
        await asyncio.sleep(0)
    (one,) = server.places
    assert one.task not in before
    if not one.begun:
        one.task.cancel()
    one.deadline = time.monotonic()
    server.alarm.set(one.deadline)
    await until(lambda: at_rest(server))
    call.cancel()


@sockets
async def test_cancelled_calls_and_those_of_dead_callers_leave_the_queue_at_once(rig: Any, until: Until) -> None:
    address = await rig.serve(concurrency=1, queue=3)
    server, gate = rig.servers[0], rig.shelves[0].gate
    first, second = await Peer.connect(address, SHELF), await Peer.connect(address, SHELF)
    first.request("Shelf.write")
    waiting = first.request("Shelf.write")
    first.send()
    await until(lambda: len(server.waiting) == 1)
    second.request("Shelf.write")
    second.request("Shelf.write")
    second.send()
    await until(lambda: len(server.waiting) == 3)
    good = rig.call()
    with pytest.raises(Overloaded):
        await good.read("a")
    first.wire.cancel(waiting)
    first.send()
    second.reset()
    await until(lambda: not server.waiting)
    last = asyncio.ensure_future(good.read("b"))
    await until(lambda: len(server.waiting) == 1)
    gate.set()
    assert await last == "B"
    first.reset()


@sockets
async def test_a_deadline_passes_in_the_queue(rig: Any, until: Until) -> None:
    """A callee does not wait for its caller to say so."""
    peer = await Peer.connect(await rig.serve(concurrency=1, queue=3), SHELF)
    peer.request("Shelf.write")
    peer.request("Shelf.write", timeout_ms=50)
    peer.send()
    (failed,) = await peer.read()
    assert isinstance(failed, events.Failed)
    assert b"deadline_exceeded" in failed.body
    assert not rig.servers[0].waiting
    peer.reset()


async def test_big_calls_both_ways(rig: Any) -> None:
    """More than all buffers between the two have room for, in both directions at once."""
    await rig.serve()
    shelf = rig.call()
    async with asyncio.timeout(20):
        for size in (1_000_000, 5_000_000):
            data = bytes(size)
            assert await asyncio.gather(*(shelf.echo(data) for _ in range(12))) == [data] * 12
    assert await shelf.read("a") == "A"
    assert at_rest(rig.servers[0])


async def test_small_calls_go_on_beside_big_ones(rig: Any) -> None:
    await rig.serve()
    shelf, other = rig.call(), rig.call()
    big = asyncio.gather(*(shelf.echo(bytes(4_000_000)) for _ in range(8)))
    assert await asyncio.gather(*(other.read("a") for _ in range(100))) == ["A"] * 100
    await big


@sockets
async def test_answers_that_nobody_reads_are_bounded(rig: Any, until: Until) -> None:
    """No call is started for a connection that has no room for its answer."""
    address = await rig.serve(concurrency=2)
    server, shelf = rig.servers[0], rig.shelves[0]
    peer = await Peer.connect(address, SHELF)
    for _ in range(40):
        peer.request("Shelf.echo", bytes(2_000_000))
        peer.send()
    (connection,) = server.connections
    await until(lambda: not connection.writable)
    for _ in range(20):
        await asyncio.sleep(0.01)
        assert connection.transport.get_write_buffer_size() < 8_000_000
    assert shelf.begun < 10
    good = rig.call()
    assert await good.read("a") == "A"
    answered = 0
    while answered < 40:
        answered += len(await peer.read())
    assert at_rest(server)
    peer.reset()


@sockets
async def test_a_caller_that_sends_and_never_reads_is_closed(
    rig: Any, until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "DEADLOCK_SECONDS", 0.3)
    monkeypatch.setattr(server_module, "DEADLOCK_CHECK_SECONDS", 0.1)
    address = await rig.serve()
    peer = await Peer.connect(address, SHELF)
    for _ in range(40):
        peer.request("Shelf.echo", bytes(2_000_000))
        peer.send()
    await until(lambda: not rig.servers[0].connections)
    assert "has read none of our" in caplog.text
    assert at_rest(rig.servers[0])


@sockets
async def test_a_caller_that_only_does_not_read_is_left_alone(
    rig: Any, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "DEADLOCK_SECONDS", 0.1)
    monkeypatch.setattr(server_module, "DEADLOCK_CHECK_SECONDS", 0.05)
    address = await rig.serve()
    peer = await Peer.connect(address, SHELF)
    call = peer.request("Shelf.echo", bytes(8_000_000))
    peer.send()
    await until(lambda: rig.shelves[0].begun == 1)
    await asyncio.sleep(0.3)
    found = await peer.read()
    assert isinstance(found[0], events.Response)
    assert call == 1
    peer.reset()


async def test_streams_that_nobody_reads_leave_their_places_to_others(rig: Any, until: Until) -> None:
    await rig.serve(concurrency=2, queue=0)
    shelf, server = rig.call(), rig.servers[0]
    unread = [shelf.pages(100, 60_000) for _ in range(5)]
    for stream in unread:
        assert len(await anext(stream)) == 60_000
    await until(lambda: len(server.parked) == 5)
    assert server.running == 0
    assert await shelf.read("a") == "A"
    for stream in unread[:3]:
        assert [len(page) async for page in stream] == [60_000] * 99
    for stream in unread[3:]:
        await stream.aclose()
    await until(lambda: at_rest(server))
    assert rig.shelves[0].ended == 5


async def test_a_stream_goes_on_only_where_there_is_a_place(rig: Any, until: Until) -> None:
    await rig.serve(concurrency=1, queue=5)
    shelf, server = rig.call(), rig.servers[0]
    stream = shelf.pages(20, 100_000)
    await anext(stream)
    await until(lambda: len(server.parked) == 1)
    writing = asyncio.ensure_future(shelf.write())
    waiting = asyncio.ensure_future(shelf.read("last"))
    await until(lambda: len(server.waiting) == 1)
    rest = asyncio.ensure_future(_count(stream))
    await until(lambda: len(server.returning) == 1)
    assert server.running == 1
    rig.shelves[0].gate.set()
    await writing
    assert await rest == 19
    assert await waiting == "LAST"
    await until(lambda: at_rest(server))


async def _count(stream: Any) -> int:
    return len([item async for item in stream])


async def test_a_stream_that_nobody_reads_ends(rig: Any, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "UNREAD_SECONDS_MAX", 0.1)
    await rig.serve()
    stream = rig.call().pages(100, 60_000)
    await anext(stream)
    await until(lambda: rig.shelves[0].ended == 1)
    assert at_rest(rig.servers[0])
    with pytest.raises(Exception, match=r"nothing was taken of the stream Shelf\.pages for 0\.1 s"):
        await _count(stream)


@sockets
@pytest.mark.parametrize("how", ["exit", "interrupt", "cancelled inside", "surrogates", "too large"])
async def test_every_end_of_a_method_is_an_answer(rig: Any, how: str) -> None:
    await rig.serve()
    shelf = rig.call()
    begun = time.monotonic()
    with pytest.raises((RemoteError, TooLarge)) as caught:
        await shelf.fail(how)
    assert time.monotonic() - begun < 2
    names = {"exit": "SystemExit", "interrupt": "KeyboardInterrupt", "cancelled inside": "CancelledError"}
    assert names.get(how, "") in getattr(caught.value, "type_name", "")
    assert await shelf.read("a") == "A"
    assert at_rest(rig.servers[0])


@sockets
@pytest.mark.parametrize("how", ["answers", "raises"])
async def test_a_method_that_goes_on_after_its_deadline_was_late(rig: Any, how: str) -> None:
    """Whatever it makes of its cancellation: a callee that is asked by hand has nobody else to say so."""
    peer = await Peer.connect(await rig.serve(), SHELF)
    peer.request("Shelf.outlive", how, timeout_ms=50)
    peer.send()
    (failed,) = await peer.read()
    assert isinstance(failed, events.Failed)
    assert b"deadline_exceeded" in failed.body
    peer.reset()


@sockets
async def test_more_calls_at_once_than_a_connection_may_have(rig: Any, until: Until) -> None:
    await rig.serve(concurrency=1, queue=CALLS_MAX)
    shelf = rig.call()
    calls = [asyncio.ensure_future(shelf.wait()) for _ in range(CALLS_MAX + 10)]
    await until(lambda: len(rig.servers[0].waiting) == CALLS_MAX - 1)
    rig.shelves[0].gate.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    refused = [one for one in found if isinstance(one, Overloaded)]
    assert len(refused) == 10
    assert sum(isinstance(one, int) for one in found) == CALLS_MAX
    assert at_rest(rig.servers[0])


@sockets
async def test_more_streams_and_calls_at_once_than_a_connection_may_have(rig: Any, until: Until) -> None:
    """Both count alike at both ends: the connection is never given more than it may have."""
    await rig.serve(concurrency=1, queue=2 * CALLS_MAX)
    shelf = rig.call()

    async def follow() -> list[int]:
        return [item async for item in shelf.follow()]

    streams = [asyncio.ensure_future(follow()) for _ in range(CALLS_MAX - 10)]
    await until(lambda: len(rig.servers[0].waiting) == CALLS_MAX - 11)
    calls = [asyncio.ensure_future(shelf.wait()) for _ in range(30)]
    await until(lambda: sum(one.done() for one in calls) == 20)
    assert all(isinstance(one.exception(), Overloaded) for one in calls if one.done())
    for one in (*streams, *calls):
        one.cancel()
    await asyncio.gather(*streams, *calls, return_exceptions=True)
    await until(lambda: at_rest(rig.servers[0]))


@sockets
async def test_a_connection_is_replaced_before_its_call_ids_are_used_up(rig: Any, until: Until) -> None:
    await rig.serve()
    shelf = rig.call()
    assert await shelf.read("a") == "A"
    (old,) = rig.channels[0].ready
    old.wire._last_call = 2**32 - 1000
    follow = shelf.follow()
    assert await anext(follow) == 1
    await until(lambda: rig.channels[0].ready and rig.channels[0].ready[0] is not old)
    assert await shelf.read("b") == "B"
    rig.shelves[0].gate.set()
    assert await anext(follow) == 1
    await until(lambda: old.lost or not old.load())


@sockets
async def test_a_peer_that_pings_and_does_not_read_is_sent_nothing_more(rig: Any, until: Until) -> None:
    address = await rig.serve()
    peer = await Peer.connect(address, SHELF)
    peer.writer.write(PING_FRAME * 400_000)
    await asyncio.sleep(0.3)
    for connection in rig.servers[0].connections:
        assert connection.transport.get_write_buffer_size() < 3_000_000
    assert await rig.call().read("a") == "A"
    peer.reset()


async def test_a_replica_that_gives_no_sign_of_life_gets_no_new_calls(rig: Any, until: Until) -> None:
    await rig.serve()
    await rig.serve()
    shelf, channel = rig.call(), rig.channels[0]
    await shelf.read("a")
    await until(lambda: len(channel.ready) == 2)
    deaf = channel.ready[0]
    deaf.transport.pause_reading()  # all that comes stays in the socket, as from a process that is stopped
    hanging = [asyncio.ensure_future(shelf.wait()) for _ in range(8)]
    async with asyncio.timeout(4):
        while deaf in channel.ready:
            await asyncio.sleep(0.05)
    assert await asyncio.gather(*(shelf.read("b") for _ in range(20))) == ["B"] * 20
    deaf.transport.resume_reading()
    rig.shelves[0].gate.set()
    rig.shelves[1].gate.set()
    await asyncio.gather(*hanging)
    async with asyncio.timeout(4):
        again = asyncio.ensure_future(shelf.write())
        while deaf not in channel.ready:
            await asyncio.sleep(0.05)
    await again


async def test_close_does_not_wait_for_a_method_that_will_not_end(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CLOSE_SECONDS_MAX", 0.1)
    await rig.serve()
    shelf = rig.call()

    async def stubborn() -> int:
        while not rig.shelves[0].gate.is_set():
            try:
                await rig.shelves[0].gate.wait()
            except asyncio.CancelledError:
                continue
        return 1

    entry = rig.servers[0].entries[rig.servers[0].indexes["Shelf.write"]]
    entry.invoke = lambda _: stubborn()
    call = asyncio.ensure_future(shelf.write())
    while not rig.servers[0].places:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    async with asyncio.timeout(1):
        await rig.servers[0].close()
    with pytest.raises((Unavailable, DeadlineExceeded)):
        await call
    rig.shelves[0].gate.set()
