"""Packages are part of a release: one that misses them is not said to serve, and whoever goes back is told."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from background import Up, background, wait_until
from commands import WAIT_SECONDS_MAX

from fissile.api.client import Client

APPLICATION = """
import dep
from fissile import Application, component

@component
class Work:
    async def go(self) -> int:
        return dep.V

app = Application(Work, name="packaged")
"""


class Packaged(Up):
    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "fissile", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(self.folder.parent / "site-packages")}
        return subprocess.run(
            line,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS_MAX,
            check=False,
            env=environment,
            cwd=self.folder,
        )

    def install(self, version: int, content: str = "") -> None:
        """As an installer does it."""
        folder = self.folder.parent / "site-packages"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "dep").mkdir(parents=True)
        (folder / "dep" / "__init__.py").write_text(f"V = {version}\n")
        metadata = folder / f"dep-{version}.dist-info"
        metadata.mkdir()
        (metadata / "RECORD").write_text(f"dep/__init__.py,sha256={version}{content},6\n")

    def answers(self) -> int:
        return int(self.command("call", "Work.go").stdout)

    def release(self) -> str:
        return str(self.status()["release"])


@contextmanager
def packaged(tmp_path: Path) -> Iterator[Packaged]:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "a.py").write_text(APPLICATION)
    (folder / "fissile.toml").write_text('app = "a:app"\n')
    with background(folder, Packaged) as app:
        app.install(1)
        started = app.command("up", "--port", "0")
        assert started.returncode == 0, started
        app.status()
        yield app
        app.down()


def test_who_goes_back_is_told_what_is_not_there_any_more(tmp_path: Path):
    with packaged(tmp_path) as app:
        first = app.release()
        app.install(2)
        assert app.command("deploy", "--wait").returncode == 0
        second = app.release()
        assert (first != second, app.answers()) == (True, 2)
        refused = app.command("rollback", "--wait")
        assert refused.returncode == 1
        assert "dep 1 → 2" in refused.stderr
        assert "-m pip install dep==1" in refused.stderr
        assert (app.release(), app.answers()) == (second, 2)
        lines = {line.split()[0]: line for line in app.command("releases").stdout.splitlines()}
        assert "made with other packages: dep 1 → 2" in lines[first]
        assert "other packages" not in lines[second]
        taken = app.command("rollback", "--wait", "--accept-packages")
        assert taken.returncode == 0, taken
        assert "dep 1 → 2" in taken.stderr
        assert app.release() == second  # the same code with the packages of now: that serves already
        app.install(1)
        assert app.command("rollback", first, "--wait").returncode == 0
        assert (app.release(), app.answers()) == (first, 1)


@pytest.mark.parametrize(("version", "content", "told"), [(2, "", "dep 1 → 2"), (1, "x", "dep 1 has other files")])
def test_a_restart_does_not_bring_other_packages_unasked(tmp_path: Path, version: int, content: str, told: str):
    with packaged(tmp_path) as app:
        release, before = app.release(), app.pids("app")
        app.install(version, content)
        refused = app.command("restart", "app")
        assert refused.returncode == 1
        assert told in refused.stderr
        assert app.pids("app") == before
        done = app.command("restart", "app", "--accept-packages")
        assert done.returncode == 0, done
        assert (app.release(), app.answers()) == (release, version)
        assert told in app.command("status").stdout


def test_what_has_to_be_imported_again_says_which_packages_it_misses(tmp_path: Path):
    with packaged(tmp_path) as app:
        release = app.release()
        app.install(2)
        zygote: Any = app.status()["supervisor"]["zygote"]
        os.kill(zygote, signal.SIGKILL)
        wait_until(lambda: app.status()["supervisor"]["zygote"] not in (None, zygote), "another zygote")
        strange = f"release {release} runs with other packages than it was deployed with: dep 1 → 2"
        wait_until(lambda: strange in app.status()["supervisor"]["trouble"], "the trouble is told")

        def noted() -> bool:
            history = msgspec.to_builtins(Client(app.folder).history(limit=1000))
            return any(one["what"] == "ZygoteStarted" and strange in one["reason"] for one in history)

        wait_until(noted, "the history says so")
        app.kill(app.supervisor())
        assert app.command("up").returncode == 0
        assert app.release() == release
        assert "dep 1 → 2" in app.status()["supervisor"]["trouble"]


def test_after_a_power_cut_the_release_goes_on_and_says_so(tmp_path: Path):
    with packaged(tmp_path) as app:
        release = app.release()
        status = app.status()
        app.install(2)
        for pid in (status["supervisor"]["pid"], status["supervisor"]["zygote"], *app.pids("app")):
            os.kill(pid, signal.SIGKILL)
        assert app.command("up", "--port", "0").returncode == 0
        assert app.release() == release
        assert "dep 1 → 2" in app.status()["supervisor"]["trouble"]
        assert "dep 1 → 2" in (app.folder / ".fissile" / "logs" / "fissile.log").read_text()


def test_a_folder_of_packages_that_came_after_the_supervisor_is_looked_into(tmp_path: Path):
    folder, late = tmp_path / "app", tmp_path / "late"
    folder.mkdir()
    (folder / "a.py").write_text(APPLICATION.replace("import dep\n", "").replace("dep.V", "1"))
    (folder / "fissile.toml").write_text('app = "a:app"\n')
    (late / "extra-1.dist-info").mkdir(parents=True)
    (late / "extra-1.dist-info" / "RECORD").write_text("extra.py,sha256=1,1\n")
    (late / "extra.py").write_text("")
    with background(folder, Packaged) as app:
        app.up("--topology", "monolith")
        (folder / "a.py").write_text("import extra\n" + (folder / "a.py").read_text())
        environment = {**os.environ, "PYTHONPATH": str(late)}
        line = [sys.executable, "-m", "fissile", "deploy", "-C", str(folder), "--wait", "--update-env"]
        deployed = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
        assert deployed.returncode == 0, deployed
        (live,) = [one for one in msgspec.to_builtins(Client(folder).releases()) if one["state"] == "live"]
        assert live["lost"] == ()


@pytest.mark.parametrize("what", ["restart", "rollback"])
def test_what_cannot_be_imported_any_more_is_told_with_the_packages_that_are_gone(tmp_path: Path, what: str):
    with packaged(tmp_path) as app:
        if what == "rollback":
            (app.folder / "a.py").write_text(APPLICATION.replace("import dep\n", "").replace("dep.V", "1"))
            assert app.command("deploy", "--wait").returncode == 0
        shutil.rmtree(tmp_path / "site-packages")
        refused = app.command(what)
        assert refused.returncode == 1 or refused.returncode == 2
        assert "imports 'dep', which is not installed" in refused.stderr
        assert "since it ran: dep 1 is gone" in refused.stderr
        assert "-m pip install dep==1" in refused.stderr
