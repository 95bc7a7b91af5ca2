"""`fissile logs`: what services in the background print."""

import re
import time
from pathlib import Path
from typing import Annotated

import typer

POLL_SECONDS = 0.1
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def logs(
    service: Annotated[str, typer.Argument(help="of this service alone, or of one slot: images.0")] = "",
    path: Annotated[Path, typer.Option(help="folder with fissile.toml")] = Path(),
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as it is printed")] = False,
    since: Annotated[str | None, typer.Option(help="from a time on: 90s, 10m, 2h, 1d ago, or 2026-01-31T08:00")] = None,
    json: Annotated[bool, typer.Option("--json", help="print JSON, a line each")] = False,
) -> None:
    """Show what the services print: each line with the replica's name in front."""
    from fissile.cli.output import prefix, say, show
    from fissile.errors import ConfigError
    from fissile.supervisor.logfiles import Tail
    from fissile.supervisor.state import FOLDER, LOGS

    folder = path / FOLDER / LOGS
    if not folder.is_dir():
        raise ConfigError(
            f"there are no log files in {path.resolve()}",
            remedy="`fissile up` writes them; `fissile run` prints to its own terminal",
        )
    tail = Tail(folder, service, None if since is None else moment(since, time.time()))
    while True:
        for name, line in tail.lines():
            show({"name": name, "line": line}, one_line=True) if json else say(f"{prefix(name)}{line}", raw=True)
        if not follow:
            return
        time.sleep(POLL_SECONDS)


def moment(text: str, now: float) -> float:
    """A time in seconds since 1970. Raises ConfigError."""
    from datetime import datetime

    from fissile.errors import ConfigError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is not None:
        return now - float(found[1]) * UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ConfigError(f"{text!r} is no time", remedy="write 90s, 10m, 2h, 1d, or 2026-01-31T08:00") from None
