"""The pytest plugin: `@pytest.mark.topologies(path)` runs a test in every runner.

The test takes the fixture `world`. `path` is the application's folder, relative to pytest's root.
Override the fixture `world_config` to give components other settings. Nothing heavy is imported
before a test wants a world, since pytest loads this in every run.
"""

import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

_RUNNERS = ("direct", "copied", "rpc", "processes")
_KEYWORDS = ("runners", "topology")
_USAGE = "write @pytest.mark.topologies('folder of the application')"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and let pytest-asyncio run every async test and fixture.

    pytest-asyncio leaves async tests alone unless its mode is "auto". A mode that the project has chosen is kept.
    """
    if getattr(config.option, "asyncio_mode", "absent") is not None:  # given on the command line, or no pytest-asyncio
        return
    chosen: Any = getattr(config, "_inicfg", {})  # getini() does not tell a default from a choice
    if "asyncio_mode" not in chosen:
        config.option.asyncio_mode = "auto"
    if "asyncio_default_fixture_loop_scope" not in chosen:
        # pytest-asyncio warns of a default of a later version; a world has its fixture's scope in both.
        warnings.filterwarnings("ignore", message=r'\s*The configuration option "asyncio_default_fixture_loop_scope"')
    config.addinivalue_line(
        "markers",
        "topologies(path, runners=(...), topology=...): run the test in every runner (direct, copied, rpc, processes) "
        "with the application in `path` as the fixture `world`",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each runner. Raises UsageError for a marker that is wrong."""
    marker = metafunc.definition.get_closest_marker("topologies")
    if marker is None:
        return
    runners = _checked(marker, metafunc.definition.nodeid)
    if "world" in metafunc.fixturenames:
        metafunc.parametrize("runner", runners, scope="function")


def _checked(marker: pytest.Mark, where: str) -> tuple[str, ...]:
    """The runners that a marker names. Raises UsageError for what it cannot mean."""
    unknown = [name for name in marker.kwargs if name not in _KEYWORDS]
    if unknown:
        known = ", ".join(_KEYWORDS)
        raise pytest.UsageError(f"{where}: topologies has no keyword {unknown[0]!r}; its keywords are: {known}")
    if len(marker.args) != 1:
        raise pytest.UsageError(f"{where}: topologies takes one folder: {_USAGE}")
    found = marker.kwargs.get("runners", _RUNNERS)
    # A str is a row of letters: ("rpc") without its comma.
    runners = (found,) if isinstance(found, str) else tuple(found)
    strange = [one for one in runners if one not in _RUNNERS]
    if strange or not runners:
        named = f"there is no runner {strange[0]!r}" if strange else "runners is empty"
        raise pytest.UsageError(f"{where}: {named}; use some of {', '.join(_RUNNERS)}")
    return runners


@pytest.fixture
def world_config(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Settings by component for `world`; override it in a conftest or test module."""
    return {}


@pytest.fixture
def runner() -> str:
    """The runner of this test; given by the marker."""
    return "direct"


async def _world(
    request: pytest.FixtureRequest, runner: str, world_config: dict[str, dict[str, Any]], tmp_path: Path
) -> AsyncIterator[Any]:
    """The application of the marker's path, running in this test's runner."""
    from fissile.testing.worlds import open_world

    marker = request.node.get_closest_marker("topologies")
    if marker is None:
        raise pytest.UsageError(f"the fixture `world` needs a marker: {_USAGE}")
    path = request.config.rootpath / marker.args[0]
    topology = marker.kwargs.get("topology", "microservices")
    async with open_world(runner, path, state=tmp_path, config=world_config, topology=topology) as found:
        yield found


def _no_world(runner: str) -> None:
    """Fail, and say what to install."""
    pytest.fail("the fixture `world` needs pytest-asyncio: pip install 'fissile[testing]'", pytrace=False)


# pytest loads this wherever Fissile is installed: a project without the extra `testing` must not notice.
try:
    import pytest_asyncio
except ImportError:
    world = pytest.fixture(_no_world, name="world")
else:
    world = pytest_asyncio.fixture(_world, name="world")
