"""A start that is given up before it is over: all that it had begun ends, and what ran before goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from background import LEFT, background, text_at, wait_until
from commands import WAIT_SECONDS_MAX, fissile
from supervised import descendants, left_in, lives

from fissile.machine.leftover_processes import left_anywhere
from fissile.machine.procfs import application_of
from fissile.supervisor.report import AllUp, GivenUp, Listener

CODE = '''
import asyncio, os, pathlib, time
from fissile import Application, component

here = pathlib.Path({folder!r})

def reached(where):
    """Say so, and stay there if that is wanted."""
    (here / "reached").write_text(where)
    return (here / "stay").read_text() == where

while reached("import"):
    time.sleep(0.05)

@component
class Pages:
    async def migrate(self) -> None:
        while reached("migrate"):
            await asyncio.sleep(0.05)

    async def start(self) -> None:
        while reached("start"):
            await asyncio.sleep(0.05)
        while reached("block"):
            time.sleep(0.05)

    async def number(self) -> int:
        return 1

app = Application(Pages)
'''

DEAF = "import signal, pathlib, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
DEAF += "pathlib.Path('reached').write_text('program'); time.sleep(600)"
PROGRAM = f"""
[services.web]
command = "{sys.executable} -c \\"{DEAF}\\""
"""

# Needs some time to end.
STUBBORN = """
import os, pathlib, signal, socket, time

def end(*_):
    pathlib.Path("reached").write_text("end")
    time.sleep(2.0)
    os._exit(0)

signal.signal(signal.SIGTERM, end)
door = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    door.accept()
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An application that stays in its import, its migrations or its start for as long as a file says so."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "fissile.toml").write_text('app = "a:app"\n')
    (folder / "a.py").write_text(CODE.format(folder=str(folder)))
    (folder / "stay").write_text("nowhere")
    return folder


@contextmanager
def starting(folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """`fissile up` under way; nothing of the application is left at the end, whatever became of it."""
    command = [sys.executable, "-m", "fissile", "up", str(folder), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        left = descendants(process.pid)
        process.kill()
        process.communicate()
        for pid in {*left, *of(folder)}:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)


def of(folder: Path) -> list[int]:
    """All processes of the application in a folder."""
    supervisors = [int(one) for one in os.listdir("/proc") if one.isdigit() and supervises(int(one), folder)]
    return [*left_anywhere(application_of(folder)), *supervisors]


def supervises(pid: int, folder: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"supervise" in words and str(folder).encode() in words and lives(pid)


def reaches(folder: Path, where: str) -> None:
    file = folder / "reached"
    wait_until(lambda: file.exists() and file.read_text() == where, f"it reaches {where}")


def nothing_is_left(folder: Path) -> None:
    wait_until(lambda: not of(folder), f"all of it has ended: {of(folder)}")
    assert left_in(folder) <= LEFT, left_in(folder)


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("import", signal.SIGINT),
        ("migrate", signal.SIGTERM),
        ("start", signal.SIGHUP),
        ("block", signal.SIGTERM),
        ("import", signal.SIGKILL),
        ("start", signal.SIGKILL),
    ],
)
def test_whoever_ends_up_ends_what_it_began(app: Path, where: str, number: signal.Signals):
    (app / "stay").write_text(where)
    with starting(app) as up:
        reaches(app, where)
        begun = time.monotonic()
        up.send_signal(number)
        out, err = up.communicate(timeout=WAIT_SECONDS_MAX)
        nothing_is_left(app)
        assert time.monotonic() - begun < 8.0
    if number is signal.SIGKILL:
        return  # it says nothing more
    assert (up.returncode, out) == (130, ""), err
    assert "fissile: the start was interrupted: nothing is left of it" in err
    assert "Traceback" not in err
    assert "nothing runs in" in fissile("status", app).stderr


def test_it_ends_as_well_before_its_supervisor_has_begun(app: Path):
    with starting(app) as up:
        wait_until(lambda: any(supervises(pid, app) for pid in descendants(up.pid)), "there is a supervisor")
        up.send_signal(signal.SIGINT)
        _, err = up.communicate(timeout=WAIT_SECONDS_MAX)
        nothing_is_left(app)
    assert up.returncode == 130, err


