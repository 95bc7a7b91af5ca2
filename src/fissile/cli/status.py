"""`fissile status`: the services of a running application and their processes."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fissile.daemon import status


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status_command)


def status_command(
    path: Annotated[Path, typer.Argument(help="folder with fissile.toml")] = Path(),
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print the services of the application that runs in a folder."""
    services = status(path)
    if json:
        print(msgspec.json.format(msgspec.json.encode({"services": services})).decode())
        return
    width = max(len(service.name) for service in services)
    for service in services:
        replicas = ", ".join(f"{replica.state} (pid {replica.pid})" for replica in service.replicas) or "none"
        print(f"{service.name:<{width}}  {replicas}  restarts: {service.restarts}")
