"""A service that somebody has scaled to zero: it ends, says so to whoever comes, and is brought back."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest
from supervised import Running, running, until

from fissile.errors import FissileError
from fissile.orchestrator.change import ChangeRefused


async def at_zero(app: Running, service: str) -> None:
    await app.supervisor.operations.scale(service, 0, 0, who="ann")
    await until(lambda: not app.pids(service), "it has ended")


async def test_it_is_brought_back_by_another_scale(folder: Path):
    async with running(folder) as app:
        for replicas in (1, 2):
            await at_zero(app, "back")
            scale = next(s.scale for s in app.supervisor.status().services if s.name == "back")
            assert (scale.wanted, scale.zero_by) == (0, "ann")
            await app.supervisor.operations.scale("back", replicas, replicas)
            await until(lambda replicas=replicas: app.ready("back") == replicas, "it is back")
            assert await app.call("Pages.back_pid") in app.pids("back")
        scale = next(s.scale for s in app.supervisor.status().services if s.name == "back")
        assert (scale.wanted, scale.zero_by) == (2, "")


async def test_callers_are_told_at_once_and_why(folder: Path):
    async with running(folder) as app:
        assert await app.call("Pages.back_pid")
        await at_zero(app, "back")
        begun = time.monotonic()
        with pytest.raises(AssertionError, match="back is scaled to zero by ann") as told:
            await app.call("Pages.slow_back", seconds=0.0)
        assert time.monotonic() - begun < 0.5
        assert "`fissile scale back 1` brings it back" in str(told.value)


async def test_a_call_that_waits_for_a_replica_hears_of_it(folder: Path):
    async with running(folder) as app:
        calls = [asyncio.ensure_future(app.call("Pages.back_pid")) for _ in range(20)]
        await at_zero(app, "back")
        for call in calls:
            try:
                assert await call
            except AssertionError as error:
                assert "unavailable" in str(error)


@pytest.mark.parametrize("door", ["page", "gateway"])
async def test_its_doors_say_so_at_once_and_keep_their_ports(folder: Path, door: str):
    async with running(folder) as app:
        pages = app.endpoints.services["pages"]
        url = f"{app.page}/" if door == "page" else f"{pages.gateway}/rpc/Pages/back_pid"
        await at_zero(app, "pages")
        async with httpx.AsyncClient(timeout=5.0) as client:
            for method, body in (("GET", None), ("POST", b"x" * 100_000)):
                answer = await client.request(method, url, content=body)
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) > 0
                assert answer.json()["detail"] == "pages is scaled to zero by ann"
                assert answer.json()["remedy"] == "`fissile scale pages 1` brings it back"
        await app.supervisor.operations.scale("pages", 1, 1)
        await until(lambda: app.ready("pages") == 1, "it is back")
        async with httpx.AsyncClient(timeout=5.0) as client:
            assert (await client.get(f"{app.page}/")).text == str(app.pids("pages")[0])
        assert app.supervisor.endpoints().services["pages"].public == pages.public


async def test_strangers_at_such_a_door_keep_nobody_out(folder: Path):
    async with running(folder) as app:
        host, _, port = app.page.removeprefix("http://").rpartition(":")
        await at_zero(app, "pages")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(200)]
        for _, writer in held:
            writer.write(b"GET / HTTP/1.1\r\nx: ")
        async with httpx.AsyncClient(timeout=5.0) as client:
            assert (await client.get(f"{app.page}/")).status_code == 503
        for _, writer in held:
            writer.close()


async def test_a_restart_of_it_is_refused(folder: Path):
    async with running(folder) as app:
        await at_zero(app, "back")
        with pytest.raises(ChangeRefused, match="back is scaled to zero by ann: there is nothing to restart"):
            await app.supervisor.operations.restart("back")


async def test_who_comes_after_it_does_not_wait_for_it(folder: Path):
    with (folder / "fissile.toml").open("a") as file:
        file.write('\n[services.pages]\nafter = ["back"]\n')
    async with running(folder) as app:
        await at_zero(app, "pages")
        await at_zero(app, "back")
        # As after a restart of all: neither has served.
        for name in ("pages", "back"):
            app.supervisor.operations.observed(name).served = False
        await app.supervisor.operations.scale("pages", 1, 1)
        await until(lambda: app.ready("pages") == 1, "it starts without back")


async def test_a_program_at_a_fixed_port_has_no_second(folder: Path):
    (folder / "fissile.toml").write_text('[services.web]\ncommand = "python -m http.server 18573"\nport = 18573\n')
    async with running(folder) as app:
        with pytest.raises(ChangeRefused, match="web cannot have 2 replicas: its `port` is fixed"):
            await app.supervisor.operations.scale("web", 2, 2)
        assert app.ready("web") == 1


@pytest.mark.parametrize("table", ["replicas = 2", "scale = {max = 3}"])
async def test_settings_that_want_a_second_are_refused(folder: Path, table: str):
    (folder / "fissile.toml").write_text(f'[services.web]\ncommand = "python -m http.server"\nport = 18573\n{table}\n')
    with pytest.raises(FissileError, match="replicas at port 18573, which only one can have"):
        async with running(folder):
            pass


async def test_a_replica_that_has_no_process_so_far_has_no_number(folder: Path):
    async with running(folder) as app:
        seen: set[int | None] = set()
        await app.supervisor.operations.scale("back", 4, 4)
        while app.ready("back") < 4:
            await app.supervisor.parts.signal.next_step()
            seen |= {r.pid for s in app.supervisor.status().services for r in s.replicas}
        assert None in seen
        assert 0 not in seen
        assert all(entry.data.get("pid") != 0 for entry in app.supervisor.journal.history(limit=1000))
