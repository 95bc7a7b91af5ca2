"""In which folder an application runs: relative paths mean the same everywhere, whichever folder one calls from."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from background import Up, background, wait_until
from commands import Run, fissile

from fissile.machine.procfs import born

CODE = """
import csv
import json
import os
import sys
from pathlib import Path

from fissile import Application, component

AT_IMPORT = Path("greeting.txt").read_text(), Path("pages/page.html").read_text()


def found():
    return {
        "import": AT_IMPORT,
        "now": [Path("greeting.txt").read_text(), Path("pages/page.html").read_text()],
        "folder": os.getcwd(),
        "path": sys.path,
        "pid": os.getpid(),
    }


@component
class Where:
    async def found(self) -> str:
        return json.dumps(found())

    async def module(self, name: str) -> str:
        try:
            return str(__import__(name).__file__)
        except ModuleNotFoundError:
            return ""


async def page(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(found()).encode()})


app = Application(Where)
"""
COMPONENTS = 'app = "where:app"\n'
GUEST = '[services.site]\nasgi = "where:page"\n'
WAYS = {
    "forked": COMPONENTS,
    "spawned": COMPONENTS + "[services.where]\nspawn = true\n[services.app]\nspawn = true\n",
    "confined": COMPONENTS + "[services.where]\nisolate = true\n",
    "guest": GUEST,
    "guests": GUEST + '[services.other]\nasgi = "where:page"\n',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An application that reads relative paths, at import and later; in the parent is what it must not read."""
    folder = tmp_path / "application"
    (folder / "pages").mkdir(parents=True)
    (folder / "where.py").write_text(CODE)
    (folder / "pages" / "__init__.py").touch()
    (folder / "pages" / "page.html").write_text("first page")
    (folder / "greeting.txt").write_text("hello")
    (folder / ".gitignore").write_text("greeting.txt\n")  # data: of a guest, all that is not ignored is code
    (tmp_path / "stranger.py").touch()
    for shadow in (tmp_path, folder / "sub"):
        shadow.mkdir(exist_ok=True)
        (shadow / "csv.py").write_text("raise SystemError('the module of another folder was imported')")
    (tmp_path / "greeting.txt").write_text("of another folder")
    return folder


def asked(found: dict[str, Any]) -> dict[str, Any]:
    """What the application finds, asked at its page or its gateway."""
    services = found["services"]
    service = next(services[name] for name in ("where", "app", "site") if name in services)
    return json.loads(call(service, found, "found")) if service["components"] else get(service["public"]["site"])


