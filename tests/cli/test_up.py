"""`fissile up` and what follows: the application in the background, and a supervisor that may die."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from background import LEFT, background, text_at, wait_until
from commands import fissile
from supervised import left_in, lives

from fissile.api.client import Client, Refused
from fissile.api.discovery import NotServed, read_endpoints
from fissile.cli import down

SLOW_TO_END = """
import os, signal, socket, sys, time
from pathlib import Path

def end(*_):
    while not Path("enough").exists():
        time.sleep(0.02)
    sys.exit()

signal.signal(signal.SIGTERM, end)
with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) as door:
    while True:
        door.accept()[0].close()
"""


def test_up_status_scale_restart_history_logs_down(folder: Path):
    with background(folder) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        (old,) = app.pids("back")
        assert text_at(f"{page}/back") == str(old)
        assert fissile("scale", "back", "3", "--path", folder, "--why", "a sale").returncode == 0
        wait_until(lambda: len(app.pids("back")) == 3, "three replicas")
        assert (
            "back: 3 replicas replaced; environment of `up` at " in fissile("restart", "back", "--path", folder).stdout
        )
        assert old not in app.pids("back")
        assert fissile("scale", "back", "1", "--path", folder).returncode == 0
        wait_until(lambda: len(app.pids("back")) == 1, "one replica")
        text_at(f"{page}/back")
        history = fissile("history", "--path", folder).stdout
        assert "ScaleService " in history
        assert "a sale" in history
        assert "back starts" in fissile("logs", "back", "--path", folder).stdout
        assert fissile("logs", "--since", "1h", "--path", folder).stdout
        called = fissile("call", "Back.pid", "--path", folder)
        assert int(called.stdout) == app.pids("back")[0]
        app.down()
        assert "nothing runs in" in fissile("status", folder).stderr
        afterwards = fissile("history", "back", "--path", folder)
        assert "nothing runs in" in afterwards.stderr
        assert "a sale" in afterwards.stdout


def test_whoever_comes_while_it_stops_is_told_so_and_afterwards_that_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "slow.py").write_text(SLOW_TO_END)
    (tmp_path / "fissile.toml").write_text(
        f'[services.slow]\ncommand = "{sys.executable} slow.py"\ndrain_seconds = 20\n'
    )
    wait = down._wait
    with background(tmp_path), ThreadPoolExecutor() as pool:
        assert fissile("up", tmp_path).returncode == 0
        (slow,) = msgspec.to_builtins(Client(tmp_path).status())["services"]
        assert slow["limits"]["concurrency"] is None, "nobody counts its calls"
        assert {slow["replicas"][0][name] for name in ("lag_seconds", "in_flight")} == {None}
        early = Client(tmp_path)
        first = pool.submit(fissile, "down", "-C", tmp_path)
        wait_until(lambda: read_endpoints(tmp_path).stopping, "it stops")
        for words in (("deploy",), ("restart",), ("scale", "slow", "2"), ("status",)):
            done = fissile(*words, "-C", tmp_path)
            assert done.returncode == 2, done
            assert " is stopping (pid " in done.stderr, done
        with pytest.raises(NotServed, match="is stopping"):
            early.status()

        def waited(*given: Any) -> None:
            (tmp_path / "enough").touch()
            wait(*given)

        monkeypatch.setattr(down, "_wait", waited)
        down.down(tmp_path, why="a second one waits with the first")
        assert first.result().returncode == 0, first.result()
        with pytest.raises(NotServed, match="nothing runs in"):
            early.status()


def test_whoever_asks_a_supervisor_that_has_just_died_is_told_so(folder: Path):
    with background(folder) as app:
        app.up()
        early = Client(folder)
        app.kill(app.supervisor())
        with pytest.raises(NotServed, match="died; its services go on without it"):
            early.status()


def test_the_next_up_adopts_what_a_killed_supervisor_left(folder: Path):
    with background(folder) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        fissile("scale", "back", "2", "--path", folder)
        wait_until(lambda: len(app.pids("back")) == 2, "two replicas")
        before = {name: sorted(app.pids(name)) for name in ("back", "pages")}
        for _ in range(3):
            app.kill(app.supervisor())
            assert int(text_at(f"{page}/back")) in before["back"]
            assert "`fissile up` starts another" in fissile("status", folder).stderr
            assert int(fissile("call", "Back.pid", "--path", folder).stdout) in before["back"]
            app.up()
            assert {name: sorted(app.pids(name)) for name in ("back", "pages")} == before
            assert int(text_at(f"{page}/back")) in before["back"]
        wait_until(
            lambda: all(r["state"] == "ready" for s in app.status()["services"] for r in s["replicas"]), "all report"
        )
        # The adopted are looked after: one that dies is replaced, on the same sockets.
        app.kill(before["back"][0])
        wait_until(lambda: len(set(app.pids("back")) - {0, before["back"][0]}) == 2, "a replacement")
        assert fissile("restart", "pages", "--path", folder).returncode == 0
        assert int(text_at(f"{page}/back")) in app.pids("back")
        app.down()


def test_an_up_that_is_refused_leaves_what_runs_to_the_next_one(folder: Path):
    with background(folder) as app:
        app.up()
        before = {name: app.pids(name) for name in ("back", "pages")}
        app.kill(app.supervisor())
        for _ in range(2):
            refused = fissile("up", folder, "--topology", "monolith")
            assert refused.returncode == 2
            assert "runs as microservices already, and not as monolith" in refused.stderr
        app.up()
        assert {name: app.pids(name) for name in ("back", "pages")} == before
        app.down()


def test_after_a_take_over_the_endpoints_have_all_process_numbers(folder: Path):
    with background(folder) as app:
        app.up()
        fissile("scale", "back", "3", "--path", folder)
        before = wait_until(lambda: found if len(found := app.pids("back")) == 3 else None, "three replicas")
        for _ in range(3):
            app.kill(app.supervisor())
            told = app.up()["services"]
            assert sorted(told["back"]["pids"]) == sorted(before)
            assert told["pages"]["pids"] == app.pids("pages")
        app.down()


@pytest.mark.parametrize("dead", [(), ("pid",), ("zygote",), ("pid", "zygote")])
def test_what_a_command_says_to_do_next_is_all_there_is_to_do(folder: Path, dead: tuple[str, ...]):
    with background(folder) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        found = app.status()["supervisor"]
        for one in dead:
            app.kill(found[one])
        commands = (
            ("status", folder),
            ("scale", "back", "2", "--path", folder),
            ("restart", "back", "--path", folder),
            ("deploy", folder),
        )
        for command in commands:
            said = fissile(*command)
            if "pid" not in dead:
                assert said.returncode == 0, said
                continue
            assert said.returncode == 2, said
            assert "→ `fissile up` " in said.stderr
            assert ("which takes them over" in said.stderr) == ("zygote" not in dead)
        if "pid" in dead:
            page = app.up()["services"]["pages"]["public"]["Pages"]
            for command in commands:
                assert fissile(*command).returncode == 0
        assert int(text_at(f"{page}/back"))
        app.down()
        for command in (*commands, ("down", folder)):
            said = fissile(*command)
            assert said.returncode == 2, said
            assert "→ start it with `fissile run` or `fissile up`" in said.stderr


def test_a_supervisor_that_hangs_is_said_to_and_the_way_on_works(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with background(folder) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        supervisor = app.supervisor()
        os.kill(supervisor, signal.SIGSTOP)
        monkeypatch.setattr("fissile.api.client.LOOK_SECONDS_MAX", 0.5)
        with pytest.raises(Refused, match=f"pid {supervisor}. has not answered for 0.5 s") as told:
            Client(folder).status()
        assert told.value.remedy.startswith(f"if it hangs, `kill -9 {supervisor}` ends it alone")
        app.kill(supervisor)
        app.up()
        assert int(text_at(f"{page}/back")) in app.pids("back")
        app.down()


def test_down_without_a_supervisor(folder: Path):
    with background(folder) as app:
        app.up()
        app.kill(app.supervisor())
        app.down()


def test_what_died_while_nobody_supervised_is_started_again(folder: Path):
    with background(folder) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        (old,) = app.pids("back")
        app.kill(app.supervisor())
        app.kill(old)
        app.up()
        assert text_at(f"{page}/back") == str(wait_until(lambda: app.pids("back"), "a new one")[0])
        assert "nobody supervised" in fissile("history", "--path", folder).stdout
        app.down()


def test_a_dead_zygote_and_then_a_dead_supervisor(folder: Path):
    with background(folder) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        (old,) = app.pids("pages")
        app.kill(app.status()["supervisor"]["zygote"])
        # The next start brings up another zygote, which is told of all that live.
        app.kill(app.pids("back")[0])
        assert text_at(f"{page}/back")
        app.kill(app.supervisor())
        app.up()
        assert app.pids("pages") == [old]
        assert text_at(f"{page}/back") == str(app.pids("back")[0])
        app.down()


def test_down_while_there_is_no_zygote(folder: Path):
    with background(folder) as app:
        app.up()
        app.kill(app.status()["supervisor"]["zygote"])
        published = json.loads((folder / ".fissile" / "endpoints.json").read_text())
        (folder / ".fissile" / "endpoints.json").write_text(json.dumps({**published, "zygote": 0}))
        app.down()


@pytest.mark.parametrize("command", ["up", "down"])
def test_when_supervisor_and_zygote_die_together_nobody_is_left_behind(folder: Path, command: str):
    with background(folder) as app:
        app.up()
        left = [*app.pids("back"), *app.pids("pages")]
        found = app.status()["supervisor"]
        app.kill(found["pid"])
        app.kill(found["zygote"])
        assert all(lives(pid) for pid in left)
        if command == "down":
            app.down()
        else:
            app.up()
            assert not set(left) & {*app.pids("back"), *app.pids("pages")}
            lines = fissile("history", "--path", folder, "--json").stdout.splitlines()
            history = [json.loads(line) for line in lines]
            (ended,) = [entry for entry in history if entry["what"] == "OrphansEnded"]
            assert "2 replicas, whose supervisor and zygote had died, were ended" in ended["reason"]
        assert not [pid for pid in left if lives(pid)]


@pytest.mark.parametrize("command", ["up", "down"])
def test_a_zygote_that_hangs_when_its_supervisor_is_dead_is_ended(folder: Path, command: str):
    with background(folder) as app:
        app.up()
        left = [*app.pids("back"), *app.pids("pages")]
        found = app.status()["supervisor"]
        os.kill(found["zygote"], signal.SIGSTOP)
        app.kill(found["pid"])
        if command == "down":
            app.down()
        else:
            page = app.up()["services"]["pages"]["public"]["Pages"]
            assert int(text_at(f"{page}/back")) in app.pids("back")
        assert not [pid for pid in [found["zygote"], *left] if lives(pid)]


def test_a_supervisor_that_was_stopped_for_a_while_kills_nobody_for_its_own_silence(folder: Path):
    with background(folder) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        before = {name: app.pids(name) for name in ("back", "pages")}
        found = app.status()["supervisor"]
        os.kill(found["pid"], signal.SIGSTOP)
        time.sleep(12.0)  # longer than a replica, or a zygote, may be silent
        assert int(text_at(f"{page}/back")) in before["back"]
        os.kill(found["pid"], signal.SIGCONT)
        looks = time.monotonic() + 3.0
        while time.monotonic() < looks:
            assert {name: app.pids(name) for name in ("back", "pages")} == before
            assert app.status()["supervisor"] == found
            time.sleep(0.1)


def test_a_service_at_zero_stays_there_through_a_deploy_and_the_death_of_all(folder: Path):
    with background(folder) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        assert fissile("scale", "back", "0", "--path", folder).stdout.startswith("back: 0 wanted now")
        wait_until(lambda: not app.pids("back"), "it has ended")
        assert " (scaled to zero by " in fissile("status", folder).stdout
        sample = folder / "sample.py"
        sample.write_text(sample.read_text().replace("return os.getpid()", "return os.getpid() + 0"))
        deployed = fissile("deploy", folder, "--wait")
        assert deployed.returncode == 0, deployed
        found = app.status()
        assert not app.pids("back")
        for pid in [found["supervisor"]["pid"], found["supervisor"]["zygote"], *app.pids("pages")]:
            app.kill(pid)
        page = app.up()["services"]["pages"]["public"]["Pages"]
        assert not app.pids("back")
        assert fissile("restart", "back", "--path", folder).returncode == 1
        assert fissile("scale", "back", "1", "--path", folder).returncode == 0
        wait_until(lambda: app.pids("back"), "it is back")
        assert int(text_at(f"{page}/back")) in app.pids("back")
        app.down()


def alter(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / ".fissile" / "journal.db") as connection:
        connection.execute(statement)
    connection.close()


def test_a_journal_that_does_not_know_what_ran_starts_nothing_else(folder: Path):
    with background(folder) as app:
        app.up()
        found = app.status()
        for pid in [found["supervisor"]["pid"], found["supervisor"]["zygote"], *app.pids("back"), *app.pids("pages")]:
            app.kill(pid)
        alter(folder, "update kept set value = cast(substr(value, 1, 20) as blob) where name = 'desired'")
        refused = fissile("up", folder, "--port", "0", "--topology", "monolith")
        assert refused.returncode == 2
        assert "journal.db is damaged: desired cannot be read, so nobody knows what is to run" in refused.stderr
        assert "`fissile up --fresh`" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert "nothing runs in" in fissile("status", folder).stderr
        started = fissile("up", folder, "--port", "0", "--topology", "microservices", "--fresh")
        assert started.returncode == 0, started
        assert "desired begins anew" in started.stderr
        app.down()


@pytest.mark.parametrize("statement", ["update kept set value = x'00' where name = 'secrets'", "drop table kept"])
def test_what_runs_with_a_damaged_journal_goes_on_until_down(folder: Path, statement: str):
    with background(folder) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        before = app.pids("back")
        app.kill(app.supervisor())
        alter(folder, statement)
        refused = fissile("up", folder)
        assert refused.returncode == 2
        assert "journal.db is damaged" in refused.stderr
        assert "`fissile down`" in refused.stderr
        assert int(text_at(f"{page}/back")) in before
        assert fissile("down", folder).returncode == 0
        assert not [pid for pid in app.seen if pid and lives(pid)]
        # What is said next works: with the file moved away, or by a fresh start.
        if "drop" in statement:
            (folder / ".fissile" / "journal.db").rename(folder / "journal.db")
        assert fissile("up", folder, "--port", "0", "--topology", "microservices", "--fresh").returncode == 0
        app.down()


def test_entries_that_are_missing_are_said_to_be(folder: Path):
    with background(folder) as app:
        app.up()
        app.kill(app.supervisor())
        alter(folder, "delete from entries where what = 'ReplicaReady'")
        again = fissile("up", folder)
        assert again.returncode == 0
        assert "2 entries are gone" in again.stderr
        (said,) = [
            line for line in fissile("history", "--path", folder).stdout.splitlines() if "JournalDamaged" in line
        ]
        assert "2 entries are gone" in said
        app.kill(app.supervisor())
        assert "are gone" not in fissile("up", folder).stderr  # it is said once
        app.down()


def test_a_second_supervisor_is_refused_and_what_runs_goes_on(folder: Path):
    with background(folder) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        second = fissile("up", folder, "--topology", "microservices")
        assert second.returncode == 2
        assert "runs already" in second.stderr
        assert text_at(f"{page}/back")
        app.kill(app.supervisor())
        other = fissile("up", folder, "--topology", "monolith")
        assert other.returncode == 2
        assert "runs as microservices already" in other.stderr
        assert text_at(f"{page}/back")
        app.up()
        app.down()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.write_bytes(b"no database at all, and long enough to be looked at" * 100), "is damaged"),
        (lambda file: os.system(f"python3 -c \"import sqlite3; c = sqlite3.connect('{file}'); "
                                'c.execute(\'pragma user_version = 99\')"'), "newer Fissile"),
    ],
)  # fmt: skip
def test_a_broken_journal_is_named_and_what_runs_goes_on(folder: Path, damage: Callable[[Path], Any], words: str):
    with background(folder) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        app.kill(app.supervisor())
        journal = folder / ".fissile" / "journal.db"
        good = {file: file.read_bytes() for file in journal.parent.glob("journal.db*")}
        for file in good:
            file.unlink()
        journal.write_bytes(good[journal])
        damage(journal)
        result = fissile("up", folder, "--topology", "microservices")
        assert result.returncode == 2
        assert words in result.stderr
        assert "Traceback" not in result.stderr
        assert text_at(f"{page}/back")
        for file, data in good.items():
            file.write_bytes(data)
        app.up()
        app.down()


def test_a_systemd_unit(folder: Path):
    unit = fissile("up", folder, "--systemd", "--topology", "microservices").stdout
    assert f"supervise -C {folder.resolve()} --topology microservices" in unit
    assert "KillMode=process" in unit
    assert not (folder / ".fissile").exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd: apt-get install systemd")
@pytest.mark.parametrize("options", [[], ["--user"]], ids=["system", "user"])
def test_systemd_finds_nothing_wrong_with_the_unit(folder: Path, tmp_path: Path, options: list[str]):
    done = fissile("up", folder, "--systemd", *options)
    place = "~/.config/systemd/user" if options else "/etc/systemd/system"
    assert f"save this as {place}/{folder.name}.service" in done.stderr
    assert ("User=" in done.stdout) == (not options)
    file = tmp_path / "app.service"
    file.write_text(done.stdout)
    command = ["systemd-analyze", *options, "verify", str(file)]
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    assert [line for line in found.stderr.splitlines() if "app.service" in line] == []


def test_a_start_that_fails_leaves_nothing(folder: Path):
    (folder / "back-cannot-start").touch()
    result = fissile("up", folder, "--topology", "microservices")
    assert result.returncode == 2
    assert "back cannot be started" in result.stderr
    assert "the database is not there" in result.stderr
    assert left_in(folder) <= LEFT
