"""The pytest plugin: `@pytest.mark.topologies(path)` runs a test in every runner.

The test takes the fixture `world`. `path` is the application's folder, relative to pytest's root.
Override the fixture `world_config` to give components other settings. Nothing heavy is imported
before a test wants a world, since pytest loads this in every run.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

_RUNNERS = ("direct", "copied", "rpc", "processes")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "topologies(path, runners=(...)): run the test in every runner (direct, copied, rpc, processes) "
        "with the application in `path` as the fixture `world`",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each runner."""
    marker = metafunc.definition.get_closest_marker("topologies")
    if marker is not None and "world" in metafunc.fixturenames:
        metafunc.parametrize("runner", marker.kwargs.get("runners", _RUNNERS), scope="function")


@pytest.fixture
def world_config(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Settings by component for `world`; override it in a conftest or test module."""
    return {}


@pytest.fixture
def runner() -> str:
    """The runner of this test; given by the marker."""
    return "direct"


@pytest_asyncio.fixture
async def world(
    request: pytest.FixtureRequest, runner: str, world_config: dict[str, dict[str, Any]], tmp_path: Path
) -> AsyncIterator[Any]:
    """The application of the marker's path, running in this test's runner."""
    from fissile.testing.worlds import open_world

    marker = request.node.get_closest_marker("topologies")
    if marker is None or not marker.args:
        raise pytest.UsageError("the fixture `world` needs @pytest.mark.topologies('folder of the application')")
    path = request.config.rootpath / marker.args[0]
    async with open_world(runner, path, state=tmp_path, config=world_config) as found:
        yield found
