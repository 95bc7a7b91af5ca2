"""`fissile rollback`: back to an earlier release, whatever the folder holds now."""

from pathlib import Path
from typing import Annotated

import typer

from fissile.cli.deploy import Canary, Json, Wait, Watch, Why


def rollback(
    release: Annotated[str, typer.Argument(help="its name or the beginning of it  [default: the one before]")] = "",
    path: Annotated[Path, typer.Option(help="folder with fissile.toml")] = Path(),
    canary: Canary = None,
    watch: Watch = None,
    wait: Wait = False,
    why: Why = "",
    json: Json = False,
) -> None:
    """Move all requests to an earlier release. A rollout that is not decided yet is given up instead."""
    from fissile.cli.client import Client
    from fissile.cli.deploy import begin, seconds_of, share_of
    from fissile.cli.output import say, show, user
    from fissile.cli.progress import PREPARES, working

    client = Client(path)
    order = {
        "release": release,
        "canary": share_of(canary),
        "watch_seconds": seconds_of(watch),
        "who": user(),
        "why": why,
    }
    with working(PREPARES):
        found = client.post("/rollback", order)
    if found:
        begin(client, found, wait=wait, json=json)
    elif json:
        show({})
    else:
        say("the rollout under way is given up")
