"""Signals that end a process: the first asks for an orderly end, a second one for an end at once."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


class StopSignals:
    """The signals of a process that serves, as events of its loop. log: tells the person what a second one does."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._log = log
        # On the loop, not by signal.signal: a handler there would run between any two instructions.
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        if not self.first.is_set():
            self.first.set()
            self._log("stopping; press Ctrl-C again to stop at once")
        else:
            self.second.set()


async def run_unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Do the work, and cancel it (None) if the event comes first."""
    doing = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not doing.done():
        doing.cancel()
        # What it cleans up when it is cancelled has to be over before the caller goes on.
        await asyncio.wait({doing})
    return None if doing.cancelled() else doing.result()


@contextmanager
def stop_signals(received: Callable[[int], None]) -> Generator[list[int]]:
    """Report signals to `received`, with how many have come, instead of ending this process.

    For a process that waits without a loop. Signals that it was started to ignore, as by nohup(1), stay ignored.
    Yields those that have come.
    """
    told: list[int] = []

    def tell(number: int, _frame: object) -> None:
        told.append(number)
        received(len(told))

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    # None: a handler that was not set from Python, which could not be put back.
    taken = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in taken:
        signal.signal(number, tell)
    try:
        yield told
    finally:
        for number in taken:
            signal.signal(number, before[number])
