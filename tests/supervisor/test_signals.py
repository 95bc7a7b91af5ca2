"""A person ends one replica by a signal: it drains as in a restart, and another one takes its place."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from supervised import Running, lives, running, until


class Visitors:
    """They ask all the time, on connections that are kept, new ones, and over HTTP/JSON; nobody asks twice."""

    def __init__(self, app: Running) -> None:
        self._app = app
        self.answers = 0
        self.failures: list[str] = []

    async def _visit(self, client: httpx.AsyncClient, pause: float) -> None:
        while True:
            try:
                answer = await client.post(f"{self._app.page}/back", content=b"x")
                self.answers += answer.status_code == 200
                if answer.status_code != 200:
                    self.failures.append(f"{answer.status_code} {answer.text}")
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
            await asyncio.sleep(pause)

    async def _call(self) -> None:
        while True:
            try:
                await self._app.call("Pages.back_pid")
                self.answers += 1
            except (AssertionError, httpx.HTTPError) as error:
                self.failures.append(repr(error))
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def come(self) -> AsyncIterator["Visitors"]:
        """For as long as the block lasts."""
        new = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=30.0) as kept, httpx.AsyncClient(timeout=30.0, limits=new) as fresh:
            visits = [self._visit(kept, pause) for pause in (0.0, 0.01, 0.1, 0.7)] + [self._visit(fresh, 0.01)]
            tasks = [asyncio.create_task(one) for one in (*visits, self._call())]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


def restarts(app: Running, service: str) -> int:
    """How often it was replaced because it died."""
    return next(one.restarts for one in app.supervisor.status().services if one.name == service)


@pytest.mark.parametrize("settings", ["drain_seconds = 10", "drain_seconds = 1", "overlap = false", "replicas = 2"])
async def test_no_request_is_lost_when_a_replica_is_told_to_end(folder: Path, settings: str):
    with (folder / "fissile.toml").open("a") as file:
        file.write(f"\n[services.pages]\n{settings}\n[services.back]\n{settings}\n")
    async with running(folder) as app, Visitors(app).come() as visitors:
        for service, number in (
            ("pages", signal.SIGTERM),
            ("back", signal.SIGTERM),
            ("pages", signal.SIGINT),
        ):
            (old, *_), count = app.pids(service), len(app.pids(service))
            seen = visitors.answers
            await until(lambda seen=seen: visitors.answers > seen + 20, "visitors are there")
            os.kill(old, number)
            os.kill(old, number)  # who is impatient changes nothing
            await until(lambda old=old: not lives(old), "it has ended")
            await until(
                lambda service=service, count=count: app.ready(service) == count, "another one has taken its place"
            )
            assert restarts(app, service) == 0  # it did not die: nothing is held against it
        seen = visitors.answers
        await until(lambda: visitors.answers > seen + 20, "visitors go on")
        assert not visitors.failures
    assert b"starting again" not in app.output.err


async def test_a_replica_that_is_told_to_end_while_it_starts_is_no_failure(folder: Path):
    async with running(folder) as app:
        (folder / "back-starts-slowly").touch()
        old = await app.call("Back.pid")
        os.kill(old, signal.SIGTERM)
        await until(lambda: not lives(old), "it has ended")
        (starting,) = await until(lambda: [pid for pid in app.pids("back") if pid != old], "another one starts")
        await until(lambda: b"takes its time" in app.output.out, "it runs its own code")
        os.kill(starting, signal.SIGTERM)
        (folder / "back-starts-slowly").unlink()
        await until(lambda: not lives(starting), "it has ended, too")
        await until(lambda: app.ready("back") == 1, "a third one serves")
        assert await app.call("Pages.back_pid") == app.pids("back")[0]
        assert restarts(app, "back") == 0


async def test_a_stop_does_not_wait_for_idle_visitors(folder: Path):
    """Nobody takes over: the signal alone does not say so."""
    async with running(folder) as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(app.page).port)
        writer.write(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        begun = asyncio.get_running_loop().time()
        await app.supervisor.stop()
        assert asyncio.get_running_loop().time() - begun < 3.0
        writer.close()
