"""`fissile run`: the application in the foreground, in the topology that is asked for."""

from pathlib import Path
from typing import TYPE_CHECKING

from fissile.cli.arguments import Parser, port, profile, target, topology

if TYPE_CHECKING:
    from fissile.api.discovery import Endpoints

USAGE = "[MODULE:ATTRIBUTE] [OPTIONS]"
DIRECT = "direct"
CALLS = ("copied", DIRECT)


def arguments(parser: Parser) -> None:
    """What the command takes."""
    target(parser)
    topology(parser)
    port(parser)
    profile(parser)
    parser.option(
        "--calls",
        choices=CALLS,
        default=CALLS[0],
        metavar="HOW",
        help="calls within a monolith. copied: values, errors and context pass exactly as between services, so that "
        "what a split would break shows at once; direct: as fast as with `fissile up`  [default: copied]",
    )


def run(folder: Path, target: str, topology: str | None, port: int | None, profile: str | None, calls: str) -> None:
    """Run the application in the foreground, until Ctrl-C.

    It runs in one process, or in one for each service, as the topology says.
    """
    from fissile.runtime.first import be_first

    # Before anything else is imported: as process 1 of a container, this forks, and the parent only reaps.
    be_first()
    from fissile.cli.output import note
    from fissile.daemon import foreground
    from fissile.daemon.project import settings_of

    settings = settings_of(folder, target, profile)
    foreground.run(settings, topology or settings.topology, port, ready=announce, log=note, direct=calls == DIRECT)


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
