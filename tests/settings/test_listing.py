"""How a folder is listed for a proposal: nothing outside it is read, nothing is run, and there is an end to it."""

import os
from pathlib import Path

import pytest

from fissile.errors import ConfigError
from fissile.settings import listing
from fissile.settings.listing import list_folder
from fissile.settings.proposal.folder import Folder
from fissile.settings.proposal.propose import propose
from fissile.settings.written import write


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


def lay(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"# {path}\n")


def test_what_matters_is_read_and_what_may_be_secret_is_not(place: Path):
    lay(
        place,
        "main.py",
        "app/x.py",
        "Procfile",
        "requirements-dev.txt",
        ".env",
        "notes.txt",
        "a.js",
        "a/b/c.js",
        "a/b.js",
    )
    found = list_folder(place)
    assert set(found.texts) == {"main.py", "app/x.py", "Procfile", "requirements-dev.txt", "a.js", "a/b.js"}
    assert {".env", "notes.txt", "a/b/c.js"} <= found.paths
    assert (found.name, found.unread) == ("shop", 0)


def test_what_others_have_written_is_left_out(place: Path):
    lay(place, "node_modules/x/index.js", ".git/hook.py", "__pycache__/a.py", "build/a.py", "deep/1/2/3/4/5/6/a.py")
    lay(place, ".venv/pyvenv.cfg", ".venv/lib/a.py", "mine/pyvenv.cfg", "mine/b.py")
    found = list_folder(place)
    assert found.paths == frozenset()
    assert found.environments == (".venv", "mine")


def test_links_are_not_followed(place: Path, tmp_path: Path):
    lay(tmp_path, "outside/secret.py", "Procfile")
    (place / "linked").symlink_to(tmp_path / "outside")
    (place / "Procfile").symlink_to(tmp_path / "Procfile")
    (place / "around").symlink_to(place)
    assert list_folder(place).paths == frozenset()


def test_a_file_that_becomes_a_link_or_a_pipe_is_not_read(place: Path, tmp_path: Path):
    lay(tmp_path, "secret.py")
    (place / "a.py").symlink_to(tmp_path / "secret.py")
    os.mkfifo(place / "b.py")
    assert [listing._read(place / name) for name in ("a.py", "b.py", "gone.py")] == [None] * 3


def test_a_large_folder_has_an_end(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listing, "READ_MAX", 3)
    lay(place, *(f"m{number}.py" for number in range(5)))
    (place / "m0.py").write_bytes(b"\xff")
    (place / "m1.py").write_text("#" * (listing.FILE_BYTES_MAX + 1))
    found = list_folder(place)
    assert set(found.texts) == {"m2.py", "m3.py", "m4.py"}
    assert found.unread == 2
    assert any("2 files were not read" in one for one in propose(found).unclear)
    monkeypatch.setattr(listing, "PATHS_MAX", 1)
    lay(place, "sub/more.py")
    assert not any("sub" in path for path in list_folder(place).paths)


def test_a_folder_that_is_not_there(place: Path):
    with pytest.raises(ConfigError, match="cannot be listed"):
        list_folder(place / "gone")


def test_a_file_that_appears_meanwhile_is_kept(place: Path):
    (place / "fissile.toml").write_text("# mine\n")
    with pytest.raises(ConfigError, match="already"):
        write(place, "# other\n", force=False)
    assert (place / "fissile.toml").read_text() == "# mine\n"
    write(place, "# other\n", force=True)
    assert [(one.name, one.read_text()) for one in place.iterdir()] == [("fissile.toml", "# other\n")]


def test_the_packages_that_fissile_finds(place: Path):
    found: Folder = list_folder(place)
    assert found.packages == {"a2wsgi", "websockets"}
    assert found.active == ""
