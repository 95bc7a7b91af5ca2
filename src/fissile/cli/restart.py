"""`fissile restart`: new processes for one service, no request lost."""

from pathlib import Path
from typing import Annotated

import typer

from fissile.daemon import restart_service


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restart")(restart_command)


def restart_command(
    service: Annotated[str, typer.Argument(help="the service's name")],
    path: Annotated[Path, typer.Option(help="folder with fissile.toml")] = Path(),
) -> None:
    """Replace a service's replicas: start new ones first, drain the old ones after."""
    count = restart_service(path, service)
    print(f"{service}: {count} {'replica' if count == 1 else 'replicas'} replaced")
