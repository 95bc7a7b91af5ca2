"""What others wrote is shown as text: a terminal obeys none of it."""

import json
import re

import msgspec
import pytest

from fissile.api.schema import Entry
from fissile.cli import output
from fissile.cli.history import TITLES, _print, _print_line

ORDERS = {
    "clear": "\x1b[2J",
    "title": "\x1b]0;you have won\x07",
    "one byte": "\x9b31m",
    "overwrite": "fine\rbad",
    "backspace": "a\x08b",
    "hidden": "\x1b[8m",
    "reversed": "user\u202eexe.txt",
    "delete": "\x7f",
}
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.mark.parametrize("order", ORDERS)
def test_a_terminal_obeys_nothing_of_it(order: str, capsys: pytest.CaptureFixture[str]):
    text = f"before {ORDERS[order]} after"
    entry = {"id": 1, "at": 0.0, "kind": "change", "who": text, "what": "RestartService", "service": text}
    output.say(text)
    output.note(text)
    output.complain(text)
    output.show({"why": text})
    _print(msgspec.convert({**entry, "reason": text, "data": {"slot": 1, "why": text, "stacks": text}}, Entry))
    out, err = capsys.readouterr()
    assert out.count("before ") == 7
    assert err.count("before ") == 2
    assert not OBEYED.search(out + err)


def test_words_of_others_begin_no_line(capsys: pytest.CaptureFixture[str]):
    forged = "a reason\n11-26 07:00:00  back  RestartService by root"
    entry = {"id": 1, "at": 0.0, "kind": "change", "who": forged, "what": "RestartService", "service": "back"}
    _print(msgspec.convert({**entry, "reason": forged, "data": {"why": forged}}, Entry))
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_json_says_it_exactly(capsys: pytest.CaptureFixture[str]):
    for text in (*ORDERS.values(), "Zoë\n\tü €"):
        output.show(text, one_line=True)
        assert json.loads(capsys.readouterr().out) == text


def test_what_an_application_wrote_to_its_terminal_goes_there_as_it_is(capsys: pytest.CaptureFixture[str]):
    output.say("\x1b[38;5;9mred\x1b[0m", raw=True)
    assert capsys.readouterr().out == "\x1b[38;5;9mred\x1b[0m\n"


@pytest.mark.parametrize("order", [order for order in ORDERS if order != "hidden"])
def test_a_line_of_a_log_keeps_colours_alone(order: str):
    red = "\x1b[01;38;5;9m"
    shown = output.looking(f"{red}before {ORDERS[order]} after")
    assert shown.startswith(f"{red}before ")
    assert shown.endswith(" after\x1b[0m")
    assert not OBEYED.search(shown.removeprefix(red).removesuffix("\x1b[0m"))


def test_a_line_without_colours_ends_as_it_is():
    for text in ("plain", "\x1b[32mok\x1b[0m", "\x1b[1mok\x1b[m", "\ttab"):
        assert output.looking(text) == text


def test_the_history_is_a_table_without_steps_that_only_fissile_has_to_know(capsys: pytest.CaptureFixture[str]):
    entry = {"id": 1, "at": 0.0, "kind": "change", "who": "anna", "service": "back", "reason": "a fair"}
    _print_line(*TITLES)
    _print(msgspec.convert({**entry, "what": "SetReplicas", "data": {"replicas": 5}}, Entry))
    _print(msgspec.convert({**entry, "what": "RetireSets", "data": {"sets": ["back"]}}, Entry))
    title, row = capsys.readouterr().out.splitlines()
    for name, cell in (("SERVICE", "back"), ("WHAT", "SetReplicas"), ("BY", "anna"), ("WHY", "a fair (replicas 5)")):
        assert row.index(cell) == title.index(name)
