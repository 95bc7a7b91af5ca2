"""Remembers which methods are called over HTTP/JSON from outside, as replicas report it: see orchestrator.callers."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf

import msgspec

from fissile.journal.journal import Journal, JournalError
from fissile.releases.callers import Called, by_now, heard, interrupted, shifted, watched

# What the journal keeps them by.
CALLERS = "callers"
LOOK_SECONDS = 2.0
# Nothing is written sooner after it was written before.
WRITE_SECONDS_MIN = 60.0
# By how much the clock must be set before it is noticed: it is corrected by less all the time.
JUMP_SECONDS_MIN = 10.0


class Callers:
    """Of one application."""

    def __init__(self) -> None:
        self.calls: dict[str, Called] = {}
        # The clocks at the last look: that of the wall, and the one that nobody sets.
        self._clocks = time.time(), time.monotonic()
        self._written: dict[str, Called] = {}
        self._written_at = -inf

    def watch(self, methods: Iterable[str]) -> None:
        """These are the methods that can be called now."""
        self._heed_clock()
        self.calls = watched(self.calls, methods, time.time())

    def hear(self, methods: Iterable[str]) -> None:
        """These were called just now."""
        self.calls = heard(self.calls, methods, time.time())

    def _heed_clock(self) -> None:
        """A clock that is set makes no absence: a machine without one of its own begins in 1970."""
        (wall, steady), self._clocks = self._clocks, (time.time(), time.monotonic())
        jump = self._clocks[0] - wall - (self._clocks[1] - steady)
        if abs(jump) >= JUMP_SECONDS_MIN:
            self.calls = shifted(self.calls, jump)

    def load(self, journal: Journal, *, goes_on: bool) -> None:
        """What is known from before. goes_on: replicas have watched meanwhile. Raises JournalError."""
        kept = journal.kept(CALLERS)
        if kept is None:
            return
        with suppress(msgspec.DecodeError):  # another Fissile wrote it: it is watched anew
            found = msgspec.msgpack.decode(kept, type=dict[str, Called])
            found = by_now(found, time.time())
            self.calls = found if goes_on else interrupted(found)
            self._written = found

    async def write(self, journal: Journal) -> None:
        """Write what is new. Raises JournalError."""
        calls = self.calls
        if calls != self._written:
            await asyncio.to_thread(journal.keep, CALLERS, msgspec.msgpack.encode(calls))
            self._written, self._written_at = calls, time.monotonic()

    async def look(self, journal: Journal, methods: Iterable[str]) -> None:
        """One look, now and then: what can be called, and is anything to be written?"""
        self.watch(methods)
        if time.monotonic() - self._written_at >= WRITE_SECONDS_MIN:
            with suppress(JournalError):  # on a full disk it waits for the next time
                await self.write(journal)

    async def run(self, journal: Callable[[], Journal], methods: Callable[[], Iterable[str]]) -> None:
        """Look again and again, for as long as the supervisor lives."""
        while True:
            await self.look(journal(), methods())
            await asyncio.sleep(LOOK_SECONDS)
