"""A supervised application, and both doors of its API."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))

from served import WithApi, served


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[WithApi]:
    """Both doors are open."""
    async with served(tmp_path) as found:
        yield found
