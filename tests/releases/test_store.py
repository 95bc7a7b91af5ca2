"""Copies of code: what is in them, what is linked, and when they go."""

import json
import os
import shutil
from pathlib import Path

import pytest

from fissile.formats import COPY, RELEASE, WRITTEN
from fissile.releases.fingerprint import code_files, read_files
from fissile.releases.manifest import UnreadableCopy, manifest
from fissile.releases.records import UnreadableRelease
from fissile.releases.release import Release, build_of
from fissile.releases.store import ReleaseStore
from fissile.settings.schema import Settings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    for name, text in {
        "shop/__init__.py": "X = 1\n",
        "shop/page.html": "<p>",
        "data/goods.csv": "a",
        ".env": "K=1",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def store(root: Path) -> ReleaseStore:
    return ReleaseStore(root / ".fissile", root)


def settings(root: Path) -> Settings:
    return Settings(app="shop:app", root=str(root))


def release(number: int) -> Release:
    return Release("shop", "monolith", {"app": ()}, {"app": build_of({"x": str(number)})}, {}, {})


def test_what_is_code_is_copied_and_the_rest_is_linked(root: Path):
    home = Path(store(root).copies.make(settings(root)).root)
    assert home.name == root.name
    assert not (home / "shop/page.html").is_symlink()
    assert (home / "data").is_symlink()
    assert (home / ".env").is_symlink()
    assert dict(read_files(home)) == dict(read_files(root))


def test_code_that_came_later_does_not_get_into_a_copy(root: Path):
    kept = store(root)
    home = Path(kept.copies.make(settings(root)).root)
    before = dict(read_files(home))
    for name in ("shop/later.py", "shop/later/page.html", "other/__init__.py", "top.py", "data/more.csv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / "uploads").mkdir()
    kept.copies.write_back([str(home)])
    assert not [name for name in ("shop/later.py", "shop/later", "other", "top.py") if (home / name).exists()]
    assert (home / "data/more.csv").read_text() == "x"
    assert (home / "uploads").is_symlink()
    # So its builds are what they were.
    assert dict(read_files(home)) == before
    assert set(code_files(root)) - set(code_files(home)) == {
        "other/__init__.py", "shop/later.py", "shop/later/page.html", "top.py"
    }  # fmt: skip


def test_what_code_makes_beside_itself_is_found_by_all_copies(root: Path):
    kept = store(root)
    first = Path(kept.copies.make(settings(root)).root)
    (root / "shop/__init__.py").write_text("X = 2\n")
    second = Path(kept.copies.make(settings(root)).root)
    (first / "shop/cache.json").write_text("{}")
    (first / "shop.db").write_text("rows")
    assert sorted(kept.copies.write_back([str(first), str(second / "shop")])) == ["shop.db", "shop/cache.json"]
    assert (root / "shop.db").read_text() == "rows"
    for home in (first, second):
        assert (home / "shop.db").is_symlink()
        assert (home / "shop/cache.json").read_text() == "{}"


def test_what_may_be_run_is_another_copy(root: Path):
    kept = store(root)
    first = kept.copies.make(settings(root)).root
    (root / "shop/page.html").chmod(0o755)
    second = kept.copies.make(settings(root)).root
    assert first != second
    assert (Path(second) / "shop/page.html").stat().st_mode & 0o111


def test_a_pipe_is_no_code(root: Path):
    import os

    os.mkfifo(root / "shop/pipe")
    assert "shop/pipe" not in code_files(root)


def test_a_link_out_of_the_folder_is_neither_walked_nor_copied_and_one_that_leads_back_ends(root: Path, tmp_path: Path):
    library = tmp_path / "library"
    library.mkdir()
    (library / "__init__.py").write_text("Y = 1\n")
    (root / "library").symlink_to(library)
    (root / "shop/one.py").symlink_to(library / "__init__.py")
    (root / "shop/again").symlink_to(root)
    assert not [path for path in code_files(root) if "library" in path or "one.py" in path]
    home = Path(store(root).copies.make(settings(root)).root)
    assert (home / "library").is_symlink()
    assert (home / "shop/one.py").is_symlink()
    assert (home / "library/__init__.py").read_text() == "Y = 1\n"


def test_nothing_is_pruned_that_is_read_from(root: Path):
    kept = store(root)
    copies: list[str] = []
    for number in range(5):
        (root / "shop/__init__.py").write_text(f"X = {number}\n")
        copied = kept.copies.make(settings(root))
        copies.append(copied.root)
        if number != 3:  # as of a release that is being deployed, and was not recorded so far
            kept.record(release(number), copied)
            kept.mark_served(release(number).name)
    removed = kept.prune(1, {release(4).name}, [copies[3], str(Path(copies[0]) / "shop")])
    assert removed == [release(1).name]
    assert [Path(copy).exists() for copy in copies] == [True, False, True, True, True]
    kept.forget(settings(Path(copies[0])), [copies[0]])
    kept.forget(settings(Path(copies[3])), [])
    kept.forget(settings(root), [])
    assert [Path(copy).exists() for copy in copies] == [True, False, True, False, True]
    assert (root / "shop").exists()


@pytest.mark.parametrize("name", ["app", "renamed"])
@pytest.mark.parametrize("copied", [False, True])
def test_in_a_folder_that_was_moved_or_copied_nothing_leads_to_the_first(root: Path, name: str, copied: bool):
    first = store(root)
    old = first.copies.make(settings(root))
    (Path(old.root) / "made.db").write_text("made")
    first.copies.write_back([old.root])
    kept_release = release(1)
    first.record(kept_release, old)
    (root.parent / "elsewhere").mkdir()
    other = root.parent / "elsewhere" / name
    if copied:
        shutil.copytree(root, other, symlinks=True)
    else:
        root.rename(other)
    kept = store(other)
    again = kept.settings(kept.find(kept_release.name))
    kept.copies.relink(again)
    for home in (Path(kept.copies.make(settings(other)).root), Path(again.root)):
        assert dict(read_files(home)) == dict(read_files(other))
        for path in ("made.db", ".env", "data"):
            assert (home / path).resolve() == other / path


def test_a_link_that_the_application_made_stays(root: Path):
    kept = store(root)
    home = Path(kept.copies.make(settings(root)).root)
    for name, leads in (("current", "data"), ("socket", "/dev/log")):
        (home / name).symlink_to(leads)
        (root / name).mkdir()
    kept.copies.relink(settings(home))
    assert [os.readlink(home / name) for name in ("current", "socket")] == ["data", "/dev/log"]


def test_a_release_keeps_the_time_it_was_made_and_the_one_that_was_deployed_last_is_kept_longest(root: Path):
    kept = store(root)
    copied = kept.copies.make(settings(root))
    for number in (1, 2, 3, 1):
        kept.record(release(number), copied)
        kept.mark_served(release(number).name)
    found = {one.name: one for one in kept.summaries()}
    assert [one.name for one in kept.summaries()] == [release(number).name for number in (3, 2, 1)]
    assert found[release(1).name].made < found[release(2).name].made < found[release(1).name].deployed
    assert kept.prune(1, {release(3).name}, []) == [release(2).name]


def test_a_release_that_never_served_is_not_kept_and_one_of_an_earlier_fissile_is(root: Path):
    kept = store(root)
    copied = kept.copies.make(settings(root))
    for number in (1, 2, 3):
        kept.record(release(number), copied)
    kept.mark_served(release(1).name)
    kept.record(release(1), copied)
    file = next((root / ".fissile/releases").glob(f"{release(2).name}*"))
    known = json.loads(file.read_text())
    file.write_text(json.dumps({key: known[key] for key in known if key not in ("served", "deployed")}))
    assert kept.prune(5, [], []) == [release(3).name]


@pytest.mark.parametrize(("number", "age"), [(RELEASE.number + 1, "a newer"), (RELEASE.oldest - 1, "an older")])
def test_a_release_of_another_fissile_is_refused_in_words_and_stays(root: Path, number: int, age: str):
    kept = store(root)
    other = kept.copies.make(settings(root))
    kept.record(release(1), other)
    kept.mark_served(release(1).name)
    (root / "shop/__init__.py").write_text("X = 2\n")
    kept.record(release(2), kept.copies.make(settings(root)))
    file = root / f".fissile/releases/{release(1).name}.json"
    record = json.loads(file.read_text()) | {"format": number, "fissile": "7.0"}
    file.write_text(json.dumps(record))
    assert [one.name for one in kept.summaries()] == [release(2).name]
    with pytest.raises(
        UnreadableRelease, match=rf"{age} Fissile \(7\.0\), in format {number} of releases(.|\n)*that version"
    ):
        kept.find(release(1).name[:6])
    kept.prune(0, [release(2).name], [])
    kept.forget(other, [])
    assert json.loads(file.read_text()) == record
    assert Path(other.root, "shop/__init__.py").read_text() == "X = 1\n"
    file.write_text(json.dumps({"format": number}))  # of whose code nobody knows where it is
    kept.prune(0, [release(2).name], [])
    assert Path(other.root, "shop/__init__.py").read_text() == "X = 1\n"


OF_COPIES = [(COPY.number + 1, "a newer"), (COPY.oldest - 1, "an older")]


@pytest.mark.parametrize(("number", "age"), OF_COPIES)
def test_a_copy_of_another_fissile_is_refused_in_words_and_left_alone(root: Path, number: int, age: str):
    said: list[str] = []
    home = Path(store(root).copies.make(settings(root)).root)
    file = home.parent / "files.json"
    known = json.loads(file.read_text())
    assert known["format"] == COPY.number
    file.write_text(json.dumps(known | {"format": number, "fissile": "7.0"}))
    kept = ReleaseStore(root / ".fissile", root, said.append)
    words = rf"{age} Fissile \(7\.0\), in format {number} of copies(.|\n)*that version"
    with pytest.raises(UnreadableCopy, match=words):
        code_files(home)
    with pytest.raises(UnreadableCopy, match=words):
        kept.copies.relink(settings(home))
    (home / "shop/made.json").write_text("1")
    assert kept.copies.write_back() == kept.copies.write_back() == []
    assert (home / "shop/made.json").read_text() == "1"
    assert len(said) == 1


def test_a_copy_without_a_number_is_of_the_first_format(root: Path):
    home = Path(store(root).copies.make(settings(root)).root)
    file, before = home.parent / "files.json", manifest(home)
    known = json.loads(file.read_text())
    file.write_text(json.dumps({key: known[key] for key in known if key not in ("format", "fissile")}))
    assert before is not None
    assert manifest(home) == before


@pytest.mark.parametrize(("number", "age"), [(WRITTEN.number + 1, "a newer"), (WRITTEN.oldest - 1, "an older")])
def test_what_another_fissile_knows_of_programs_is_refused_in_words_and_never_lost(root: Path, number: int, age: str):
    home = Path(store(root).copies.make(settings(root)).root)
    file = root / ".fissile/code/written.json"
    written = json.dumps({"files": ["shop/made.json"], "format": number, "fissile": "7.0"})
    file.write_text(written)
    said: list[str] = []
    kept = ReleaseStore(root / ".fissile", root, said.append)
    for use in (kept.copies.check, lambda: kept.copies.make(settings(root))):
        with pytest.raises(UnreadableCopy, match=rf"written.json was written by {age} Fissile \(7\.0\)(.|\n)*version"):
            use()
    (home / "shop/made.json").write_text("1")
    assert kept.copies.write_back() == kept.copies.write_back() == []
    assert len(said) == 1
    assert file.read_text() == written


def test_what_is_written_without_a_number_is_of_the_first_format(root: Path):
    kept = store(root)
    home = Path(kept.copies.make(settings(root)).root)
    (root / ".fissile/code/written.json").write_text(json.dumps({"made": {"a": None}, "code": {"b": None}}))
    (root / "a").write_text("1")
    again = store(root)
    again.copies.check()
    (home / "shop/made.json").write_text("1")
    assert again.copies.write_back() == ["shop/made.json"]
    known = json.loads((root / ".fissile/code/written.json").read_text())
    assert (known["format"], set(known["made"])) == (WRITTEN.number, {"a", "shop/made.json"})
