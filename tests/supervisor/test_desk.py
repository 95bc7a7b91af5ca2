"""What replicas are ordered, whether or not the connection held."""

import asyncio

from fissile.runtime.control import Drain, ReplicaHello, Routes
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
