"""What is waited for, as people see it."""

import pytest

from fissile.cli import progress
from fissile.cli.progress import Progress


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def test_not_on_a_terminal_it_is_said_late_and_rarely(now: list[float], capsys: pytest.CaptureFixture[str]):
    with Progress() as shown:
        shown.waiting_for("importing a:app")
        for _ in range(progress.FIRST_SECONDS.__ceil__() + 60):
            now[0] += 1.0
            shown.tick()
        shown.waiting_for("starting back")
        now[0] += progress.NEXT_SECONDS
        shown.tick()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "fissile: importing a:app (10 s)",
        "fissile: importing a:app (40 s)",
        "fissile: importing a:app (70 s)",
        "fissile: starting back (30 s)",
    ]


def test_with_json_nothing_is_said_and_where_it_is_quick(now: list[float], capsys: pytest.CaptureFixture[str]):
    with Progress(quiet=True) as shown:
        shown.waiting_for("importing a:app")
        now[0] += 100.0
        shown.tick()
    with Progress() as shown:
        shown.waiting_for("importing a:app")
        now[0] += 1.0
        shown.waiting_for("starting back")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_no_words_of_an_application_begin_another_line(now: list[float], capsys: pytest.CaptureFixture[str]):
    with Progress() as shown:
        shown.waiting_for("starting back, again after: it said\nfissile: all is well\x1b[2J")
        now[0] += progress.FIRST_SECONDS
        shown.tick()
    assert len(capsys.readouterr().err.splitlines()) == 1
