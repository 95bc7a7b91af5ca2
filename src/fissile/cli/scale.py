"""`fissile scale`: how many replicas a service has, or may have."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from fissile.cli.arguments import Parser, for_programs, in_folder, why

if TYPE_CHECKING:
    from fissile.api.schema import ScaleOrder

USAGE = "SERVICE REPLICAS [OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.option("service", metavar="SERVICE", help="a service, or a component in it")
    parser.option("replicas", metavar="REPLICAS", help="N, MIN..MAX, or auto (as fissile.toml says)")
    in_folder(parser)
    why(parser)
    for_programs(parser)


def scale(service: str, replicas: str, folder: Path, why: str, json: bool) -> None:
    """Set the number of replicas of a service, or the bounds of the autoscaler."""
    from fissile.api.client import Client
    from fissile.cli.naming import service_meant
    from fissile.cli.output import say, show, user

    order = _order(replicas, user(), why)
    client = Client(folder)
    service = service_meant(service, client)
    done = client.scale(service, order)
    if json:
        show(done)
    else:
        say(f"{service}: {done.replicas} wanted now" + ("" if order.replicas is not None else f" ({replicas})"))


def _order(text: str, who: str, why: str) -> "ScaleOrder":
    from fissile.api.schema import ScaleOrder
    from fissile.errors import ConfigError

    if text == "auto":
        return ScaleOrder(auto=True, who=who, why=why)
    found = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)
    if found is None:
        raise ConfigError(f"invalid number of replicas {text!r}", remedy="write N, MIN..MAX or auto, as in `1..8`")
    if found[2] is None:
        return ScaleOrder(replicas=int(found[1]), who=who, why=why)
    return ScaleOrder(min=int(found[1]), max=int(found[2]), who=who, why=why)
