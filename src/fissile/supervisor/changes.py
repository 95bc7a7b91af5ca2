"""Writes to the journal what is desired, before anybody acts on it."""

import asyncio
import os
import time
from typing import Any

import msgspec

from fissile.errors import FissileError
from fissile.journal.journal import JournalError
from fissile.journal.rows import Entry
from fissile.names import service_of
from fissile.orchestrator.acts import ACTOR, Act, BeginRollout, Change, SetAct
from fissile.orchestrator.change_writer import ChangeWriter, Done
from fissile.orchestrator.desired import Desired
from fissile.supervisor.events import EventRecorder, tag
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.step_signal import StepSignal
from fissile.supervisor.tasks import BackgroundTasks

# What the journal keeps them by: what is desired, and the tokens by which replicas know a successor.
DESIRED, SECRETS = "desired", "secrets"


class Changes:
    """The one way to alter what is desired. writer: decides in which order changes are written."""

    def __init__(
        self, state: SupervisorState, events: EventRecorder, tasks: BackgroundTasks, signal: StepSignal
    ) -> None:
        self._state = state
        self._events = events
        self._tasks = tasks
        self._signal = signal
        self.writer = ChangeWriter(state.app, self)

    async def change(self, change: Change, *, secrets: bool = False) -> None:
        """Alter what is desired: recorded first, then acted on. secrets: they were altered, too.

        Raises ChangeRefused or JournalError, and then nothing was altered.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: FissileError | None, now: float) -> None:
            if written.done():
                return  # whoever wanted it does not wait any more
            if error is not None:
                written.set_exception(error)
            else:
                written.set_result(None)

        self.writer.submit(change, done, time.monotonic(), secrets=secrets)
        await written

    def write(self, change: Change, desired: Desired, *, secrets: bool, done: Done) -> None:
        """Write a change to the disk in a task of its own, and say so afterwards. Called by the ChangeWriter."""
        write = self._tasks.spawn(self._write(change, desired, secrets))
        write.add_done_callback(lambda task: self._write_is_over(task, done))

    async def _write(self, change: Change, desired: Desired, secrets: bool) -> JournalError | None:
        act = change.what
        service = act.service if isinstance(act, SetAct) else ""
        data = _shown(act) | tag(change.why)
        entry = Entry("change", change.who, type(act).__name__, service, str(change.why), data)
        kept = {DESIRED: msgspec.msgpack.encode(desired)}
        if secrets:
            kept[SECRETS] = msgspec.msgpack.encode(self._state.secrets)
        try:
            await asyncio.to_thread(self._events.journal.change, entry, kept)
        except JournalError as error:
            return error
        return None

    def _write_is_over(self, write: "asyncio.Task[JournalError | None]", done: Done) -> None:
        """However it went, `done` is called: else the writer would take no change after this one.

        A task may be cancelled before its first step, and then nothing inside it can say so.
        """
        if write.cancelled():
            error = JournalError("the supervisor stops")
        elif mistake := write.exception():
            error = JournalError(f"internal error: {type(mistake).__name__}: {mistake}")
        else:
            error = write.result()
        done(error, time.monotonic())
        self._signal.wake()

    async def record_whole(self, what: str, reason: str, **more: bytes) -> None:
        """Record a change of the whole application, with all that a successor needs. more: to be kept, too."""
        kept = {
            DESIRED: msgspec.msgpack.encode(self._state.desired),
            SECRETS: msgspec.msgpack.encode(self._state.secrets),
            **more,
        }
        entry = Entry("change", ACTOR, what, "", reason, {"pid": os.getpid()})
        await asyncio.to_thread(self._events.journal.change, entry, kept)


def _shown(act: Act) -> dict[str, Any]:
    """What a change consists of, as history shows it."""
    if isinstance(act, BeginRollout):
        rollout = act.rollout
        return {
            "rollout": rollout.number,
            "release": rollout.later.name,
            "starts": sorted(map(service_of, rollout.specs)),
            "share": rollout.share,
            "watch_seconds": rollout.watch_seconds,
        }
    shown = msgspec.to_builtins(act).items()
    return {key: value for key, value in shown if value is not None and key not in ("type", "set", "now")}
