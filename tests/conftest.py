"""Of all tests."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

# On a machine that others use too, how long one example takes says nothing of the code.
settings.register_profile("fissile", deadline=None)
settings.load_profile("fissile")


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that every user may enter: pytest's own are private, and are closed again by whoever runs tests, too."""
    with TemporaryDirectory(prefix="open-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder).resolve()