def get(address: str, data: bytes | None = None, token: str = "") -> Any:
    request = urllib.request.Request(address, data, {"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def call(service: dict[str, Any], found: dict[str, Any], method: str, **arguments: Any) -> Any:
    return get(f"{service['gateway']}/rpc/Where/{method}", json.dumps(arguments).encode(), found["token"])


def up(folder: Path, *options: str) -> dict[str, Any]:
    """Start it from the folder above it."""
    program = Path(sys.executable).with_name("fissile")
    command = [program, "up", folder.name, "--port", "0", "--json", *options]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("topology", ["monolith", "microservices"])
def test_a_relative_path_means_the_application_s_folder_and_code_is_the_release_s(
    folder: Path, way: str, topology: str
):
    (folder / "fissile.toml").write_text(WAYS[way])
    with background(folder):
        endpoints = up(folder, "--topology", topology)
        (folder / "pages" / "page.html").write_text("edited")
        (folder / "late.py").touch()
        found = asked(endpoints)
        assert found["import"] == found["now"] == ["hello", "first page"]
        assert found["folder"].startswith(f"{folder}/.fissile/code/")
        assert not {"", ".", str(folder), str(folder.parent)} & set(found["path"])
        (folder / "greeting.txt").write_text("hello again")  # data is the application's own, at once
        os.kill(found["pid"], signal.SIGKILL)
        after = wait_until(lambda: other(endpoints, found["pid"]), "another replica")
        assert after["folder"] == found["folder"]
        assert after["now"] == ["hello again", "first page"]


def other(endpoints: dict[str, Any], pid: int) -> dict[str, Any] | None:
    try:
        found = asked(endpoints)
    except OSError:
        return None
    return found if found["pid"] != pid else None


@pytest.mark.parametrize("way", ["forked", "spawned"])
def test_nothing_is_imported_from_the_folder_that_people_edit_nor_from_where_one_called(folder: Path, way: str):
    (folder / "fissile.toml").write_text(WAYS[way])
    with background(folder):
        endpoints = up(folder, "--topology", "microservices")
        (folder / "late.py").touch()
        service = endpoints["services"]["where"]
        assert call(service, endpoints, "module", name="late") == ""
        assert call(service, endpoints, "module", name="stranger") == ""


@pytest.mark.parametrize("way", ["forked", "spawned", "guest", "guests"])
def test_in_the_foreground_it_is_the_application_s_folder(folder: Path, way: str):
    (folder / "fissile.toml").write_text(WAYS[way])
    for topology in ("monolith", "microservices"):
        with Run(folder, "--topology", topology, sign="stops it") as run:
            endpoints = json.loads((folder / ".fissile" / "endpoints.json").read_text())
            found = asked(endpoints)
            assert (found["folder"], found["now"]) == (str(folder), ["hello", "first page"])
            run.process.send_signal(signal.SIGTERM)
            assert run.process.wait(20) == 0


def test_the_folder_of_a_service_is_where_it_runs(folder: Path):
    (folder / "sub" / "greeting.txt").write_text("sub")
    (folder / "sub" / "pages").mkdir()
    (folder / "sub" / "pages" / "page.html").write_text("sub page")
    (folder / "fissile.toml").write_text(COMPONENTS + '[services.where]\nfolder = "sub"\n')
    with background(folder):
        endpoints = up(folder, "--topology", "microservices")
        found = asked(endpoints)
        assert found["import"] == ["hello", "first page"]  # it is imported once, for all services
        assert found["now"] == ["sub", "sub page"]


def test_after_a_power_cut_and_a_take_over_from_elsewhere_it_runs_in_the_same_folder(folder: Path, tmp_path: Path):
    (folder / "fissile.toml").write_text(COMPONENTS)
    with background(folder, Up):
        endpoints = up(folder, "--topology", "microservices")
        first = asked(endpoints)
        os.kill(endpoints["pid"], signal.SIGKILL)
        wait_until(lambda: born(endpoints["pid"]) is None, "the supervisor is dead")
        endpoints = up(folder)
        os.kill(asked(endpoints)["pid"], signal.SIGKILL)
        after = wait_until(lambda: other(endpoints, first["pid"]), "another replica")
        assert after["folder"] == first["folder"]
        # Everything dies; then it is started again from yet another folder.
        for pid in (endpoints["pid"], endpoints["zygote"], after["pid"]):
            os.kill(pid, signal.SIGKILL)
        (folder / "where.py").write_text(CODE.replace('"now": [', '"now": ["edited", '))
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        done = fissile("up", folder, "--port", "0", "--json", cwd=elsewhere)
        assert done.returncode == 0, done
        assert asked(json.loads(done.stdout))["folder"] == first["folder"]
        assert asked(json.loads(done.stdout))["now"] == ["hello", "first page"]


def test_a_copy_that_somebody_removed_is_told_of_and_a_deploy_makes_another(folder: Path):
    (folder / "fissile.toml").write_text(COMPONENTS)
    with background(folder, Up) as app:
        endpoints = up(folder, "--topology", "microservices")
        found = asked(endpoints)
        shutil.rmtree(folder / ".fissile" / "code")
        os.kill(found["pid"], signal.SIGKILL)

        def trouble() -> str:
            return app.status()["services"][0]["trouble"]

        wait_until(lambda: "cannot be entered" in trouble(), "people are told")
        (folder / "pages" / "page.html").write_text("mended")
        assert fissile("deploy", folder).returncode == 0
        after = wait_until(lambda: other(app.status() | endpoints, found["pid"]), "it serves again")
        assert after["now"] == ["hello", "mended"]


def test_a_folder_that_is_not_there_is_refused_before_anything_starts(folder: Path):
    (folder / "fissile.toml").write_text(COMPONENTS + '[services.where]\nfolder = "nowhere"\n')
    done = fissile("up", folder, "--topology", "microservices")
    assert done.returncode == 2
    assert "[services.where]" in done.stderr
    assert "nowhere" in done.stderr
    assert not (folder / ".fissile" / "endpoints.json").exists()
