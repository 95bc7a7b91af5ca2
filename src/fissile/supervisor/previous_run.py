"""What an application begins with when nothing of it runs: what ran last, unless a person has stopped it.

After a power cut or a kill of everything, code that was never deployed must not become live, nor a topology or a
replica count that somebody has altered since. Only `fissile down` says that the next start is a new one.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec

from fissile.errors import ConfigError, StartError
from fissile.journal.journal import Journal, JournalError
from fissile.journal.rows import Entry
from fissile.orchestrator.acts import ACTOR, EndRollout
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.resume import check_resumed, interrupted, release_to_resume
from fissile.orchestrator.rollout import ended
from fissile.releases.records import ReleaseRecord, UnreadableRelease
from fissile.releases.store import ReleaseStore

# Under which name the journal keeps why the next start does not go on with what ran last.
DOWN = "down"
FIRST_START, STOPPED = b"until all are ready", b"down"
# Which port was asked for of the page that people open, and which it had.
PORT = "port"


class PreviousRun:
    """What the journal and the store have of the run before this one. log: tells people."""

    def __init__(self, journal: Journal, store: ReleaseStore, log: Callable[[str], None]) -> None:
        self._journal = journal
        self._store = store
        self._log = log

    async def desired(self, *, fresh: bool = False) -> Desired:
        """What was desired when it ran last. A rollout that was under way then is over, and the history says so.

        fresh: it need not be known. Raises StartError where it cannot be read.
        """
        kept = self._journal.kept("desired")
        found = Desired()
        try:
            if kept is not None:
                found = msgspec.msgpack.decode(kept, type=Desired)
        except msgspec.DecodeError as error:
            if not fresh:
                raise StartError(
                    f"what ran last was written by another Fissile, and cannot be read: {error}",
                    remedy="use that one, or say --fresh to start the code in the folder",
                ) from None
        end, rollout = interrupted(found), found.rollout
        if end is None or rollout is None:
            return found
        data = {"number": end.number, "done": end.done}
        entry = Entry("change", ACTOR, EndRollout.__name__, "", "all processes ended before it was over", data)
        await asyncio.to_thread(self._journal.change, entry)
        if end.done:
            await asyncio.to_thread(self._store.mark_served, rollout.later.name)
        return ended(found)

    def release(self, before: Desired, topology: str, *, any_topology: bool) -> ReleaseRecord | None:
        """The release to go on with; None: begin with the code in the folder.

        topology: that is asked for, "" if none; any_topology: another is no mistake. Raises StartError.
        """
        name = release_to_resume(before, stopped=bool(self._journal.kept(DOWN)))
        if not name:
            return None
        try:
            found = self._store.find(name)
        except UnreadableRelease as error:
            raise StartError(error.message, remedy=f"{error.remedy}: `fissile up --fresh`") from None
        except ConfigError as error:
            self._log(f"the code in the folder is started instead of what ran last: {error}")
            return None
        ran = found.release
        check_resumed(ran.application, ran.topology, topology, any_topology=any_topology)
        return found

    def port(self) -> tuple[int | None, int]:
        """Which port was asked for of the page that people open, and which it had (0: not known)."""
        kept = self._journal.kept(PORT)
        with suppress(msgspec.DecodeError):  # another Fissile wrote it
            if kept is not None:
                return msgspec.msgpack.decode(kept, type=tuple[int | None, int])
        return None, 0

    def unfinished(self) -> bool:
        """Whether what runs is a first start, whose supervisor died before all were ready. Raises JournalError."""
        return self._journal.kept(DOWN) == FIRST_START

    async def succeeded(self, release: str) -> None:
        """All are ready: from now on, this is what ran last, and one can go back to it."""
        with suppress(JournalError, ConfigError):  # a full disk keeps nobody from serving
            await asyncio.to_thread(self._journal.keep, DOWN, b"")
            await asyncio.to_thread(self._store.mark_served, release)
