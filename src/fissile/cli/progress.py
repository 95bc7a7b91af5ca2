"""Progress of what is waited for: one moving line on a terminal, elsewhere few lines."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fissile.api.client import Client
    from fissile.api.schema import Outcome, RolloutStatus, SupervisorStatus

PREPARES = "copying and importing the code; nothing is touched yet"
POLL_SECONDS = 0.05
# How often it is asked what is waited for.
LOOK_SECONDS = 0.3
NAMED_MAX = 5
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_ROLLED_BACK = 1
EXIT_UNDECIDED = 3
BAR_CHARACTERS = 24
ENTRIES_MAX = 1000
RECENT = 100
ROLLING_BACK = "rolling-back"
# Not on a terminal: the first line after so long, the next ones at this distance.
FIRST_SECONDS, NEXT_SECONDS = 10.0, 30.0
# From then on it is shown how long it has taken.
SHOWN_SECONDS = 2.0


class Progress:
    """Shows what is waited for: on a terminal, one line that moves; elsewhere, a line now and then if it takes long.

    quiet: nothing at all.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._changed = time.monotonic()
        self._say_at = self._changed + FIRST_SECONDS
        self._text: str = ""
        self._moving: Any = None

    def __enter__(self) -> "Progress":
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console

            self._moving = Console(stderr=True).status("")
            self._moving.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._moving is not None:
            self._moving.stop()
            self._moving = None

    def waiting_for(self, text: str) -> None:
        """For this, from now on; "": for nothing that has words."""
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
        """The start is given up. at_once: nothing is ended in order."""
        from fissile.cli.output import note

        note("stopping at once" if at_once else "stopping what was started; press Ctrl-C again to stop at once")
        self.waiting_for("stopping what was started")


def _since(seconds: float) -> str:
    return f" ({seconds:.0f} s)" if seconds >= SHOWN_SECONDS else ""


class Interrupted(BaseException):
    """This process was told to end."""


@contextmanager
def goes_on(told: str) -> Generator[None]:
    """Interrupted within it, tell the person that what was ordered goes on, and exit with 130.

    told: that, and what to type. Signals that it was started to ignore stay ignored.
    """
    from fissile.cli import EXIT_INTERRUPTED
    from fissile.cli.output import complain

    def stop(_number: int, _frame: object) -> None:
        raise Interrupted

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    taken = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    try:
        for number in taken:
            signal.signal(number, stop)
        yield
    except Interrupted:
        complain(told)
        sys.exit(EXIT_INTERRUPTED)
    finally:
        for number in taken:
            signal.signal(number, before[number])


@contextmanager
def watching(what: str, look: Callable[[], str], *, quiet: bool = False) -> Generator[None]:
    """Show what is waited for: `what`, or something more exact that `look` finds; that may fail."""
    from fissile.errors import FissileError

    over = threading.Event()
    with Progress(quiet=quiet) as progress:
        progress.waiting_for(what)

        def show() -> None:
            while not over.wait(LOOK_SECONDS):
                found = ""
                with suppress(FissileError):
                    found = look()
                progress.waiting_for(found or what)

        thread = threading.Thread(target=show, daemon=True)
        if not quiet:
            thread.start()
        try:
            yield
        finally:
            over.set()
            if not quiet:
                thread.join()


@contextmanager
def preparing(client: "Client", *, quiet: bool) -> Generator[None]:
    """While a release is copied and imported, before a rollout begins."""
    told = (
        "it goes on: `fissile status` shows it; once it has begun, `fissile abort` or `fissile rollback` rolls it back"
    )
    with goes_on(told), watching(PREPARES, lambda: _prepares(client.status()), quiet=quiet):
        yield


def _prepares(status: "SupervisorStatus") -> str:
    return f"{status.preparing}; nothing is touched yet" if status.preparing else ""


