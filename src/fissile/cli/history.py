"""`fissile history`: who changed what, and what was seen."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fissile.cli.arguments import Parser, for_programs, in_folder, whole

if TYPE_CHECKING:
    from fissile.cli.client import Client

USAGE = "[SERVICE] [OPTIONS]"
ENTRIES_MAX = 10_000
TITLES = ("TIME", "SERVICE", "WHAT", "BY", "WHY")
# In characters; what is longer is shown whole.
WIDTHS = (14, 16, 16, 10, 0)
# What a rollout notes between its stages, so that another supervisor can go on with it.
STEPS = frozenset({"AcknowledgeRoutes", "RetireSets", "DrainSets"})
# Of so many entries, the newest, the oldest of them first.
Ask = Callable[[int], list[dict[str, Any]]]


def arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.option("service", nargs="?", default="", metavar="SERVICE", help="only what concerns this one")
    in_folder(parser)
    parser.option(
        "--limit",
        "-n",
        metavar="NUMBER",
        type=whole(1, ENTRIES_MAX),
        default=50,
        help="how many entries, the newest  [default: 50]",
    )
    parser.flag("--follow", "-f", help="go on as things happen")
    for_programs(parser, "print JSON, a line each")


def history(service: str, folder: Path, limit: int, follow: bool, json: bool) -> None:
    """Show who changed what and why, and what was seen.

    The newest entries, the oldest of them first. Also of an application that has ended. --json has the steps of a
    rollout between its stages, too.
    """
    from fissile.cli.client import Client
    from fissile.cli.output import note, show
    from fissile.errors import ConfigError

    client = None
    try:
        client = Client(folder)
    except ConfigError as error:
        kept = _kept(folder, service)
        if kept is None:
            raise
        ask = kept
        note(f"{error.message}; this is what was recorded")
    else:
        service, ask = _found(client, service)
    entries = ask(limit) if json else newest_shown(ask, limit)
    if not json and (entries or follow):
        _print_line(*TITLES, style="title")
    for entry in entries:
        show(entry, one_line=True) if json else _print(entry)
    if follow and client is not None:
        after = entries[-1]["id"] if entries else 0
        for entry in client.events(f"/events?after={after}&service={service}"):
            show(entry, one_line=True) if json else _print(entry)


def newest_shown(ask: Ask, limit: int) -> list[dict[str, Any]]:
    """So many entries that people see, where there are as many: steps between stages count for none."""
    wanted = limit
    while True:
        entries = ask(wanted)
        shown = [one for one in entries if one["what"] not in STEPS]
        if len(shown) >= limit or len(entries) < wanted or wanted == ENTRIES_MAX:
            return shown[-limit:]
        wanted = min(2 * wanted, ENTRIES_MAX)


def _found(client: "Client", given: str) -> tuple[str, Ask]:
    """The service that is meant, and who has its entries. One that runs no more has some as well. Raises
    ConfigError."""
    from fissile.errors import ConfigError

    unknown = None
    try:
        service = client.service(given) if given else ""
    except ConfigError as error:
        service, unknown = given, error

    def ask(limit: int) -> list[dict[str, Any]]:
        return client.get(f"/history?limit={limit}&service={service}")

    if unknown is not None and not ask(1):
        raise unknown
    return service, ask


def _kept(folder: Path, service: str) -> Ask | None:
    """Who has what the journal of an application holds that nobody supervises; None where there is none."""
    import msgspec

    from fissile.journal.journal import Journal
    from fissile.supervisor.endpoints import JOURNAL, state_of

    file = state_of(folder) / JOURNAL
    if not file.is_file():
        return None

    def ask(limit: int) -> list[dict[str, Any]]:
        journal = Journal(file)
        journal.open(only_read=True)
        try:
            return msgspec.to_builtins(journal.history(service=service, limit=limit))
        finally:
            journal.close()

    return ask


def _print(entry: dict[str, Any]) -> None:
    """An entry as a line of a table; nothing for a step of a rollout that only Fissile has to know."""
    from fissile.cli.output import faint, in_line, say

    if entry["what"] in STEPS:
        return
    when = time.strftime("%m-%d %H:%M:%S", time.localtime(entry["at"]))
    data = entry["data"]
    where = entry["service"] + (f".{data['slot']}" if "slot" in data else "")
    numbers = ", ".join(
        f"{k} {in_line(v)}"
        for k, v in data.items()
        if k not in ("slot", "stacks", "build", "reason", "state") and v not in ("", None)
    )
    who = in_line(entry["who"]) if entry["kind"] == "change" else ""
    told = (in_line(entry["reason"]), faint(f"({numbers})") if numbers else "")
    _print_line(when, in_line(where), entry["what"], who, " ".join(filter(None, told)))
    for line in str(data.get("stacks", "")).splitlines():
        say(f"{'':<34}{line}")


def _print_line(*cells: str, style: str = "") -> None:
    """A line of the table: longer cells move those after them, for nobody knows what is to follow."""
    from fissile.cli.output import coloured, say
    from fissile.cli.table import styled

    line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()
    say(styled(line, style, colour=coloured()), raw=bool(style))
