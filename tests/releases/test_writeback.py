"""What programs do beside their code, and what becomes of it in the application's folder."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fissile.releases.app_data.links import has_more
from fissile.releases.store import ReleaseStore
from fissile.settings.schema import ServiceSettings, Settings

SETTINGS = {"web": ServiceSettings(command="node index.js")}


class Place:
    """An application's folder, and a copy of its code."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in {"index.js": "1", "config.json": "{}", "lib/a.js": "a"}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        self.store = ReleaseStore(root / ".fissile", root)
        self.home = self.copy()

    def copy(self) -> Path:
        return Path(self.store.copies.make(Settings(root=str(self.root), services=SETTINGS)).root)

    def look(self, *, at_once: bool = True) -> list[str]:
        return self.store.copies.write_back([str(self.home)], at_once=at_once)

    def others(self) -> set[str]:
        return {path.name for path in self.root.iterdir()} - {".fissile", "index.js", "config.json", "lib"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "app").mkdir()
    return Place(tmp_path / "app")


def test_what_is_made_is_moved_by_the_second_look(place: Place) -> None:
    (place.home / "state.json").write_text("1")
    (place.home / "uploads").mkdir()
    (place.home / "lib/cache.bin").write_text("2")
    assert place.look(at_once=False) == []
    assert place.look(at_once=False) == ["lib/cache.bin", "state.json", "uploads"]
    for path in ("state.json", "uploads", "lib/cache.bin"):
        assert os.path.samefile(place.root / path, place.home / path)
        assert (place.home / path).is_symlink()
    again = place.copy()
    assert again == place.home  # what programs make is no code


def test_a_file_that_is_replaced_by_rename_is_the_applications_without_litter(place: Place) -> None:
    (place.root / "state.tmp.1").write_text("theirs")
    place.store.copies.relink(Settings(root=str(place.home), services=SETTINGS))
    for number in range(3):
        (place.home / "draft").write_text(str(number))
        (place.home / "draft").replace(place.home / "state.json")
        place.look()
        assert (place.root / "state.json").read_text() == (place.home / "state.json").read_text() == str(number)
    assert place.others() == {"state.json", "state.tmp.1"}


def test_a_draft_that_was_moved_already_is_renamed_there(place: Place) -> None:
    (place.home / "state.json").write_text("old")
    place.look()
    (place.home / "state.json.tmp").write_text("new")
    place.look()  # a slow writer: the draft is the application's by now
    (place.home / "state.json.tmp").replace(place.home / "state.json")
    place.look()
    assert (place.root / "state.json").read_text() == (place.home / "state.json").read_text() == "new"
    assert place.others() == {"state.json"}


def test_logs_that_are_rotated(place: Place) -> None:
    def rotate(text: str) -> None:
        (place.home / "web.log.3").unlink(missing_ok=True)
        for old, new in (("web.log.2", "web.log.3"), ("web.log.1", "web.log.2"), ("web.log", "web.log.1")):
            if (place.home / old).is_symlink() or (place.home / old).exists():
                (place.home / old).rename(place.home / new)
        (place.home / "web.log").write_text(text)

    for number in range(7):
        rotate(str(number))
        if number != 4:  # twice between two looks
            place.look()
    found = {path.name: path.read_text() for path in place.root.glob("web.log*")}
    assert found == {"web.log": "6", "web.log.1": "5", "web.log.2": "4", "web.log.3": "3"}
    assert found == {path.name: path.read_text() for path in place.home.glob("web.log*")}


def test_what_a_program_made_it_may_delete_and_nothing_else(place: Place) -> None:
    (place.root / "theirs.db").write_text("x")
    place.store.copies.relink(Settings(root=str(place.home), services=SETTINGS))
    (place.home / "app.lock").write_text("1")
    place.look()
    (place.home / "app.lock").unlink()
    (place.home / "theirs.db").unlink()
    place.look()
    assert place.others() == {"theirs.db"}
    assert not os.path.lexists(place.home / "app.lock")
    assert (place.home / "theirs.db").read_text() == "x"


