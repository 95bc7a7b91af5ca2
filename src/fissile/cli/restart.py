"""`fissile restart`: new processes for one service, no request lost."""

from pathlib import Path
from typing import Annotated

import typer


def restart(
    service: Annotated[str, typer.Argument(help="the service's name")],
    path: Annotated[Path, typer.Option(help="folder with fissile.toml")] = Path(),
    why: Annotated[str, typer.Option(help="the reason, for the history")] = "",
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Replace a service's replicas: start new ones first, drain the old ones after."""
    from fissile.cli.client import Client
    from fissile.cli.output import say, show, user

    done = Client(path).post(f"/services/{service}/restart", {"who": user(), "why": why})
    if json:
        show(done)
    else:
        count = done["replicas"]
        say(f"{service}: {count} {'replica' if count == 1 else 'replicas'} replaced")
