"""Somebody cleans up, and removes the sockets of what runs."""

import json
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from background import Up, background, wait_until
from commands import fissile

# Looked at once a second, and a little for making them anew.
BACK_SECONDS_MAX = 2.0


@pytest.fixture
def app(folder: Path) -> Iterator[Up]:
    with background(folder) as app:
        app.up()
        yield app
        app.down()


def sockets(app: Up) -> set[Path]:
    return set((app.folder / ".fissile").glob("*.sock"))


def remove(app: Up, *, spares: bool) -> set[Path]:
    before = sockets(app)
    assert len(before) >= 6
    if spares:
        shutil.rmtree(app.folder / ".fissile" / "spare")
    for path in before:
        path.unlink()
    return before


def call(app: Up, method: str) -> Any:
    endpoints = json.loads((app.folder / ".fissile" / "endpoints.json").read_text())
    component, _, name = method.partition(".")
    gateway = next(s["gateway"] for s in endpoints["services"].values() if component in s["components"])
    request = urllib.request.Request(
        f"{gateway}/rpc/{component}/{name}", b"{}", {"Authorization": f"Bearer {endpoints['token']}"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def test_they_are_put_back_and_nothing_is_restarted(app: Up):
    pids = app.pids("pages") + app.pids("back")
    before = remove(app, spares=False)
    status = fissile("status", app.folder)
    assert status.returncode == 0, status
    limit = time.monotonic() + BACK_SECONDS_MAX
    wait_until(lambda: sockets(app) >= before, "they are put back")
    assert time.monotonic() < limit
    assert app.pids("pages") + app.pids("back") == pids
    (back,) = app.pids("back")
    app.kill(back)
    assert call(app, "Pages.back_pid") != back  # by a new connection
    assert "was removed by somebody, and is put back" in (app.folder / ".fissile" / "logs" / "fissile.log").read_text()


def test_the_next_supervisor_finds_what_runs_without_them(app: Up):
    pids = app.pids("pages") + app.pids("back")
    app.kill(app.supervisor())
    remove(app, spares=False)
    app.up()
    assert app.pids("pages") + app.pids("back") == pids
    wait_until(lambda: _all_ready(app), "replicas report to it")
    assert fissile("restart", "back", "--path", app.folder).returncode == 0


def test_without_their_spares_they_are_made_anew_and_replicas_too(app: Up):
    first = app.pids("back")
    before = remove(app, spares=True)
    for command in (("status",), ("scale", "pages", "2", "--path")):
        result = fissile(*command, app.folder)
        assert result.returncode == 0, result
    lasting = {path for path in before if not path.name.startswith("edge-")}
    wait_until(lambda: sockets(app) >= lasting, "they are made anew")
    wait_until(lambda: not set(first) & set(app.pids("back")), "back has its new socket")
    (back,) = app.pids("back")
    app.kill(back)
    assert call(app, "Pages.back_pid") != back
    app.kill(app.supervisor())
    app.up()
    wait_until(lambda: _all_ready(app), "it has adopted all")


def test_all_that_is_published_comes_back(app: Up):
    (app.folder / ".fissile" / "endpoints.json").unlink()
    wait_until((app.folder / ".fissile" / "endpoints.json").exists, "it is published anew")
    assert fissile("status", app.folder).returncode == 0


def _all_ready(app: Up) -> bool:
    found = [replica for service in app.status()["services"] for replica in service["replicas"]]
    return len(found) >= 2 and all(replica["state"] == "ready" for replica in found)


def test_a_deep_folder_has_no_socket_elsewhere(folder: Path, tmp_path: Path):
    deep = tmp_path.joinpath(*["a-rather-long-name"] * 6, "app")
    shutil.copytree(folder, deep)
    with background(deep) as app:
        app.up()
        assert len(os.fsencode(str(deep))) > 108
        pids = app.pids("back")
        assert [call(app, "Pages.back_pid")] == pids
        assert len(sockets(app)) >= 6
        app.kill(app.supervisor())
        app.up()
        assert app.pids("back") == pids
        app.kill(pids[0])
        assert call(app, "Pages.back_pid") not in pids
        app.down()
