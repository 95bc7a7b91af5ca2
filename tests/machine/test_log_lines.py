"""The lines of log files: each gets its time, whatever pieces the output comes in."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.machine.log_lines import (
    BEGIN,
    COARSE,
    END,
    EXACT,
    MARKED,
    TRACED,
    Line,
    Writing,
    parse,
    plain,
    seconds_of,
    stamp,
    stamped,
    whole,
)

DAY = b"2026-01-31T08:00:00"
HEAD = b"2026-01-31T09:00:00.000000Z "
TRACE = b"%032x" % 7


def ours(text: bytes, microseconds: int = 5, trace: bytes = b"") -> bytes:
    """What a replica's write looks like."""
    return MARKED % (DAY, microseconds, TRACED + trace + b" " if trace else EXACT, text)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"raw\n", [HEAD + b"raw"]),
        (b"two\nlines\n", [HEAD + b"two", HEAD + b"lines"]),
        (ours(b"one\n"), [DAY + b".000005Z one"]),
        (ours(b"one\n") + ours(b"two\n", 6), [DAY + b".000005Z one", DAY + b".000006Z two"]),
        (ours(b"of a request\n", trace=TRACE), [DAY + b".000005Z#" + TRACE + b" of a request"]),
        (ours(b"both\nlines\n"), [DAY + b".000005Z both", DAY + b".000005Z lines"]),
        (ours(b"one\n") + b"raw\n", [DAY + b".000005Z one", HEAD + b"raw"]),
        (b"raw, " + ours(b"ours\n"), [HEAD + b"raw, ours"]),
        (ours(b"a ") + ours(b"b\n"), [DAY + b".000005Z a b"]),
        (ours(b"a ", trace=TRACE) + b"raw\n", [DAY + b".000005Z#" + TRACE + b" a raw"]),
        (b"no end", [HEAD + b"no end"]),
        (b"\x01 is no mark\n", [HEAD + b"\x01 is no mark"]),
        (ours(b"with \x01 and \x02 in it\n"), [DAY + b".000005Z with \x01 and  in it"]),
        (b"", [b""]),
    ],
)
def test_each_line_begins_with_its_time(data: bytes, lines: list[bytes]):
    text, state = stamped(data, HEAD, Writing())
    assert text.removesuffix(b"\n").split(b"\n") == lines
    assert state.open == (bool(data) and not data.rstrip(END).endswith(b"\n"))


PIECES = st.lists(
    st.tuples(
        st.booleans(), st.sampled_from([b"", TRACE]), st.sampled_from([b"a", b"b\n", b"\n", b"c\nd", b"  e\n\n"])
    ),
    max_size=12,
)


@given(PIECES, st.integers(1, 40))
def test_what_stands_in_the_log_does_not_depend_on_how_much_is_read_at_once(
    pieces: list[tuple[bool, bytes, bytes]], size: int
):
    data = b"".join(ours(text, trace=trace) if marked else text for marked, trace, text in pieces)
    at_once, _ = stamped(data, HEAD, Writing())
    found, state, waiting = b"", Writing(), b""
    for place in range(0, len(data), size):
        waiting += data[place : place + size]
        cut = whole(waiting)
        text, state = stamped(waiting[:cut], HEAD, state)
        found, waiting = found + text, waiting[cut:]
    assert waiting == b""
    assert found == at_once
    texts = b"".join(text for _, _, text in pieces)
    assert b"\n".join(parse(line).text for line in found.split(b"\n")) == texts


def test_a_write_that_is_under_way_waits_for_its_end():
    first, second = ours(b"first\n"), ours(b"second\n")
    for cut in range(1, len(second)):
        assert whole(first + second[:cut]) == len(first)
    assert whole(first + second) == len(first + second)
    assert whole(b"a prompt: ") == len(b"a prompt: ")
    endless = BEGIN + b"x" * 100_000
    assert whole(endless) == len(endless)


@given(st.floats(0, 4e9))
def test_times_are_read_as_they_were_written_and_sort_as_text(seconds: float):
    text = stamp(seconds)
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert abs(seconds_of(text) - seconds) < 2e-6
    assert stamp(seconds + 1) > text


def test_lines_are_read_back():
    time_ = stamp(1_000_000_000.5)
    assert parse(time_ + EXACT + b"text") == Line(time_, EXACT, b"", b"text")
    assert parse(time_ + COARSE + b"text") == Line(time_, COARSE, b"", b"text")
    assert parse(time_ + TRACED + TRACE + b" text") == Line(time_, TRACED, TRACE, b"text")
    assert parse(b"Traceback") == Line(b"", EXACT, b"", b"Traceback")
    assert parse(time_ + b"#short text") == Line(b"", EXACT, b"", time_ + b"#short text")


def test_what_was_printed_can_be_had_without_marks():
    assert plain(ours(b"a\n", trace=TRACE) + b"raw \x01\n" + ours(b"b\n")) == b"a\nraw \x01\nb\n"
