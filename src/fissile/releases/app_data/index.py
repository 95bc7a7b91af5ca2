"""Which paths in the application's folder are data although they lie beside code: .fissile/code/written.json.

It is no cache. Nothing else tells a file that a program has made from one that somebody has written as code.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.formats import FISSILE, WRITTEN, head_of
from fissile.releases.manifest import UnreadableCopy, path_from_text, text_from_path
from fissile.releases.private import replace_private

FILE = "written.json"
# Files beyond this many count as code, unless something ignores them.
PATHS_MAX = 200_000
# With more paths than this, whether they still exist is checked only every PRUNE_EVERY saves.
PRUNED_ALWAYS_MAX = 5_000
PRUNE_EVERY = 20


class DataPaths(msgspec.Struct):
    """What the file holds, by path from the application's folder on.

    made: what programs have made. code: files of code that programs have written to. backups: the last backup of each
    folder that a program has removed.
    """

    made: dict[str, None] = {}
    code: dict[str, None] = {}
    backups: dict[str, str] = {}
    format: int = WRITTEN.number
    fissile: str = FISSILE


class DataIndex:
    """The index of one application. notify: tells people what they should know."""

    def __init__(self, folder: Path, notify: Callable[[str], None]) -> None:
        self._file = folder / FILE
        self._notify = notify
        self._paths: DataPaths | None = None
        self._saves = 0

    def __repr__(self) -> str:
        known = self._paths
        return f"<DataIndex {self._file}: {'not read' if known is None else f'{len(known.made)} paths'}>"

    @property
    def paths(self) -> DataPaths:
        """What is known. Raises UnreadableCopy."""
        self.load()
        assert self._paths is not None
        return self._paths

    def load(self) -> None:
        """Read the file, unless that was done already. Raises UnreadableCopy."""
        if self._paths is None:
            self._paths = self._read()

    def _read(self) -> DataPaths:
        found = DataPaths()
        try:
            data = self._file.read_bytes()
        except OSError:
            return found
        head = head_of(data)
        if not WRITTEN.reads(head.format):
            raise UnreadableCopy(
                f"{self._file} was written by {WRITTEN.strange(head.format, head.fissile)}",
                remedy="go on with that version; or remove that file: files that programs have made beside the code, "
                "and that nothing ignores, count as code then",
            )
        with suppress(msgspec.DecodeError, UnicodeError):
            raw = msgspec.json.decode(data, type=DataPaths)
            found.made = {path_from_text(path): None for path in raw.made}
            found.code = {path_from_text(path): None for path in raw.code}
            found.backups = {path_from_text(path): path_from_text(name) for path, name in raw.backups.items()}
        return found

    def add(self, path: str) -> None:
        """A program has made a file."""
        made = self.paths.made
        if len(made) < PATHS_MAX:
            made[path] = None
        elif path not in made:
            self._notify(
                f"programs have made more than {PATHS_MAX} files beside the code: any further ones may be taken for "
                "code; have git ignore them, or set code = [...] in the service's table"
            )

    def add_code(self, path: str) -> None:
        """A program has written to a file of code."""
        self.paths.code[path] = None

    def discard(self, path: str) -> None:
        """A program has deleted a file that it had made."""
        self.paths.made.pop(path, None)

    def prune(self, root: Path) -> None:
        """Forget paths that no longer exist in the application's folder."""
        self._saves += 1
        known = self.paths
        is_large = len(known.made) > PRUNED_ALWAYS_MAX and self._saves % PRUNE_EVERY
        for paths in (known.made, known.code) if not is_large else (known.code,):
            for path in [path for path in paths if not os.path.lexists(root / path)]:
                del paths[path]

    def save(self) -> None:
        """Write the file. Raises OSError."""
        known = self.paths
        raw = DataPaths(
            {text_from_path(path): None for path in known.made},
            {text_from_path(path): None for path in known.code},
            {text_from_path(path): text_from_path(name) for path, name in known.backups.items()},
        )
        replace_private(self._file, msgspec.json.encode(raw))
