"""`fissile run`: the application in the foreground, in the topology that is asked for."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fissile.supervisor.state import Endpoints


class Calls(StrEnum):
    """How components that share a process call each other."""

    COPIED = "copied"
    DIRECT = "direct"


def run(
    path: Annotated[str, typer.Argument(help="folder with fissile.toml, or module:attribute")] = ".",
    topology: Annotated[str | None, typer.Option(help="monolith, microservices, or a name from fissile.toml")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="of the public page; 0: any free one  [default: 8000, or any free one]"),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="a profile from fissile.toml")] = None,
    calls: Annotated[
        Calls,
        typer.Option(
            help="of a monolith. copied: values, errors and context pass exactly as between services, so that what a "
            "split would break is seen at once; direct: as fast as with `fissile up`"
        ),
    ] = Calls.COPIED,
) -> None:
    """Run the application until Ctrl-C: in one process, or in one per service."""
    from fissile.runtime.first import be_first

    be_first()
    from fissile import daemon
    from fissile.cli.output import note

    settings = daemon.settings_of(path, profile)
    direct = calls is Calls.DIRECT
    daemon.run(settings, topology or settings.topology, port, ready=announce, say=note, direct=direct)


def announce(endpoints: "Endpoints", how_to_stop: str = "Ctrl-C stops it") -> None:
    """Print where the application is reached: its pages first."""
    from fissile.cli.output import say

    services = endpoints.services
    public = {name: address for service in services.values() for name, address in service.public.items()}
    width = max(len(name) for name in [*public, *services])
    one = endpoints.topology == "monolith" and not endpoints.api
    size = "one process" if one else f"{len(services)} service{'s' if len(services) > 1 else ''}"
    lines = [f"{endpoints.application} is up as {endpoints.topology} ({size}); {how_to_stop}"]
    lines += [f"{name:<{width}}  {address}" for name, address in public.items()]
    if any(service.gateway for service in services.values()):
        lines.append("HTTP/JSON API, for `fissile call` and others (/openapi.json at each):")
    lines += [f"  {name:<{width}}  {service.gateway}" for name, service in services.items() if service.gateway]
    say("\n".join(lines))
