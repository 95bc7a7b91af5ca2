"""Callees that say nothing: busy, stopped, dead, or on a machine that is not there any more."""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from shelves import SHELF

from fissile.errors import Unavailable
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.stub import remote

CALLEE = Path(__file__).with_name("callee.py")
HERE, THERE = "10.231.77.1", "10.231.77.2"


class Callee:
    """A callee in a process of its own, and the way to it."""

    def __init__(self, address: str, *within: str, link: str = "") -> None:
        self.link = link
        self.process = subprocess.Popen(
            [*within, sys.executable, str(CALLEE), address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        port = self.process.stdout.readline().decode().strip()
        self.address = address if address.startswith("unix") else address.rpartition(":")[0] + ":" + port

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@asynccontextmanager
async def called(*addresses: str) -> AsyncIterator[tuple[Any, Channel]]:
    channel = Channel(
        "shelf",
        addresses,
        caller_service="reader",
        token="secret",
        callers=("Reader",),
        contracts=contracts_of([SHELF]),
    )
    yield remote(SHELF, channel, caller="Reader", timeout_seconds=30.0), channel
    await channel.close()


@pytest.fixture(params=["unix", "tcp"])
def callee(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callee]:
    found = Callee(f"unix:{tmp_path}/callee" if request.param == "unix" else "tcp:127.0.0.1:0")
    yield found
    found.end()


async def test_a_callee_that_blocks_for_four_seconds_loses_no_call(callee: Callee) -> None:
    """With more on its way to it than its socket takes."""
    async with called(callee.address) as (shelf, channel):
        assert await shelf.read("a") == "A"
        (connection,) = channel.ready
        blocking = asyncio.ensure_future(shelf.block(4.0))
        await asyncio.sleep(0.1)
        data = bytes(700_000)
        calls = [shelf.echo(data) for _ in range(12)] + [shelf.read(str(n)) for n in range(50)]
        found = await asyncio.gather(*calls)
        assert found[:12] == [data] * 12
        assert found[12:] == [str(n) for n in range(50)]
        assert await blocking == 4.0
        assert channel.ready == [connection]


async def test_others_get_the_calls_of_a_callee_that_is_stopped(callee: Callee, tmp_path: Path) -> None:
    other = Callee(f"unix:{tmp_path}/other")
    try:
        async with called(callee.address, other.address) as (shelf, channel):
            while len(channel.ready) < 2:
                await shelf.read("a")
                await asyncio.sleep(0.01)
            os.kill(callee.process.pid, signal.SIGSTOP)
            stopped = time.monotonic()
            waiting: list[asyncio.Future[str]] = []
            while len(channel.ready) == 2:
                waiting.append(asyncio.ensure_future(shelf.read("b")))
                await asyncio.sleep(0.05)
            assert time.monotonic() - stopped < 2.6
            begun = time.monotonic()
            assert await asyncio.gather(*(shelf.read("c") for _ in range(50))) == ["C"] * 50
            assert time.monotonic() - begun < 1.0
            await asyncio.sleep(3.5)  # longer than a machine that is gone is given: a stopped process is not gone
            os.kill(callee.process.pid, signal.SIGCONT)
            assert await asyncio.gather(*waiting) == ["B"] * len(waiting)
            async with asyncio.timeout(5):
                while len(channel.ready) < 2:
                    await asyncio.sleep(0.05)
    finally:
        other.end()


async def test_a_callee_that_dies_is_known_at_once(callee: Callee) -> None:
    async with called(callee.address) as (shelf, _):
        assert await shelf.read("a") == "A"
        call = asyncio.ensure_future(shelf.write())
        await asyncio.sleep(0.1)
        died = time.monotonic()
        callee.process.kill()
        with pytest.raises(Unavailable, match="broke before the answer came"):
            await call
        assert time.monotonic() - died < 1.0


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def machine() -> Iterator[Callee]:
    """A callee behind a cable, in a network of its own."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network of its own needs root and iproute2")
    name = f"fi{secrets.token_hex(4)}"
    try:
        run("ip", "netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    found = None
    try:
        run("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        run("ip", "addr", "add", f"{HERE}/30", "dev", f"{name}a")
        run("ip", "link", "set", f"{name}a", "up")
        run("ip", "-n", name, "addr", "add", f"{THERE}/30", "dev", f"{name}b")
        run("ip", "-n", name, "link", "set", f"{name}b", "up")
        found = Callee(f"tcp:{THERE}:0", "ip", "netns", "exec", name, link=f"{name}a")
        yield found
    finally:
        if found is not None:
            found.end()
        subprocess.run(["ip", "link", "del", f"{name}a"], check=False, capture_output=True)
        run("ip", "netns", "del", name)


async def test_a_machine_that_is_gone_is_given_up_after_three_seconds(machine: Callee) -> None:
    async with called(machine.address) as (shelf, channel):
        assert await shelf.read("a") == "A"
        waiting = asyncio.ensure_future(shelf.write())
        await asyncio.sleep(0.2)
        run("ip", "link", "set", machine.link, "down")
        pulled = time.monotonic()
        with pytest.raises(Unavailable):
            await waiting
        assert 2.9 < time.monotonic() - pulled < 6.0
        assert not channel.ready


async def test_a_busy_machine_behind_a_cable_is_not_given_up(machine: Callee) -> None:
    async with called(machine.address) as (shelf, channel):
        assert await shelf.read("a") == "A"
        before = list(channel.ready)
        calls = [shelf.block(5.0), *(shelf.echo(bytes(900_000)) for _ in range(8))]
        assert len(await asyncio.gather(*calls)) == 9
        assert channel.ready == before
