"""Migrations: once per build, before its first replica, one at a time; one that fails stops the rollout."""

import time
from pathlib import Path

import pytest
from background import wait_until
from chained import Chain, chain, traffic
from commands import fissile

MIGRATE = """
    async def migrate(self) -> None:
        import asyncio, os, time
        from pathlib import Path

        log = Path(os.environ["MIGRATION_LOG"])
        with log.open("a") as file:
            file.write(f"{VERSION} begins\\n")
        await asyncio.sleep(PAUSE_MIGRATING)
        if log.with_name("fail").exists():
            raise RuntimeError("there is no such table")
        with log.open("a") as file:
            file.write(f"{VERSION} ends\\n")

    async def start(self) -> None:
        import os
        from pathlib import Path

        with Path(os.environ["MIGRATION_LOG"]).open("a") as file:
            file.write(f"{VERSION} serves\\n")
"""


def prepare(app: Chain) -> None:
    """Back gets a migration, which notes what it does."""
    file = app.folder / "chain" / "back.py"
    file.write_text(file.read_text().replace("VERSION = 1\n", "VERSION = 1\nPAUSE_MIGRATING = 0.0\n") + MIGRATE)


def test_once_per_build_and_before_its_first_replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = tmp_path / "log"
    monkeypatch.setenv("MIGRATION_LOG", str(log))
    with chain(tmp_path / "app") as app:
        with traffic(app) as seen:
            prepare(app)
            app.edit("back", VERSION=2)
            said = app.deploy()
            assert "starting: all migrations are done" in said
            assert log.read_text().splitlines() == ["2 begins", "2 ends", "2 serves"]
            # A change of somebody else's does not run them again, and neither does the way back.
            app.edit("front", VERSION=2)
            app.deploy()
            app.order("rollback", "--wait")
        assert not seen.failures
        assert log.read_text().splitlines() == ["2 begins", "2 ends", "2 serves"]
        app.down()
        # Nor does the next start; the release that runs then was migrated.
        app.start()
        assert log.read_text().splitlines()[3:] == ["2 serves"]


def test_one_that_fails_leaves_the_old_release_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = tmp_path / "log"
    monkeypatch.setenv("MIGRATION_LOG", str(log))
    (tmp_path / "fail").touch()
    with chain(tmp_path / "app") as app:
        before = app.all_pids()
        prepare(app)
        with traffic(app) as seen:
            said = app.deploy(code=1)
        assert "a migration failed: Back cannot be migrated: RuntimeError: there is no such table" in said
        assert not seen.failures
        assert app.all_pids() == before
        (tmp_path / "fail").unlink()
        app.deploy()
        assert log.read_text().splitlines()[-3:] == ["1 begins", "1 ends", "1 serves"]


def test_a_supervisor_that_dies_meanwhile_begins_no_second_one_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = tmp_path / "log"
    monkeypatch.setenv("MIGRATION_LOG", str(log))
    with chain(tmp_path / "app") as app:
        prepare(app)
        app.edit("back", PAUSE_MIGRATING=1.5)
        number = app.order("deploy", "--json")
        assert '"rollout": 1' in number
        wait_until(log.exists, "it begins")
        app.kill(app.supervisor())
        app.up()
        wait_until(lambda: app.status()["rollout"] is None, "it is over")
        assert log.read_text().splitlines() == ["1 begins", "1 ends"] * 2 + ["1 serves"]


def test_the_first_start_migrates_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = tmp_path / "log"
    monkeypatch.setenv("MIGRATION_LOG", str(log))
    with chain(tmp_path / "app") as app:
        app.down()
        prepare(app)
        app.start()
        assert log.read_text().splitlines() == ["1 begins", "1 ends", "1 serves"]
        app.down()
        (tmp_path / "fail").touch()
        app.edit("back", VERSION=2)
        begun = time.monotonic()
        result = fissile("up", app.folder, "--port", "0", "--topology", "microservices")
        assert result.returncode == 2
        assert "there is no such table" in result.stderr
        assert time.monotonic() - begun < 20
