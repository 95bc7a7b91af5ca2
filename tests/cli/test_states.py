"""Every command in every state of an application: an exit code, one message with the next step, no traceback."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from background import Up, background
from commands import Run, fissile

from fissile.cli.call import service_of
from fissile.errors import ConfigError
from fissile.supervisor.endpoints import Endpoints, ServiceEndpoints

SECONDS_MAX = 10.0
# Each with its exit codes: nothing there, nothing running, foreign services alone, in the foreground, supervisor dead.
COMMANDS: dict[tuple[str, ...], tuple[int, int, int, int, int]] = {
    ("status",): (2, 2, 0, 2, 2),
    ("status", "--json"): (2, 2, 0, 2, 2),
    ("releases", "--json"): (2, 2, 0, 2, 2),
    ("scale", "sit", "1", "--json"): (2, 2, 2, 2, 2),
    ("deploy", "--expect", "none", "--json"): (2, 2, 1, 2, 2),
    ("logs", "nobody", "--json"): (2, 2, 2, 2, 2),
    ("status", "--json", "--wach"): (2, 2, 2, 2, 2),
    ("history",): (2, 0, 0, 2, 0),
    ("history", "sit"): (2, 0, 2, 2, 0),
    ("releases",): (2, 2, 0, 2, 2),
    ("scale", "site", "1"): (2, 2, 0, 2, 2),
    ("scale", "sit", "1"): (2, 2, 2, 2, 2),
    ("restart", "sit"): (2, 2, 2, 2, 2),
    ("contract", "diff"): (2, 2, 0, 2, 2),
    ("deploy", "--plan"): (2, 2, 0, 2, 2),
    ("promote",): (2, 2, 1, 2, 2),
    ("abort",): (2, 2, 1, 2, 2),
    ("call", "site.get"): (2, 2, 2, 2, 2),
    ("call", "Site.get"): (2, 2, 2, 2, 2),
    ("graph",): (2, 0, 0, 0, 0),
    ("graph", "--json"): (2, 0, 0, 0, 0),
}
NOWHERE, ENDED, FOREIGN, FOREGROUND, DEAD = range(5)
STATES = ("stopped", "stopped", "", "foreground", "unsupervised")
SITE = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
"""


def check(folder: Path, state: int) -> None:
    for words, codes in COMMANDS.items():
        begun = time.monotonic()
        done = fissile("-C", folder, *words)
        taken = time.monotonic() - begun
        assert done.returncode == codes[state], (words, done)
        assert "Traceback" not in done.stdout + done.stderr, words
        assert taken < SECONDS_MAX, words
        if done.returncode:
            assert done.stderr.count("fissile: ") == 1, done
            assert "→" in done.stderr, done
        if "--json" in words:
            found = json.loads(done.stdout)
            assert ("error" in found) == bool(done.returncode)
            if words == ("status", "--json") and done.returncode:
                assert found["state"] == STATES[state]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An application of one program that knows nothing of Fissile."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "page.py").write_text(SITE)
    (folder / "fissile.toml").write_text('[services.site]\nasgi = "page:app"\n')
    return folder


@pytest.fixture
def running(site: Path) -> Iterator[Up]:
    with background(site) as app:
        app.up()
        yield app


def test_where_there_is_no_application(tmp_path: Path):
    check(tmp_path, NOWHERE)


@pytest.mark.parametrize("words", [("status",), ("logs",), ("down",), ("graph",), ("up",), ("history",), ("deploy",)])
def test_where_there_is_no_folder(tmp_path: Path, words: tuple[str, ...]):
    (tmp_path / "file").touch()
    for name, said in (("missing", "there is no folder "), ("file", "file is not a folder")):
        done = fissile("-C", tmp_path / name, *words)
        assert done.returncode == 2, done
        assert said in done.stderr
        assert "→" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_foreign_services_alone_running_dead_hung_and_ended(running: Up, site: Path):
    check(site, FOREIGN)
    asked = fissile("-C", site, "call", "site.get")
    assert "site is a program" in asked.stderr
    assert "`curl http://" in asked.stderr
    pid = running.supervisor()
    os.kill(pid, signal.SIGSTOP)
    try:
        hung = fissile("-C", site, "status")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert hung.returncode == 1
    assert "has not answered for 15 s" in hung.stderr
    running.kill(pid)
    check(site, DEAD)
    running.down()
    check(site, ENDED)


def test_in_the_foreground(folder: Path):
    with Run(folder) as run:
        check(folder, FOREGROUND)
        run.end()


def test_what_is_drawn_of_programs(site: Path, tmp_path: Path):
    (site / "fissile.toml").write_text(
        '[services.site]\nasgi = "page:app"\nafter = ["db"]\n[services.db]\ncommand = "database --here"\n'
    )
    text = fissile("-C", site, "graph").stdout
    assert "\nsite  asgi: page:app, after db\n" in text
    assert "\ndb  command: database --here\n" in text
    drawn = fissile("-C", site, "graph", "--format", "mermaid").stdout
    assert '(["site"])' in drawn
    assert "-. after .->" in drawn
    found = json.loads(fissile("-C", site, "graph", "--json").stdout)
    assert found["programs"]["db"] == {"kind": "command", "runs": "database --here", "calls": [], "after": []}
    shutil.rmtree(site)


def endpoints(**services: tuple[str, ...]) -> Endpoints:
    found = {
        name: ServiceEndpoints(f"http://127.0.0.1:{8000 + number}", {}, components, ())
        for number, (name, components) in enumerate(services.items())
    }
    return Endpoints(1, "shop", "monolith", "", found)


@pytest.mark.parametrize(
    ("services", "component", "words"),
    [
        ({"app": ("Cart", "Catalog")}, "Catalogue", ("no component 'Catalogue'; did you mean Catalog?", "use one of")),
        ({"app": ("Cart",), "web": ()}, "web", ("web is a program", "`curl http://127.0.0.1:8001/`")),
        ({"web": ()}, "Cart", ("shop has no components", "`curl http://127.0.0.1:8000/`")),
        ({}, "Cart", ("shop has no components", "see `fissile status`")),
    ],
)
def test_what_cannot_be_called(services: dict[str, tuple[str, ...]], component: str, words: tuple[str, ...]):
    with pytest.raises(ConfigError) as found:
        service_of(component, endpoints(**services))
    assert all(word in str(found.value) for word in words)
