"""A journal in memory: what is written there outlives the supervisor that wrote it."""

from fissile.orchestrator.acts import Change
from fissile.orchestrator.desired import Desired


class MemoryJournal:
    """Of one world. kept: what is desired, by the last change that was written."""

    def __init__(self, kept: Desired) -> None:
        self.kept = kept
        self.changes: list[tuple[float, Change]] = []

    def append(self, change: Change, desired: Desired, now: float) -> None:
        """A change is on the disk, with what is desired from then on. now: virtual seconds."""
        self.changes.append((now, change))
        self.kept = desired
