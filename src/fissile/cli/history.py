"""`fissile history`: who changed what, and what was observed."""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fissile.cli.arguments import Parser, for_programs, in_folder, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from fissile.api.client import Client
    from fissile.api.schema import Entry
    from fissile.daemon.offline import RecordedHistory

    # Reads so many of the newest entries, oldest first.
    Ask = Callable[[int], list[Entry]]

USAGE = "[SERVICE] [OPTIONS]"
ENTRIES_MAX = 10_000
TITLES = ("TIME", "SERVICE", "WHAT", "BY", "WHY")
# In characters; what is longer is shown whole.
WIDTHS = (14, 16, 16, 10, 0)
# What a rollout notes between its stages, so that another supervisor can go on with it.
STEPS = frozenset({"AcknowledgeRoutes", "RetireSets", "DrainSets"})


def arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.option("service", nargs="?", default="", metavar="SERVICE", help="show only what concerns this service")
    in_folder(parser)
    parser.option(
        "--limit",
        "-n",
        metavar="NUMBER",
        type=whole(1, ENTRIES_MAX),
        default=50,
        help="show the newest NUMBER entries  [default: 50]",
    )
    parser.flag("--follow", "-f", help="keep printing entries as they are recorded")
    for_programs(parser, "print one JSON object per line")


def history(service: str, folder: Path, limit: int, follow: bool, json: bool) -> None:
    """Show who changed what and why, and what was observed.

    The newest entries are shown, oldest first, also after the application has ended. --json also prints the steps of a
    rollout between its stages.
    """
    from fissile.api.client import Client
    from fissile.cli.output import note, show
    from fissile.errors import ConfigError

    client = None
    try:
        client = Client(folder)
    except ConfigError as error:
        from fissile.daemon.offline import RecordedHistory

        recorded = RecordedHistory.of(folder)
        if recorded is None:
            raise

        ask = partial(_recorded, recorded, service)
        note(f"{error.message}; this is what was recorded")
    else:
        service, ask = _found(client, service)
    entries = ask(limit) if json else newest_shown(ask, limit)
    if not json and (entries or follow):
        _print_line(*TITLES, style="title")
    for entry in entries:
        show(entry, one_line=True) if json else _print(entry)
    if follow and client is not None:
        after = entries[-1].id if entries else 0
        for entry in client.events(service=service, after=after):
            show(entry, one_line=True) if json else _print(entry)


def _recorded(recorded: "RecordedHistory", service: str, limit: int) -> "list[Entry]":
    return recorded.history(service=service, limit=limit)


def newest_shown(ask: "Ask", limit: int) -> "list[Entry]":
    """So many entries that people see, if there are as many: steps between stages are not counted."""
    wanted = limit
    while True:
        entries = ask(wanted)
        shown = [one for one in entries if one.what not in STEPS]
        if len(shown) >= limit or len(entries) < wanted or wanted == ENTRIES_MAX:
            return shown[-limit:]
        wanted = min(2 * wanted, ENTRIES_MAX)


def _found(client: "Client", given: str) -> "tuple[str, Ask]":
    """The service that a name means, and how to read its entries. One that runs no more has entries, too.

    Raises ConfigError.
    """
    from fissile.cli.naming import service_meant
    from fissile.errors import ConfigError

    unknown = None
    try:
        service = service_meant(given, client) if given else ""
    except ConfigError as error:
        service, unknown = given, error

    def ask(limit: int) -> "list[Entry]":
        return client.history(service=service, limit=limit)

    if unknown is not None and not ask(1):
        raise unknown
    return service, ask


def _print(entry: "Entry") -> None:
    """Print an entry as a line of a table; nothing for a step of a rollout that only Fissile has to know."""
    from fissile.cli.output import faint, in_line, say

    if entry.what in STEPS:
        return
    when = time.strftime("%m-%d %H:%M:%S", time.localtime(entry.at))
    data = entry.data
    where = entry.service + (f".{data['slot']}" if "slot" in data else "")
    numbers = ", ".join(
        f"{k} {in_line(v)}"
        for k, v in data.items()
        if k not in ("slot", "stacks", "build", "reason", "state") and v not in ("", None)
    )
    who = in_line(entry.who) if entry.kind == "change" else ""
    told = (in_line(entry.reason), faint(f"({numbers})") if numbers else "")
    _print_line(when, in_line(where), entry.what, who, " ".join(filter(None, told)))
    for line in str(data.get("stacks", "")).splitlines():
        say(f"{'':<34}{line}")


def _print_line(*cells: str, style: str = "") -> None:
    """Print a line of the table. A long cell moves those after it: what is to follow is not known."""
    from fissile.cli.output import coloured, say
    from fissile.cli.table import styled

    line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()
    say(styled(line, style, colour=coloured()), raw=bool(style))
