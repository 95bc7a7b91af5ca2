"""Tables for people: aligned, wrapped by the terminal's width, coloured where that is wanted."""

import re

import msgspec
import pytest

from fissile.api.schema import SupervisorStatus
from fissile.cli import output
from fissile.cli.status import as_text
from fissile.cli.table import Cell, Column, duration, table, wrapped

COLUMNS = (Column("NAME"), Column("COUNT", number=True), Column("EMPTY"), Column("WORDS"))
ROWS = (("a", "1", "", "one two three four"), ("long-name", Cell("1000", "bad"), "", ""))


def test_columns_are_aligned_and_empty_ones_left_out():
    assert table(COLUMNS, ROWS).splitlines() == [
        "NAME       COUNT  WORDS",
        "a              1  one two three four",
        "long-name   1000",
    ]


def test_colours_take_no_room():
    coloured = table(COLUMNS, ROWS, colour=True)
    assert "\x1b[31m1000\x1b[0m" in coloured
    plain = re.sub("\x1b\\[\\d+m", "", coloured)
    assert [line.rstrip() for line in plain.splitlines()] == table(COLUMNS, ROWS).splitlines()


def test_the_last_column_is_wrapped_below_itself():
    words = " ".join(["word"] * 20)
    lines = table(COLUMNS, [("a", "1", "", words)], width=40).splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert " ".join(line[13:].strip() for line in lines[1:]) == words
    assert all(line.startswith(" " * 13) for line in lines[2:])
    assert len(table(COLUMNS, [("a", "1", "", words)], width=20).splitlines()) == 2  # too narrow: as it is
    assert table(COLUMNS, []) == ""


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [("", 5, [""]), ("a b", 1, ["a", "b"]), ("longer a", 3, ["longer", "a"]), ("ab cd ef", 5, ["ab cd", "ef"])],
)
def test_wrapped(text: str, width: int, lines: list[str]):
    assert wrapped(text, width) == lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (90_000, "1 d")],
)
def test_duration(seconds: float, text: str):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("environment", "terminal", "shown"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
    ],
)
def test_where_colours_are_shown(
    environment: dict[str, str], terminal: bool, shown: bool, monkeypatch: pytest.MonkeyPatch
):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    assert output.coloured() is shown


def test_words_of_others_begin_no_line_of_the_status():
    replica = {"slot": 0, "state": "ready", "pid": 7, "build": "b", "in_flight": 0.0, "lag_seconds": 0.0, "serial": 1}
    replica |= {"revision": 1, "memory_bytes": None, "stuck": "", "listener": "x\nforged", "age_seconds": 200.0}
    service = {
        "name": "back",
        "topology": "monolith",
        "components": (),
        "scale": {"wanted": 1, "min": 1, "max": 1, "zero_by": ""},
        "limits": {"concurrency": 64, "enforced_by": ""},
        "isolation": "none",
        "restarts": 0,
        "trouble": "died\nforged",
        "last_lines": ("said\nforged",),
        "wire_differences": (),
        "replicas": [replica],
    }
    found = {
        "application": "app",
        "topology": "monolith",
        "release": "r",
        "preparing": "importing back\nforged",
        "supervisor": {"pid": 1, "zygote": None, "trouble": ""},
        "journal": "",
        "rollout": None,
        "services": [service],
    }
    shown = as_text(msgspec.convert(found, SupervisorStatus))
    assert not any(line.startswith("forged") for line in shown.splitlines())
    assert "back.0   ready  3 min    7  b" in shown
