"""docs/reference/testing.md: its files and commands work; and what pytest says where something is wrong or missing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from pages import DOCS, blocks, play, save

PAGE = DOCS / "reference" / "testing.md"


def pytest_in(folder: Path, *options: str, path: str = "") -> tuple[int, str]:
    """Run pytest in a project that has no settings for it."""
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for block in blocks(PAGE.read_text()):
        if block.file is not None:
            save(block, tmp_path)
    return tmp_path


def test_the_page_is_true(tmp_path: Path):
    assert play(PAGE.read_text(), tmp_path) == 1


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ('".", runner="rpc"', "no keyword 'runner'; its keywords are: runners, topology"),
        ('".", runners=["remote"]', "no runner 'remote'; use some of direct, copied, rpc, processes"),
        ("", "takes one folder"),
    ],
)
def test_a_wrong_marker_is_an_error(project: Path, marker: str, said: str):
    (project / "test_notes.py").write_text(
        f"import pytest\n\n@pytest.mark.topologies({marker})\nasync def test_it(world): ...\n"
    )
    code, text = pytest_in(project)
    assert code != 0
    assert said in text


def test_a_mode_that_the_project_chose_is_kept(project: Path):
    (project / "pytest.ini").write_text("[pytest]\nasyncio_mode = strict\n")
    _, text = pytest_in(project, "--collect-only", "-v", "-v")
    assert re.search(r"mode=(mode\.)?strict", text.lower())
    (project / "pytest.ini").write_text("[pytest]\n")
    _, text = pytest_in(project, "--collect-only", "-v", "-v")
    assert re.search(r"mode=(mode\.)?auto", text.lower())


def test_a_project_without_pytest_asyncio_loses_nothing(project: Path, tmp_path_factory: pytest.TempPathFactory):
    hidden = tmp_path_factory.mktemp("hidden")
    (hidden / "pytest_asyncio.py").write_text("raise ImportError('not installed')\n")
    (project / "test_notes.py").write_text(
        "import pytest\n\ndef test_plain(): ...\n\n"
        '@pytest.mark.topologies(".", runners=["rpc"])\ndef test_world(world): ...\n'
    )
    code, text = pytest_in(project, "-p", "no:asyncio", path=str(hidden))
    assert code == 1
    assert "1 passed" in text
    assert "1 error" in text
    assert "pip install 'fissile[testing]'" in text
