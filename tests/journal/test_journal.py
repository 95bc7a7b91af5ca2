"""What is recorded stays: through closing, crashes, full disks and damage."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fissile.formats import JOURNAL
from fissile.journal.journal import Journal, JournalError
from fissile.journal.rows import Entry


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path / "journal.db")
    found.open()
    yield found
    found.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here: that needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def entry(number: int = 0, *, service: str = "cart", kind: str = "change") -> Entry:
    return Entry(kind, "anna", "ScaleService", service, f"reason {number}", {"replicas": number})


def test_what_was_recorded_is_there_after_opening_again(tmp_path: Path):
    file = tmp_path / "journal.db"
    first = Journal(file)
    first.open()
    before = time.time()
    recorded = first.change(entry(1), {"desired": b"\x01"})
    first.observe(entry(2, kind="observation"))
    first.close()
    second = Journal(file)
    second.open()
    changed, observed = second.history()
    assert changed == recorded
    assert (changed.id, changed.data, changed.reason) == (1, {"replicas": 1}, "reason 1")
    assert before <= changed.at <= observed.at <= time.time()
    assert observed.kind == "observation"
    assert second.kept("desired") == b"\x01"
    assert second.kept("nothing") is None
    second.close()
    assert file.stat().st_mode & 0o777 == 0o600


def test_history_by_service_and_by_place(journal: Journal):
    for number in range(10):
        journal.change(entry(number, service="cart" if number % 2 else "orders"))
    assert [e.data["replicas"] for e in journal.history(limit=3)] == [7, 8, 9]
    assert [e.data["replicas"] for e in journal.history(service="cart", limit=2)] == [7, 9]
    assert [e.id for e in journal.history(after=8)] == [9, 10]
    assert journal.history(service="nobody") == []


def test_it_keeps_the_newest_entries(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fissile.journal.journal.CHANGES_MAX", 10)
    monkeypatch.setattr("fissile.journal.journal.OBSERVATIONS_MAX", 50)
    monkeypatch.setattr("fissile.journal.journal.PRUNE_EVERY", 20)
    for number in range(100):
        journal.change(entry(number))
    for number in range(200):
        journal.observe(Entry("observation", "fissile", "ReplicaFailed", data={"number": number}))
        journal.change(Entry("change", "autoscaler", "SetReplicas", data={"number": number}))
    found = journal.history(limit=1000)
    # A flood of what is seen drowns nobody who asks who did what.
    kept = [one.data["replicas"] for one in found if one.what == "ScaleService"]
    assert kept == [*range(90, 100)]
    assert found[-1].data == {"number": 199}
    assert 60 <= len(found) <= 80
    journal.close()
    again = Journal(journal.file)
    again.open()
    assert again.loss == ""
    again.close()


def test_what_an_application_says_when_it_fails_is_bounded(journal: Journal):
    journal.observe(
        Entry("observation", "fissile", "ReplicaFailed", reason="x" * 1_000_000, data={"stacks": "y" * 10**6})
    )
    (found,) = journal.history()
    assert found.reason.endswith("x … and 980000 more characters")
    assert len(str(found)) < 50_000


def test_a_closed_journal_says_so(tmp_path: Path):
    journal = Journal(tmp_path / "journal.db")
    with pytest.raises(JournalError, match="closed"):
        journal.change(entry())
    journal.observe(entry())
    journal.close()
    journal.observe(entry())
    journal.close()


def test_a_writer_that_is_killed_loses_nothing_that_it_was_told_is_recorded(tmp_path: Path):
    file = tmp_path / "journal.db"
    code = f"""
from pathlib import Path
from fissile.journal.journal import Journal
from fissile.journal.rows import Entry
journal = Journal(Path({str(file)!r}))
journal.open()
number = 0
while True:
    number += 1
    journal.change(Entry("change", "anna", "ScaleService", data={{"number": number}}), {{"desired": b"%d" % number}})
    print(number, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(20):
        told = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    told = max([told, *map(int, process.stdout.read().split())])
    process.wait()
    process.stdout.close()
    journal = Journal(file)
    journal.open()
    numbers = [e.data["number"] for e in journal.history(limit=10_000)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert told <= len(numbers) <= told + 1
    assert journal.kept("desired") == b"%d" % len(numbers)
    journal.close()


def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path: Path):
    file = tmp_path / "journal.db"
    with sqlite3.connect(file) as connection:
        connection.execute(f"pragma user_version = {JOURNAL.number + 1}")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(
        JournalError, match=r"written by a newer Fissile, in format 4 of the journal; this one, \S+, reads 1 to 3"
    ):
        Journal(file).open()
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, content: bytes):
    file = tmp_path / "journal.db"
    file.write_bytes(content)
    with pytest.raises(JournalError, match=r"journal\.db is damaged(.|\n)*move it away"):
        Journal(file).open()
    assert file.read_bytes() == content


def test_a_file_that_may_not_be_used(tmp_path: Path):
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(JournalError, match=r"cannot be used(.|\n)*who owns the file"):
        Journal(tmp_path / "journal.db").open()


def test_a_full_disk_refuses_changes_and_loses_no_observation(small_disk: Path):
    journal = Journal(small_disk / "journal.db")
    journal.open()
    journal.change(entry(1), {"desired": b"before"})
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(JournalError, match=r"cannot be used: database or disk is full(.|\n)*whether the disk is full"):
        for number in range(100):
            journal.change(entry(number), {"desired": b"after" * 1000})
    recorded = len(journal.history(limit=1000))
    for number in range(200):
        journal.observe(entry(number, kind="observation"))
    assert journal.kept("desired") in (b"before", b"after" * 1000)
    assert journal.trouble == "database or disk is full"
    ballast.unlink()
    journal.change(entry(77))
    assert journal.trouble == ""
    found = journal.history(limit=10_000)[recorded:]
    assert [e.data["replicas"] for e in found] == [*range(200), 77]
    journal.close()
