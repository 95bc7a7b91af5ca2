"""What an application has recorded, read while nothing supervises it."""

from pathlib import Path

import msgspec

from fissile.api.schema import Entry
from fissile.journal.journal import Journal
from fissile.supervisor.endpoints import JOURNAL, state_of


class RecordedHistory:
    """The journal of an application that does not run. It is opened for each look, and only read."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @classmethod
    def of(cls, folder: Path) -> "RecordedHistory | None":
        """That of a folder; None if there is none."""
        file = state_of(folder) / JOURNAL
        return cls(file) if file.is_file() else None

    def history(self, *, service: str = "", limit: int = 100) -> list[Entry]:
        """The newest entries, oldest first. service: "" for all. Raises JournalError."""
        journal = Journal(self._file)
        # Written to, it would look as if a supervisor had been here.
        journal.open(only_read=True)
        try:
            found = journal.history(service=service, limit=limit)
        finally:
            journal.close()
        return msgspec.convert(found, list[Entry], from_attributes=True)
