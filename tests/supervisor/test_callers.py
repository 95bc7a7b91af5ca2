"""What is remembered of calls from outside: written seldom, and kept over a supervisor's end."""

import time
from pathlib import Path

import pytest

from fissile.journal.journal import Journal
from fissile.releases.callers import DAY, Called, outside, recent
from fissile.supervisor import callers
from fissile.supervisor.callers import CALLERS, Callers


@pytest.fixture
def journal(tmp_path: Path):
    found = Journal(tmp_path / "journal.db")
    found.open()
    yield found
    found.close()


async def test_it_is_written_once_a_minute_at_most(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    known = Callers()
    await known.look(journal, ["A.x"])
    first = journal.kept(CALLERS)
    assert first is not None
    known.hear(["A.x"])
    await known.look(journal, ["A.x"])
    assert journal.kept(CALLERS) == first
    monkeypatch.setattr(callers, "WRITE_SECONDS_MIN", 0.0)
    await known.look(journal, ["A.x"])
    assert journal.kept(CALLERS) != first


async def test_the_end_is_written_at_once_and_absence_begins_anew(journal: Journal):
    known = Callers()
    await known.look(journal, ["A.x", "A.y"])
    known.hear(["A.x"])
    await known.write(journal)
    for goes_on in (True, False):
        later = Callers()
        later.load(journal, goes_on=goes_on)
        assert later.calls["A.x"].last == known.calls["A.x"].last > 0.0
        assert (later.calls["A.y"].since is not None) == goes_on
    journal.keep(CALLERS, b"of another Fissile")
    later = Callers()
    later.load(journal, goes_on=True)
    assert later.calls == {}


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_that_is_set_makes_no_absence(jump: float, monkeypatch: pytest.MonkeyPatch):
    clock = [1.5e9, 50.0]
    monkeypatch.setattr(callers.time, "time", lambda: clock[0])
    monkeypatch.setattr(callers.time, "monotonic", lambda: clock[1])
    known = Callers()
    known.watch(["A.x", "A.y"])
    known.hear(["A.y"])
    clock[:] = clock[0] + jump + 2.0, clock[1] + 2.0
    known.watch(["A.x", "A.y"])
    assert outside(known.calls["A.x"], clock[0]) == (True, outside(Called(0.0), 2.0)[1])
    assert recent(known.calls["A.y"], clock[0])
    clock[:] = clock[0] + 2 * DAY, clock[1] + 2 * DAY
    known.watch(["A.x", "A.y"])
    assert not outside(known.calls["A.x"], clock[0])[0]


async def test_what_was_written_by_a_clock_that_went_before_is_of_now_at_most(journal: Journal):
    known = Callers()
    known.calls = {"A.x": Called(4e9, 4e9)}
    await known.write(journal)
    later = Callers()
    later.load(journal, goes_on=True)
    assert later.calls["A.x"].last <= time.time()
