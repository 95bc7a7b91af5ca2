"""`fissile logs`, on an application in the background."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from background import background, wait_until
from commands import fissile

APPLICATION = """
import logging
import subprocess
import sys
from fissile import Application, component

@component
class Back:
    async def go(self, what: str) -> str:
        print("back has", what)
        logging.getLogger("shop").warning("back logs %s", what)
        if what == "trouble":
            raise ValueError("of back")
        if what == "json":
            print('{"level": "error", "user": 7}')
        if what == "child":
            subprocess.run(["sh", "-c", "echo of a child"])
        if what == "prompt":
            sys.stdout.write("no end")
            sys.stdout.flush()
        return what

@component
class Front:
    def __init__(self, back: Back) -> None:
        self.back = back

    async def go(self, what: str) -> str:
        print("before", what)
        try:
            return await self.back.go(what)
        finally:
            print("after", what)

    def http(self):
        async def app(scope, receive, send):
            if scope["type"] == "http":
                await self.go(scope["path"].strip("/"))
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"ok"})
        return app

app = Application(Front, Back, name="shop")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APPLICATION)
    (tmp_path / "fissile.toml").write_text('app = "shop:app"\n')
    return tmp_path


def ask(page: str, what: str) -> str:
    """Ask for a page; the trace of its answer."""
    try:
        answer = urllib.request.urlopen(f"{page}/{what}")
    except urllib.error.HTTPError as error:
        answer = error
    return str(answer.headers["traceresponse"])


def lines(folder: Path, *options: str) -> list[str]:
    result = fissile("logs", *options, "--path", folder)
    assert result.returncode == 0, result
    return result.stdout.splitlines()


def line_of(text: str) -> str:
    return text.partition(" | ")[2]


def test_lines_of_all_services_by_time_and_of_one_request(folder: Path):
    with background(folder) as app:
        page = next(iter(app.up()["services"]["front"]["public"].values()))
        traces = {what: ask(page, what) for what in ("plain", "json", "child", "trouble")}
        of_plain = ["before plain", "back has plain", "WARNING shop: back logs plain", "after plain"]
        wait_until(lambda: "after trouble" in "".join(lines(folder)), "the last line")
        shown = lines(folder, "front", "back")
        assert [line_of(one) for one in shown][:4] == of_plain
        assert all(re.match(r"\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  \w+ +\| ", one) for one in shown)
        assert [line_of(one) for one in lines(folder, "--trace", traces["plain"])] == of_plain
        digits = traces["json"].split("-")[1]
        (found,) = [json.loads(one) for one in lines(folder, "--json", "--trace", digits, "back") if "level" in one]
        assert found["fields"] == {"level": "error", "user": 7}
        assert (found["name"], found["service"], found["trace"]) == ("back", "back", digits)
        from datetime import datetime

        assert abs(datetime.fromisoformat(found["time"]).timestamp() - time.time()) < 60.0
        # What somebody else writes belongs to no request, rather than to a wrong one.
        assert "of a child" in [line_of(one) for one in lines(folder)]
        assert "of a child" not in [line_of(one) for one in lines(folder, "--trace", traces["child"])]
        trouble = "\n".join(lines(folder, "--trace", traces["trouble"], "--no-time"))
        assert "Traceback (most recent call last)" in trouble
        assert "ValueError: of back" in trouble
        assert lines(folder, "-n", "2") == lines(folder)[-2:]
        assert lines(folder, "Back", "-n", "1") == lines(folder, "back")[-1:]
        assert lines(folder, "--until", "1h") == []
        assert lines(folder, "--since", "1h") == lines(folder)
        unknown = fissile("logs", "bakc", "--path", folder)
        assert unknown.returncode == 2
        assert "there is no log of bakc" in unknown.stderr
        assert "back, fissile, front" in unknown.stderr
        for wrong in (("--trace", "xyz"), ("--since", "soon")):
            assert fissile("logs", *wrong, "--path", folder).returncode == 2
        app.down()
        assert [line_of(one) for one in lines(folder, "front", "back")][:4] == of_plain


