"""What is done and waited for, as it goes: one moving line on a terminal, else few lines."""

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
RETREATING = "retreating"
# Not on a terminal: the first line after so long, the next ones at this distance.
FIRST_SECONDS, NEXT_SECONDS = 10.0, 30.0
# From then on it is shown how long it has taken.
SHOWN_SECONDS = 2.0


class Waits:
    """What is waited for: on a terminal a line that moves; elsewhere a line when it takes long, and then rarely.

    quiet: nothing at all.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._changed = time.monotonic()
        self._say_at = self._changed + FIRST_SECONDS
        self._text: str = ""
        self._moving: Any = None

    def __enter__(self) -> "Waits":
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console

            self._moving = Console(stderr=True).status("")
            self._moving.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._moving is not None:
            self._moving.stop()
            self._moving = None

    def for_(self, text: str) -> None:
        """For this, from now on; "": for nothing that there are words for."""
        if text != self._text:
            self._text, self._changed = text, time.monotonic()
        self.tick()

    def tick(self) -> None:
        """Time has passed."""
        from fissile.cli.output import harmless, in_line, note

        now = time.monotonic()
        text = f"{self._text}{_since(now - self._changed)}" if self._text else ""
        if self._moving is not None:
            from rich.text import Text

            self._moving.update(Text(harmless(in_line(text))))
        elif text and not self._quiet and now >= self._say_at:
            self._say_at = now + NEXT_SECONDS
            note(in_line(text))

    def ending(self, *, at_once: bool) -> None:
        """It is given up. at_once: nothing is to be ended in order."""
        from fissile.cli.output import note

        note("ending it at once" if at_once else "ending what was begun; once more to end it at once")
        self.for_("ending what was begun")


def _since(seconds: float) -> str:
    return f" ({seconds:.0f} s)" if seconds >= SHOWN_SECONDS else ""


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
                    stage = entry["data"]["stage"]
                    told = stage if stage == RETREATING else f"{stage}: {entry['reason']}"  # why is said at the end
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
    from fissile.errors import with_lines

    code = exit_code(outcome, waited=waited)
    if code == EXIT_TAKEN_BACK:
        lines = with_lines("", "", outcome.get("service", ""), outcome.get("last_lines", ()))
        told = f"release {later} was taken back: {outcome['reason']}; {earlier} serves on"
        complain(f"{told}\n{lines}" if lines else told)
    elif code == EXIT_UNDECIDED:
        complain(f"release {later} is undecided: {outcome['undecided']}")
    elif waited:
        say(f"release {later} serves: {outcome['reason']}")
    elif outcome["done"]:
        say(f"every new request goes to release {later}")
    else:
        say("it is watched now: `fissile status`, `fissile promote` and `fissile abort`")
    return code
