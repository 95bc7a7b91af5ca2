"""`fissile releases`: the kept releases, to which a rollback may go."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from fissile.cli.arguments import Parser, for_programs, in_folder
from fissile.cli.table import Cell, Column, duration, table

if TYPE_CHECKING:
    from fissile.api.schema import ReleaseInfo

USAGE = "[OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    in_folder(parser, place=True)
    for_programs(parser)


def releases(folder: Path, json: bool) -> None:
    """List the kept releases, newest first."""
    from fissile.api.client import Client
    from fissile.cli.output import coloured, say, show, width

    found = Client(folder).releases()
    show(found) if json else say(as_text(found, time.time(), width=width(), colour=coloured()))


COLUMNS = (
    Column("RELEASE"),
    Column("MADE"),
    Column("AGE", number=True),
    Column("DEPLOYED"),
    Column("TOPOLOGY"),
    Column("STATE"),
    Column("NOTE"),
)


def as_text(found: "list[ReleaseInfo]", now: float, *, width: int | None = None, colour: bool = False) -> str:
    """Releases as a table."""
    rows = (
        (
            one.name,
            _when(one.made),
            duration(now - one.made),
            _when(one.deployed) if one.deployed != one.made else "",
            one.topology,
            Cell(one.state, "good" if one.state == "live" else ""),
            f"made with other packages: {', '.join(one.lost)}" if one.lost else "",
        )
        for one in found
    )
    return table(COLUMNS, rows, width=width, colour=colour)


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
