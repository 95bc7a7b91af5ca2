"""`fissile logs`: what services in the background print."""

import re
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fissile.cli.arguments import Parser, for_programs, in_folder, whole

if TYPE_CHECKING:
    from fissile.daemon.logs import Row

POLL_SECONDS = 0.1
WRITE_LINES = 1_000
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
TIMES = "90s, 10m, 2h, 1d ago, or 2026-01-31T08:00"


USAGE = "[SERVICE…] [OPTIONS]"
LINES_MAX = 10**9


def arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.option(
        "services",
        nargs="*",
        metavar="SERVICE",
        help="show only these: services, components or replicas (images.0)",
    )
    in_folder(parser)
    parser.flag("--follow", "-f", help="keep printing new lines")
    parser.option(
        "-n", dest="count", metavar="NUMBER", type=whole(0, LINES_MAX), help="show only the last NUMBER lines"
    )
    parser.option("--since", metavar="TIME", help=f"show lines since a time: {TIMES}")
    parser.option("--until", metavar="TIME", help="show lines until a time, in the same forms")
    parser.option(
        "--trace",
        metavar="ID",
        help="show one request in all services: its trace id, or its traceparent header",
    )
    parser.flag("--no-time", help="omit the times")
    for_programs(parser, "print one JSON object per line")


def logs(
    services: list[str],
    folder: Path,
    follow: bool,
    count: int | None,
    since: str | None,
    until: str | None,
    trace: str | None,
    no_time: bool,
    json: bool,
) -> None:
    """Show what the services print, ordered by time.

    Each line begins with its time and the name of its replica.
    """
    from fissile.daemon.logs import open_logs

    _end_with_the_reader()
    now = time.time()
    reader = open_logs(
        folder,
        services,
        since=None if since is None else moment(since, now),
        until=None if until is None else moment(until, now),
        trace=b"" if trace is None else trace_of(trace),
        last=count,
    )
    printer = Printer(_as_json if json else _Shown(times=not no_time), fragments=not json)
    printer.write(reader.first())
    while follow:
        time.sleep(POLL_SECONDS)
        printer.write(reader.more())
    printer.end()


def _end_with_the_reader() -> None:
    """As `cat` does, end quietly when whoever reads has seen enough, as `| head`."""
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


class Printer:
    """Writes rows. show: how one looks, without its end. fragments: a row without its end is one line with the next."""

    def __init__(self, show: "Callable[[Row], str]", *, fragments: bool) -> None:
        self._show = show
        self._text = text_for(sys.stdout)
        self._fragments = fragments
        # Whose line was left without its end.
        self._open = ""

    def write(self, rows: "Iterable[Row]") -> None:
        """Write rows, at once when there are no more."""
        pieces: list[str] = []
        for row in rows:
            pieces.append(self._piece(row))
            if len(pieces) >= WRITE_LINES:
                self._out(pieces)
        self._out(pieces)

    def _piece(self, row: "Row") -> str:
        if not self._fragments:
            return f"{self._show(row)}\n"
        begin = ""
        if self._open and (self._open != row.name or not row.goes_on):
            begin, self._open = "\n", ""
        text = self._text(row.text) if self._open else self._show(row)
        self._open = "" if row.whole else row.name
        return f"{begin}{text}{'' if self._open else chr(10)}"

    def end(self) -> None:
        """There are no more."""
        if self._open:
            self._out(["\n"])

    def _out(self, pieces: list[str]) -> None:
        if pieces:
            sys.stdout.buffer.write("".join(pieces).encode(errors="replace"))
            sys.stdout.buffer.flush()
            pieces.clear()


def text_for(stream: TextIO) -> Callable[[bytes], str]:
    """What is printed of a line: on a terminal, that obeys nothing of it but its colours; elsewhere as it is."""
    if not stream.isatty():
        return lambda text: text.decode(errors="replace")
    from fissile.cli.output import looking

    return lambda text: looking(text.decode(errors="replace"))


class _Shown:
    """How a row looks: local time, name, line."""

    def __init__(self, *, times: bool) -> None:
        from fissile.cli.output import faint, prefix

        # What the environment says of colours is asked once, and not for each of a million lines.
        self._before_time, _, self._behind_time = faint("\0").partition("\0")
        self._prefix = cache(prefix)
        self._text = text_for(sys.stdout)
        self._times = times
        self._minute = b""
        self._local = ""

    def __call__(self, row: "Row") -> str:
        return f"{self._time(row) if self._times else ''}{self._prefix(row.name)}{self._text(row.text)}"

    def _time(self, row: "Row") -> str:
        from fissile.daemon.logs import seconds_of

        stamp = row.stamp
        if not stamp:
            return " " * 20
        if stamp[:16] != self._minute:
            self._minute = stamp[:16]
            self._local = time.strftime("%m-%d %H:%M", time.localtime(seconds_of(stamp)))
        shown = f"{self._local}{stamp[16:23].decode()}{'~' if row.coarse else ' '} "
        return f"{self._before_time}{shown}{self._behind_time}"


def _as_json(row: "Row") -> str:
    import json

    from fissile.cli.output import json_line
    from fissile.daemon.logs import seconds_of, service_of

    text = row.text.decode(errors="replace")
    found: dict[str, Any] = {"time": None, "name": row.name, "service": service_of(row.name), "line": text}
    if row.stamp:
        found["time"] = _local(seconds_of(row.stamp))
    if row.coarse:
        found["approximate"] = True
    if row.trace:
        found["trace"] = row.trace.decode()
    if text.startswith("{"):
        try:
            found["fields"] = json.loads(text)
        except ValueError:
            pass  # it only looks like it
    return json_line(found)


def _local(seconds: float) -> str:
    """ISO 8601 with the local zone."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="microseconds")


def trace_of(text: str) -> bytes:
    """The trace id in what people have of it: 32 digits, or a `traceparent` (W3C Trace Context). Raises ConfigError."""
    from fissile.errors import ConfigError

    found = re.fullmatch(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-[0-9a-f]{16}(?:-.*)?)?", text.strip().lower())
    if found is None:
        raise ConfigError(
            f"invalid trace id {text!r}",
            remedy="write its 32 hexadecimal digits, or the `traceresponse` header of an answer as it is",
        )
    return found[1].encode()


def moment(text: str, now: float) -> float:
    """A time in seconds since 1970. Raises ConfigError."""
    from datetime import datetime

    from fissile.errors import ConfigError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is not None:
        return now - float(found[1]) * UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ConfigError(f"invalid time {text!r}", remedy="write 90s, 10m, 2h, 1d, or 2026-01-31T08:00") from None
