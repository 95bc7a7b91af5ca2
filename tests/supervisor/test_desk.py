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
    ReplicaHello,
    ReplicaReady,
    Routes,
)
from fissile.supervisor.desk import Desk

HELLO = ReplicaHello("cart", "cart@1", 0, 7, 100, "b", "r")


async def test_whoever_attaches_again_is_told_again_what_holds():
    desk = Desk(lambda _link, _report: None)
    link = desk.link(7)
    link.tell(Routes(version=1))
    first = desk.attach(HELLO)
    assert await anext(first) == Routes(version=1)
    link.tell(Routes(version=2))
    assert await anext(first) == Routes(version=2)  # and the connection breaks: it may never have arrived
    await first.aclose()
    link.tell(Routes(version=2))
    again = desk.attach(HELLO)
    assert await anext(again) == Routes(version=2)
    link.drain(Drain(1.0))
    assert await anext(again) == Drain(1.0)
    third = desk.attach(HELLO)
    assert [await anext(third), await anext(third)] == [Routes(version=2), Drain(1.0)]


async def test_of_routes_that_nobody_fetched_the_newest_alone_is_told():
    desk = Desk(lambda _link, _report: None)
    attached = desk.attach(HELLO)
    link = desk.link(7)
    waiting = asyncio.ensure_future(anext(desk.attach(HELLO)))
    await asyncio.sleep(0)
    link.tell(Routes(version=1))
    link.tell(Routes(version=2))
    assert await waiting == Routes(version=2)
    assert await anext(attached) == Routes(version=2)


async def test_a_replica_that_is_not_known_is_told_nothing():
    desk = Desk(lambda _link, _report: None)
    assert [command async for command in desk.attach(HELLO)] == []


async def test_a_process_reports_for_itself_alone(tmp_path: Path):
    heard: list[int] = []
    refused: list[str] = []
    desk = Desk(lambda link, _report: heard.append(link.serial), refused.append)
    server = desk.server({"cart": "token"})
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
    desk.link(7).settle(os.getpid())
    await control.report(ReplicaReady(HELLO))
    assert heard == [7]
    desk.link(8).settle(os.getppid())
    other = msgspec.structs.replace(HELLO, serial=8)
    with pytest.raises(PermissionDenied, match="not the replica that it says"):
        await control.report(ReplicaReady(other))
    with pytest.raises(PermissionDenied):
        async for _ in control.attach(other):
            pass
    assert heard == [7]
    assert refused == [f"process {os.getpid()} reported for replica 8 of 'cart', which it is not"] * 2
    # A child may be faster than the news of it.
    link = desk.link(9)
    early = asyncio.ensure_future(control.report(ReplicaReady(msgspec.structs.replace(HELLO, serial=9))))
    await control.report(ReplicaReady(HELLO))
    assert not early.done()
    link.settle(os.getpid())
    await early
    assert heard == [7, 7, 9]
    await channel.close()
    await server.close()
