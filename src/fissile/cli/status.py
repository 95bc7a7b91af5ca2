"""`fissile status`: the services of a running application and their processes."""

from pathlib import Path
from typing import Annotated

import typer


def status(
    path: Annotated[Path, typer.Argument(help="folder with fissile.toml")] = Path(),
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Show the services of the application that runs in a folder."""
    import msgspec

    from fissile import daemon
    from fissile.cli.output import say

    found = daemon.status(path)
    if json:
        document = {
            "supervisor": {"pid": found.pid, "zygote": found.zygote},
            "application": found.application,
            "topology": found.topology,
            "services": found.services,
        }
        say(msgspec.json.format(msgspec.json.encode(document)).decode())
        return
    width = max(len(service.name) for service in found.services)
    for service in found.services:
        replicas = ", ".join(f"{replica.state} (pid {replica.pid})" for replica in service.replicas) or "none"
        say(f"{service.name:<{width}}  {replicas}  restarts: {service.restarts}")
