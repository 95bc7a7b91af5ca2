"""What replicas are ordered, whether or not the connection held."""

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fissile.errors import PermissionDenied
from fissile.machine.sockets import listen_unix
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.stub import remote
from fissile.runtime.control import (
    CONTROL_CALLER,
    CONTROL_INTERFACE,
    Drain,
    ReadyReport,
    ReplicaHello,
    Routes,
)
from fissile.supervisor.control_server import ControlServer

HELLO = ReplicaHello("cart", "cart@1", 0, 7, 100, "b", "r")


async def test_whoever_attaches_again_is_told_again_what_holds():
    control_server = ControlServer(lambda _link, _report: None)
    session = control_server.session(7)
    session.tell(Routes(version=1))
    first = control_server.attach(HELLO)
    assert await anext(first) == Routes(version=1)
    session.tell(Routes(version=2))
    assert await anext(first) == Routes(version=2)  # and the connection breaks: it may never have arrived
    await first.aclose()
    session.tell(Routes(version=2))
    again = control_server.attach(HELLO)
    assert await anext(again) == Routes(version=2)
    session.drain(Drain(1.0))
    assert await anext(again) == Drain(1.0)
    third = control_server.attach(HELLO)
    assert [await anext(third), await anext(third)] == [Routes(version=2), Drain(1.0)]


async def test_of_routes_that_nobody_fetched_the_newest_alone_is_told():
    control_server = ControlServer(lambda _link, _report: None)
    attached = control_server.attach(HELLO)
    session = control_server.session(7)
    waiting = asyncio.ensure_future(anext(control_server.attach(HELLO)))
    await asyncio.sleep(0)
    session.tell(Routes(version=1))
    session.tell(Routes(version=2))
    assert await waiting == Routes(version=2)
    assert await anext(attached) == Routes(version=2)


async def test_a_replica_that_is_not_known_is_told_nothing():
    control_server = ControlServer(lambda _link, _report: None)
    assert [command async for command in control_server.attach(HELLO)] == []


async def test_a_process_reports_for_itself_alone(tmp_path: Path):
    heard: list[int] = []
    refused: list[str] = []
    control_server = ControlServer(lambda session, _report: heard.append(session.serial), refused.append)
    server = control_server.server({"cart": "token"})
    path = str(tmp_path / "s.sock")
    await server.start(listen_unix(path))
    channel = Channel(
        "supervisor",
        [f"unix:{path}"],
        caller_service="cart",
        token="token",
        callers=(CONTROL_CALLER,),
        contracts=contracts_of([CONTROL_INTERFACE]),
    )
    control: Any = remote(CONTROL_INTERFACE, channel, caller=CONTROL_CALLER)
    control_server.session(7).settle(os.getpid())
    await control.report(ReadyReport(HELLO))
    assert heard == [7]
    control_server.session(8).settle(os.getppid())
    other = msgspec.structs.replace(HELLO, serial=8)
    with pytest.raises(PermissionDenied, match="not the replica that it says"):
        await control.report(ReadyReport(other))
    with pytest.raises(PermissionDenied):
        async for _ in control.attach(other):
            pass
    assert heard == [7]
    assert refused == [f"process {os.getpid()} reported for replica 8 of 'cart', which it is not"] * 2
    # A child may be faster than the news of it.
    session = control_server.session(9)
    early = asyncio.ensure_future(control.report(ReadyReport(msgspec.structs.replace(HELLO, serial=9))))
    await control.report(ReadyReport(HELLO))
    assert not early.done()
    session.settle(os.getpid())
    await early
    assert heard == [7, 7, 9]
    await channel.close()
    await server.close()
