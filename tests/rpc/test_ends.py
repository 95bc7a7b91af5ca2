"""How calls, streams and channels end: at once, in the middle of a handshake, with nobody reading."""

import asyncio
import gc
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fissile.component.context import CallContext, call_context
from fissile.errors import DeadlineExceeded, Unavailable
from fissile.rpc.channel import Channel, StreamTicket, connect, contracts_of
from fissile.rpc.stub import remote
from fissile.wire.connection import Connection
from fissile.wire.frames import Hello, Welcome
from fissile.wire.state import Role, State
from tests.rpc.conftest import GRAPH, Rig

INTERFACE = GRAPH.components["Shelf"].interface


def new_channel(address: str, **more: Any) -> Channel:
    return Channel(
        "shelf",
        [address],
        caller_service="reader",
        token="secret",
        callers=("Reader",),
        contracts=contracts_of([INTERFACE]),
        **more,
    )


async def raw(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Connection]:
    """A connection by hand, its handshake done."""
    kind, _, rest = address.partition(":")
    if kind == "unix":
        reader, writer = await asyncio.open_unix_connection(rest)
    else:
        host, _, port = rest.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
    wire = Connection(Role.CALLER)
    wire.hello(Hello(1, "secret", "reader", ("Reader",), contracts_of([INTERFACE])))
    writer.write(wire.take())
    while wire.state is State.HANDSHAKE:
        wire.receive(await reader.read(65536), list[Any]().append)
    return reader, writer, wire


