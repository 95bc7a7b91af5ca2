"""`fissile restart`: new processes for one service, no request lost."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def restart(
    service: Annotated[str, typer.Argument(help="the service's name")],
    path: Annotated[Path, typer.Option(help="folder with fissile.toml")] = Path(),
) -> None:
    """Replace a service's replicas: start new ones first, drain the old ones after."""
    from fissile import daemon
    from fissile.cli import EXIT_FAILED
    from fissile.cli.output import complain, say
    from fissile.supervisor.desk import RestartFailed

    try:
        count = daemon.restart(path, service)
    except RestartFailed as error:
        complain(f"{service} was not restarted, the old replica serves on: {error}")
        sys.exit(EXIT_FAILED)
    say(f"{service}: {count} {'replica' if count == 1 else 'replicas'} replaced")
