"""What another Fissile has kept is refused in words before anything is altered, and it can go on with it."""

import sqlite3
from pathlib import Path

import pytest

from fissile.formats import DESIRED, DIFFERENCES, FISSILE, JOURNAL, KEPT, Format
from fissile.journal.journal import Journal, JournalError
from fissile.journal.rows import Entry
from fissile.journal.sums import SUM_BYTES, sum_of

NEWER, OLDER = DESIRED.number + 1, DESIRED.oldest - 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = Journal(tmp_path / "journal.db")
    found.open()
    found.change(Entry("change", "anna", "ScaleService"), {"desired": b"so", "secrets": b"psst", "differences": b"few"})
    found.close()
    return found.file


def kept_by_another(file: Path, name: str, number: int, by: str) -> None:
    """As a Fissile writes it whose format has this number."""
    with sqlite3.connect(file) as connection:
        value = b"otherwise"
        stored = sum_of(name, number, value).to_bytes(SUM_BYTES) + value
        connection.execute(
            "update kept set value = ?, format = ?, fissile = ? where name = ?", (stored, number, by, name)
        )
    connection.close()


def content(file: Path) -> list[str]:
    with sqlite3.connect(file) as connection:
        found = list(connection.iterdump())
    connection.close()
    return found


@pytest.mark.parametrize(
    ("number", "by", "words"),
    [
        (
            NEWER,
            "7.0",
            rf"written by a newer Fissile \(7\.0\), in format {NEWER} of desired; this one, {FISSILE}, reads",
        ),
        (OLDER, "0.0.1", rf"written by an older Fissile \(0\.0\.1\), in format {OLDER} of desired"),
        (OLDER, "", rf"written by an older Fissile, in format {OLDER} of desired"),
    ],
)
def test_what_is_to_run_is_refused_in_words_and_stays_as_it_is(file: Path, number: int, by: str, words: str):
    kept_by_another(file, "desired", number, by)
    before = content(file)
    with pytest.raises(JournalError, match=words) as refused:
        Journal(file).open()
    assert str(file) in str(refused.value)
    assert "`fissile down` of that one" in refused.value.remedy
    assert content(file) == before


@pytest.mark.parametrize("number", [NEWER, OLDER])
def test_a_start_with_the_code_in_the_folder_needs_nothing_of_what_ran_last(file: Path, number: int):
    kept_by_another(file, "desired", number, "7.0")
    journal = Journal(file)
    journal.open(anew=True)
    assert journal.kept("desired") is None
    assert journal.kept("secrets") == b"psst"
    assert "desired begins anew: it was written by" in journal.strange["desired"]
    assert [one.who for one in journal.history()] == ["anna"]
    journal.keep("desired", b"anew")
    assert journal.kept("desired") == b"anew"
    journal.close()


def test_what_is_done_must_be_known_also_for_a_start_with_the_code_in_the_folder(file: Path):
    journal = Journal(file)
    journal.open()
    journal.keep("migrated", b"all")
    journal.close()
    kept_by_another(file, "migrated", 7, "7.0")
    with pytest.raises(JournalError, match="of migrated"):
        Journal(file).open(anew=True)


@pytest.mark.parametrize("number", [DIFFERENCES.number + 1, DIFFERENCES.oldest - 1])
def test_what_is_found_anew_keeps_nobody_from_starting(file: Path, number: int):
    kept_by_another(file, "differences", number, "7.0")
    journal = Journal(file)
    journal.open()
    assert journal.kept("differences") is None
    assert list(journal.strange) == ["differences"]
    assert (journal.kept("desired"), journal.damage, journal.loss) == (b"so", (), "")
    journal.close()


def test_a_newer_history_is_refused_with_the_version_that_wrote_it(file: Path):
    with sqlite3.connect(file) as connection:
        connection.execute(f"pragma user_version = {JOURNAL.number + 1}")
        connection.execute("update kept set fissile = '7.0' where name = 'tally'")
    connection.close()
    before = content(file)
    for only_read in (False, True):
        with pytest.raises(JournalError, match=r"by a newer Fissile \(7\.0\), in format \d+ of the journal"):
            Journal(file).open(only_read=only_read)
    assert content(file) == before


def of_format_2(file: Path, but: str = "desired") -> None:
    """As the Fissile wrote it that gave no numbers; without a value of which this one reads no such format."""
    with sqlite3.connect(file) as connection:
        kept = connection.execute("select name, value from kept").fetchall()
        connection.execute("alter table kept drop column format")
        connection.execute("alter table kept drop column fissile")
        connection.execute("update kept set name = 'migrated' where name = ?", (but,))
        for name, value in ((name if name != but else "migrated", value) for name, value in kept):
            old = sum_of(name, value[SUM_BYTES:]).to_bytes(SUM_BYTES) + value[SUM_BYTES:]
            connection.execute("update kept set value = ? where name = ?", (old, name))
        connection.execute("pragma user_version = 2")
    connection.close()


def test_an_older_history_is_brought_to_this_format_and_nothing_of_it_is_lost(file: Path):
    of_format_2(file)
    journal = Journal(file)
    journal.open()
    assert (journal.kept("migrated"), journal.kept("secrets")) == (b"so", b"psst")
    assert (journal.damage, journal.loss, journal.strange) == ((), "", {})
    assert [one.who for one in journal.history()] == ["anna"]
    journal.close()
    journal = Journal(file)
    journal.open()
    assert (journal.kept("migrated"), journal.damage) == (b"so", ())
    journal.close()


def test_what_an_older_one_has_damaged_is_not_whole_after_that(file: Path):
    of_format_2(file)
    with sqlite3.connect(file) as connection:
        connection.execute("update kept set value = cast(substr(value, 1, 4) || 'no' as blob) where name = 'migrated'")
    connection.close()
    journal = Journal(file)
    journal.open()
    assert journal.damage == ("migrated",)
    journal.close()


def test_whoever_only_reads_leaves_an_older_file_to_the_one_that_wrote_it(file: Path):
    of_format_2(file)
    before = content(file)
    journal = Journal(file)
    journal.open(only_read=True)
    assert [one.who for one in journal.history()] == ["anna"]
    journal.close()
    assert content(file) == before


def test_an_older_file_is_refused_before_it_is_brought_to_this_format(file: Path, monkeypatch: pytest.MonkeyPatch):
    of_format_2(file, but="")
    before = content(file)
    monkeypatch.setitem(KEPT, "desired", Format("desired", 3, 2))
    with pytest.raises(JournalError, match=r"an older Fissile, in format 1 of desired; this one, .*, reads 2 to 3"):
        Journal(file).open()
    assert content(file) == before
