"""A folder goes, whatever somebody has made in it; and nothing beside it does."""

import os
from pathlib import Path

import pytest

from fissile.machine.remove_tree import remove_tree

DEPTH = 3000  # beyond what Python calls itself, and what a path may be long


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def test_a_deep_folder_goes(folder: Path):
    here = os.open(folder, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    remove_tree(folder)
    assert not folder.exists()


def test_a_folder_that_nobody_may_enter_goes(folder: Path):
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").touch()
    (folder / "a" / "b").chmod(0)
    (folder / "a").chmod(0o500)
    folder.chmod(0)
    remove_tree(folder)
    assert not folder.exists()


def test_links_are_not_followed(folder: Path, tmp_path: Path):
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o750)
    (kept / "file").touch(0o640)
    (folder / "link").symlink_to(kept)
    (folder / "in").mkdir()
    (folder / "in" / "link").symlink_to(kept)
    (folder / "in" / "pipe").touch()
    remove_tree(folder)
    assert not folder.exists()
    assert (kept / "file").stat().st_mode & 0o777 == 0o640
    assert kept.stat().st_mode & 0o777 == 0o750
    (tmp_path / "alias").symlink_to(kept)
    remove_tree(tmp_path / "alias")
    assert (kept / "file").exists()


def test_what_is_not_there_is_no_trouble(folder: Path):
    remove_tree(folder / "none")
    (folder / "file").touch()
    remove_tree(folder / "file")
    assert (folder / "file").exists()
