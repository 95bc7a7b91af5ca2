"""Peers that break the protocol: only their own connection closes, with a reason in the log."""

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from shelves import GRAPH

from fissile.errors import Unavailable
from fissile.rpc import server as server_module
from fissile.rpc.channel import Channel
from fissile.rpc.stub import remote
from fissile.wire.codec import encode
from fissile.wire.connection import Connection
from fissile.wire.frames import HEADER, Hello, Kind
from fissile.wire.state import Role, State


def hello(
    version: int = 1, token: str = "secret", service: str = "reader", callers: tuple[str, ...] = ("Reader",)
) -> bytes:
    connection = Connection(Role.CALLER)
    connection.hello(Hello(version, token, service, callers, {}))
    return bytes(connection.take())


ATTACKS = {
    "garbage": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "another protocol"),
    "a huge length": (HEADER.pack(2**32 - 1, Kind.HELLO, 0), "outside"),
    "a request first": (HEADER.pack(5, Kind.REQUEST, 1), "request"),
    "a hello of rubbish": (HEADER.pack(9, Kind.HELLO, 0) + b"\xc1\xc1\xc1\xc1", "malformed hello"),
    "a hello of another shape": (HEADER.pack(5 + len(encode([1])), Kind.HELLO, 0) + encode([1]), "malformed hello"),
    "a wrong version": (hello(version=99), "protocol version 99 is not 1"),
    "a wrong token": (hello(token="guess"), "token is not known"),
    "a service of many lines": (hello(service="a\nb" * 1000), "the token proves service 'reader', not 'a\\nb"),
    "the same caller many times": (hello(callers=("Reader",) * 30_000), "twice"),
    "callers of many lines": (hello(callers=("a\nb" * 1000,) * 20), "is not in service 'reader'"),
}


@pytest.mark.parametrize("rig", ["unix", "tcp"], indirect=True)
@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_closes_its_own_connection_alone(
    rig: Any, attack: str, caplog: pytest.LogCaptureFixture
) -> None:
    data, reason = ATTACKS[attack]
    address = await rig.serve()
    good = rig.call()
    assert await good.read("before") == "BEFORE"
    with caplog.at_level(logging.WARNING, "fissile.rpc"):
        reader, writer = await open_connection(address)
        writer.write(data)
        async with asyncio.timeout(5.0):
            while await reader.read(65536):
                pass
        writer.close()
    assert reason in caplog.text
    assert all(len(record.message.splitlines()) == 1 and len(record.message) < 1000 for record in caplog.records)
    assert await good.read("after") == "AFTER"
    assert len(rig.servers[0].connections) == 1


@pytest.mark.parametrize("rig", ["unix"], indirect=True)
async def test_an_address_of_many_lines(rig: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    address = await rig.serve()
    with socket.socket(socket.AF_UNIX) as sock, caplog.at_level(logging.WARNING, "fissile.rpc"):
        sock.setblocking(False)
        sock.bind(str(tmp_path / "me\nERROR all is lost"))
        sock.connect(address.removeprefix("unix:"))
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        while await reader.read(65536):
            pass
        writer.close()
    (record,) = caplog.records
    assert len(record.message.splitlines()) == 1


@pytest.mark.parametrize("rig", ["unix"], indirect=True)
async def test_a_method_that_is_not_there(rig: Any, caplog: pytest.LogCaptureFixture) -> None:
    address = await rig.serve()
    reader, writer = await open_connection(address)
    connection = Connection(Role.CALLER)
    connection.hello(Hello(1, "secret", "reader", ("Reader",), {}))
    writer.write(connection.take())
    while connection.state is State.HANDSHAKE:
        connection.receive(await reader.read(65536), list[object]().append)
    connection.send_request(None, (), 65535, 0, 1000, 1, 1, False, "", False)
    writer.write(connection.take())
    async with asyncio.timeout(5.0):
        assert await reader.read(100) == b""
    assert "asked for method 65535" in caplog.text
    writer.close()


@pytest.mark.parametrize("rig", ["unix"], indirect=True)
async def test_half_a_frame_and_then_nothing(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that never finishes its hello is closed after a limit."""
    monkeypatch.setattr(server_module, "HANDSHAKE_SECONDS_MAX", 0.1)
    address = await rig.serve()
    reader, writer = await open_connection(address)
    writer.write(hello()[:10])
    async with asyncio.timeout(5.0):
        assert await reader.read(100) == b""
    writer.close()


@pytest.mark.parametrize("rig", ["unix"], indirect=True)
async def test_a_flood_is_refused_and_memory_stays_bounded(rig: Any) -> None:
    """Calls beyond the queue are refused at once, and a peer that reads no answers is not read from."""
    address = await rig.serve(concurrency=1, queue=1)
    good = rig.call()
    reader, writer = await open_connection(address)
    connection = Connection(Role.CALLER)
    interface = GRAPH.components["Shelf"].interface
    contracts = {method.label: method.fingerprint for method in interface.methods.values()}
    connection.hello(Hello(1, "secret", "reader", ("Reader",), contracts))
    writer.write(connection.take())
    while connection.state is State.HANDSHAKE:
        connection.receive(await reader.read(65536), list[object]().append)
    for _ in range(2000):
        connection.send_request(None, ("x" * 100,), 0, 0, 1000, 1, 1, False, "", False)
    writer.write(connection.take())
    await asyncio.sleep(0.05)
    (flood,) = [each for each in rig.servers[0].connections if len(each.allowed) and each.wire is not None][:1]
    assert flood.transport.get_write_buffer_size() < 4 * 1024 * 1024
    assert len(rig.servers[0].waiting) <= 1
    assert await good.read("still") == "STILL"
    writer.close()


async def open_connection(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    kind, _, rest = address.partition(":")
    if kind == "unix":
        return await asyncio.open_unix_connection(rest)
    host, _, port = rest.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def test_a_callee_that_refuses_in_many_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a peer writes is one short line in our log, and in our caller's error."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        body = encode(["line\n" * 10_000, True])
        writer.write(HEADER.pack(5 + len(body), Kind.GOAWAY, 0) + body)

    path = str(tmp_path / "refusing.sock")
    server = await asyncio.start_unix_server(refuse, path)
    interface = GRAPH.components["Shelf"].interface
    channel = Channel("shelf", [f"unix:{path}"], caller_service="", token="", callers=("Reader",), contracts={})
    with pytest.raises(Unavailable) as refused:
        await remote(interface, channel, caller="Reader").read("x")
    assert "line line" in str(refused.value)
    assert len(str(refused.value)) < 1000
    (record,) = caplog.records
    assert len(record.message.splitlines()) == 1
    assert len(record.message) < 1000
    await channel.close()
    server.close()
