"""Errors of code that runs from a copy name the file that people edit, and show the line that runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from background import background, wait_until
from commands import fissile

from fissile.runtime.places import edited, places

CODE = """
import asyncio, logging, sys, threading
from fissile import Application, component

@component
class Work:
    async def thread(self) -> None:
        one = threading.Thread(target=self.fail)
        one.start()
        one.join()

    async def task(self) -> None:
        asyncio.get_running_loop().call_soon(self.fail)

    async def log(self) -> None:
        try:
            self.fail()
        except LookupError:
            logging.getLogger("mine").exception("seen")

    async def deleted(self) -> None:
        class One:
            def __del__(self):
                raise LookupError("while it was deleted")
        One()

    def fail(self) -> None:
        raise LookupError("the line that runs")

app = Application(Work)
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "fissile.toml").write_text('app = "a:app"\n')
    (folder / "a.py").write_text(CODE)
    return folder


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\nx = (\n", "SyntaxError: '(' was never closed ("),
        ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero ("),
        ("x = 1\nimport not_there\n", "imports 'not_there', which is not installed ("),
        ("x = 1\nraise SystemExit(3)\n", "ends the process while it is imported: sys.exit(3) ("),
        ("x = 1\nraise OSError(__file__)\n", "OSError: "),
    ],
)
def test_what_cannot_be_imported(app: Path, code: str, words: str):
    with background(app) as one:
        one.up()
        (app / "a.py").write_text(code)
        refused = fissile("deploy", app)
        assert refused.returncode == 1
        assert f"{words}" in refused.stderr
        assert f"({app}/a.py, line 2)" in refused.stderr
        assert refused.stderr.count("line 2") == 1
        assert ".fissile" not in refused.stderr
        one.down()
    (app / "fissile.toml").write_text('app = "a:app"\n[releases]\nkeep = 1\n')
    refused = fissile("up", app, "--port", "0", "--fresh")
    assert refused.returncode == 2
    assert f"({app}/a.py, line 2)" in refused.stderr
    assert ".fissile" not in refused.stderr


@pytest.mark.parametrize("spawn", ["false", "true"])
def test_what_nobody_catches(app: Path, spawn: str):
    (app / "fissile.toml").write_text(f'app = "a:app"\n[services.app]\nspawn = {spawn}\n')
    with background(app) as one:
        assert fissile("up", app, "--port", "0").returncode == 0
        (app / "a.py").write_text(f"# edited meanwhile\n{CODE}".replace("the line that runs", "another one"))
        for name in ("thread", "task", "log", "deleted"):
            assert fissile("call", f"Work.{name}", "--path", app).returncode == 0
        wait_until(lambda: fissile("logs", "app", "--path", app).stdout.count("LookupError: ") == 4, "all are logged")
        said = fissile("logs", "app", "--path", app).stdout
        assert said.count(f'File "{app}/a.py", line ') >= 4
        assert said.count('raise LookupError("the line that runs")') == 3  # and not that which is edited
        assert not [line for line in said.splitlines() if ".fissile/code" in line]
        one.down()


def test_a_start_that_fails_shows_where(app: Path):
    (app / "a.py").write_text(CODE.replace("def fail", "async def start(self):\n        self.fail()\n\n    def fail"))
    refused = fissile("up", app, "--port", "0")
    assert refused.returncode == 2
    said = (app / ".fissile" / "logs" / "app.log").read_text()
    assert re.search(rf'File "{app}/a.py", line \d+, in start\n', said)
    assert ".fissile" not in said
    assert "/fissile/" not in said  # none of our own steps


def test_what_an_application_does_with_tracebacks_itself_stays(app: Path):
    """Its own hook gets the exception, and its own handler the record."""
    code = "import sys\nsys.excepthook = lambda *args: print('mine', args[0].__name__)\n"
    (app / "hook.py").write_text(f"from fissile.runtime.unhandled import show_unhandled\nshow_unhandled()\n{code}1/0\n")
    done = subprocess.run([sys.executable, str(app / "hook.py")], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("mine ZeroDivisionError\n", "")


def test_a_text_without_the_copy_stays_as_it_is(tmp_path: Path):
    known = places(f"{tmp_path}/.fissile/code/1234/app", str(tmp_path))
    assert edited(f"{tmp_path}/.fissile/code/1234/app/a.py: no", known) == f"{tmp_path}/a.py: no"
    assert edited(f"{tmp_path}/.fissile/code/5678/app/a.py", known) == f"{tmp_path}/.fissile/code/5678/app/a.py"
    assert places(str(tmp_path), str(tmp_path)) == places(str(tmp_path), "") == {}
