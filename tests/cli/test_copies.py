"""What a folder says of its application is of that folder alone, and of those processes alone."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from background import Up, background, wait_until
from commands import fissile

from fissile.machine.procfs import born
from fissile.supervisor.endpoints import Endpoints


@pytest.fixture
def app(folder: Path) -> Iterator[Up]:
    with background(folder) as app:
        app.up()
        yield app


@pytest.mark.parametrize("supervised", [True, False])
def test_in_a_copy_of_a_folder_nothing_runs_and_nothing_of_the_first_is_ended(
    app: Up, tmp_path_factory: pytest.TempPathFactory, supervised: bool
):
    births = {pid: born(pid) for service in ("pages", "back") for pid in app.pids(service)}
    if not supervised:
        app.kill(app.supervisor())
    copy = tmp_path_factory.mktemp("other") / "copy"
    shutil.copytree(app.folder, copy, ignore=shutil.ignore_patterns("*.sock", "spare"))
    for command in ("status", "down"):
        done = fissile(command, copy)
        assert done.returncode == 2, done
        assert "which is a copy of a folder whose application runs" in done.stderr
    with background(copy) as second:
        second.up("--fresh")
        assert not set(second.pids("pages") + second.pids("back")) & set(births)
        second.down()
    assert {pid: born(pid) for pid in births} == births
    app.down()


@pytest.mark.parametrize("everybody", [False, True])
def test_processes_with_the_numbers_of_dead_ones_are_somebody_else(app: Up, everybody: bool):
    file = app.folder / ".fissile" / "endpoints.json"
    found = msgspec.json.decode(file.read_bytes(), type=Endpoints)
    assert found.zygote is not None
    victims = [found.pid, *((found.zygote, *found.births) if everybody else ())]
    for pid in victims:
        app.kill(pid)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        numbers = {"pid": stranger.pid} | ({"zygote": stranger.pid} if everybody else {})
        file.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, **numbers)))
        status = fissile("status", app.folder)
        assert ("nothing runs in" if everybody else "died; its services go on") in status.stderr
        down = fissile("down", app.folder)
        assert ("nothing runs in" in down.stderr) if everybody else (down.returncode == 0), down
        wait_until(lambda: not any(map(born, found.births)), "they have ended")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_program_imports_from_the_copy_though_its_path_names_the_folder(tmp_path: Path):
    folder = tmp_path / "app"
    (folder / "sub").mkdir(parents=True)
    (folder / "fissile.toml").write_text(
        f'[services.web]\ncommand = "{sys.executable} sub/main.py"\nready = "tcp"\n'
        f'environment = {{ PYTHONPATH = "{folder}" }}\n'
    )
    (folder / "value.py").write_text("")
    (folder / "sub" / "main.py").write_text(
        "import os, socket, value\n"
        f"open({str(tmp_path / 'out')!r}, 'w').write(value.__file__)\n"
        "door = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\n"
        "while True: door.accept()\n"
    )
    with background(folder) as app:
        app.up("--topology", "monolith")
        assert (tmp_path / "out").read_text().startswith(str(folder / ".fissile" / "code"))
