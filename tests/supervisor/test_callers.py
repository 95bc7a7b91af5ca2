"""What is remembered of calls from outside: written seldom, and kept over a supervisor's end."""

from pathlib import Path

import pytest

from fissile.journal.journal import Journal
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
