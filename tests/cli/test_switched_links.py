"""A folder that is named by a link, which each release switches (Capistrano's layout)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from background import Up, background, wait_until
from commands import WAIT_SECONDS_MAX, fissile

CODE = """
from fissile import Application, component

@component
class Work:
    async def go(self) -> str:
        return "{word}"

app = Application(Work, name="linked")
"""


def release(base: Path, number: int) -> Path:
    folder = base / "releases" / str(number)
    folder.mkdir(parents=True)
    (folder / "a.py").write_text(CODE.format(word=f"word {number}"))
    (folder / "fissile.toml").write_text('app = "a:app"\n')
    return folder


def switch(base: Path, number: int) -> Path:
    (base / "new").symlink_to(f"releases/{number}")
    (base / "new").rename(base / "current")
    return base / "current"


def says(folder: Path) -> str:
    return fissile("call", "-C", folder, "Work.go").stdout.strip()


@pytest.mark.parametrize("shared", [False, True])
def test_each_deploy_brings_the_folder_that_the_link_leads_to(tmp_path: Path, shared: bool):
    def linked(number: int) -> Path:
        folder = release(tmp_path, number)
        if shared:
            (folder / ".fissile").symlink_to("../../shared/.fissile")
        return folder

    first = linked(1)
    if shared:
        (tmp_path / "shared").mkdir()
    current = switch(tmp_path, 1)
    with background(current, Up) as app:
        assert fissile("up", "-C", current, "--port", "0").returncode == 0
        app.status()
        assert says(current) == '"word 1"'
        second = linked(2)
        switch(tmp_path, 2)
        assert says(current) == '"word 1"'  # it is found before the deploy, too
        done = fissile("deploy", "-C", current, "--wait")
        assert done.returncode == 0, done
        assert (says(current), says(first), says(second)) == ('"word 2"',) * 3
        shutil.rmtree(first)
        app.kill(app.pids("app")[0])
        wait_until(lambda: app.pids("app"), "it is there again")
        assert says(current) == '"word 2"'
        linked(3)
        switch(tmp_path, 3)
        assert fissile("deploy", "-C", current, "--wait").returncode == 0
        assert fissile("rollback", "-C", current, "--wait").returncode == 0
        assert says(current) == '"word 2"'
        assert fissile("logs", "-C", current).returncode == 0
        before = fissile("history", "-C", current).stdout
        assert "BeginRollout" in before
        assert fissile("down", "-C", current).returncode == 0
        assert "nothing runs in" in fissile("status", "-C", current).stderr
        assert fissile("up", "-C", current, "--port", "0").returncode == 0
        app.status()
        assert says(current) == '"word 3"'
        assert "BeginRollout" in fissile("history", "-C", current).stdout
        assert fissile("down", "-C", current).returncode == 0


def test_two_links_beside_each_other_are_two_applications(tmp_path: Path):
    release(tmp_path, 1)
    release(tmp_path, 2)
    current = switch(tmp_path, 1)
    staging = tmp_path / "staging"
    staging.symlink_to("releases/2")
    with background(current, Up) as one, background(staging, Up) as other:
        for app in (one, other):
            assert fissile("up", "-C", app.folder, "--port", "0").returncode == 0
            app.status()
        assert (says(current), says(staging)) == ('"word 1"', '"word 2"')
        assert fissile("down", "-C", current).returncode == 0
        assert says(staging) == '"word 2"'
        assert fissile("down", "-C", staging).returncode == 0


def test_a_link_to_nothing_is_told(tmp_path: Path):
    release(tmp_path, 1)
    current = switch(tmp_path, 1)
    with background(current, Up) as app:
        assert fissile("up", "-C", current, "--port", "0").returncode == 0
        app.status()
        switch(tmp_path, 7)
        done = fissile("deploy", "-C", current)
        assert done.returncode == 1
        assert "switch the link" in done.stderr
        switch(tmp_path, 1)
        assert fissile("down", "-C", current).returncode == 0


def test_a_working_folder_that_is_gone_is_told(tmp_path: Path):
    gone = tmp_path / "gone"
    line = f"mkdir {gone} && cd {gone} && rmdir {gone} && exec {sys.executable} -m fissile "
    for command in ("status", "up", "logs", "run"):
        done = subprocess.run(
            ["sh", "-c", line + command], capture_output=True, text=True, timeout=WAIT_SECONDS_MAX, check=False
        )
        assert done.returncode == 2, done
        assert "Traceback" not in done.stderr
        assert "is gone" in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_a_folder_that_cannot_be_written_to_is_told(open_path: Path):
    folder = release(open_path, 1)
    line = [sys.executable, "-m", "fissile", "up", "-C", str(folder)]
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX, check=False, user=65534, cwd="/", env={}
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done
    assert "cannot be used: Permission denied" in done.stderr
