"""Whoever is told that something did not come up sees what it printed last."""

import json
import sys
from pathlib import Path

import pytest
from background import background
from commands import fissile

CODE = """
import pathlib
from fissile import Application, component

@component
class Work:
    async def number(self) -> int:
        return 1

app = Application(Work)
"""
FAILS = """    async def start(self) -> None:
        print('opening the till')
        raise OSError('no till')

    async def n"""
MIGRATES = FAILS.replace("start", "migrate")
WEB = f'[services.web]\ncommand = "{sys.executable} web.py"\nstart_seconds = 1.5\n'


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "fissile.toml").write_text('app = "a:app"\n')
    (folder / "a.py").write_text(CODE)
    return folder


def quoted(said: str, service: str) -> list[str]:
    """The lines of a process that a message quotes."""
    assert said.count(f"the last lines of {service}:") == 1, said
    return [line.partition("| ")[2] for line in said.splitlines() if line.startswith("  | ")]


def failing(folder: Path, *options: str) -> str:
    result = fissile("up", folder, "--port", "0", *options)
    assert (result.returncode, result.stdout) == (2, ""), result
    assert result.stderr.count("→") == 1, result.stderr
    return result.stderr


def test_of_a_program_that_exits_and_of_this_start_alone(app: Path):
    (app / "fissile.toml").write_text(WEB)
    for word in ("first", "second"):
        (app / "web.py").write_text(f"for n in range(40): print('{word}', n)\nprint('\\x1b[2J')\nraise SystemExit(3)\n")
        said = failing(app)
        assert "web cannot be started: it ended with exit code 3 before it was ready" in said
        lines = quoted(said, "web")
        assert len(lines) == 20
        assert lines[-2:] == [f"{word} 39", "\\x1b[2J"]
        assert "\x1b" not in said
    assert not [line for line in lines if "first" in line]
    assert "`fissile logs web`" in said


def test_of_a_program_that_is_not_there(app: Path):
    (app / "fissile.toml").write_text(WEB.replace("web.py", "-m missing"))
    said = failing(app)
    assert quoted(said, "web") == [f"{sys.executable}: No module named missing"]
    log = (app / ".fissile" / "logs" / "web.log").read_text()
    assert log.count("No module named missing") == 1, "it was tried again"


def test_of_a_program_that_listens_nowhere(app: Path):
    (app / "fissile.toml").write_text(WEB)
    (app / "web.py").write_text("import time\nprint('waiting for the database', flush=True)\ntime.sleep(600)\n")
    said = failing(app)
    assert "it does not listen at port" in said
    assert quoted(said, "web") == ["waiting for the database"]


@pytest.mark.parametrize(("code", "where"), [(FAILS, "start"), (MIGRATES, "migrate")])
def test_of_a_component(app: Path, code: str, where: str):
    (app / "a.py").write_text(CODE.replace("    async def n", code))
    said = failing(app)
    assert "OSError: no till" in said
    lines = quoted(said, "app")
    assert lines[0] == "opening the till"
    assert any(f'File "{app}/a.py"' in line and line.endswith(f"in {where}") for line in lines)
    assert not [line for line in lines if line.startswith("cannot start")]  # the message says that
    result = fissile("up", app, "--port", "0", "--json")
    told = json.loads(result.stdout)
    assert (told["service"], told["last_lines"][0]) == ("app", "opening the till")
    assert "no till" in told["error"]


def test_of_an_import_that_ends_its_process(app: Path):
    (app / "a.py").write_text(f"import os\nprint('no licence', __file__, flush=True)\nos._exit(7)\n{CODE}")
    said = failing(app)
    assert "the process that imports a:app has ended" in said
    assert quoted(said, "zygote") == [f"no licence {app}/a.py"]


def test_of_a_deploy_and_a_restart(app: Path):
    with background(app) as one:
        one.up()
        (app / "a.py").write_text(CODE.replace("    async def n", FAILS))
        failed = fissile("deploy", app, "--wait")
        assert failed.returncode == 1
        assert quoted(failed.stderr, "work")[0] == "opening the till"
        assert f"{failed.stdout}{failed.stderr}".count("Work cannot be started: OSError: no till") == 1
        told = json.loads(fissile("deploy", app, "--wait", "--json").stdout)["outcome"]
        assert (told["service"], told["last_lines"][0]) == ("work", "opening the till")
        code = (
            "if pathlib.Path(__file__).with_name('closed').exists():\n            print('it is closed')\n            "
        )
        (app / "a.py").write_text(
            CODE.replace("    async def n", FAILS.replace("print('opening the till')\n        ", code))
        )
        assert fissile("deploy", app, "--wait").returncode == 0
        (app / "closed").touch()
        assert fissile("deploy", app, "--wait").returncode == 0  # a link to it in the copy
        refused = fissile("restart", "work", "--path", app)
        assert refused.returncode == 1
        assert quoted(refused.stderr, "work")[0] == "it is closed"
        one.down()


def test_run_shows_them_where_they_were_printed(app: Path):
    (app / "a.py").write_text(CODE.replace("    async def n", FAILS))
    result = fissile("run", app, "--port", "0", "--topology", "microservices")
    assert result.returncode == 2
    assert "| opening the till" in result.stdout
    assert "the last lines" not in result.stderr


def test_a_release_that_never_came_up_is_not_kept_and_nothing_goes_back_to_it(app: Path):
    page = (app / "a.py").read_text()
    (app / "a.py").write_text(page.replace("    async def n", FAILS, 1))
    assert fissile("up", "-C", app, "--port", "0").returncode != 0
    (app / "a.py").write_text(page)
    with background(app) as one:
        up = one.up()
        (kept,) = json.loads(fissile("releases", "-C", app, "--json").stdout)
        assert (kept["name"], kept["state"]) == (up["release"], "live")
        back = fissile("rollback", "-C", app)
        assert back.returncode != 0
        assert "there is no earlier release" in back.stderr
