"""`fissile run`: the application in the foreground, whole or split."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fissile.daemon import open_project, run
from fissile.supervisor.sockets import Endpoints


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run_command)


def run_command(
    path: Annotated[Path, typer.Argument(help="folder with fissile.toml")] = Path(),
    topology: Annotated[str | None, typer.Option(help="monolith, microservices, or a name from fissile.toml")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="port of the public listener; 0: any free one")] = 8000,
    profile: Annotated[str | None, typer.Option(help="a profile from fissile.toml")] = None,
) -> None:
    """Run the application in the foreground until Ctrl-C."""
    project = open_project(path, topology=topology, profile=profile)
    run(project, port=port, ready=announce, say=say)


def say(text: str) -> None:
    """Tell people something of the application as a whole."""
    print(f"fissile: {text}", file=sys.stderr, flush=True)


def announce(endpoints: Endpoints) -> None:
    """Print where the application is reached."""
    width = max(len(name) for name in [*endpoints.services, *_public(endpoints), "topology"])
    lines = [f"{endpoints.application} is up", f"  {'topology':<{width}}  {endpoints.topology}"]
    lines += [f"  {name:<{width}}  {address}" for name, address in _public(endpoints).items()]
    lines.append("HTTP/JSON API (`fissile call`, or /openapi.json at each):")
    lines += [f"  {name:<{width}}  {service.gateway}" for name, service in endpoints.services.items()]
    lines.append("Ctrl-C stops it.")
    print("\n".join(lines), flush=True)


def _public(endpoints: Endpoints) -> dict[str, str]:
    return {name: url for service in endpoints.services.values() for name, url in service.public.items()}
