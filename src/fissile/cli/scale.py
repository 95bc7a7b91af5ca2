"""`fissile scale`: how many replicas a service has, or may have."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer


def scale(
    service: Annotated[str, typer.Argument(help="the service's name")],
    replicas: Annotated[str, typer.Argument(help="N, or MIN..MAX, or auto (as fissile.toml says)")],
    path: Annotated[Path, typer.Option(help="folder with fissile.toml")] = Path(),
    why: Annotated[str, typer.Option(help="the reason, for the history")] = "",
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Give a service N replicas, or as many as its load asks for between two bounds."""
    from fissile.cli.client import Client
    from fissile.cli.output import say, show, user

    order = _order(replicas)
    done = Client(path).post(f"/services/{service}/scale", {**order, "who": user(), "why": why})
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
        raise ConfigError(f"{text!r} is no number of replicas", remedy="write N, MIN..MAX or auto, as in `1..8`")
    if found[2] is None:
        return {"replicas": int(found[1])}
    return {"min": int(found[1]), "max": int(found[2])}
