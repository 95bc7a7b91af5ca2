"""`fissile down`: stop what runs in the background."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from fissile.cli.arguments import Parser, in_folder, why

if TYPE_CHECKING:
    from fissile.api.discovery import Endpoints
    from fissile.cli.progress import Progress

STOP_SECONDS_MAX = 60.0
POLL_SECONDS = 0.02
USAGE = "[OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    in_folder(parser, place=True)
    why(parser)


def down(folder: Path, why: str) -> None:
    """Stop the application that runs in the background.

    Stop callers before callees, each after it has finished its work.

    Nothing that they started is left running. If something cannot be ended, name it and exit with 1.
    """
    from fissile.api.discovery import OtherEndpoints, read_endpoints
    from fissile.cli.output import say, user
    from fissile.errors import ConfigError

    try:
        endpoints = read_endpoints(folder)
    except OtherEndpoints as error:
        if error.supervised:
            raise
        _stop_orphaned(folder, why)  # gently, though in no order: what that version wrote is not understood
        say(f"{error.message}; it is stopped")
        return
    except ConfigError:
        if not _clear(folder):
            raise
        say("what was left of the application is stopped")
        return
    if not endpoints.supervisor_lives():
        _stop_orphaned(folder, why)
    # An older Fissile said so by the zygote alone.
    elif not endpoints.background and not endpoints.zygote:
        raise ConfigError(
            f"{endpoints.application} runs in the foreground (pid {endpoints.pid})",
            remedy="stop it where it runs, with Ctrl-C",
        )
    else:
        _stop(folder, endpoints, user(), why)
    say(f"{endpoints.application} is stopped")


def _stop(folder: Path, endpoints: "Endpoints", who: str, why: str) -> None:
    """Ask a supervisor to stop the application, and wait until it has. Raises Refused, ConfigError."""
    from fissile.api.client import Client
    from fissile.api.discovery import NotServed
    from fissile.api.schema import DownOrder
    from fissile.cli.progress import Progress, goes_on

    with (
        goes_on("the application stops all the same: `fissile status` shows whether anything still runs"),
        Progress() as progress,
    ):
        try:
            Client(folder).down(DownOrder(who=who, why=why))
        except NotServed as error:
            if error.state not in ("stopping", "stopped"):
                raise  # otherwise somebody else has ordered it just before
        _wait(endpoints, progress)
    _clear(folder)


def _stop_orphaned(folder: Path, why: str) -> None:
    """Stop what a dead supervisor left. Raises ConfigError, Refused."""
    from fissile.cli.output import user
    from fissile.daemon.supervision import stop_orphaned

    stop_orphaned(folder, who=user(), why=why)
    _clear(folder)


def _clear(folder: Path) -> int:
    """End what nobody supervises; how many processes. Raises Refused if some cannot be ended."""
    from fissile.api.client import Refused
    from fissile.daemon.background import clear
    from fissile.errors import ConfigError

    try:
        ended, left = clear(folder)
    except ConfigError:
        return 0  # somebody has started it again meanwhile, or it is not ours
    if left:
        raise Refused(
            "these processes cannot be ended:\n" + "\n".join(f"  {one}" for one in left),
            remedy="end them as their owner or as root; a process that waits for a device ends when the wait does",
        )
    return ended


def _wait(endpoints: "Endpoints", progress: "Progress") -> None:
    """Wait until the supervisor has ended, and everything with it. Raises Refused."""
    from fissile.api.client import Refused
    from fissile.api.discovery import lives

    limit = time.monotonic() + STOP_SECONDS_MAX
    while endpoints.supervisor_lives():
        if time.monotonic() > limit:
            raise Refused(
                f"the supervisor (pid {endpoints.pid}) has not ended within {STOP_SECONDS_MAX:g} s",
                remedy=f"`kill -9 {endpoints.pid}` ends it alone, and another `fissile down` the rest; "
                "see .fissile/logs/fissile.log",
            )
        left = [name for name, one in endpoints.services.items() if any(map(lives, one.pids))]
        progress.waiting_for(f"waiting for {', '.join(left)} to end" if left else "ending")
        time.sleep(POLL_SECONDS)
