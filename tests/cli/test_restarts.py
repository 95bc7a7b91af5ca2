"""`fissile restart` brings rotated secrets to the same code, and no two replicas of a service differ in them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from background import Up, background, wait_until
from commands import WAIT_SECONDS_MAX, fissile

from fissile.api.client import Client
from fissile.cli.progress import replacing

APPLICATION = """
import os
import time
from pathlib import Path
from fissile import Application, component

SECRET = (Path(__file__).parent / ".env").read_text().strip()
while SECRET == "hangs" and not (Path({seen!r}) / "go on").exists():
    time.sleep(0.02)
SEEN = Path({seen!r})
WORD = "first"
if SECRET == "broken":
    raise ValueError("the secret is broken")

class Base:
    async def start(self) -> None:
        (SEEN / str(os.getpid())).write_text(f"{{SECRET}} {{os.environ.get('GIVEN', '-')}} {{WORD}}", errors="replace")
        if SECRET == "too late":
            raise ValueError("it does not start with that")

@component
class Front(Base):
    async def go(self) -> str:
        return SECRET

@component
class Back(Base):
    async def go(self) -> str:
        return SECRET

app = Application(Front, Back, name="rotated")
"""
TOOL = """
import http.server, os, pathlib
(pathlib.Path({seen!r}) / str(os.getpid())).write_text(f"- {{os.environ.get('GIVEN', '-')}} -", errors="replace")
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
FILE = """
app = "rotated:app"
[services.back]
replicas = 2
[services.tool]
command = "{python} tool.py"
"""


