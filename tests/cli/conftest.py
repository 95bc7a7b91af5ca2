"""The command `fissile` as people run it: a process of its own, on a copy of the sample application."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "supervisor"))
sys.path.insert(0, str(Path(__file__).parent))

from commands import Run
from supervised import SAMPLE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the sample application."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "sample", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture(params=["monolith", "microservices"])
def running(folder: Path, request: pytest.FixtureRequest) -> Iterator[Run]:
    """The application running in both topologies; ended by Ctrl-C with nothing left."""
    with Run(folder, "--topology", request.param) as run:
        yield run
        run.end()