def test_a_copy_that_somebody_removes_takes_nothing_with_it(place: Place) -> None:
    (place.home / "made.dat").write_text("x")
    (place.home / "dir").mkdir()
    (place.home / "dir/made.dat").write_text("x")
    place.look()
    shutil.rmtree(place.home)
    place.look()
    assert place.others() == {"made.dat", "dir"}


def test_code_that_a_program_writes_to_is_data_from_then_on(place: Place) -> None:
    first = place.home
    (first / "config.json").write_text('{"written": 1}')
    place.look()
    assert (place.root / "config.json").read_text() == '{"written": 1}'
    (place.root / "index.js").write_text("2")
    second = place.copy()
    assert second != first
    for home in (first, second):
        assert os.path.samefile(home / "config.json", place.root / "config.json")
    assert (first / "index.js").read_text() == "1"
    third = ReleaseStore(place.root / ".fissile", place.root)  # the next supervisor knows it as well
    assert Path(third.copies.make(Settings(root=str(place.root), services=SETTINGS)).root) == second


def test_two_that_came_to_be_independently_are_both_kept(place: Place) -> None:
    (place.root / "notes.txt~").write_text("theirs")
    (place.home / "notes.txt~").write_text("ours")
    os.utime(place.root / "notes.txt~", ns=(1, 1))
    place.look()
    assert (place.root / "notes.txt~").read_text() == "ours"
    (kept,) = place.root.glob("notes.txt~.before-*")
    assert kept.read_text() == "theirs"


def test_files_and_folders_that_flip(place: Place) -> None:
    first = place.home
    (place.root / "config.json").unlink()
    (place.root / "config.json").mkdir()
    (place.root / "config.json/a.js").write_text("a")
    shutil.rmtree(place.root / "lib")
    (place.root / "lib").write_text("now a file")
    second = place.copy()
    place.store.copies.relink(Settings(root=str(first), services=SETTINGS))
    assert (first / "lib/a.js").read_text() == "a"
    assert (first / "config.json").read_text() == "{}"
    assert (second / "lib").read_text() == "now a file"
    assert (second / "config.json/a.js").read_text() == "a"
    (first / "lib/made.txt~").write_text("x")
    (first / "other.txt~").write_text("y")
    place.store.copies.write_back([str(first), str(second)])
    assert (place.root / "other.txt~").read_text() == "y"  # the one that cannot be moved keeps no other


def test_links_that_a_program_makes(place: Place) -> None:
    (place.home / "v1").mkdir()
    (place.home / "current").symlink_to("v1")
    (place.home / "absolute").symlink_to(place.home / "v1")
    place.look()
    place.look()
    assert os.readlink(place.root / "current") == "v1"
    assert os.readlink(place.root / "absolute") == str(place.root / "v1")
    assert os.path.samefile(place.home / "current", place.root / "v1")


WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
database.execute(f"pragma journal_mode={sys.argv[2]}")
database.execute("create table if not exists t (n integer primary key)")
print("ready", flush=True)
for line in sys.stdin:
    try:
        database.execute("insert into t values (?)", (int(line),))
        print("done", flush=True)
    except sqlite3.Error as error:
        print(error, flush=True)
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("end", ["kill", "close"])
def test_a_database_in_use_loses_no_row(place: Place, mode: str, end: str) -> None:
    """Its rows are written by one program before, while and after it is moved; read and written by another at once."""
    command = [sys.executable, "-c", WRITER, str(place.home / "shop.db"), mode]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        assert program.stdout.readline() == "ready\n"

        def write(number: int) -> None:
            assert program.stdin is not None
            assert program.stdout is not None
            program.stdin.write(f"{number}\n")
            program.stdin.flush()
            assert program.stdout.readline() == "done\n"

        for number in range(50):
            write(number)
        over = threading.Event()

        def looking() -> None:
            while not over.is_set():
                place.look(at_once=False)

        looks = threading.Thread(target=looking)
        looks.start()
        try:
            for number in range(50, 150):
                write(number)
        finally:
            over.set()
            looks.join()
        place.look()
        assert (place.home / "shop.db").is_symlink()
        assert not (place.home / "shop.db-wal").exists()
        with sqlite3.connect(place.root / "shop.db", timeout=30) as other:
            other.execute("insert into t values (1000)")
            assert other.execute("select count(*) from t").fetchone() == (151,)
        other.close()
        write(150)
        if end == "kill":
            program.kill()
        else:
            program.communicate()
        program.wait()
        place.look()
        for path in (place.home / "shop.db", place.root / "shop.db"):
            found = sqlite3.connect(path, timeout=30)
            assert found.execute("select count(*) from t").fetchone() == (152,)
            assert found.execute("pragma integrity_check").fetchone() == ("ok",)
            found.close()
    finally:
        program.kill()
        program.wait()