def replacing(status: "SupervisorStatus", service: str = "") -> str:
    """What a restart waits for. service: "" for all."""
    own = next((one for one in status.restarts if one.service == service), None)
    if own is not None and own.waiting:
        first = status.restarts[0]
        return f"waiting for the restart of {first.service or 'all services'} by {first.who} to end"
    found: dict[str, list[str]] = {}
    for one in status.services:
        for replica in one.replicas:
            if one.name == service or not service:
                found.setdefault(replica.state, []).append(f"{one.name}.{replica.slot}")
    words = {"starting": "to start", "draining": "to finish work"}
    parts = [f"for {', '.join(found[state][:NAMED_MAX])} {word}" for state, word in words.items() if state in found]
    return f"waiting {'; '.join(parts)}" if parts else ""


def follow(client: "Client", number: int, *, to_the_end: bool) -> "Outcome":
    """Show a rollout until it is over or a person has to decide; or, if not to the end, until it serves."""
    from contextlib import ExitStack

    from fissile.cli.output import harmless, say

    with ExitStack() as stack:
        live = None
        if sys.stdout.isatty():
            from rich.live import Live

            live = stack.enter_context(Live("", auto_refresh=False, transient=True))
        after = _beginning(client, number)
        while True:
            status = client.status()
            # Asked after the status: a rollout that ended in between is then seen as ended, not as lost.
            outcome = client.outcome(number)
            for entry in client.history(after=after, limit=ENTRIES_MAX):
                after = entry.id
                if entry.what == "AdvanceRollout" and entry.data["number"] == number:
                    stage = entry.data["stage"]
                    shown = stage.replace("-", " ")
                    told = shown if stage == ROLLING_BACK else f"{shown}: {entry.reason}"  # why is said at the end
                    say(told) if live is None else live.console.print(harmless(told), highlight=False, markup=False)
            rollout = status.rollout
            if outcome.over or outcome.undecided or rollout is None:
                return outcome
            if live is not None:
                from rich.text import Text

                live.update(Text(_line(rollout, status)), refresh=True)
            if not to_the_end and rollout.stage in ("canary", "promoted"):
                return outcome
            time.sleep(POLL_SECONDS)


def _beginning(client: "Client", number: int) -> int:
    """The journal's entry with which a rollout began, just now; where more has happened since, one after it."""
    entries = client.history(limit=RECENT)
    begun = (one.id for one in entries if one.what == "BeginRollout" and one.data["rollout"] == number)
    return next(begun, entries[0].id if entries else 0)


def _line(rollout: "RolloutStatus", status: "SupervisorStatus") -> str:
    share = rollout.share
    bar = "█" * round(share * BAR_CHARACTERS)
    builds = sum(len({replica.build for replica in service.replicas}) > 1 for service in status.services)
    both = f", {builds} {'service has' if builds == 1 else 'services have'} two builds" if builds else ""
    return f"{bar:░<{BAR_CHARACTERS}} {share:4.0%} to {rollout.later}{both}  {rollout.waits}"


def exit_code(outcome: "Outcome", *, waited: bool) -> int:
    """How the command ends. waited: until the rollout was over, or could not go on by itself."""
    if outcome.over and not outcome.done:
        return EXIT_ROLLED_BACK
    return EXIT_UNDECIDED if waited and outcome.undecided else 0


def conclude(outcome: "Outcome", *, earlier: str, later: str, waited: bool) -> int:
    """Say how it ended; the exit code."""
    from fissile.cli.output import complain, say
    from fissile.errors import with_lines

    code = exit_code(outcome, waited=waited)
    if code == EXIT_ROLLED_BACK:
        lines = with_lines("", "", outcome.service, outcome.last_lines)
        told = f"release {later} was rolled back: {outcome.reason}; {earlier} goes on"
        complain(f"{told}\n{lines}" if lines else told)
    elif code == EXIT_UNDECIDED:
        complain(f"release {later} is undecided: {outcome.undecided}")
    elif waited:
        say(f"release {later} serves: {outcome.reason}")
    elif outcome.done:
        say(f"every new request goes to release {later}")
    else:
        say("the new release is being watched: see `fissile status`; decide with `fissile promote` or `fissile abort`")
    return code
