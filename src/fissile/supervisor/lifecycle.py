"""What a supervisor opens and closes, in which order, and what runs in between."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from fissile.errors import ConfigError
from fissile.journal.journal import JournalError
from fissile.supervisor.assembly import Parts


def open_folder(parts: Parts, *, adopts: bool) -> None:
    """Lock the state folder. Raises ConfigError, and then nothing is open.

    adopts: as of `Supervisor`.
    """
    parts.state.folder.open()
    try:
        parts.guard.begin()
    except ConfigError:
        parts.state.folder.let_go()
        raise
    _register(parts, adopts=adopts)
    parts.logs.begin()


def _register(parts: Parts, *, adopts: bool) -> None:
    """Say what is to be closed: the last of these first. What was not opened yet by then is closed without effect."""
    state, opened = parts.state, parts.shutdown.opened

    async def close_journal() -> None:
        journal = parts.events.opened
        if journal is not None:
            with suppress(JournalError):
                await state.callers.write(journal)
            await asyncio.to_thread(journal.close)

    async def sweep() -> None:
        await asyncio.to_thread(state.limits.enforcement.sweep, set[str]())

    async def end_everything() -> None:
        if not state.folder.ours:
            return  # another one runs it
        ended = await parts.endings.end_all(children=adopts)
        if ended:
            parts.events.log(f"{ended} processes that the application had left were ended")

    async def close_logs() -> None:
        await asyncio.to_thread(parts.logs.close)

    # The logs outlast all: what is said while the others close has to be written.
    opened(end=close_logs, leave=close_logs)
    # The lock is given back when nothing of the application is left: the next supervisor begins at that moment.
    opened(end=_at_once(state.folder.close), leave=_at_once(state.folder.let_go))
    # Ends that are noticed while zygotes are closed are recorded.
    opened(end=close_journal, leave=close_journal)
    opened(end=sweep, leave=None)
    # Those who are left serve on: their listeners are the zygotes', and ours are closed with this process.
    opened(end=_at_once(parts.listeners.close), leave=None)
    opened(end=parts.control.close, leave=parts.control.close)
    # No process writes any more, so that all is found.
    opened(end=parts.copies.gather_last, leave=None)
    # The next supervisor would do the same at the same time.
    opened(end=parts.removals.wait, leave=parts.removals.cancel)
    opened(end=end_everything, leave=None)
    # Zygotes before that: they are the application's, too, and would have to be killed.
    opened(end=parts.loader.close, leave=_at_once(parts.loader.let_go))
    opened(end=parts.endings.close, leave=None)


def _at_once(close: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        close()

    return work


def run(parts: Parts) -> None:
    """Begin all that runs as long as the supervisor lives."""
    state, forever = parts.state, parts.tasks.run_forever
    # Before the loop's first step, whose effects are observed and published.
    state.serving = True
    forever(parts.loop.run)
    forever(parts.observations.watch)
    forever(parts.autoscaler.run)
    forever(parts.sockets.run)
    forever(parts.rebalancer.run)
    forever(lambda: state.callers.run(lambda: parts.events.journal, state.releases.methods))
    if state.detached:
        forever(parts.copies.run)
    parts.tasks.spawn(parts.controller.run())
