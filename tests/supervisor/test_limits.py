"""Limits: what fits, what a machine grants, and that the kernel really holds replicas to it."""

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervised import Output, running, until

from fissile.errors import ConfigError
from fissile.machine.landlock import interface_version
from fissile.machine.limits import Groups, Limits, Usage, detect, limits_of, parse_size, verdict
from fissile.orchestrator.health import over_memory
from fissile.orchestrator.reasons import size_text
from fissile.settings.load import load
from fissile.settings.schema import LimitSettings
from fissile.supervisor.supervisor import Supervisor

MEMORY = "\n[services.back.limits]\nmemory = '96M'\n"


@pytest.mark.parametrize(
    ("text", "count"), [("64K", 65536), ("256M", 2**28), ("1.5G", 3 * 2**29), ("8 MiB", 2**23), ("100", 100), (7, 7)]
)
def test_sizes(text: str | int, count: int):
    assert parse_size(text) == count


@given(st.integers(0, 2**44))
def test_a_size_in_words_is_about_that_size(count: int):
    assert parse_size(size_text(count)) == pytest.approx(count, rel=0.001)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (LimitSettings(memory="lots"), "'lots' is not a size"),
        (LimitSettings(memory="900T"), "which this machine has"),
        (LimitSettings(memory="1M"), "write between 16M"),
        (LimitSettings(cpu=1000.0), "the cores of this machine"),
        (LimitSettings(files=10), "write between 64"),
        (LimitSettings(disk=("nowhere",)), "there is no folder /nowhere: make it"),
    ],
)
def test_limits_that_do_not_fit_the_machine(limits: LimitSettings, words: str):
    with pytest.raises(ConfigError, match=words):
        limits_of("back", limits, "/")


async def test_limits_that_do_not_fit_start_nothing(folder: Path):
    with (folder / "fissile.toml").open("a") as file:
        file.write("\n[services.back.limits]\nmemory = '900T'\ncpu = 4096.0\n")
    supervisor = Supervisor(load(folder), "microservices", port=0, logs=Output().logs())
    with pytest.raises(ConfigError) as caught:
        await supervisor.start()
    assert "memory = '900T'" in str(caught.value)
    assert "cpu = 4096" in str(caught.value)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_version_two_where_it_is_delegated(tmp_path: Path):
    own = tree(tmp_path, {"own": "0::/app.service\n"}) / "own"
    root = tree(
        tmp_path / "cgroup",
        {
            "cgroup.controllers": "cpu memory pids",
            "app.service/cgroup.controllers": "cpu memory pids",
            "app.service/cgroup.procs": f"{os.getpid()}\n",
            "app.service/cgroup.subtree_control": "",
        },
    )
    found = detect("app", root=root, own=own)
    assert (found.name, found.missing) == ("cgroup v2", "")
    assert (root / "app.service/supervisor/cgroup.procs").read_text() == str(os.getpid())
    assert (root / "app.service/cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    files = found.prepare("back.0.1", Limits(2**26, 0.5, None, 40))
    group = root / "app.service/back.0.1"
    assert files == (str(group / "cgroup.procs"),)
    wanted = {"memory.max": str(2**26), "memory.swap.max": "0", "memory.oom.group": "1"}
    wanted |= {"cpu.max": "50000 100000", "pids.max": "40"}
    assert {file.name: file.read_text() for file in group.iterdir()} == wanted
    tree(group, {"memory.peak": "67108864", "memory.current": "5", "memory.events": "low 0\noom 1\noom_kill 1\n"})
    assert found.usage("back.0.1", 0) == Usage(5, 67108864, True)


def test_version_two_that_others_live_in_is_not_ours(tmp_path: Path):
    own = tree(tmp_path, {"own": "0::/session\n"}) / "own"
    root = tree(
        tmp_path / "cgroup",
        {"cgroup.controllers": "memory", "session/cgroup.controllers": "memory", "session/cgroup.procs": "1\n2\n"},
    )
    found = detect("app", root=root, own=own)
    assert found.name == "rlimits and watch"
    assert "delegated" in found.missing
    assert found.prepare("back.0.1", Limits(2**26)) == ()


def test_watched_memory():
    assert str(over_memory(2**27, 2**26)) == "it ran out of memory: it uses 128M of 64M"
    assert over_memory(2**25, 2**26) == over_memory(None, 2**26) == over_memory(2**40, None) is None
    assert str(verdict(7, Usage(0, 2**26, True), Limits(2**26))) == "pid 7 ran out of memory, at a peak of 64M of 64M"


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
        await app.supervisor.restart("back")
        assert await app.call("Pages.back_pid") != old
