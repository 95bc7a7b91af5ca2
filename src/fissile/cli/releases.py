"""`fissile releases`: what is kept, with its code, to go back to."""

import time
from pathlib import Path
from typing import Annotated

import typer


def releases(
    path: Annotated[Path, typer.Argument(help="folder with fissile.toml")] = Path(),
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List the releases that are kept, newest first."""
    from fissile.cli.client import Client
    from fissile.cli.output import say, show

    found = Client(path).get("/releases")
    if json:
        show(found)
        return
    for one in found:
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["made"]))
        say(f"{one['name']}  {made}  {one['topology']:<14}  {one['state']}")