def test_the_journal_of_a_transaction_that_was_cut_off_is_found_by_the_next(place: Place) -> None:
    """A program that opened its database before it was moved writes its journal in the copy, and is killed."""
    code = """
import os, sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("pragma cache_size=1")
database.execute("create table t (n integer primary key, x blob)")
database.executemany("insert into t values (?, ?)", [(n, bytes(3000)) for n in range(200)])
print("made", flush=True)
sys.stdin.readline()
database.execute("begin immediate")
database.execute("update t set x = ?", (b"half" * 750,))
print("half", flush=True)
sys.stdin.readline()
"""
    program = subprocess.Popen(
        [sys.executable, "-c", code, str(place.home / "shop.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "made\n"
        place.look()
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "half\n"
        place.look()
        assert (place.home / "shop.db-journal").is_file()
        assert not (place.root / "shop.db-journal").exists()  # its writer lives: it is for it to end
        program.kill()
        program.wait()
        place.look()
        found = sqlite3.connect(place.root / "shop.db")
        assert found.execute("select count(*) from t where x = zeroblob(3000)").fetchone() == (200,)
        assert found.execute("pragma integrity_check").fetchone() == ("ok",)
        found.close()
    finally:
        program.kill()
        program.communicate()


@pytest.mark.parametrize("newer_first", [False, True])
def test_of_two_releases_that_replace_a_file_between_two_looks_the_later_one_counts(
    place: Place, newer_first: bool
) -> None:
    (place.home / "state.json").write_text("0")
    place.look()
    (place.root / "index.js").write_text("2")
    old, new = sorted((place.home, place.copy()), reverse=newer_first)
    for home, text in ((old, "old"), (new, "new")):
        (home / "draft").write_text(text)
        (home / "draft").replace(home / "state.json")
        while (place.root / "clock").write_text("") or (place.root / "clock").stat().st_mtime_ns <= (
            (home / "state.json").stat().st_ctime_ns
        ):
            pass
    (place.root / "clock").unlink()
    place.store.copies.write_back()
    for folder in (place.root, old, new):
        assert (folder / "state.json").read_text() == "new"


def test_a_file_that_is_replaced_while_links_are_made_leaves_no_litter(place: Place) -> None:
    (place.home / "state.json").write_text("0")
    place.look()
    (place.home / "draft").write_text("1")
    (place.home / "draft").replace(place.home / "state.json")
    place.store.copies.relink(Settings(root=str(place.home), services=SETTINGS))
    place.look()
    assert (place.root / "state.json").read_text() == "1"
    assert place.others() == {"state.json"}


def test_a_folder_is_moved_though_somebody_was_killed_while_moving_it(place: Place) -> None:
    (place.home / "uploads").mkdir()
    (place.home / "uploads/photo").write_text("1")
    (place.root / "uploads").symlink_to(place.root / "uploads")
    assert place.look() == ["uploads"]
    assert (place.root / "uploads/photo").read_text() == "1"


def test_a_draft_that_was_moved_already_is_renamed_into_a_folder_of_data(place: Place) -> None:
    """A slow upload: written beside the code, then renamed to where its link is seen by no look at the copy."""
    (place.home / "uploads/deep").mkdir(parents=True)
    for number in range(3):
        (place.home / "draft").write_text(str(number))
        place.look()
        assert (place.home / "draft").is_symlink()
        (place.home / "draft").rename(place.home / f"uploads/deep/{number}")
        if number == 1:  # the next one of its name is there already when it is missed
            (place.home / "draft").write_text("next")
        place.look()
        place.look()
    for number in range(3):
        assert (place.root / f"uploads/deep/{number}").read_text() == str(number)
        assert not (place.root / f"uploads/deep/{number}").is_symlink()
    assert place.others() == {"uploads"}


def test_a_draft_that_was_renamed_to_somewhere_else_is_not_lost(place: Place, tmp_path: Path) -> None:
    (place.home / "draft").write_text("1")
    place.look()
    (place.home / "draft").rename(tmp_path / "elsewhere")
    (place.home / "draft").write_text("2")
    for _ in range(3):
        place.look()
    (kept,) = place.root.glob("draft.before-*")
    assert kept.read_text() == "1"
    assert (place.root / "draft").read_text() == "2"


def test_files_that_change_places(place: Place) -> None:
    for name in "abc":
        (place.home / name).write_text(name)
    place.look()
    (place.home / "a").rename(place.home / "room")
    for old, new in ("ba", "cb"):
        (place.home / old).rename(place.home / new)
    (place.home / "room").rename(place.home / "c")
    place.look()
    place.look()
    for folder in (place.root, place.home):
        assert [(folder / name).read_text() for name in "abc"] == ["b", "c", "a"]
    assert place.others() == {"a", "b", "c"}


def test_a_folder_that_a_program_removes_does_not_come_back_with_what_was_in_it(place: Place) -> None:
    for number in range(3):
        (place.home / "cache").mkdir()
        (place.home / f"cache/{number}").write_text("x")
        place.look()
        assert os.listdir(place.root / "cache") == [str(number)]
        (place.home / "cache").unlink()  # as rm -rf, and most that removes a tree, does with a link
        if number:
            place.look()
            assert not os.path.lexists(place.home / "cache")
    assert [os.listdir(one) for one in place.root.glob("cache.before-*")] == [["2"]]  # the last one, and no other
    assert place.copy() == place.home


def test_a_folder_that_a_program_replaces_by_a_file_and_back(place: Place) -> None:
    (place.home / "state").mkdir()
    (place.home / "state/1").write_text("1")
    place.look()
    (place.home / "state").unlink()
    (place.home / "state").write_text("2")
    place.look()
    assert (place.root / "state").read_text() == (place.home / "state").read_text() == "2"
    (place.home / "state").unlink()
    (place.home / "state").mkdir()
    (place.home / "state/3").write_text("3")
    place.look()
    assert (place.root / "state/3").read_text() == "3"
    kept = sorted(place.root.glob("state.before-*"), key=lambda one: one.is_file())
    assert [(one / "1").read_text() if one.is_dir() else one.read_text() for one in kept] == ["1", "2"]


@pytest.mark.parametrize("length", [200, 240, 247, 248, 255])
def test_names_as_long_as_they_may_be(place: Place, length: int) -> None:
    name = "n" * length
    (place.home / name).write_text("1")
    assert place.look() == [name]
    (place.home / "draft").write_text("2")
    (place.home / "draft").replace(place.home / name)
    place.look()
    assert (place.root / name).read_text() == "2"
    (place.root / "index.js").write_text("2")
    other = place.copy()
    assert os.path.samefile(other / name, place.root / name)
    (other / name).unlink()
    (other / name).mkdir()
    place.store.copies.write_back([str(other)])
    assert {path.read_text() for path in place.root.iterdir() if path.is_file() and path.name[0] == "n"} == {"2"}


def test_links_in_a_folder_that_is_there_already(place: Place) -> None:
    (place.root / "work").mkdir()
    (place.home / "work").mkdir()
    (place.home / "work/deep").mkdir()
    (place.home / "work/link").symlink_to("deep")
    (place.home / "work/deep/file").write_text("1")
    place.look()
    assert (place.root / "work/link/file").read_text() == "1"
    assert (place.home / "work").is_symlink()


def test_links_to_the_folder_that_the_application_had_before_replace_nothing(place: Place, tmp_path: Path) -> None:
    (place.home / "shop.dat").write_text("old")
    (place.home / "uploads").mkdir()
    place.look()
    new = tmp_path / "next"
    shutil.copytree(place.root, new, ignore=shutil.ignore_patterns(".fissile"))
    (new / "shop.dat").write_text("new")
    shutil.rmtree(new / "uploads")
    place.store.copies.set_root(new)
    place.look()
    assert (new / "shop.dat").read_text() == "new"
    assert not os.path.lexists(new / "uploads")


def test_files_that_are_too_many_to_be_remembered_are_told_of(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fissile.releases.app_data.index.PATHS_MAX", 2)
    said: list[str] = []
    store = ReleaseStore(place.root / ".fissile", place.root, said.append)
    for number in range(4):
        (place.home / f"made-{number}").touch()
        store.copies.write_back([str(place.home)])
        assert len(said) == (number > 1)


def test_what_was_moved_is_no_reason_to_look_at_all_links(place: Place) -> None:
    assert not has_more(place.root, place.home)
    (place.home / "shop.db").touch()
    (place.home / "shop.db-wal").touch()
    place.look()
    (place.root / "shop.db-wal").touch()
    assert not has_more(place.root, place.home)
    (place.root / "theirs.bin~").touch()
    assert has_more(place.root, place.home)
    place.look()
    assert (place.home / "theirs.bin~").is_symlink()


def test_a_link_that_a_program_has_moved_is_not_put_back_before_the_file_has_followed(place: Place) -> None:
    """Else the next draft would be written through it, into the file that was moved."""
    (place.home / "uploads").mkdir()
    (place.home / "draft").write_text("1")
    place.look()
    (place.home / "draft").rename(place.home / "uploads/1")
    place.store.copies.relink(Settings(root=str(place.home), services=SETTINGS))
    (place.home / "draft").write_text("2")
    place.look()
    assert (place.root / "uploads/1").read_text() == "1"
    assert (place.root / "draft").read_text() == "2"


def test_a_next_supervisor_knows_of_links_that_were_not_written_down(place: Place) -> None:
    (place.home / "uploads").mkdir()
    (place.home / "draft").write_text("1")
    place.look()
    (place.home.parent / "links.json").write_text("[]")
    (place.home / "draft").rename(place.home / "uploads/1")
    ReleaseStore(place.root / ".fissile", place.root).copies.write_back()
    assert (place.root / "uploads/1").read_text() == "1"
    assert place.others() == {"uploads"}


def test_nothing_is_moved_before_it_can_be_written_down_that_it_is_no_code(place: Place) -> None:
    """As where the disk is full."""
    in_the_way = place.root / ".fissile/code/written.json.new"
    in_the_way.mkdir()
    (place.home / "made.js").write_text("1")
    (place.home / "config.json").write_text("written")
    assert place.look() == []
    assert not (place.root / "made.js").exists()
    in_the_way.rmdir()
    place.look(at_once=False)
    assert place.look(at_once=False) == ["config.json", "made.js"]
    again = ReleaseStore(place.root / ".fissile", place.root)
    assert (
        Path(again.copies.make(Settings(root=str(place.root), services=SETTINGS)).root) != place.home
    )  # config.json is none now
    assert set(again.copies._writeback.data) == {"config.json", "made.js"}  # pyright: ignore[reportPrivateUsage]
