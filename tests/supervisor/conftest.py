"""The sample application in a folder of the test's own; every test ends the processes that it began."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from supervised import SAMPLE, descendants, lives


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the sample application."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "sample", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Every test ends the processes that it began."""
    before = set(descendants(os.getpid()))
    yield
    assert not [pid for pid in set(descendants(os.getpid())) - before if lives(pid)]