def test_the_second_signal_ends_at_once_what_does_not_end(app: Path):
    (app / "fissile.toml").write_text(PROGRAM)
    with starting(app) as up:
        reaches(app, "program")
        up.send_signal(signal.SIGINT)
        time.sleep(1.0)  # it is still there: it has ten seconds to end
        assert up.poll() is None
        begun = time.monotonic()
        up.send_signal(signal.SIGINT)
        _, err = up.communicate(timeout=WAIT_SECONDS_MAX)
        assert time.monotonic() - begun < 4.0
        nothing_is_left(app)
    assert up.returncode == 130, err
    assert "press Ctrl-C again to stop at once" in err


def test_what_it_was_started_to_ignore_it_ignores(app: Path):
    (app / "stay").write_text("import")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with starting(app) as up, background(app) as one:
            reaches(app, "import")
            up.send_signal(signal.SIGHUP)
            (app / "stay").write_text("nowhere")
            out, err = up.communicate(timeout=WAIT_SECONDS_MAX)
            assert (up.returncode, "is up" in out) == (0, True), err
            one.down()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_next_start_begins_with_the_code_in_the_folder(app: Path):
    (app / "stay").write_text("start")
    with starting(app) as up:
        reaches(app, "start")
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=WAIT_SECONDS_MAX)
    (app / "stay").write_text("nowhere")
    (app / "a.py").write_text((app / "a.py").read_text().replace("return 1", "return 2"))
    with background(app) as one:
        one.up()
        assert fissile("call", "Pages.number", "--path", app).stdout == "2\n"
        one.down()
    assert "StartGivenUp" in fissile("history", "--path", app).stdout


def test_what_went_on_after_a_power_cut_goes_on_after_a_start_that_was_given_up(app: Path):
    with background(app) as one:
        one.up()
        for pid in of(app):
            one.kill(pid)
        (app / "stay").write_text("start")
        (app / "reached").unlink()
        (app / "a.py").write_text((app / "a.py").read_text().replace("return 1", "return 2"))
        with starting(app) as up:
            reaches(app, "start")
            up.send_signal(signal.SIGINT)
            up.communicate(timeout=WAIT_SECONDS_MAX)
            nothing_is_left(app)
        (app / "stay").write_text("nowhere")
        assert one.up()["resumed"]
        assert fissile("call", "Pages.number", "--path", app).stdout == "1\n"
        one.down()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_it_took_over_goes_on(folder: Path, number: signal.Signals):
    with background(folder) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        before = {name: app.pids(name) for name in ("back", "pages")}
        app.kill(app.supervisor())
        (stopped,) = before["back"]
        os.kill(stopped, signal.SIGSTOP)  # so that the next supervisor waits for what it says
        try:
            with subprocess.Popen([sys.executable, "-m", "fissile", "up", str(folder)], stderr=subprocess.PIPE) as up:
                wait_until(lambda: any(supervises(pid, folder) for pid in descendants(up.pid)), "a supervisor")
                (supervisor,) = [pid for pid in descendants(up.pid) if supervises(pid, folder)]
                wait_until(lambda: f'"pid": {supervisor}' in published(folder), "it has taken over")
                up.send_signal(number)
                wait_until(lambda: not lives(supervisor), "the supervisor has ended")
                _, err = up.communicate(timeout=WAIT_SECONDS_MAX)
        finally:
            os.kill(stopped, signal.SIGCONT)
        if number is signal.SIGINT:
            assert up.returncode == 130
            assert b"what ran before goes on" in err
        assert int(text_at(f"{page}/back")) in before["back"]
        app.up()
        assert {name: app.pids(name) for name in ("back", "pages")} == before
        assert int(text_at(f"{page}/back")) in before["back"]
        app.down()


def published(folder: Path) -> str:
    return (folder / ".fissile" / "endpoints.json").read_text()


def test_up_counts_only_once_somebody_has_been_told(app: Path):
    """Killed after all is up and before that was said: nothing runs, and the next start is a new one."""
    listener = Listener()
    command = [sys.executable, "-m", "fissile", "supervise", str(app), "--ready-fd", str(listener.fd)]
    process = subprocess.Popen(command, pass_fds=[listener.fd], start_new_session=True)
    listener.passed_on()
    said = listener.messages(1.0, lambda: None)
    assert any(isinstance(one, AllUp) for one in said)
    listener.give_up()
    assert [one for one in said if isinstance(one, GivenUp)] == [GivenUp(goes_on=False)]
    assert process.wait(WAIT_SECONDS_MAX) == 0
    listener.close()
    nothing_is_left(app)
    (app / "a.py").write_text((app / "a.py").read_text().replace("return 1", "return 2"))
    with background(app) as one:
        assert not one.up()["resumed"]
        one.down()