def test_followed_through_rotation_death_and_another_start(folder: Path):
    with background(folder) as app, (folder / "followed").open("w+") as output:
        page = next(iter(app.up()["services"]["front"]["public"].values()))
        command = [sys.executable, "-m", "fissile", "logs", "-f", "--no-time", "--path", str(folder)]
        follower = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

        def seen(what: str) -> Callable[[], bool]:
            return lambda: what in (folder / "followed").read_text()

        try:
            ask(page, "one")
            wait_until(seen("after one"), "what is printed")
            logs = folder / ".fissile" / "logs"
            for file in logs.glob("*.log"):
                file.rename(file.with_name(f"{file.name}.1"))
            ask(page, "two")
            wait_until(seen("after two"), "what is printed after a rotation")
            assert "after two" in (logs / "front.log").read_text()
            app.kill(app.supervisor())
            ask(page, "three")
            wait_until(seen("after three"), "what is printed while nobody supervises")
            app.up()
            ask(page, "prompt")
            wait_until(seen("no end"), "what has no end")
            app.kill(app.pids("back")[0])
            wait_until(lambda: len(app.pids("back")) == 1, "another one")
            ask(page, "four")
            wait_until(seen("after four"), "what the next replica prints")
            app.down()
            page = next(iter(app.up()["services"]["front"]["public"].values()))
            ask(page, "five")
            wait_until(seen("after five"), "what is printed after another start")
            app.down()
        finally:
            follower.send_signal(signal.SIGINT)
            assert follower.wait(10) == 130
        text = (folder / "followed").read_text()
        assert "Traceback" not in text
        for what in ("one", "two", "three", "prompt", "four", "five"):
            assert [text.count(f"{when} {what}\n") for when in ("before", "after")] == [1, 1], what
        assert text.count("no end") == 1
        assert not (folder / ".fissile" / "output").exists()


def test_a_reader_who_has_seen_enough_ends_it_quietly(folder: Path):
    logs = folder / ".fissile" / "logs"
    logs.mkdir(parents=True)
    (logs / "a.log").write_text("2026-01-31T08:00:00.000000Z text\n" * 20_000)
    command = f"{sys.executable} -m fissile logs --path {folder} | head -1"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert line_of(result.stdout) == "text\n"
    assert result.stderr == ""


def test_a_terminal_obeys_nothing_but_colours(folder: Path):
    logs = folder / ".fissile" / "logs"
    logs.mkdir(parents=True)
    hostile = (
        "2026-01-31T08:00:00.000000Z \x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]52;c;aGk=\x07 over\rwritten \x1b[2J\n"
    )
    (logs / "a.log").write_text(hostile)
    for terminal in (True, False):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "fissile", "logs", "--path", str(folder)]
        result = subprocess.run(command, stdout=theirs if terminal else subprocess.PIPE, check=True)
        os.close(theirs)
        if terminal:
            shown = os.read(ours, 4096).decode()
            assert "\x1b[31mred\x1b[0m" in shown
            assert not re.search("\x1b\\]|\x07|\x1b\\[2J|\r(?!\n)", shown), repr(shown)
            assert r"\x1b]0;title\x07" in shown
        else:  # a file or a pager gets what was printed
            assert result.stdout.decode().endswith(hostile[28:])
        os.close(ours)


def test_there_are_no_logs(tmp_path: Path):
    result = fissile("logs", "--path", tmp_path)
    assert result.returncode == 2
    assert "there are no log files" in result.stderr


def test_little_is_imported():
    """Whoever looks into logs does not wait for what a supervisor needs."""
    slow = ("asyncio", "ctypes", "msgspec", "multiprocessing", "pydantic", "ssl", "uvloop")
    text = (
        "import sys, fissile; before = set(sys.modules)\n"
        "import fissile.machine.logreader, fissile.machine.log_lines\n"
        f"print(sorted((set(sys.modules) - before).intersection({slow})))"
    )
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
