"""`fissile down`: stop what runs in the background."""

import time
from pathlib import Path
from typing import Annotated

import typer

STOP_SECONDS_MAX = 60.0
POLL_SECONDS = 0.02


def down(
    path: Annotated[Path, typer.Argument(help="folder with fissile.toml")] = Path(),
    why: Annotated[str, typer.Option(help="the reason, for the history")] = "",
) -> None:
    """Stop all services in order: callers before those whom they call, each after finishing its work."""
    from fissile import daemon
    from fissile.cli.client import Client, Refused
    from fissile.cli.output import say, user
    from fissile.errors import ConfigError
    from fissile.supervisor.state import lives, read_endpoints

    endpoints = read_endpoints(path)
    if not lives(endpoints.pid):
        daemon.down(path, who=user(), why=why)
        say(f"{endpoints.application} is stopped")
        return
    # An older Fissile said so by the zygote alone.
    if not endpoints.background and not endpoints.zygote:
        raise ConfigError(
            f"{endpoints.application} runs in the foreground (pid {endpoints.pid})",
            remedy="stop it where it runs, with Ctrl-C",
        )
    Client(path).post("/down", {"who": user(), "why": why})
    limit = time.monotonic() + STOP_SECONDS_MAX
    while lives(endpoints.pid):
        if time.monotonic() > limit:
            raise Refused(
                f"the supervisor (pid {endpoints.pid}) has not ended within {STOP_SECONDS_MAX:g} s",
                remedy="see .fissile/logs/fissile.log",
            )
        time.sleep(POLL_SECONDS)
    say(f"{endpoints.application} is stopped")