def test_after_it_was_said_nobody_is_waited_for(app: Path):
    with starting(app, "--json") as up:
        out, err = up.communicate(timeout=WAIT_SECONDS_MAX)
        assert up.returncode == 0, err
        assert lives(json.loads(out)["pid"])
        with background(app) as one:
            one.status()
            one.down()


@pytest.mark.parametrize("command", ["deploy", "restart", "down"])
def test_what_was_ordered_goes_on_and_whoever_interrupts_is_told(app: Path, command: str):
    """Only a start is given up: here somebody else carries it out."""
    words = {"deploy": "it goes on", "restart": "the restart goes on", "down": "the application stops all the same"}
    if command == "down":
        (app / "web.py").write_text(STUBBORN)
        (app / "fissile.toml").write_text(f'[services.web]\ncommand = "{sys.executable} web.py"\n')
    with background(app) as one:
        one.up()
        (before,) = one.pids("web" if command == "down" else "pages")
        release = one.status()["release"]
        (app / "reached").unlink(missing_ok=True)
        (app / "stay").write_text("import")
        (app / "a.py").write_text((app / "a.py").read_text().replace("return 1", "return 2"))
        order = [
            sys.executable,
            "-m",
            "fissile",
            command,
            *(["pages", "--path"] if command == "restart" else []),
            str(app),
        ]
        with subprocess.Popen(order, stderr=subprocess.PIPE, text=True) as given:
            wait_until(lambda: (app / "reached").exists(), "it is under way")
            given.send_signal(signal.SIGINT)
            _, err = given.communicate(timeout=WAIT_SECONDS_MAX)
        assert given.returncode == 130, err
        assert f"fissile: {words[command]}" in err
        assert "`fissile status`" in err
        assert "Traceback" not in err
        if command == "down":
            nothing_is_left(app)
            return
        if command == "deploy":
            assert one.status()["preparing"] == "importing a:app"
            assert "under way: importing a:app; nothing is touched yet" in fissile("status", "-C", app).stdout
        (app / "stay").write_text("nowhere")
        wait_until(lambda: before not in one.pids("pages") and one.pids("pages"), "there is a new replica")
        assert (one.status()["release"] != release) == (command == "deploy")
        one.down()


def edit(folder: Path) -> None:
    code = (folder / "a.py").read_text()
    (folder / "a.py").write_text(code.replace("return 1", "return 2"))


def kill_all(folder: Path) -> None:
    for pid in of(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not of(folder), "all are dead")


def test_a_first_start_that_was_killed_with_all_its_processes_leaves_no_release_to_go_back_to(app: Path):
    (app / "stay").write_text("start")
    with starting(app):
        reaches(app, "start")
        kill_all(app)
    (app / "stay").write_text("nowhere")
    edit(app)
    with background(app) as one:
        up = one.up()
        kept = json.loads(fissile("releases", "-C", app, "--json").stdout)
        assert [(release["name"], release["state"]) for release in kept] == [(up["release"], "live")]
        back = fissile("rollback", "-C", app)
        assert back.returncode != 0
        assert "there is no earlier release" in back.stderr


def test_a_first_start_that_another_supervisor_finishes_is_what_ran_last(app: Path):
    (app / "stay").write_text("start")
    with background(app) as one:
        with starting(app, "--topology", "microservices"):
            reaches(app, "start")
            supervisor = json.loads((app / ".fissile" / "endpoints.json").read_text())["pid"]
            one.kill(supervisor)
            assert fissile("up", app).returncode == 0
            release = one.status()["release"]
            (app / "stay").write_text("nowhere")
            ran_last = f"{release} is what ran last"
            wait_until(
                lambda: json.loads(next((app / ".fissile/releases").glob("*.json")).read_text())["served"], ran_last
            )
            kill_all(app)
        edit(app)
        assert one.up()["release"] == release
