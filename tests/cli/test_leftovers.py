"""What the import of an application leaves open is said by each command that begins replicas of it."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from background import background
from commands import fissile
from ways import application

CODE = '''
import asyncio, logging, mmap, os, socket, sqlite3, subprocess, threading, urllib.request
from fissile import Application, component

class Holder:
    def __init__(self):
        self.pool = {{"first": [socket.create_connection(("127.0.0.1", {port}))]}}

class Proxy:
    """Answers whoever asks what it is with an error, as proxies without a request do."""
    __class__ = property(lambda self: 1 / 0)

class Lazy:
    """What stands for a module, and makes its variables anew whenever it is asked."""
    __dict__ = property(lambda self: dict(some="thing"))

import sys
sys.modules.update((f"lazy{{number}}", Lazy()) for number in range(500))
proxy = Proxy()
HOLDER = Holder()
open("{folder}/words", "w").write("one two")
DB = sqlite3.connect("{folder}/own.db")
DB.execute("create table if not exists t (x)").connection.commit()
OUT = open("{folder}/report", "w")
WORDS = open("{folder}/words", "rb")
LOG = logging.FileHandler("{folder}/own.log")
NULL = open(os.devnull, "w")
with open("{folder}/words", "rb") as file:
    MAPPED = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
PAIR = socket.socketpair()
UDP = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
UDP.connect(("127.0.0.1", 9))
LOOP = asyncio.new_event_loop()
threading.Thread(target=threading.Event().wait, name="beater", daemon=True).start()
CHILD = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

async def page(scope, receive, send):
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"ok"}})

@component
class Pages:
    def http(self):
        return page

app = Application(Pages)
'''

QUIET = """
from fissile import Application, component

@component
class Pages:
    def http(self):
        return None

app = Application(Pages)
"""


@pytest.fixture
def code(tmp_path: Path) -> Iterator[str]:
    """Of an application that opens all that can be opened. A database is there for it to be connected with."""
    (tmp_path / "data").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield CODE.format(port=server.getsockname()[1], folder=tmp_path / "data")


def check(said: str, code: str) -> None:
    """All that does harm is named, and nothing else."""
    lines = [line.partition("importing")[2] for line in said.splitlines() if "importing the application" in line]
    opened, threads = sorted(set(lines))
    port = re.search(r'"127.0.0.1", (\d+)', code)
    assert port is not None
    names = [f"a connection to 127.0.0.1:{port[1]} (a.HOLDER)", "own.db (a.DB)", "report, open for writing (a.OUT)"]
    names += ["words, open for reading (a.WORDS)", "the event loop a.LOOP", "`spawn = true`"]
    assert not [name for name in names if name not in opened], opened
    assert "threads (beater)" in threads
    assert "`spawn = true`" in threads
    assert "1 more" in opened  # the process: five are named
    line = opened + threads
    assert not re.search("LOG|own.log|NULL|MAPPED|PAIR|UDP", line), line


def test_run_says_it(tmp_path: Path, code: str):
    with application(tmp_path / "app", "microservices", code) as (run, _):
        check(run.output, code)


@pytest.mark.parametrize("way", ["spawned", "monolith"])
def test_nothing_is_said_where_nothing_is_forked(tmp_path: Path, code: str, way: str):
    with application(tmp_path / "app", way, code) as (run, _):
        assert "importing" not in run.output


def test_up_and_deploy_say_it(tmp_path: Path, code: str):
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "fissile.toml").write_text('app = "a:app"\n')
    (folder / "a.py").write_text(code)
    with background(folder) as app:
        check(fissile("up", folder, "--port", "0").stderr, code)
        (folder / "a.py").write_text(f"{code}\nPages.changed = 1\n")
        deployed = fissile("deploy", folder, "--wait")
        assert deployed.returncode == 0, deployed.stderr
        check(deployed.stderr, code)
        again = fissile("deploy", folder, "--wait")
        assert "nothing to do" in again.stdout
        check(again.stderr, code)
        check(fissile("restart", "-C", folder).stderr, code)
        for said in (deployed.stderr, again.stderr):
            assert said.count("starts threads") == 1
        app.down()


def test_up_and_deploy_say_which_walls_stand_around_nobody(tmp_path: Path):
    """Services have other names in another topology: nobody is to believe in a wall that is not there."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "fissile.toml").write_text('app = "a:app"\n[services.pages]\nisolate = true\n')
    (folder / "a.py").write_text(QUIET)
    told = "monolith has no service pages: `isolate`, `user` and `disk` of it have no effect; write them for app"
    with background(folder) as app:
        assert told in fissile("up", folder, "--port", "0").stderr
        split = fissile("deploy", folder, "--topology", "microservices", "--wait")
        assert (split.returncode, "no effect" in split.stderr) == (0, False), split.stderr
        assert told in fissile("deploy", folder, "--topology", "monolith", "--plan").stderr
        app.down()


def test_the_mistakes_of_all_services_are_told_at_once(tmp_path: Path):
    (tmp_path / "fissile.toml").write_text(
        'app = "a:app"\n[services.app]\nisolate = true\nlimits = { disk = ["none"] }\n'
        "[services.pages.limits]\nfiles = 1\n"
    )
    (tmp_path / "a.py").write_text(QUIET)
    refused = fissile("up", tmp_path, "--port", "0")
    assert refused.returncode == 2
    for words in ("[services.app] does not fit", "there is no folder", "[services.pages] does not fit", "files = 1"):
        assert words in refused.stderr
