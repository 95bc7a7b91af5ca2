"""A start in the background, as the process that waits for it sees it; and what it leaves when nothing supervises it.

The supervisor is started in a session of its own, so that closing the terminal does not end it.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from fissile.daemon.project import named_folder
from fissile.daemon.signals import stop_signals
from fissile.errors import ConfigError, FissileError
from fissile.machine.leftover_processes import Survivor, left_anywhere
from fissile.machine.logfiles import LogFiles, collect
from fissile.orchestrator.acts import ACTOR
from fissile.runtime.named import as_named
from fissile.settings.schema import Settings
from fissile.supervisor import report
from fissile.supervisor.endpoints import LOGS, Endpoints, state_of
from fissile.supervisor.state_folder import StateFolder, unusable

# How often progress is shown.
TICK_SECONDS = 0.2
# Until the files of processes that were killed are closed.
CLOSED_SECONDS_MAX = 1.0


class GivenUp(FissileError):
    """A start was interrupted before it was done."""


class Progress(Protocol):
    """Shows people what is waited for."""

    def waiting_for(self, text: str) -> None:
        """For this, from now on."""
        ...

    def tick(self) -> None:
        """Time has passed."""
        ...

    def ending(self, *, at_once: bool) -> None:
        """The start is given up. at_once: nothing is ended in order."""
        ...


def up(settings: Settings, options: list[str], progress: Progress) -> Endpoints:
    """Start a supervisor in the background and wait until everything is up. options: of `fissile supervise`.

    Interrupted by a signal meanwhile, it ends what it has begun, and raises GivenUp. Raises ConfigError or StartError
    with what keeps the application from starting.
    """
    folder = state_of(named_folder(settings))
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        LogFiles(folder / LOGS)
        file = folder / LOGS / f"{ACTOR}.log"
        log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise unusable(folder, error) from None
    listener = report.Listener()
    command = [sys.executable, "-P", "-m", "fissile", "supervise", *options, "--ready-fd", str(listener.fd)]
    process: subprocess.Popen[bytes] | None = None

    def interrupted(times: int) -> None:
        if times == 1:
            listener.give_up()
        elif process is not None:
            process.terminate()

    # Signals are taken before the process is there: one in between would leave it running with nobody told.
    with stop_signals(interrupted) as signals:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fd],
                start_new_session=True,
            )
        finally:
            os.close(log)
            # Our copy of the supervisor's end has to go: only then does its death end what we read.
            listener.passed_on()
        try:
            return _result(listener, process, progress, signals, file)
        except FissileError:
            collect(folder / LOGS)  # what was printed after the supervisor's last look
            raise
        finally:
            listener.close()


def _result(
    listener: report.Listener, process: "subprocess.Popen[bytes]", progress: Progress, signals: list[int], log: Path
) -> Endpoints:
    """Wait for the result of a start. signals: those that have come. Raises what it failed with."""
    goes_on, seen = False, 0

    def tick() -> None:
        nonlocal seen
        if len(signals) != seen:
            seen = len(signals)
            progress.ending(at_once=seen > 1)
        progress.tick()

    for message in listener.messages(TICK_SECONDS, tick):
        if isinstance(message, report.Waiting):
            if not signals:
                progress.waiting_for(message.text)
            tick()
        elif isinstance(message, report.AllUp):
            # Interrupted, it is not taken: the supervisor then undoes the start, and says so.
            if not signals:
                listener.take()
                return message.endpoints
        elif isinstance(message, report.Failed):
            process.wait()
            raise message.error()
        else:
            goes_on = message.goes_on
    code = process.wait()
    if signals:
        raise GivenUp(
            "the start was interrupted: what ran before goes on, and `fissile up` takes it over"
            if goes_on
            else "the start was interrupted: nothing is left of it"
        )
    raise ConfigError(f"the supervisor ended with exit code {code} before everything was up", remedy=f"see {log}")


def clear(root: Path) -> tuple[int, list[Survivor]]:
    """End what is left of an application that nothing supervises; how many processes, and which cannot be ended.

    Raises ConfigError if it runs.
    """
    state = StateFolder(as_named(root))
    if not root.is_dir() or not left_anywhere(state.mark().application):
        if state.path.is_dir():
            # A process that was killed may have printed after the supervisor's last look.
            collect(state.path / LOGS, seconds_max=CLOSED_SECONDS_MAX)
        return 0, []
    # Under the lock: a start in this folder would be taken for what is left.
    state.open()
    try:
        return state.clear()
    finally:
        collect(state.path / LOGS, seconds_max=CLOSED_SECONDS_MAX)
        state.close()
