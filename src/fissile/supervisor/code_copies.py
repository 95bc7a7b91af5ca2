"""The copies of code that releases run from, and what running code makes in them.

What programs write beside themselves belongs to the application, and to no release: it is moved to the application's
folder, and each copy has a link to it.
"""

import asyncio

from fissile.releases.store import ReleaseStore
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.state import SupervisorState

# How often it is looked what programs have made; by the second look, it is the application's.
GATHER_SECONDS = 0.4
# How many moved files are remembered, so that each is told once.
TOLD_MAX = 1000


class CodeCopies:
    """Knows which copies somebody needs, and gathers what is made there.

    prepared: the folder of the code that is being deployed, which no older rollout's end may remove.
    """

    def __init__(self, state: SupervisorState, store: ReleaseStore, events: EventRecorder) -> None:
        self._state = state
        self._store = store
        self._events = events
        self.prepared: set[str] = set()
        self._told: set[str] = set()

    def used(self) -> set[str]:
        """The folders that somebody needs: also that of a service which did not change in any deploy since."""
        return self._state.code_folders() | self.prepared

    async def gather(self, *, everywhere: bool = False, at_once: bool = True) -> None:
        """Move what running code has made to the application's folder.

        everywhere: in the copies of all releases. at_once: also what was not there at the last look.
        """
        roots = None if everywhere else self.used()
        moved = await asyncio.to_thread(self._store.copies.write_back, roots, at_once=at_once)
        moved = [path for path in moved if path not in self._told]
        if moved and len(self._told) < TOLD_MAX:
            self._told.update(moved)
            root = self._state.root
            self._events.log(f"moved to {root}, because every release shares it: {', '.join(moved)}")

    async def gather_last(self) -> None:
        """At the end, when no process writes any more."""
        if self._state.detached and self._state.folder.ours:
            await self.gather(everywhere=True)

    async def run(self) -> None:
        """Gather while programs run, for as long as the supervisor lives."""
        while True:
            await asyncio.sleep(GATHER_SECONDS)
            await self.gather(at_once=False)
