"""Where applications stand."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others may enter: a database server runs as another user than root."""
    with tempfile.TemporaryDirectory(prefix="fissile-adoption-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
