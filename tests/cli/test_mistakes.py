"""A mistake gets one paragraph: what is wrong, where, and what to do next; its exit code; and no traceback of ours."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from background import LEFT, background
from commands import fissile
from supervised import left_in

CODE = """
from fissile import Application, component

@component
class Work:
    async def number(self) -> int:
        return 1

    def http(self):
        return None

app = Application(Work)
"""
TOML = 'app = "a:app"\n'


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "fissile.toml").write_text(TOML)
    (folder / "a.py").write_text(CODE)
    return folder


def check(said: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    """It is one paragraph, with these words."""
    assert said.returncode == code, said
    assert said.stdout == ""
    assert said.stderr.startswith("fissile: ")
    assert said.stderr.count("fissile: ") == said.stderr.count("\n  → ") == 1, said.stderr
    assert "\n\n" not in said.stderr
    assert "Traceback" not in said.stderr
    assert "/.fissile/code/" not in said.stderr
    assert not [word for word in words if word not in said.stderr], said.stderr


def without_file(folder: Path) -> None:
    (folder / "fissile.toml").unlink()


def with_broken_file(folder: Path) -> None:
    (folder / "fissile.toml").write_text('app = "a:app"\nport = \n')


def with_unknown_key(folder: Path) -> None:
    (folder / "fissile.toml").write_text('app = "a:app"\nprot = 3\n')


def without_code(folder: Path) -> None:
    (folder / "a.py").unlink()


def with_other_attribute(folder: Path) -> None:
    (folder / "a.py").write_text(CODE.replace("app = ", "application = "))


def with_broken_import(folder: Path) -> None:
    (folder / "a.py").write_text(f"import not_there\n{CODE}")


def with_syntax_error(folder: Path) -> None:
    (folder / "a.py").write_text(f"x = (\n{CODE}")


def with_mistake_of_declaration(folder: Path) -> None:
    (folder / "a.py").write_text(CODE.replace("self) -> int", "self, other) -> int"))


MISTAKES = [
    (without_file, ("there is no fissile.toml in {folder}", "write one that says app =")),
    (with_broken_file, ("fissile.toml is not valid TOML", "line 2", "mend that line")),
    (with_unknown_key, ("unknown key 'prot'", "mend them")),
    (without_code, ("there is no module 'a' in {folder}\n", "fissile.toml")),
    (with_other_attribute, ("a has no application 'app'", "write app = Application(...)")),
    (with_broken_import, ("imports 'not_there', which is not installed ({folder}/a.py, line 1)", "install it")),
    (with_syntax_error, ("'(' was never closed ({folder}/a.py, line 1)", "mend that line")),
    (with_mistake_of_declaration, ("has one mistake", "other", "a.py")),
]


@pytest.mark.parametrize(("prepare", "words"), MISTAKES, ids=lambda one: getattr(one, "__name__", ""))
def test_of_a_start(app: Path, prepare: Callable[[Path], None], words: tuple[str, ...]):
    prepare(app)
    told = [word.format(folder=app) for word in words]
    for command in ("up", "run"):
        check(fissile(command, "-C", app, "--port", "0"), 2, *told)
        assert left_in(app) <= LEFT


def test_of_a_deploy(app: Path):
    with background(app) as one:
        one.up()
        release = one.status()["release"]
        for prepare, words in MISTAKES:
            (app / "fissile.toml").write_text(TOML)
            (app / "a.py").write_text(CODE)
            prepare(app)
            check(fissile("deploy", "-C", app), 1, *(word.format(folder=app) for word in words))
        assert one.status()["release"] == release
        assert not one.status()["preparing"]
        one.down()


def test_where_nothing_runs(app: Path):
    for command in (["deploy"], ["down"], ["restart"], ["rollback"], ["status"]):
        check(fissile(*command, "-C", app), 2, f"nothing runs in {app}", "`fissile up`")
    for command in ("up", "run"):
        check(fissile(command, "-C", app / "none"), 2, f"there is no folder {app}/none", "-C")


def test_where_it_runs_already(app: Path):
    with background(app) as one:
        one.up()
        for command in ("up", "run"):
            said = fissile(command, "-C", app, "--port", "0")
            check(said, 2, f"runs already (pid {one.supervisor()})", "`fissile deploy`", "`fissile down`")
        one.down()


def test_where_the_port_is_taken(app: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for command in ("up", "run"):
            said = fissile(command, "-C", app, "--port", str(port))
            check(said, 2, f"port {port}, wanted for Work, is taken by another program", "--port")
