"""Limits of a running application: the kernel really holds replicas to them."""

import asyncio
from pathlib import Path

import httpx
import pytest
from supervised import Output, running, until

from fissile.errors import ConfigError
from fissile.machine.landlock import interface_version
from fissile.machine.limits import Groups, detect
from fissile.settings.load import load
from fissile.supervisor.supervisor import Supervisor

MEMORY = "\n[services.back.limits]\nmemory = '96M'\n"


async def test_limits_that_do_not_fit_start_nothing(folder: Path):
    with (folder / "fissile.toml").open("a") as file:
        file.write("\n[services.back.limits]\nmemory = '900T'\ncpu = 4096.0\n")
    supervisor = Supervisor(load(folder), "microservices", port=0, logs=Output().logs())
    with pytest.raises(ConfigError) as caught:
        await supervisor.start()
    assert "memory = '900T'" in str(caught.value)
    assert "cpu = 4096" in str(caught.value)


def granted() -> str:
    """What this machine grants for memory, or why the test must be skipped."""
    found = detect("tests-of-limits")
    if not isinstance(found, Groups):
        pytest.skip(found.missing)
    return found.name


async def test_a_hog_is_killed_alone_and_history_says_why(folder: Path):
    name = granted()
    with (folder / "fissile.toml").open("a") as file:
        file.write(MEMORY)
    async with running(folder) as app:
        status = next(s for s in app.supervisor.status().services if s.name == "back")
        assert status.limits["memory"] == "96M"
        assert str(status.limits["enforced_by"]).startswith(name)
        (pages,), (old,) = app.pids("pages"), app.pids("back")
        asked = asyncio.create_task(app.client.get(app.page))
        with pytest.raises((AssertionError, httpx.HTTPError)):
            await app.call("Back.eat", mebibytes=200)
        await until(lambda: app.pids("back") not in ([], [old]), "another one")
        assert await app.call("Pages.back_pid") in app.pids("back")
        assert app.pids("pages") == [pages]
        assert (await asked).status_code == 200
        history = app.supervisor.journal.history(service="back")
        assert any("ran out of memory, at a peak of " in e.reason and " of 96M" in e.reason for e in history)
        assert await app.call("Back.eat", mebibytes=8) == 8 * 2**20
    assert not [
        path for path in Path("/sys/fs/cgroup").rglob("fissile-*") if path.is_dir() and "tests" not in str(path)
    ]


async def test_open_files_are_limited(folder: Path):
    with (folder / "fissile.toml").open("a") as file:
        file.write("\n[services.back.limits]\nfiles = 100\n")
    async with running(folder) as app:
        with pytest.raises(AssertionError, match="Too many open files"):
            await app.call("Back.files", count=200)
        assert await app.call("Pages.back_pid") in app.pids("back")


@pytest.mark.skipif(not interface_version(), reason="this kernel has no Landlock")
@pytest.mark.parametrize("spawn", ["false", "true"])
async def test_a_service_writes_to_its_own_folders_alone(folder: Path, spawn: str):
    (folder / "data").mkdir()
    with (folder / "fissile.toml").open("a") as file:
        file.write(f'\n[services.back]\nspawn = {spawn}\n[services.back.limits]\ndisk = ["data"]\n')
    async with running(folder) as app:
        assert await app.call("Back.write", path="data/note") == "written"
        assert await app.call("Back.write", path="/dev/null") == "written"
        for elsewhere in ("note", "fissile.toml", ".fissile/journal.db", "/tmp/note"):
            assert await app.call("Back.write", path=elsewhere) == "Permission denied"
        (back,) = [s for s in app.supervisor.status().services if s.name == "back"]
        assert (back.limits["disk"], back.limits["enforced_by"]) == ([str(folder / "data")], "Landlock")
        # It can still write where it stands.
        (old,) = app.pids("back")
        with pytest.raises((AssertionError, httpx.HTTPError)):
            await app.call("Back.stick", seconds=60.0)
        await until(lambda: app.pids("back") not in ([], [old]), "another one")
        (hung,) = [e for e in app.supervisor.journal.history(service="back") if e.what == "ReplicaHung"]
        assert "in stick" in hung.data["stacks"]


async def test_a_stuck_replica_is_replaced_and_its_stacks_are_in_the_history(folder: Path):
    async with running(folder) as app:
        (old,) = app.pids("back")
        with pytest.raises((AssertionError, httpx.HTTPError)):
            await app.call("Back.stick", seconds=60.0)
        await until(lambda: app.pids("back") not in ([], [old]), "another one")
        (hung,) = [e for e in app.supervisor.journal.history(service="back") if e.what == "ReplicaHung"]
        assert "stuck for " in hung.reason
        assert "in stick" in hung.data["stacks"]
        assert await app.call("Pages.back_pid") in app.pids("back")


async def test_a_replica_whose_places_are_all_held_for_too_long_is_replaced(folder: Path):
    with (folder / "fissile.toml").open("a") as file:
        file.write("\n[services.back]\nconcurrency = 2\nstuck_seconds = 1.5\n")
    async with running(folder) as app:
        (old,) = app.pids("back")
        for _ in range(2):
            with pytest.raises(AssertionError, match="deadline_exceeded"):
                await app.call("Pages.clinging_back")
        await until(lambda: app.pids("back") not in ([], [old]), "another one")
        (hung,) = [e for e in app.supervisor.journal.history(service="back") if e.what == "ReplicaHung"]
        assert hung.reason.startswith("all its places (2) have been held for ")
        assert hung.reason.endswith(" s by calls whose time is up: Back.cling (2)")
        assert await app.call("Pages.back_pid") in app.pids("back")


async def test_a_components_variables_reach_its_service_alone(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FISSILE_BACK_SECRET", "very secret")
    async with running(folder) as app:
        assert await app.call("Back.secret_length") == len("very secret")
        for pid in [*app.pids("pages"), app.supervisor.status().supervisor.zygote]:
            assert b"very secret" not in Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_service_that_cannot_be_forked_is_spawned(folder: Path):
    with (folder / "fissile.toml").open("a") as file:
        file.write("\n[services.back]\nspawn = true\n")
    async with running(folder) as app:
        (old,) = app.pids("back")
        assert b"fissile.machine.zygote.spawn" in Path(f"/proc/{old}/cmdline").read_bytes()
        assert await app.call("Pages.back_pid") == old
        await app.supervisor.operations.restart("back")
        assert await app.call("Pages.back_pid") != old