@pytest.mark.parametrize("rig", ["unix", "tcp"], indirect=True)
@pytest.mark.parametrize("method", ["Shelf.write", "Shelf.follow"])
async def test_a_request_and_its_cancel_in_one_packet(
    rig: Any, method: str, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing runs, nothing is kept, nothing is logged, and the connection goes on."""
    address = await rig.serve()
    server = rig.servers[0]
    reader, writer, wire = await raw(address)
    index = list(INTERFACE.methods).index(method.partition(".")[2])
    for _ in range(100):
        wire.cancel(wire.send_request(None, (), index, 0, 60_000, 1, 1, False, "", False))
    answered: list[Any] = []
    wire.send_request("last", ("it goes on",), list(INTERFACE.methods).index("read"), 0, 5000, 1, 1, False, "", False)
    writer.write(wire.take())
    async with asyncio.timeout(5.0):
        while not answered:
            wire.receive(await reader.read(65536), answered.append)
    assert answered[0].ticket == "last"
    await until(lambda: not server.running)
    assert [len(place) for place in (server.waiting, server.parked, server.returning)] == [0, 0, 0]
    assert rig.shelves[0].begun == 0
    assert not caplog.records
    writer.close()
    await until(lambda: not server.connections)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_channel_that_is_closed_in_a_handshake_leaves_nothing(
    kind: str, new_loop: Any, until: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a connection nor a call that waits, at whatever turn of the loop it is closed."""

    async def close_in_every_turn() -> None:
        rig = Rig(kind, tmp_path)
        address = await rig.serve()
        for turn in range(40):
            channel = new_channel(address)
            shelf = remote(INTERFACE, channel, caller="Reader")
            calls = [asyncio.ensure_future(shelf.write()) for _ in range(8)]
            for _ in range(turn):
                await asyncio.sleep(0)
            async with asyncio.timeout(5.0):
                closing = asyncio.ensure_future(channel.close())
                await asyncio.sleep(0)
                calls += [asyncio.ensure_future(shelf.write()) for _ in range(8)]  # while it is being closed
                ended = await asyncio.gather(*calls, return_exceptions=True)
                await closing
            assert all(isinstance(error, Unavailable) for error in ended)
            assert not channel.connections
        await until(lambda: not rig.servers[0].connections)
        await rig.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(close_in_every_turn())
    assert not caplog.records


@pytest.mark.parametrize("rig", ["unix", "tcp"], indirect=True)
async def test_a_welcome_that_comes_while_the_channel_is_closed(rig: Any, until: Any) -> None:
    """No call goes to a connection whose maker is being cancelled."""
    ready: list[Any] = []

    async def lingering(factory: Any, address: str) -> Any:
        made = await connect(factory, address)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await made[1].opened
            ready.append([*channel.ready, *channel.connections])
            raise

    channel = new_channel(await rig.serve(), connect=lingering)
    call = asyncio.ensure_future(remote(INTERFACE, channel, caller="Reader").write())
    await until(lambda: rig.servers[0].connections)
    await channel.close()
    with pytest.raises(Unavailable):
        await call
    assert ready == [[]]
    await until(lambda: not rig.servers[0].connections)


async def test_a_channel_is_closed_although_its_replica_does_not_read(tmp_path: Path) -> None:
    """What was not sent yet must not keep calls waiting for a replica that reads nothing."""

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Connection(Role.CALLEE)
        while wire.state is State.HANDSHAKE:
            wire.receive(await reader.read(1000), list[Any]().append)
        labels = [method.label for method in INTERFACE.methods.values()]
        wire.accept(Welcome(1, "shelf", {label: index for index, label in enumerate(labels)}))
        writer.write(wire.take())
        writer.transport.pause_reading()  # type: ignore[attr-defined]

    path = str(tmp_path / "deaf.sock")
    server = await asyncio.start_unix_server(welcome, path)
    channel = new_channel(f"unix:{path}")
    call = asyncio.ensure_future(remote(INTERFACE, channel, caller="Reader").read("x" * 5_000_000))
    async with asyncio.timeout(5.0):
        while not channel.in_flight() or not channel.open:
            await asyncio.sleep(0.001)
        await channel.close()
        with pytest.raises(Unavailable):
            await call
    assert channel.in_flight() == 0
    server.close()


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("how", ["abort", "close"])
def test_calls_made_while_a_connection_ends_are_told_so(
    kind: str, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No call is lost between the end of a connection and the news of it."""

    async def end() -> None:
        rig = Rig(kind, tmp_path)
        await rig.serve()
        shelf = rig.call()
        assert await shelf.read("before") == "BEFORE"
        (connection,) = rig.channels[0].ready
        waiting = [asyncio.ensure_future(shelf.write()) for _ in range(10)]
        await asyncio.sleep(0)
        getattr(connection.transport, how)()
        waiting += [asyncio.ensure_future(shelf.write()) for _ in range(10)]
        rig.shelves[0].gate.set()  # for those that come to the next connection
        async with asyncio.timeout(5.0):
            ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(error, Unavailable) for error in ended[:10])
        assert all(isinstance(error, Unavailable | int) for error in ended[10:])
        assert await shelf.read("after") == "AFTER"
        await rig.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(end())
    assert not caplog.records


async def test_a_deadline_that_passes_while_the_first_connection_is_made(tmp_path: Path) -> None:
    """It is the call's time that ran out: nothing is known against the replica yet."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "late.sock"))
    sock.listen()
    channel = new_channel(f"unix:{tmp_path / 'late.sock'}")
    call_context.set(CallContext(1, 1, deadline=time.monotonic() + 0.05, timeout=0.05))
    with pytest.raises(DeadlineExceeded):
        await remote(INTERFACE, channel, caller="Reader").read("x")
    await channel.close()
    sock.close()


@pytest.mark.parametrize("rig", ["memory"], indirect=True)
async def test_a_stream_that_is_left_with_items_unread_is_freed(rig: Any, until: Any) -> None:
    """The collector does not look into events: a stream that kept them, and that they know, would stay for ever."""
    await rig.serve()
    shelf = rig.call()
    stream = shelf.follow()
    assert await anext(stream) == 1
    rig.shelves[0].gate.set()
    await until(lambda: _tickets()[0].items)
    await stream.aclose()
    del stream
    gc.collect()
    assert not _tickets()


def _tickets() -> list[StreamTicket]:
    return [each for each in gc.get_objects() if type(each) is StreamTicket]  # isinstance asks dead proxies
