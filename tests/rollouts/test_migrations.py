"""Migrations: once per build, before its first replica, one at a time; one that fails stops the rollout."""

import time
from contextlib import suppress
from pathlib import Path

import pytest
from background import wait_until
from chained import Chain, chain, frozen, traffic
from commands import fissile
from supervised import lives

MIGRATE = """
    async def migrate(self) -> None:
        import asyncio, os, time
        from pathlib import Path

        log = Path(os.environ["MIGRATION_LOG"])
        with log.open("a") as file:
            file.write(f"{VERSION} begins\\n")
        try:
            await asyncio.sleep(PAUSE_MIGRATING)
        except asyncio.CancelledError:
            with log.open("a") as file:
                file.write(f"{VERSION} gives up\\n")
            raise
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


def migrating() -> list[int]:
    """The processes that run Back's migrations."""
    found: list[int] = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if file.read_bytes().startswith(b"fissile back.migrations"):
                found.append(int(file.parent.name))
    return found


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
        assert log.read_text().splitlines() == ["1 begins", "1 ends", "1 serves"]


def test_one_that_a_newer_deploy_supersedes_is_ended_before_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = tmp_path / "log"
    monkeypatch.setenv("MIGRATION_LOG", str(log))
    with chain(tmp_path / "app") as app:
        prepare(app)
        app.edit("back", VERSION=2, PAUSE_MIGRATING=20.0)
        app.order("deploy", "--json")
        wait_until(log.exists, "it begins")
        app.edit("back", VERSION=3, PAUSE_MIGRATING=0.2)
        app.deploy()
        assert log.read_text().splitlines() == ["2 begins", "2 gives up", "3 begins", "3 ends", "3 serves"]


def test_nothing_is_left_of_one_that_was_aborted_though_it_does_not_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = tmp_path / "log"
    monkeypatch.setenv("MIGRATION_LOG", str(log))
    with chain(tmp_path / "app") as app:
        prepare(app)
        file = app.folder / "chain" / "back.py"
        file.write_text(file.read_text().replace("await asyncio.sleep(PAUSE_MIGRATING)", "time.sleep(PAUSE_MIGRATING)"))
        app.edit("back", VERSION=2, PAUSE_MIGRATING=30.0)
        app.order("deploy", "--json")
        wait_until(log.exists, "it begins")
        app.order("abort")
        wait_until(lambda: app.status()["rollout"] is None, "it is over")
        assert not [pid for pid in migrating() if lives(pid)]
        app.edit("back", VERSION=3, PAUSE_MIGRATING=0.0)
        app.deploy()
        assert log.read_text().splitlines() == ["2 begins", "3 begins", "3 ends", "3 serves"]


def test_a_successor_ends_what_was_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = tmp_path / "log"
    monkeypatch.setenv("MIGRATION_LOG", str(log))
    with chain(tmp_path / "app") as app:
        prepare(app)
        app.edit("back", VERSION=2, PAUSE_MIGRATING=20.0)
        app.order("deploy", "--json")
        wait_until(log.exists, "it begins")
        with frozen(*migrating()):
            app.order("abort")
            app.kill(app.supervisor())
            app.up()
        wait_until(lambda: app.status()["rollout"] is None, "it is over")
        assert not [pid for pid in migrating() if lives(pid)]


def test_what_ended_while_nobody_supervised_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = tmp_path / "log"
    monkeypatch.setenv("MIGRATION_LOG", str(log))
    with chain(tmp_path / "app") as app:
        prepare(app)
        app.edit("back", PAUSE_MIGRATING=3.0)
        supervisor = app.supervisor()
        app.order("deploy", "--json")
        wait_until(log.exists, "it begins")
        (pid,) = migrating()
        app.kill(supervisor)
        wait_until(lambda: not lives(pid), "it ends")
        app.up()
        wait_until(lambda: app.status()["rollout"] is None, "it is over")
        assert log.read_text().splitlines() == ["1 begins", "1 ends", "1 serves"]


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
