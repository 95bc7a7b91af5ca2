"""`fissile promote` and `fissile abort`: a person decides what becomes of a release that is watched."""

from pathlib import Path
from typing import Annotated

import typer

Number = Annotated[int | None, typer.Argument(help="of the rollout that is meant  [default: the one under way]")]
Folder = Annotated[Path, typer.Option("--path", help="folder with fissile.toml")]
Why = Annotated[str, typer.Option(help="the reason, for the history")]


def promote(number: Number = None, path: Folder = Path(), why: Why = "") -> None:
    """The new release is good: give it all requests."""
    _decide("promote", number, path, why)


def abort(number: Number = None, path: Folder = Path(), why: Why = "") -> None:
    """Give the rollout up: all requests go back to the release before it."""
    _decide("abort", number, path, why)


def _decide(what: str, number: int | None, path: Path, why: str) -> None:
    from fissile.cli.client import Client
    from fissile.cli.output import say, user

    Client(path).post(f"/{what}", {"rollout": number, "who": user(), "why": why})
    say("promoted" if what == "promote" else "it is taken back")
