"""Walls stand through an application's life: over the death of its supervisor, and from one release to the next."""

import json
import os
import pwd
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from background import background, wait_until
from broken import CONFINED, sample
from commands import fissile

from fissile.machine.landlock import interface_version

pytestmark = pytest.mark.skipif(not interface_version(), reason="this kernel has no Landlock")
USER = "\n[services.back]\nuser = 'nobody'\n[services.back.limits]\ndisk = ['data']\n"
LEVELS = [
    pytest.param(CONFINED, "confined", id="confined"),
    pytest.param(
        USER, "user", id="user", marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
    ),
]
LOOK = """
import errno, os
def refused(path, mode="r"):
    try:
        open(path, mode)
    except OSError as error:
        return errno.errorcode[error.errno]
def attack():
    root = {root!r}
    return [refused(root + "/data/note", "w"), refused(root + "/note", "w"), refused(root + "/.fissile/endpoints.json")]
"""


def held(folder: Path) -> None:
    """From inside: it writes to its own folder, and neither elsewhere nor reads what runs it."""
    found = fissile("call", "Back.attack", "--path", folder, json.dumps({"code": LOOK.format(root=str(folder))}))
    assert found.stdout.strip().strip('"') == "[None, 'EACCES', 'EACCES']", found
    called = fissile("call", "Pages.back_pid", "--path", folder)
    assert called.returncode == 0, called


@pytest.mark.parametrize(("more", "level"), LEVELS)
def test_over_the_death_of_a_supervisor_and_a_deploy(more: str, level: str):
    with TemporaryDirectory(prefix="walls-") as open_path:
        os.chmod(open_path, 0o711)
        folder = sample(Path(open_path), more)
        if level == "user":
            os.chown(folder / "data", pwd.getpwnam("nobody").pw_uid, -1)
        with background(folder) as app:
            app.up()
            held(folder)
            before = app.pids("back")
            app.kill(app.supervisor())
            app.up()
            assert app.pids("back") == before
            held(folder)
            assert fissile("restart", "back", "--path", folder).returncode == 0
            assert app.pids("back") != before
            held(folder)
            code = (folder / "sample.py").read_text()
            (folder / "sample.py").write_text(code.replace("class Back:", 'class Back:\n    revised = "yes"\n', 1))
            deployed = fissile("deploy", folder, "--wait")
            assert deployed.returncode == 0, deployed
            held(folder)
            (status,) = [one for one in app.status()["services"] if one["name"] == "back"]
            assert status["isolation"] == level
            app.down()
        assert (folder / "data/note").exists()


def test_what_ends_while_nobody_supervises_leaves_nothing():
    with TemporaryDirectory(prefix="walls-") as folder, background(sample(Path(folder), CONFINED)) as app:
        app.up()
        state = Path(app.folder) / ".fissile"
        (before,) = (state / "tmp").iterdir()
        (pid,) = app.pids("back")
        app.kill(app.supervisor())
        stacks = state / f"{before.name}.stacks"
        stacks.write_text("where it stood")
        app.kill(pid)
        app.up()
        wait_until(lambda: app.pids("back") and not before.exists() and not stacks.exists(), "its files went")
        assert len(list((state / "tmp").iterdir())) == 1
