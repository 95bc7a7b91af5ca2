"""`fissile init`, from outside: what it writes, what it leaves alone, and that it runs nothing."""

import os
from pathlib import Path

import pytest
from commands import fissile

FASTAPI = "from fastapi import FastAPI\n\napp = FastAPI()\nopen('it-was-run', 'w')\n"


def test_it_writes_what_up_starts_and_runs_nothing(tmp_path: Path):
    (tmp_path / "main.py").write_text(FASTAPI)
    done = fissile("init", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "fissile.toml is written; `fissile up` starts what it says\n")
    assert "fissile: assumed: FastAPI is served as asgi: main:app (main.py:3)" in done.stderr
    assert 'asgi = "main:app"' in (tmp_path / "fissile.toml").read_text()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fissile.toml", "main.py"]


@pytest.mark.parametrize("words", [("init", "shop"), ("-C", "shop", "init"), ("init", "-C", "shop")], ids=" ".join)
def test_the_folder_is_named_as_everywhere(words: tuple[str, ...], tmp_path: Path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/main.py").write_text(FASTAPI)
    assert fissile(*words, cwd=tmp_path).returncode == 0
    assert "[services.shop]" in (tmp_path / "shop/fissile.toml").read_text()


def test_a_file_that_is_there_is_left_alone(tmp_path: Path):
    (tmp_path / "main.py").write_text(FASTAPI)
    file = tmp_path / "fissile.toml"
    for mine in (lambda: file.write_text("# mine\n"), lambda: file.symlink_to("nowhere")):
        mine()
        done = fissile("init", tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "there is a fissile.toml" in done.stderr
        assert "--force" in done.stderr
        printed = fissile("init", tmp_path, "--print")
        assert 'asgi = "main:app"' in printed.stdout
        assert file.is_symlink() or file.read_text() == "# mine\n"
        assert fissile("init", tmp_path, "--force").returncode == 0
        assert file.read_text() == printed.stdout
        assert not file.is_symlink()
        file.unlink()


def test_a_folder_that_is_not_understood(tmp_path: Path):
    (tmp_path / "Procfile").write_text("worker: celery -A shop worker\n")
    done = fissile("init", tmp_path)
    assert done.returncode == 2
    assert f"nothing that could be started was found in {tmp_path}" in done.stderr
    assert "→ write fissile.toml with" in done.stderr
    assert "there is no folder" in fissile("init", tmp_path / "gone").stderr
    assert [one.name for one in tmp_path.iterdir()] == ["Procfile"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path):
    (tmp_path / "main.py").write_text(FASTAPI)
    tmp_path.chmod(0o500)
    done = fissile("init", tmp_path)
    tmp_path.chmod(0o700)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be written" in done.stderr
