"""Another version of Fissile is installed while an application runs: it is refused in words, and what runs goes on.

The other version is a copy of the package whose numbers are others, as an upgrade or its undoing leaves it.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from background import Up, background, text_at, wait_until
from commands import WAIT_SECONDS_MAX, fissile
from supervised import lives

import fissile as package
from fissile.api.discovery import read_endpoints
from fissile.formats import DESIRED, PROCESSES

Other = Callable[..., "subprocess.CompletedProcess[str]"]
UP = ("up", "--port", "0", "--topology", "microservices", "-C")


def renumbered(folder: Path, by: int, names: tuple[str, ...]) -> None:
    """Copy the package into a folder, with numbers that are higher by so many, and another version."""
    copy = folder / "fissile"
    shutil.copytree(Path(package.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    version = copy / "version.py"
    version.write_text(version.read_text().replace('VERSION = "', 'VERSION = "9.'))
    file = copy / "formats.py"
    text = file.read_text()
    for name in names:
        text, count = re.subn(
            rf'^({name} = Format\("[^"]+", )(\d+), (\d+)\)',
            lambda found: f"{found[1]}{int(found[2]) + by}, {int(found[3]) + by})",
            text,
            flags=re.MULTILINE,
        )
        assert count == 1, name
    file.write_text(text)


@pytest.fixture
def other(tmp_path: Path, request: pytest.FixtureRequest) -> Other:
    """The command of the other version. Parameter: how much higher its numbers are, and which."""
    by, names = request.param
    renumbered(tmp_path / "other", by, names)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "other")}

    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-P", "-m", "fissile", *map(str, arguments)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX, check=False
        )

    return run


def running(app: Up, folder: Path) -> tuple[str, dict[str, list[int]], int]:
    """Its page, its replicas and its zygote."""
    page = app.up()["services"]["pages"]["public"]["Pages"]
    found = app.status()["supervisor"]["zygote"]
    return page, {name: app.pids(name) for name in ("back", "pages")}, found


NEWER, OLDER = 1, -1


@pytest.mark.parametrize(
    ("other", "age"), [((NEWER, ("PROCESSES",)), "an older"), ((OLDER, ("PROCESSES",)), "a newer")], indirect=["other"]
)
def test_whoever_cannot_take_over_leaves_all_as_it_is_to_whoever_can(folder: Path, other: Other, age: str):
    with background(folder) as app:
        page, before, zygote = running(app, folder)
        app.kill(app.supervisor())
        refused = other(*UP, folder)
        assert refused.returncode == 2, refused
        assert f"what runs was started by {age} Fissile (0.1.0)" in refused.stderr
        assert f"in format {PROCESSES.number} of messages; this one, 9." in refused.stderr
        assert "→ nothing was touched: use that version" in refused.stderr
        assert lives(zygote)
        assert int(text_at(f"{page}/back")) == before["back"][0]
        app.up()
        assert {name: app.pids(name) for name in ("back", "pages")} == before
        app.down()


@pytest.mark.parametrize(
    ("other", "age"), [((NEWER, ("DESIRED",)), "an older"), ((OLDER, ("DESIRED",)), "a newer")], indirect=["other"]
)
def test_nor_does_whoever_cannot_read_what_is_desired(folder: Path, other: Other, age: str):
    with background(folder) as app:
        page, before, _ = running(app, folder)
        app.kill(app.supervisor())
        for options in ((), ("--fresh",)):
            refused = other(*UP, folder, *options)
            assert refused.returncode == 2, refused
            assert (
                f"journal.db was written by {age} Fissile (0.1.0), in format {DESIRED.number} of desired; this one, 9."
                in refused.stderr
            )
        assert int(text_at(f"{page}/back")) == before["back"][0]
        app.up()
        assert {name: app.pids(name) for name in ("back", "pages")} == before
        app.down()


@pytest.mark.parametrize(
    ("other", "age"), [((NEWER, ("ENDPOINTS",)), "an older"), ((OLDER, ("ENDPOINTS",)), "a newer")], indirect=["other"]
)
def test_no_command_asks_a_supervisor_of_another_version_and_all_say_how_it_ends(folder: Path, other: Other, age: str):
    with background(folder) as app:
        page, before, _ = running(app, folder)
        supervisor = app.supervisor()
        for command in (("status",), ("scale", "back", "2"), ("restart", "back"), ("call", "Back.pid"), ("down",)):
            refused = other(*command, "-C", folder)
            assert refused.returncode == 2, refused
            assert (
                f"what runs was started by {age} Fissile (0.1.0), in format 1 of endpoints; this one, 9."
                in refused.stderr
            )
            assert f"in order with `kill {supervisor}`" in refused.stderr
        assert int(text_at(f"{page}/back")) == before["back"][0]
        assert {name: app.pids(name) for name in ("back", "pages")} == before
        assert json.loads(other("status", "--json", "-C", folder).stdout)["state"] == "other version"
        os.kill(supervisor, signal.SIGTERM)  # what they say
        wait_until(lambda: not lives(supervisor), "it has ended")
        assert not [pid for pid in app.seen if pid and lives(pid)]
        assert "nothing runs in" in other("status", "-C", folder).stderr


@pytest.mark.parametrize("other", [(NEWER, ("ENDPOINTS", "PROCESSES", "DESIRED"))], indirect=True)
def test_down_ends_what_another_version_has_left(folder: Path, other: Other):
    with background(folder) as app:
        running(app, folder)
        app.kill(app.supervisor())
        assert "the `fissile down` of that one (in order) or of this one" in other("status", "-C", folder).stderr
        ended = other("down", "-C", folder)
        assert ended.returncode == 0, ended
        assert "what runs was started by an older Fissile (0.1.0)" in ended.stdout
        assert not [pid for pid in app.seen if pid and lives(pid)]
        assert "all is ended at once, in no order" in (folder / ".fissile/logs/fissile.log").read_text()


def test_an_endpoints_file_without_a_number_is_of_the_first_format(folder: Path):
    with background(folder) as app:
        running(app, folder)
        file = folder / ".fissile/endpoints.json"
        known = json.loads(file.read_text())
        assert (known["format"], known["fissile"]) == (1, "0.1.0")
        file.write_text(json.dumps({key: known[key] for key in known if key not in ("format", "fissile")}))
        assert read_endpoints(folder).pid == app.supervisor()
        app.down()


def test_a_package_that_is_replaced_under_a_supervisor_harms_nothing_that_runs(tmp_path: Path, folder: Path):
    """Its next zygote is of another version than the supervisor itself."""
    place = tmp_path / "installed"
    renumbered(place, 0, ())
    environment = os.environ | {"PYTHONPATH": str(place)}
    command = [sys.executable, "-P", "-m", "fissile", *UP, str(folder)]
    with background(folder) as app:
        assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
        before = {name: app.pids(name) for name in ("back", "pages")}
        shutil.rmtree(place / "fissile")
        renumbered(place, 1, ("PROCESSES",))
        (folder / "sample.py").write_text((folder / "sample.py").read_text() + "\nMORE = 1\n")
        refused = fissile("deploy", "-C", folder)
        assert refused.returncode != 0
        assert "another Fissile was installed since this supervisor began" in refused.stderr, refused
        assert {name: app.pids(name) for name in ("back", "pages")} == before
        assert fissile("status", "-C", folder).returncode == 0
        app.down()
