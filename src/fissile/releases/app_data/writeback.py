"""Writes back what programs make in the copies of the code: it is moved to the application's folder, and linked.

What programs do to such a link is done to the application's file: replaced by another (as editors save, by rename),
renamed, or deleted if a program had made it. A file of code that a program writes to is data from then on, in this
release and all later ones.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from fissile.releases.app_data.copy_state import CopyState
from fissile.releases.app_data.index import FILE, DataIndex
from fissile.releases.app_data.mover import DataMover
from fissile.releases.app_data.moves import recover
from fissile.releases.app_data.scan import Findings, Scan
from fissile.releases.app_data.sqlite_files import moving_order
from fissile.releases.manifest import UnreadableCopy

NOTICES_MAX = 1_000


class Writeback:
    """Writes back for one application. code: the folder of its copies. root: its own folder. say: tells people."""

    def __init__(self, code: Path, root: Path, say: Callable[[str], None]) -> None:
        self._root = root
        self._say = say
        self._said: set[str] = set()
        self._index = DataIndex(code, self._notify)
        self._copies: dict[Path, CopyState] = {}

    def __repr__(self) -> str:
        return f"<Writeback to {self._root} from {len(self._copies)} copies>"

    def set_root(self, root: Path) -> None:
        """The application's folder is another one from now on."""
        self._root = root

    def check(self) -> None:
        """Check that the index of data can be read. Raises UnreadableCopy."""
        self._index.load()

    @property
    def data(self) -> list[str]:
        """Paths that programs have made, or written to. Raises UnreadableCopy."""
        known = self._index.paths
        return [*known.made, *known.code]

    def run(self, homes: Iterable[Path], *, at_once: bool) -> list[str]:
        """Write back from these copies; the paths that were moved. at_once: also what this scan is the first to see.

        If another Fissile has written the index, nothing is moved, and people are told.
        """
        moved: list[str] = []
        try:
            self.check()
        except UnreadableCopy as error:
            self._notify(f"what programs make stays in the copies of releases: {error}")
            return moved
        copies = [copy for path in homes if (copy := self._state(path)) is not None]
        for copy in copies:
            with suppress(OSError):
                moved += self._write_back(copy, at_once=at_once)
        for copy in copies:
            mover = self._mover(copy)
            for path in moved:
                with suppress(OSError):
                    mover.link(path)
            copy.save_links()
        if moved:
            self._index.prune(self._root)
            with suppress(OSError):
                self._index.save()
        return moved

    def folders(self, home: Path) -> list[str]:
        """The folders of a copy that hold code, from it on."""
        copy = self._state(home)
        return sorted(copy.folders) if copy is not None else []

    def forget(self, home: Path) -> None:
        """A copy is being removed."""
        self._copies.pop(home, None)

    def note_links(self, home: Path) -> None:
        """Links have been put in a copy: find out which there are now."""
        copy = self._state(home)
        if copy is not None:
            copy.add_links(self._root, self._index.paths.made)

    def _state(self, path: Path) -> CopyState | None:
        copy = self._copies.get(path)
        if copy is None:
            try:
                copy = CopyState.of(path)
            except UnreadableCopy as error:
                self._notify(str(error))
                return None
            if copy is not None:
                self._copies[path] = copy
        return copy

    def _mover(self, copy: CopyState) -> DataMover:
        return DataMover(copy, self._root, self._index, self._notify)

    def _write_back(self, copy: CopyState, *, at_once: bool) -> list[str]:
        """Write back from one copy; the paths that were moved."""
        # First: what a killed process has left would be taken for what a program has made.
        recover(copy.path, self._root)
        found = Scan(copy, self._root, at_once=at_once).run()
        if not self._index_new(copy, found):
            return []
        mover = self._mover(copy)
        moved: list[str] = []
        # Renames before deletions: the old name of a renamed link is missing, too. Renames before moves: what a
        # program has made under an old name must not take the place of the file that left it.
        for old, new in mover.rename(found.renamed):
            if old not in found.made:
                copy.links.discard(old)
            copy.links.add(new)
            moved.append(new)
        deleted = set(found.deleted).difference(old for old, _ in found.renamed)
        # Links that a program has moved away before deletions and moves, both of which would lose their file.
        candidates = sorted({*deleted, *found.made})
        copy.missing = {
            path for path in candidates if mover.was_moved_away(path) and not mover.follow_link(path, found.made)
        }
        for path in deleted - copy.missing:
            mover.delete(path)
        others = {copy.path / path for path in found.made}
        for path in sorted(set(found.made) - copy.missing, key=moving_order):
            folder = os.path.dirname(path)
            try:
                if mover.move(path, others):
                    moved.append(path)
                    copy.links.add(path)
                else:
                    copy.mtimes.pop(folder, None)  # scanned again next time
            except OSError as error:
                copy.mtimes.pop(folder, None)
                self._notify(
                    f"{path} cannot be moved to {self._root}: {error.strerror}; it stays in the copy of a release"
                )
        return moved

    def _index_new(self, copy: CopyState, found: Findings) -> bool:
        """Index what is about to be moved; whether that is on the disk.

        Before anything is moved: a kill in between would leave files of which nothing tells that they are not code.
        """
        new_paths = [*found.made, *(new for _, new in found.renamed)]
        for path in new_paths:
            if path in copy.manifest.files:
                self._index.add_code(path)
            else:
                self._index.add(path)
        try:
            if new_paths:
                self._index.save()
        except OSError as error:
            copy.mtimes.clear()  # scan all of it again next time
            self._notify(f"what programs make stays in the copy of a release: {FILE} cannot be written: {error}")
            return False
        return True

    def _notify(self, text: str) -> None:
        """Say something once, however often it happens."""
        if text not in self._said and len(self._said) < NOTICES_MAX:
            self._said.add(text)
            self._say(os.fsencode(text).decode("utf-8", "backslashreplace"))
