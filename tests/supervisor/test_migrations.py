"""Migrations of several services, asked for at once."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from fissile.journal.journal import Journal
from fissile.machine.zygote.client import ProcessHandle, ZygoteClient
from fissile.machine.zygote.protocol import Load, Loaded
from fissile.releases.release import Build, Release
from fissile.settings.schema import Settings
from fissile.supervisor.control_server import ReplicaSession
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.migrations import MIGRATED, Migrations

SERVICES = {"back": ("Back",), "cart": ("Cart",), "shop": ("Shop",)}


class Process(ProcessHandle):
    """One that is not there. It ends as soon as it is asked to."""

    def signal(self, number: signal.Signals) -> None:
        self.exited.set_result(-number)


class Office:
    """Launches them, and notes how many there are at a time."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.running: list[Process] = []
        self.most = 0

    def log(self, text: str) -> None: ...

    async def launch_migration(
        self, loaded: LoadedRelease, service: str, names: tuple[str, ...]
    ) -> tuple[ProcessHandle, ReplicaSession]:
        await asyncio.sleep(0)
        child = Process(1, None)
        self.running.append(child)
        self.most = max(self.most, len(self.running))
        child.exited.add_done_callback(lambda _: self.running.remove(child))
        return child, ReplicaSession(1)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    journal = Journal(tmp_path / "journal.db")
    journal.open()
    yield Office(journal)
    journal.close()


def loaded() -> LoadedRelease:
    builds = {name: Build(f"{name}-build", {}) for name in SERVICES}
    release = Release("app", "microservices", SERVICES, builds, {}, {})
    components = ("Back", "Cart", "Shop")
    loaded = Loaded("app", SERVICES, dict.fromkeys(components, ()), (), {}, release, components)
    settings = Settings(app="app:app", root="/nowhere")
    return LoadedRelease(loaded, settings, ZygoteClient(Load(settings, "microservices"), lambda _: (0, 0)), {})


def migrations_of(office: Office) -> Migrations:
    return Migrations(office, office.launch_migration)  # pyright: ignore[reportArgumentType]


async def let_run(office: Office) -> Process:
    while not office.running:
        await asyncio.sleep(0)
    return office.running[0]


async def test_one_at_a_time_and_none_is_forgotten(office: Office):
    migrations, release = migrations_of(office), loaded()
    work = [asyncio.ensure_future(migrations.run(release, service, ())) for service in SERVICES]
    for _ in work:
        (await let_run(office)).exited.set_result(0)
        await asyncio.sleep(0)
    assert await asyncio.gather(*work) == [None, None, None]
    assert office.most == 1
    kept = office.journal.kept(MIGRATED)
    assert kept is not None
    assert msgspec.msgpack.decode(kept) == ["back@back-build", "cart@cart-build", "shop@shop-build"]
    assert migrations.pending(release) == {}


@pytest.mark.parametrize("launched", [False, True])
async def test_one_that_is_given_up_has_ended_when_that_is_known(office: Office, launched: bool):
    work = asyncio.ensure_future(migrations_of(office).run(loaded(), "back", ()))
    if launched:
        await let_run(office)
    else:
        await asyncio.sleep(0)
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    assert work.cancelled()
    assert not office.running
    assert office.journal.kept(MIGRATED) is None
