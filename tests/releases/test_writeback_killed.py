"""Whoever moves what programs make may be killed after any line: the next one goes on, and nothing is lost."""

import os
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from fissile.releases import copies, snapshot
from fissile.releases.app_data import copy_state, index, links, mover, moves, scan, sqlite_files, writeback
from fissile.releases.store import ReleaseStore
from fissile.settings.schema import ServiceSettings, Settings

SETTINGS = {"web": ServiceSettings(command="node index.js")}
MODULES = {
    one.__file__ for one in (copy_state, index, links, mover, moves, scan, sqlite_files, writeback, snapshot, copies)
}
KILLED, DONE = 3, 4


class Scene:
    """A copy in which a program has done all that programs do, and what is to come of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        for name in ("index.js", "config.json", "kept.bin~"):
            (root / name).write_text(name)
        self.store = ReleaseStore(root / ".fissile", root)
        self.home = Path(self.store.copies.make(Settings(root=str(root), services=SETTINGS)).root)
        write = self.write
        write(state="0", draft="photo", tmp="1", a="a", b="b", old="old", lock="lock", flip="flip", log="log")
        (self.home / "uploads").mkdir()
        (self.home / "cache").mkdir()
        (self.home / "moving").mkdir()
        write(**{"uploads/first": "first", "cache/first": "stale", "moving/x": "x"})
        self.gather()
        assert all((self.home / name).is_symlink() for name in ("state", "uploads", "a"))
        # What is seen by the look that is killed:
        write(new="1", fresh="f")
        (self.home / "fresh").replace(self.home / "state")
        (self.home / "draft").rename(self.home / "uploads/photo")
        write(draft="next")
        (self.home / "a").rename(self.home / "room")
        (self.home / "b").rename(self.home / "a")
        (self.home / "room").rename(self.home / "b")
        (self.home / "old").rename(self.home / "renamed")
        (self.home / "moving").rename(self.home / "moved")
        (self.home / "lock").unlink()
        (self.home / "log").rename(self.home / "log.1")
        write(log="log 2")
        (self.home / "config.json").write_text("written")
        (self.home / "both").mkdir()
        (root / "both").mkdir()
        write(**{"both/one": "one", "both/two": "two"})
        (root / "both/two").write_text("theirs")
        os.utime(root / "both/two", ns=(1, 1))
        (self.home / "flip").unlink()
        (self.home / "flip").mkdir()
        write(**{"flip/in": "in"})
        (self.home / "link").symlink_to("state")
        self.expected = {
            "state": "f",
            "new": "1",
            "uploads/first": "first",
            "uploads/photo": "photo",
            "draft": "next",
            "tmp": "1",
            "a": "b",
            "b": "a",
            "renamed": "old",
            "moved/x": "x",
            "log.1": "log",
            "log": "log 2",
            "link": "f",
            "config.json": "written",
            "both/one": "one",
            "both/two": "two",
            "flip/in": "in",
            "cache/first": "stale",
        }

    def write(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.home / name).write_text(text)

    def gather(self, store: ReleaseStore | None = None) -> None:
        (store or self.store).copies.write_back([str(self.home)])

    def check(self) -> None:
        for folder in (self.root, self.home):
            found = {path: (folder / path).read_text() for path in self.expected if (folder / path).exists()}
            assert found == self.expected, folder
        for path in self.expected:
            assert os.path.samefile(self.home / path, self.root / path), path
        assert not os.path.lexists(self.home / "lock")
        assert not os.path.lexists(self.root / "lock")
        assert {one.read_text() for one in (self.root / "both").glob("two.before-*")} == {"theirs"}
        named = {path.split("/")[0] for path in self.expected} | {"index.js", "kept.bin~", ".fissile"}
        left = {one.name for one in self.root.iterdir()} - named
        assert all(".before-" in one or one == moves.DRAFT for one in left), left


def killed_after(lines: int, work: Callable[[], None]) -> bool:
    """Do some work in a child that dies after so many lines of those who move; whether it did."""
    child = os.fork()
    if not child:
        left = lines

        def trace(frame: FrameType, event: str, _: object) -> object:
            nonlocal left
            if frame.f_code.co_filename not in MODULES:
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os._exit(KILLED)
            return trace

        try:
            sys.settrace(trace)
            work()
        finally:
            os._exit(DONE)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_after_any_line_loses_nothing(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    most, number = 8000, 0
    for number in range(int(os.environ.get("FISSILE_KILLS", "15"))):
        scene = Scene(tmp_path / str(number) / "app")
        kill = draw.randrange(most)
        while not killed_after(kill, scene.gather):
            most = kill or 1  # it was over before
            scene = Scene(tmp_path / f"{number}-{kill}" / "app")
            kill = draw.randrange(most)
        again = ReleaseStore(scene.root / ".fissile", scene.root)
        if draw.random() < 0.3:
            killed_after(draw.randrange(most), partial(scene.gather, again))
        again = ReleaseStore(scene.root / ".fissile", scene.root)
        for _ in range(3):
            scene.gather(again)
        try:
            scene.check()
        except BaseException:
            print("killed after", kill, scene.root)
            raise
