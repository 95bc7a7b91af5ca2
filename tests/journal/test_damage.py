"""Whatever is damaged of a journal, by seed: it is the same, it is refused in words, or it says what is lost."""

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from fissile.journal.journal import Journal, JournalError
from fissile.journal.rows import DAMAGED, Entry

DAMAGES = 300
KEPT = ("desired", "secrets", "migrated", "down")


def entry(number: int) -> Entry:
    data = {"replicas": number, "share": 0.25, "text": "so many words " * (number % 7)}
    return Entry(
        "change", "anna", "ScaleService", f"service-{number % 5}", f"reason {number}", data, at=1000.0 + number
    )


def content(journal: Journal) -> tuple[list[Entry], dict[str, bytes | None]]:
    return journal.history(limit=10_000), {name: journal.kept(name) for name in KEPT}


Written = tuple[Path, tuple[list[Entry], dict[str, bytes | None]]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A journal with a log, as a killed supervisor leaves it, and what is in it."""
    folder = tmp_path_factory.mktemp("written")
    journal = Journal(folder / "journal.db")
    journal.open()
    dice = random.Random(13)
    for number in range(400):
        kept = {KEPT[number % 4]: dice.randbytes(dice.randrange(20, 3000))} if number % 3 == 0 else {}
        journal.change(entry(number), kept)
    for name in KEPT:
        journal.keep(name, dice.randbytes(700))
    journal.change(entry(400), {"desired": dice.randbytes(5000)})
    found = content(journal)
    copy = tmp_path_factory.mktemp("copy")
    for file in folder.iterdir():
        shutil.copy(file, copy)
    journal.close()
    assert (copy / "journal.db-wal").stat().st_size > 0
    return copy, found


def damage(folder: Path, dice: random.Random) -> str:
    """One of many kinds, at one of many places."""
    file = folder / dice.choice(["journal.db", "journal.db", "journal.db-wal", "journal.db-wal", "journal.db-shm"])
    data = bytearray(file.read_bytes())
    place, kind = dice.randrange(len(data)), dice.randrange(5)
    if kind == 0:
        data[place] ^= 1 << dice.randrange(8)
    elif kind == 1:
        data[place : place + 16] = dice.randbytes(len(data[place : place + 16]))
    elif kind == 2:
        page = place // 4096 * 4096
        data[page : page + 4096] = bytes(len(data[page : page + 4096]))
    elif kind == 3:
        del data[place:]
    else:
        page = place // 4096 * 4096
        data[page : page + 4096] = data[:4096]
    file.write_bytes(data)
    return f"kind {kind} of {file.name} at {place}"


@pytest.mark.parametrize("part", range(6))
def test_no_damage_is_silent(tmp_path: Path, written: Written, part: int):
    source, (entries, kept) = written
    outcomes = {"same": 0, "refused": 0, "said": 0}
    for seed in range(part, DAMAGES, 6):
        dice = random.Random(seed)
        folder = tmp_path / str(seed)
        shutil.copytree(source, folder)
        what = damage(folder, dice)
        journal = Journal(folder / "journal.db")
        try:
            journal.open()
        except JournalError as error:
            assert error.remedy, what
            outcomes["refused"] += 1
            continue
        values: dict[str, bytes | None] = {}
        for name in KEPT:
            try:
                values[name] = journal.kept(name)
            except JournalError as error:
                assert name in journal.damage, what
                assert error.remedy, what
        found = journal.history(limit=10_000)
        same = found == entries and values == kept
        if journal.damage or journal.loss:
            outcomes["said"] += 1
            if not journal.damage:
                assert values == kept, what  # nothing that decides what runs is another than it was
        else:
            assert same, what
            outcomes["same"] += 1
        true = {one.id: one for one in entries}
        assert all(one == true[one.id] for one in found if one.what != DAMAGED), what
        journal.close()
        shutil.rmtree(folder)
    assert all(outcomes.values()), outcomes


def test_entries_that_were_taken_out_are_missed(tmp_path: Path):
    file = tmp_path / "journal.db"
    journal = Journal(file)
    journal.open()
    for number in range(10):
        journal.change(entry(number), {"desired": b"so"})
    journal.close()
    with sqlite3.connect(file) as connection:
        connection.execute("delete from entries where id in (3, 4, 10)")
        connection.execute("update entries set reason = 'another' where id = 6")
    connection.close()
    journal = Journal(file)
    journal.open()
    assert journal.loss == f"{file} is damaged: 3 entries are gone, 1 entries cannot be read"
    assert [one.id for one in journal.history() if one.what == DAMAGED] == [6]
    assert journal.damage == ()
    journal.close()


def test_a_value_that_was_altered_is_not_read_and_may_be_written_anew(tmp_path: Path):
    file = tmp_path / "journal.db"
    journal = Journal(file)
    journal.open()
    journal.change(entry(1), {"desired": b"so", "secrets": b"psst"})
    journal.close()
    with sqlite3.connect(file) as connection:
        connection.execute("update kept set value = cast(substr(value, 1, 4) || 'no' as blob) where name = 'desired'")
    connection.close()
    journal = Journal(file)
    journal.open()
    assert journal.damage == ("desired",)
    with pytest.raises(JournalError, match="desired cannot be read"):
        journal.kept("desired")
    assert journal.kept("secrets") == b"psst"
    journal.mend()
    assert journal.kept("desired") is None
    journal.keep("desired", b"anew")
    assert (journal.kept("desired"), journal.damage) == (b"anew", ())
    journal.close()


def test_an_empty_file_is_no_new_journal(tmp_path: Path):
    (tmp_path / "journal.db").touch()
    with pytest.raises(JournalError, match="it is empty"):
        Journal(tmp_path / "journal.db").open()


def test_a_journal_of_the_format_before_is_read_and_has_checksums_from_then_on(tmp_path: Path):
    file = tmp_path / "journal.db"
    with sqlite3.connect(file) as connection:
        connection.executescript(
            """create table entries (id integer primary key autoincrement, at real not null, kind text not null,
            who text not null, what text not null, service text not null, reason text not null, data text not null);
            create index entries_by_service on entries (service, id);
            create table kept (name text primary key, value blob not null); pragma user_version = 1;"""
        )
        connection.execute("insert into entries values (7, 1.5, 'change', 'anna', 'A', 'cart', 'why', '{\"a\":1}')")
        connection.execute("insert into kept values ('migrated', x'0102')")
    connection.close()
    for _ in range(2):
        journal = Journal(file)
        journal.open()
        assert (journal.loss, journal.damage) == ("", ())
        assert journal.history() == [Entry("change", "anna", "A", "cart", "why", {"a": 1}, 1.5, 7)]
        assert journal.kept("migrated") == b"\x01\x02"
        journal.close()
