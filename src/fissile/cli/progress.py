"""What a rollout does, as it does it: one moving line on a terminal, else a line for each stage."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fissile.cli.client import Client

PREPARES = "the code is copied and imported; nothing is touched so far"
POLL_SECONDS = 0.05
EXIT_TAKEN_BACK = 1
EXIT_UNDECIDED = 3
BAR_CHARACTERS = 24
ENTRIES_MAX = 1000
RECENT = 100


@contextmanager
def working(what: str) -> Generator[None]:
    """On a terminal, say what is being done meanwhile."""
    if not sys.stdout.isatty():
        yield
        return
    from rich.console import Console

    with Console().status(what):
        yield


def follow(client: "Client", number: int, *, to_the_end: bool) -> dict[str, Any]:
    """Show a rollout until it is over or a person has to decide, or until it serves where that is enough; how it
    stands then."""
    from contextlib import ExitStack

    from fissile.cli.output import harmless, say

    with ExitStack() as stack:
        live = None
        if sys.stdout.isatty():
            from rich.live import Live

            live = stack.enter_context(Live("", auto_refresh=False, transient=True))
        after = _beginning(client, number)
        while True:
            status = client.get("/status")
            outcome = client.get(f"/rollouts/{number}")  # after it: it may have ended in between
            for entry in client.get(f"/history?after={after}&limit={ENTRIES_MAX}"):
                after = entry["id"]
                if entry["what"] == "AdvanceRollout" and entry["data"]["number"] == number:
                    told = f"{entry['data']['stage']}: {entry['reason']}"
                    say(told) if live is None else live.console.print(harmless(told), highlight=False, markup=False)
            rollout = status["rollout"]
            if outcome["over"] or outcome["undecided"] or rollout is None:
                return outcome
            if live is not None:
                from rich.text import Text

                live.update(Text(_line(rollout, status)), refresh=True)
            if not to_the_end and rollout["stage"] in ("canary", "moved"):
                return outcome
            time.sleep(POLL_SECONDS)


def _beginning(client: "Client", number: int) -> int:
    """The journal's entry with which a rollout began, just now; where more has happened since, one after it."""
    entries = client.get(f"/history?limit={RECENT}")
    begun = (e["id"] for e in entries if e["what"] == "BeginRollout" and e["data"]["rollout"] == number)
    return next(begun, entries[0]["id"] if entries else 0)


def _line(rollout: dict[str, Any], status: dict[str, Any]) -> str:
    share = rollout["share"]
    bar = "█" * round(share * BAR_CHARACTERS)
    builds = sum(len({replica["build"] for replica in service["replicas"]}) > 1 for service in status["services"])
    both = f", {builds} {'service has' if builds == 1 else 'services have'} two builds" if builds else ""
    return f"{bar:░<{BAR_CHARACTERS}} {share:4.0%} to {rollout['later']}{both}  {rollout['waits']}"


def exit_code(outcome: dict[str, Any], *, waited: bool) -> int:
    """How the command ends. waited: until the rollout was over, or could not go on by itself."""
    if outcome["over"] and not outcome["done"]:
        return EXIT_TAKEN_BACK
    return EXIT_UNDECIDED if waited and outcome["undecided"] else 0


def conclude(outcome: dict[str, Any], *, earlier: str, later: str, waited: bool) -> int:
    """Say how it ended; the exit code."""
    from fissile.cli.output import complain, say

    code = exit_code(outcome, waited=waited)
    if code == EXIT_TAKEN_BACK:
        complain(f"release {later} was taken back: {outcome['reason']}; {earlier} serves on")
    elif code == EXIT_UNDECIDED:
        complain(f"release {later} is undecided: {outcome['undecided']}")
    elif waited:
        say(f"release {later} serves: {outcome['reason']}")
    elif outcome["done"]:
        say(f"every new request goes to release {later}")
    else:
        say("it is watched now: `fissile status`, `fissile promote` and `fissile abort`")
    return code