class Rotated(Up):
    """seen: what each process of the application had read and was given, by its number."""

    @property
    def seen_folder(self) -> Path:
        return self.folder.parent / "seen"

    def saw(self, service: str) -> list[str]:
        return sorted((self.seen_folder / str(pid)).read_text() for pid in self.pids(service))

    def restart(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        return command("restart", *arguments, "--path", str(self.folder), given=given)

    def crash(self, service: str) -> None:
        """One of its replicas; until there are as many again, and all have said what they saw."""
        count, pid = len(self.pids(service)), self.pids(service)[0]
        self.kill(pid)

        def back() -> bool:
            pids = self.pids(service)
            written = [file for p in pids if (file := self.seen_folder / str(p)).exists() and file.stat().st_size]
            return len(written) == len(pids) == count and pid not in pids

        wait_until(back, f"{service} is there again")

    def write(self, secret: str) -> None:
        (self.folder / ".env").write_text(secret)


def command(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "GIVEN"}
    if given is not None:
        environment["GIVEN"] = given
    line = [sys.executable, "-m", "fissile", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX, check=False, env=environment)


@contextmanager
def rotated(tmp_path: Path, *, given: str | None = None) -> Iterator[Rotated]:
    folder, seen = tmp_path / "app", tmp_path / "seen"
    folder.mkdir()
    seen.mkdir()
    (folder / "rotated.py").write_text(APPLICATION.format(seen=str(seen)))
    (folder / "tool.py").write_text(TOOL.format(seen=str(seen)))
    (folder / "fissile.toml").write_text(FILE.format(python=sys.executable))
    (folder / ".env").write_text("old")
    with background(folder, Rotated) as app:
        started = command("up", str(folder), "--port", "0", "--topology", "microservices", given=given)
        assert started.returncode == 0, started
        app.status()
        yield app
        app.down()


def test_what_is_read_at_import_is_read_anew_by_the_same_code(tmp_path: Path):
    with rotated(tmp_path) as app:
        code = app.folder / "rotated.py"
        app.write("new")
        code.write_text(code.read_text().replace('"first"', '"never deployed"'))
        done = app.restart("front")
        assert done.returncode == 0, done
        assert done.stdout.startswith("front: 1 replica replaced; read again: .env; environment of `up` at ")
        assert "back: unchanged, with what was read earlier" in done.stdout
        assert app.saw("front") == ["new - first"]
        app.crash("front")
        assert app.saw("front") == ["new - first"]


def test_a_service_that_is_not_restarted_stays_as_it_is_though_its_replicas_die(tmp_path: Path):
    with rotated(tmp_path) as app:
        app.write("new")
        assert app.restart("front").returncode == 0
        app.crash("back")
        assert app.saw("back") == ["old - first"] * 2
        app.kill(app.supervisor())
        app.up()
        app.crash("back")
        app.crash("front")
        assert app.saw("back") == ["old - first"] * 2
        assert app.saw("front") == ["new - first"]


def test_nor_does_one_that_a_deploy_leaves_alone(tmp_path: Path):
    with rotated(tmp_path) as app:
        app.write("new")
        code = app.folder / "rotated.py"
        code.write_text(code.read_text().replace("class Front(Base):", "class Front(Base):\n    KIND = 2"))
        done = fissile("deploy", app.folder, "--wait")
        assert "leaves back" in done.stdout, done
        assert app.saw("front") == ["new - first"]
        app.crash("back")
        assert app.saw("back") == ["old - first"] * 2


def test_without_a_name_all_are_restarted_callees_first(tmp_path: Path):
    with rotated(tmp_path) as app:
        app.write("new")
        before = {name: app.pids(name) for name in ("front", "back", "tool")}
        done = app.restart()
        assert done.returncode == 0, done
        assert done.stdout.startswith("tool: ")
        assert app.saw("front") == ["new - first"]
        assert app.saw("back") == ["new - first"] * 2
        assert all(not set(app.pids(name)) & set(pids) for name, pids in before.items())


def test_an_import_that_hangs_is_seen_by_whoever_did_not_ask_for_it(tmp_path: Path):
    with rotated(tmp_path) as app:
        before = app.pids("front")
        app.write("hangs")
        line = [sys.executable, "-m", "fissile", "restart", "front", "-C", str(app.folder)]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asked:
            wait_until(lambda: app.status()["preparing"] == "importing rotated:app", "it is under way")
            asked.send_signal(signal.SIGINT)
            _, told = asked.communicate(timeout=WAIT_SECONDS_MAX)
        assert "the restart goes on: `fissile status` shows it" in told
        shown = fissile("status", "-C", app.folder).stdout
        assert "under way: importing rotated:app; nothing is touched yet" in shown
        assert app.pids("front") == before
        (app.seen_folder / "go on").touch()
        wait_until(lambda: app.pids("front") not in ([], before), "it goes on")
        assert "under way" not in fissile("status", "-C", app.folder).stdout


def test_a_restart_that_waits_behind_one_that_hangs_says_so(tmp_path: Path):
    with rotated(tmp_path) as app, ThreadPoolExecutor() as pool:
        before = app.pids("back")
        app.write("hangs")
        first = pool.submit(app.restart, "front")
        wait_until(lambda: app.status()["restarts"], "the first is under way")
        second = pool.submit(app.restart, "back")
        wait_until(lambda: len(app.status()["restarts"]) == 2, "the second waits")
        shown = fissile("status", "-C", app.folder).stdout
        assert re.search(r"^restart of front by \w+ is under way$", shown, re.MULTILINE), shown
        assert re.search(r"^restart of back by \w+ waits for the one before it$", shown, re.MULTILINE), shown
        told = replacing(Client(app.folder).status(), "back")
        assert re.fullmatch(r"waiting for the restart of front by \w+ to end", told), told
        assert "restart of" not in replacing(Client(app.folder).status(), "front")
        assert app.pids("back") == before
        (app.seen_folder / "go on").touch()
        assert (first.result().returncode, second.result().returncode) == (0, 0)
        assert not app.status()["restarts"]


@pytest.mark.parametrize("secret", ["broken", "too late"])
def test_a_mistake_in_a_file_of_settings_leaves_all_as_it_was(tmp_path: Path, secret: str):
    with rotated(tmp_path) as app:
        before = app.pids("front")
        app.write(secret)
        done = app.restart("front")
        assert done.returncode != 0
        assert ("the secret is broken" if secret == "broken" else "it does not start with that") in done.stderr
        assert app.pids("front") == before
        app.crash("front")
        assert app.saw("front") == ["old - first"]


def test_the_environment_of_the_shell_comes_on_demand_and_stays(tmp_path: Path):
    with rotated(tmp_path, given="at-first") as app:
        assert app.restart("front", given="of-a-shell").returncode == 0
        assert app.saw("front") == ["old at-first first"]
        done = app.restart("tool", "--update-env", given="rotated-secret")
        assert "environment of `restart --update-env` at " in done.stdout, done
        assert app.saw("tool") == ["- rotated-secret -"]
        app.crash("tool")
        app.crash("back")
        assert app.saw("tool") == ["- rotated-secret -"]
        assert app.saw("back") == ["old at-first first"] * 2
        app.kill(app.supervisor())
        taken = command("up", str(app.folder), given="of-the-successor")
        assert taken.returncode == 0, taken
        for service in ("tool", "back"):
            app.crash(service)
        assert app.saw("tool") == ["- rotated-secret -"]
        assert app.saw("back") == ["old at-first first"] * 2
        assert app.restart("back").returncode == 0  # what was sent last is the application's from then on
        assert app.saw("back") == ["old rotated-secret first"] * 2
        for file in app.folder.rglob("*"):
            if file.is_file():
                assert b"rotated-secret" not in file.read_bytes(), file
        shown = [app.status(), Client(app.folder).history(limit=1000)]
        assert "rotated-secret" not in repr(shown)


def test_a_zygote_that_dies_comes_back_in_its_own_environment(tmp_path: Path):
    with rotated(tmp_path, given="at-first") as app:
        assert app.restart("front", "--update-env", given="later").returncode == 0
        zygote: Any = app.status()["supervisor"]["zygote"]
        os.kill(zygote, signal.SIGKILL)
        wait_until(lambda: app.status()["supervisor"]["zygote"] not in (None, zygote), "another zygote")
        app.crash("front")
        assert app.saw("front") == ["old later first"]


def test_a_variable_need_be_no_text(tmp_path: Path):
    with rotated(tmp_path) as app:
        done = app.restart("--update-env", given="caf\udce9")
        assert done.returncode == 0, done
        pid = app.pids("tool")[0]
        assert b"GIVEN=caf\xe9\0" in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_deploy_by_force_starts_all_anew_and_can_be_rolled_back(tmp_path: Path):
    with rotated(tmp_path) as app:
        first = app.status()["release"]
        before = {name: app.pids(name) for name in ("front", "back", "tool")}
        app.write("new")
        told = command("deploy", str(app.folder), "--wait")
        assert "nothing to do" in told.stdout
        assert ".env changed since the services started" in told.stderr
        forced = command("deploy", str(app.folder), "--force", "--update-env", "--wait", given="sent")
        assert forced.returncode == 0, forced
        second = app.status()["release"]
        assert second != first
        assert all(not set(app.pids(name)) & set(pids) for name, pids in before.items())
        assert app.saw("back") == ["new sent first"] * 2
        assert app.saw("tool") == ["- sent -"]
        told = command("deploy", str(app.folder), "--wait")
        assert f"release {second} already serves: nothing to do" in told.stdout
        assert ".env and the environment do not" in told.stderr
        assert command("rollback", "--path", str(app.folder), "--wait").returncode == 0
        assert app.status()["release"] == first
        assert app.saw("back") == ["new sent first"] * 2


def test_a_forced_release_can_be_tried_as_a_canary_first(tmp_path: Path):
    with rotated(tmp_path) as app:
        first, pids = app.status()["release"], app.pids("front")
        begun = command("deploy", str(app.folder), "--force", "--canary", "50%", "--watch", "600s")
        assert begun.returncode == 0, begun
        assert set(pids) < set(app.pids("front"))
        assert fissile("abort", "--path", app.folder).returncode == 0
        wait_until(lambda: app.status()["rollout"] is None, "it was taken back")
        assert (app.status()["release"], app.pids("front")) == (first, pids)
