"""`fissile scale`: how many replicas a service has, or may have."""

import re
from pathlib import Path
from typing import Any

from fissile.cli.arguments import Parser, for_programs, in_folder, why

USAGE = "SERVICE REPLICAS [OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.option("service", metavar="SERVICE", help="its name, or that of a component in it")
    parser.option("replicas", metavar="REPLICAS", help="N, or MIN..MAX, or auto (as fissile.toml says)")
    in_folder(parser)
    why(parser)
    for_programs(parser)


def scale(service: str, replicas: str, folder: Path, why: str, json: bool) -> None:
    """Give a service N replicas, or as many as its load asks for between two bounds."""
    from fissile.cli.client import Client
    from fissile.cli.output import say, show, user

    order = _order(replicas)
    client = Client(folder)
    service = client.service(service)
    done = client.post(f"/services/{service}/scale", {**order, "who": user(), "why": why})
    if json:
        show(done)
    else:
        say(f"{service}: {done['replicas']} wanted now" + ("" if "replicas" in order else f" ({replicas})"))


def _order(text: str) -> dict[str, Any]:
    from fissile.errors import ConfigError

    if text == "auto":
        return {"auto": True}
    found = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)
    if found is None:
        raise ConfigError(f"{text!r} is not a number of replicas", remedy="write N, MIN..MAX or auto, as in `1..8`")
    if found[2] is None:
        return {"replicas": int(found[1])}
    return {"min": int(found[1]), "max": int(found[2])}
