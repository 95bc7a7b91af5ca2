"""What is wrong around an application: a full disk, a port that is taken. What runs goes on."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from background import LEFT, background, text_at, wait_until
from commands import fissile
from supervised import SAMPLE, left_in


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """The sample application on a file system of two mebibytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here: that needs root")
    yield Path(shutil.copytree(SAMPLE, disk / "sample", ignore=shutil.ignore_patterns("__pycache__")))
    subprocess.run(["umount", str(disk)], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 512)
    return ballast


def test_a_full_disk_refuses_changes_and_nothing_else(small: Path):
    with background(small) as app:
        page = app.up()["services"]["pages"]["public"]["Pages"]
        assert fissile("scale", "back", "2", "--path", small, "--why", "before").returncode == 0
        wait_until(lambda: len(app.pids("back")) == 2, "two replicas")
        ballast = fill(small)
        refused = None
        for _ in range(50):  # the journal has some room of its own yet
            refused = fissile("scale", "back", "2", "--path", small, "--why", "while it is full " * 50)
            if refused.returncode:
                break
        assert refused is not None
        assert refused.returncode == 1, refused
        assert "database or disk is full" in refused.stderr
        assert "whether the disk is full" in refused.stderr
        assert app.status()["journal"] == "database or disk is full"
        # What runs is looked after all the same: a replica that dies is replaced, and calls are answered.
        old = app.pids("back")
        app.kill(old[0])
        wait_until(lambda: len(set(app.pids("back")) - {0, old[0]}) == 2, "a replacement")
        assert int(text_at(f"{page}/back")) in app.pids("back")
        # Printing goes on as well, to nowhere.
        said = fissile("call", "Back.say", '{"text": "hello", "times": 5000}', "--path", small)
        assert said.returncode == 0, said
        # And the supervisor may die and be succeeded.
        app.kill(app.supervisor())
        assert text_at(f"{page}/back")
        ballast.unlink()
        app.up()
        assert fissile("scale", "back", "1", "--path", small, "--why", "after").returncode == 0
        history = fissile("history", "back", "--path", small, "-n", "1000").stdout
        assert "before" in history
        assert "after" in history
        app.down()


def test_a_start_on_a_full_disk_is_one_clear_error(small: Path):
    fill(small)
    result = fissile("up", small, "--port", "0", "--topology", "microservices")
    assert result.returncode == 2, result
    assert "Traceback" not in result.stderr
    assert "No space left" in result.stderr or "disk is full" in result.stderr
    assert len(result.stderr.splitlines()) <= 3


def test_a_port_that_is_taken_starts_nothing(folder: Path):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        result = fissile("up", folder, "--topology", "microservices", "--port", str(port))
    assert result.returncode == 2
    assert f"port {port}, wanted for Pages, is taken" in result.stderr
    assert "choose another with --port" in result.stderr
    assert left_in(folder) <= LEFT


@pytest.mark.parametrize("what", ["folder", "state folder"])
def test_a_folder_that_cannot_be_written_to_is_one_clear_error(tmp_path: Path, what: str):
    """Root writes to any folder that is not mounted otherwise."""
    folder = tmp_path / "sample"
    shutil.copytree(SAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    closed = folder if what == "folder" else folder / ".fissile"
    closed.mkdir(exist_ok=True)
    mount = ["mount", "--bind", "-o", "ro", str(closed), str(closed)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here: that needs root")
    try:
        found = fissile("up", folder)
    finally:
        subprocess.run(["umount", str(closed)], check=True)
    assert found.returncode != 0
    assert "Traceback" not in found.stderr
    assert f"{folder / '.fissile'} cannot be used: Read-only file system" in found.stderr
    assert "a folder you can write to" in found.stderr


def run(words: str, redirected: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = f'exec "$0" -m fissile {words} {redirected}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


LOOKS = ("--help", "deploy --help", "status --json", "logs", "graph")


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    (tmp_path / "fissile.toml").write_text('[services.site]\ncommand = "cat"\n')
    logs = tmp_path / ".fissile" / "logs"
    logs.mkdir(parents=True)
    (logs / "site.log").write_text("2026-01-31T08:00:00.000000Z → text\n")
    return tmp_path


@pytest.mark.parametrize("words", LOOKS)
def test_what_cannot_be_printed_is_said(ended: Path, words: str):
    done = run(words, ">/dev/full", ended)
    assert done.returncode == 1, done
    assert done.stderr.endswith("write elsewhere\n"), done
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [*LOOKS, "--help →"])
def test_a_locale_without_our_characters_is_no_reason_to_fail(ended: Path, words: str):
    done = run(words, "", ended, PYTHONIOENCODING="ascii")
    assert "Traceback" not in done.stderr
    assert done.returncode == (2 if words == "status --json" else 0), done
    assert done.stdout
