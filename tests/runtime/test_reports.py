"""What a replica reports by itself, and when."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fissile.machine.sockets import listen_unix
from fissile.runtime.asgi_replica import AsgiReplica
from fissile.runtime.control import HEARTBEAT_SECONDS, Heartbeat, ReplicaReport, ReplicaSpec, Routes
from fissile.runtime.control_link import ControlLink
from fissile.runtime.differences import DIFFERENCES_MAX, Differences
from fissile.runtime.stacks import STACKS_SIGNAL, Stacks
from fissile.supervisor.control_server import ControlServer, ReplicaSession

RELEASE = "r1"
# Well before the next heartbeat is due, on a machine that is busy with something else, too.
SOON_SECONDS = 0.9 * HEARTBEAT_SECONDS


class Office:
    """A supervisor's control_server that keeps what it hears, with the time (monotonic seconds)."""

    def __init__(self) -> None:
        self.beats: list[tuple[float, Heartbeat]] = []
        self.news = asyncio.Event()
        self.control_server = ControlServer(self._heard)

    def _heard(self, _: ReplicaSession, report: ReplicaReport) -> None:
        if isinstance(report, Heartbeat):
            self.beats.append((time.monotonic(), report))
            self.news.set()

    async def next_beat(self) -> tuple[float, Heartbeat]:
        self.news.clear()
        async with asyncio.timeout(10.0):
            await self.news.wait()
        return self.beats[-1]


@asynccontextmanager
async def reporting(folder: Path) -> AsyncIterator[tuple[AsgiReplica, Office]]:
    """A replica of a foreign application, without its doors, that reports."""
    routes = Routes(release=RELEASE)
    spec = ReplicaSpec("none", str(folder), "web", "web", 0, "b", RELEASE, (), routes, "t", {}, serial=1, guest="asgi")
    guest, office = AsgiReplica(spec, []), Office()
    office.control_server.session(1).settle(os.getpid())
    server = office.control_server.server({"web": "t"})
    path = str(folder / "control.sock")
    await server.start(listen_unix(path))
    control = ControlLink(guest, f"unix:{path}", "t")
    control.start()
    try:
        yield guest, office
    finally:
        await control.close()
        await server.close()


async def test_the_first_requests_after_a_rest_are_reported_soon(tmp_path: Path) -> None:
    async with reporting(tmp_path) as (guest, office):
        await office.next_beat()
        begun, idle = await office.next_beat()
        assert idle.requests == 0
        for _ in range(5):
            guest.doors.stats.begin(RELEASE)
        told, busy = await office.next_beat()
        assert busy.requests == 5
        assert told - begun < SOON_SECONDS


async def test_what_has_no_news_is_reported_every_second(tmp_path: Path) -> None:
    async with reporting(tmp_path) as (guest, office):
        await office.next_beat()
        for _ in range(2):
            guest.doors.stats.begin(RELEASE)
        await office.next_beat()  # that something begins
        before, _ = await office.next_beat()
        after, steady = await office.next_beat()
        assert steady.requests == 2
        assert after - before > HEARTBEAT_SECONDS / 2


async def test_a_loop_that_turns_takes_its_stacks_back(tmp_path: Path) -> None:
    file = tmp_path / "stacks"
    stacks = Stacks(str(file))
    try:
        os.kill(os.getpid(), STACKS_SIGNAL)
        assert "test_a_loop_that_turns" in file.read_text()
        await asyncio.sleep(0.05)
        assert file.read_text() == ""
        os.kill(os.getpid(), STACKS_SIGNAL)
        assert "test_a_loop_that_turns" in file.read_text()
    finally:
        stacks.close()


async def test_what_would_be_different_is_reported_until_somebody_has_heard_it(tmp_path: Path) -> None:
    async with reporting(tmp_path) as (guest, office):
        await office.next_beat()
        for _ in range(2):
            guest.reporter.differences.report("Catalog.title", "x" * 400)
        _, beat = await office.next_beat()
        assert [(one.method, len(one.what)) for one in beat.differences] == [("Catalog.title", 300)]
        _, beat = await office.next_beat()
        assert beat.differences == ()
        guest.reporter.differences.again()
        _, beat = await office.next_beat()
        assert len(beat.differences) == 1


def test_a_process_remembers_so_many_differences_and_no_more() -> None:
    differences = Differences()
    for number in range(DIFFERENCES_MAX + 1):
        differences.report(f"A.m{number}", "is other")
    assert len(differences.news()) == DIFFERENCES_MAX
    differences.told(differences.news())
    assert differences.news() == ()
