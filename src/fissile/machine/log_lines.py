"""PURE. The lines of a log file, each with its time; and how a process of ours tells the time of what it prints.

A line of a log file: `2026-01-31T08:00:00.123456Z text`, the time in UTC. In place of the space after the time stand

- `~` where the time is only known to be no later than this: nobody watched while it was written;
- `#`, 32 hexadecimal digits and a space where it was printed within a request: the id of its trace
  (W3C Trace Context, https://www.w3.org/TR/trace-context/#trace-id).

A line without a time belongs to the one before it. Times of one file may step back by what a clock is set.

What a Python replica prints goes to its spool between two marks: \\x01 and how the line is to begin, the text, \\x02.
What has no marks was written by somebody else, and gets the time at which the spool was written to last.
"""

import re
import time
from datetime import datetime
from typing import NamedTuple

STAMP_BYTES = 27
EXACT, COARSE, TRACED = b" ", b"~", b"#"
TRACE_DIGITS = 32
BEGIN, END = b"\x01", b"\x02"
# The time to the second, microseconds, what follows the time, the text.
MARKED = BEGIN + b"%b.%06dZ%b%b" + END
# How the names of spools end.
SPOOL = ".spool"
# What one write brings in marks comes in one piece, unless it is longer.
WRITE_BYTES_MAX = 64 * 1024

_DAY = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
_MARK = re.compile(rb"\x01(" + _DAY + rb"(?: |#[0-9a-f]{32} ))|\x02")
_LINE = re.compile(rb"(" + _DAY + rb")([ ~]|#([0-9a-f]{32}) )")


class Writing(NamedTuple):
    """How far a process's text has come. open: in the middle of a line. head: how its lines begin, b"" if not known."""

    open: bool = False
    head: bytes = b""


class Line(NamedTuple):
    """A line of a log file. stamp: its time as it stands there, b"" where there is none; kind: what follows it."""

    stamp: bytes
    kind: bytes
    trace: bytes
    text: bytes


def stamp(seconds: float) -> bytes:
    """A time as it stands in front of a line. seconds: since 1970."""
    return stamp_ns(round(seconds * 1e9))


def stamp_ns(nanoseconds: int) -> bytes:
    """The same, of nanoseconds since 1970."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return b"%b.%06dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode(), rest // 1000)


def seconds_of(text: bytes) -> float:
    """The time of a stamp in seconds since 1970."""
    return datetime.fromisoformat(text.decode()).timestamp()


def stamped(data: bytes, head: bytes, state: Writing) -> tuple[bytes, Writing]:
    """Return what was printed as it stands in a log file. head: the beginning of lines that have none of their own."""
    if state == Writing():
        if BEGIN not in data:
            return _lines(data, head, open_=False), Writing(bool(data) and not data.endswith(b"\n"))
        # Whole lines of ours, as nearly always; what was not written in full so far follows.
        cut = data.rfind(END) + 1
        first = _all_whole(data[:cut])
        if first:
            rest, state = stamped(data[cut:], head, state)
            return first + rest, state
    out: list[bytes] = []
    open_, current = state
    place = 0
    for mark in _MARK.finditer(data):
        open_ = _put(out, data[place : mark.start()], current or head, open_=open_)
        current, place = mark[1] or b"", mark.end()
    open_ = _put(out, data[place:], current or head, open_=open_)
    return b"".join(out), Writing(open_, current)


def _all_whole(data: bytes) -> bytes:
    """The lines without their marks, if each of them has its own, and nothing else is there; else b""."""
    if not data.startswith(BEGIN) or not data.endswith(b"\n" + END):
        return b""
    found = data[1:-1].replace(b"\n" + END + BEGIN, b"\n")
    count = (len(data) - 2 - len(found)) // 2 + 1
    return found if found.count(b"\n") == count and BEGIN not in found and END not in found else b""


def _put(out: list[bytes], text: bytes, head: bytes, *, open_: bool) -> bool:
    out.append(_lines(text, head, open_=open_))
    return not text.endswith(b"\n") if text else open_


def _lines(text: bytes, head: bytes, *, open_: bool) -> bytes:
    if not text:
        return b""
    end = text.endswith(b"\n")
    body = (text[:-1] if end else text).replace(b"\n", b"\n" + head)
    return b"".join((b"" if open_ else head, body, b"\n" if end else b""))


def plain(data: bytes) -> bytes:
    """Return what was printed, without marks."""
    return _MARK.sub(b"", data)


def whole(data: bytes) -> int:
    """Return how many bytes can be read already: text of a write that is under way waits for its end."""
    begun = data.rfind(BEGIN, max(0, len(data) - WRITE_BYTES_MAX))
    return len(data) if begun < 0 or END in data[begun:] else begun


def whole_lines(data: bytes) -> int:
    """Return how many bytes end with a whole line and the mark behind it; all if no line ends."""
    end = data.rfind(b"\n") + 1
    return (end + len(END) if data.startswith(END, end) else end) or len(data)


def parse(line: bytes) -> Line:
    """A line of a log file, without its end."""
    found = _LINE.match(line)
    if found is None:
        return Line(b"", EXACT, b"", line)
    return Line(found[1], found[2][:1], found[3] or b"", line[found.end() :])
