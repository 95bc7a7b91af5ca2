"""`fissile releases`: what is kept, with its code, to go back to."""

import time
from pathlib import Path

from fissile.cli.arguments import Parser, for_programs, in_folder

USAGE = "[OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    in_folder(parser, place=True)
    for_programs(parser)


def releases(folder: Path, json: bool) -> None:
    """List the releases that are kept, newest first."""
    from fissile.cli.client import Client
    from fissile.cli.output import say, show

    found = Client(folder).get("/releases")
    if json:
        show(found)
        return
    for one in found:
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["made"]))
        say(f"{one['name']}  {made}  {one['topology']:<14}  {one['state']}{_lost(one['lost'])}")


def _lost(packages: list[str]) -> str:
    """What a release was made with, and would miss now."""
    return f"  made with other packages: {', '.join(packages)}" if packages else ""
