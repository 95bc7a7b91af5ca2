"""`fissile down`: stop what runs in the background."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from fissile.cli.arguments import Parser, in_folder, why

if TYPE_CHECKING:
    from fissile.cli.progress import Waits
    from fissile.supervisor.state_folder import Endpoints

STOP_SECONDS_MAX = 60.0
POLL_SECONDS = 0.02
USAGE = "[OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    in_folder(parser, place=True)
    why(parser)


def down(folder: Path, why: str) -> None:
    """Stop the application that runs in the background.

    Services end in order: callers before callees, each after it has finished its work.

    Nothing that they have started is left. What cannot be ended is named, with exit code 1.
    """
    from fissile import daemon
    from fissile.cli.client import LOOK_SECONDS_MAX, Client, Refused
    from fissile.cli.output import say, user
    from fissile.cli.progress import Waits, goes_on
    from fissile.errors import ConfigError
    from fissile.supervisor.endpoints import NotServed, OtherEndpoints, read_endpoints

    def clear() -> int:
        try:
            ended, left = daemon.clear(folder)
        except ConfigError:
            return 0  # somebody has started it anew, or it is not ours
        if left:
            raise Refused(
                "these processes cannot be ended:\n" + "\n".join(f"  {one}" for one in left),
                remedy="end them as their owner or as root; what waits for a device ends with the wait",
            )
        return ended

    try:
        endpoints = read_endpoints(folder)
    except ConfigError as error:
        if isinstance(error, OtherEndpoints):
            if error.supervised:
                raise
            daemon.down(folder, who=user(), why=why)  # gently, though in no order
            clear()
            say(f"{error.message}; it is stopped")
            return
        if not clear():
            raise
        say("what was left of the application is stopped")
        return
    if not endpoints.supervisor_lives():
        daemon.down(folder, who=user(), why=why)
        clear()
        say(f"{endpoints.application} is stopped")
        return
    # An older Fissile said so by the zygote alone.
    if not endpoints.background and not endpoints.zygote:
        raise ConfigError(
            f"{endpoints.application} runs in the foreground (pid {endpoints.pid})",
            remedy="stop it where it runs, with Ctrl-C",
        )
    with (
        goes_on("the application stops all the same: `fissile status` shows whether anything still runs"),
        Waits() as waits,
    ):
        try:
            Client(folder).post("/down", {"who": user(), "why": why}, seconds_max=LOOK_SECONDS_MAX)
        except NotServed as error:
            if error.state not in ("stopping", "stopped"):
                raise  # else somebody has asked for it just before
        _wait(endpoints, waits)
    clear()
    say(f"{endpoints.application} is stopped")


def _wait(endpoints: "Endpoints", waits: "Waits") -> None:
    """Until the supervisor has ended, and all with it. Raises Refused."""
    from fissile.cli.client import Refused
    from fissile.supervisor.endpoints import lives

    limit = time.monotonic() + STOP_SECONDS_MAX
    while endpoints.supervisor_lives():
        if time.monotonic() > limit:
            raise Refused(
                f"the supervisor (pid {endpoints.pid}) has not ended within {STOP_SECONDS_MAX:g} s",
                remedy=f"`kill -9 {endpoints.pid}` ends it alone, and another `fissile down` the rest; "
                "see .fissile/logs/fissile.log",
            )
        left = [name for name, one in endpoints.services.items() if any(map(lives, one.pids))]
        waits.for_(f"waiting for {', '.join(left)} to end" if left else "ending")
        time.sleep(POLL_SECONDS)
