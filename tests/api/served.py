"""The sample application, and a supervisor of it with both doors of the API open."""

import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "supervisor"))

from supervised import SAMPLE, Running, running

from fissile.api.server import ApiServer


class WithApi:
    """downs: how often the process was asked to end."""

    def __init__(self, run: Running, server: ApiServer) -> None:
        self.run = run
        self.server = server
        self.downs = 0


@asynccontextmanager
async def served(tmp_path: Path) -> AsyncIterator[WithApi]:
    """Both doors are open."""
    folder = Path(shutil.copytree(SAMPLE, tmp_path / "sample", ignore=shutil.ignore_patterns("__pycache__")))
    async with running(folder) as run:
        found: WithApi

        def down() -> None:
            found.downs += 1

        found = WithApi(run, ApiServer(run.supervisor, down))
        await found.server.start()
        yield found
        await found.server.close()
