"""`environment` of a service: who has a variable, and when."""

import json
from pathlib import Path
from typing import Any

import pytest
from background import background
from commands import Run, fissile
from test_folder import get

CODE = """
import os

from fissile import Application, component

AT_IMPORT = os.environ.get("MODE", "")


class Both:
    def __init__(self) -> None:
        self.made = os.environ.get("MODE", "")

    async def start(self) -> None:
        self.started = os.environ.get("MODE", "")

    async def seen(self) -> list[str]:
        return [AT_IMPORT, self.made, self.started, os.environ.get("MODE", ""), os.environ.get("OTHER", "")]


@component
class One(Both):
    async def seen(self) -> list[str]:
        return await super().seen()


@component
class Two(Both):
    async def seen(self) -> list[str]:
        return await super().seen()


app = Application(One, Two)
"""
MODE = 'environment = { MODE = "fast" }\n'
WARNING = "MODE is in `environment` of one alone, but it is read while the application is imported"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "application"
    folder.mkdir()
    (folder / "a.py").write_text(CODE)
    return folder


def seen(found: dict[str, Any], component: str) -> list[str]:
    service = next(one for one in found["services"].values() if component in one["components"])
    return get(f"{service['gateway']}/rpc/{component}/seen", b"{}", found["token"])


def up(folder: Path, topology: str, text: str) -> dict[str, Any]:
    (folder / "fissile.toml").write_text(f'app = "a:app"\n[topologies.two]\none = ["One"]\ntwo = ["Two"]\n{text}')
    done = fissile("up", folder, "--port", "0", "--json", "--topology", topology)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def test_a_variable_of_one_service_is_in_its_replicas_alone_and_an_import_that_asks_for_it_is_told_of(folder: Path):
    with background(folder):
        found = up(folder, "microservices", f'[services.one]\n{MODE}[services.two]\nenvironment = {{ OTHER = "x" }}\n')
        assert seen(found, "One") == ["", "fast", "fast", "fast", ""]
        assert seen(found, "Two") == ["", "", "", "", "x"]
        assert WARNING in str(found)
        assert f"({folder}/a.py, line 6)" in str(found)
        assert "OTHER is in" not in str(found)


def test_with_spawn_it_is_there_at_import(folder: Path):
    with background(folder):
        found = up(folder, "microservices", f"[services.one]\nspawn = true\n{MODE}")
        assert seen(found, "One") == ["fast", "fast", "fast", "fast", ""]
        assert seen(found, "Two") == ["", "", "", "", ""]
        assert WARNING not in str(found)


def test_what_all_that_are_forked_have_alike_is_there_at_import(folder: Path):
    with background(folder):
        found = up(folder, "two", f"[services.one]\n{MODE}[services.two]\n{MODE}")
        assert seen(found, "One")[0] == seen(found, "Two")[0] == "fast"
        assert "is read while" not in str(found)


@pytest.mark.parametrize("command", ["up", "run"])
def test_in_the_monolith_it_is_there_at_import(folder: Path, command: str):
    (folder / "fissile.toml").write_text(f'app = "a:app"\n[services.app]\n{MODE}')
    if command == "up":
        with background(folder):
            done = fissile("up", folder, "--port", "0", "--json")
            assert seen(json.loads(done.stdout), "One")[0] == "fast"
            assert fissile("down", folder).returncode == 0
    else:
        with Run(folder, sign="stops it") as run:
            found = json.loads((folder / ".fissile" / "endpoints.json").read_text())
            assert seen(found, "Two")[0] == "fast"
            run.end()
