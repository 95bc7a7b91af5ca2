"""What a copy of the code was like at the last scan, and which links have been put in it (links.json beside it)."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.releases.app_data.moves import LinkedPath, ensure_witness, linked_path, witnessed_links
from fissile.releases.manifest import Manifest, manifest, path_from_text, text_from_path
from fissile.releases.private import replace_private

LINKS_FILE = "links.json"


class LinkSet:
    """The paths of the links in a copy, by folder."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_folder: dict[str, set[str]] = {}
        for path in paths:
            self._by_folder.setdefault(path.rpartition("/")[0], set()).add(path)
        # Whether they have changed since they were saved.
        self.is_changed = False

    def __repr__(self) -> str:
        return f"<LinkSet of {sum(map(len, self._by_folder.values()))}>"

    def __contains__(self, path: str) -> bool:
        return path in self._by_folder.get(path.rpartition("/")[0], ())

    def __iter__(self) -> Iterator[str]:
        for paths in self._by_folder.values():
            yield from paths

    def in_folder(self, folder: str) -> set[str]:
        """A new set of the links that lie directly in a folder."""
        return set(self._by_folder.get(folder, ()))

    def add(self, path: str) -> None:
        """Add a path."""
        paths = self._by_folder.setdefault(path.rpartition("/")[0], set())
        self.is_changed |= path not in paths
        paths.add(path)

    def discard(self, path: str) -> None:
        """Remove a path, if it is there."""
        paths = self._by_folder.get(path.rpartition("/")[0], set())
        self.is_changed |= path in paths
        paths.discard(path)


class CopyState:
    """A copy of the code, as of the last scan. Raises UnreadableCopy.

    path: the copy. manifest: what was copied. folders: those that hold code, from the copy on. links: those that have
    been put there. mtimes: when each folder was last changed (ns); a folder that has no entry is scanned again.
    fresh: files that the last scan saw for the first time. scans: how many there were. missing: links that a program
    has moved to where they were not found so far.
    """

    def __init__(self, path: Path, known: Manifest) -> None:
        self.path = path
        self.manifest = known
        parents = {parent for one in (*known.files, *known.links) for parent in _parents(one)}
        self.folders = frozenset({"", *parents})
        self.links = LinkSet([*_saved_links(path), *witnessed_links(path)])
        self.mtimes: dict[str, int] = {}
        self.fresh: set[str] = set()
        self.scans = 0
        self.missing: set[str] = set()

    def __repr__(self) -> str:
        return f"<CopyState {self.path}: {self.links!r}, {len(self.fresh)} fresh>"

    @classmethod
    def of(cls, path: Path) -> "CopyState | None":
        """The state of a copy that has not been scanned yet; None if there is no copy. Raises UnreadableCopy."""
        known = manifest(path)
        return cls(path, known) if known is not None else None

    def place(self, root: Path, path: str) -> LinkedPath:
        """The places of a path. root: the application's folder."""
        return linked_path(self.path, root, path)

    def add_links(self, root: Path, made: Iterable[str]) -> None:
        """Take note of the links that have been put in the copy. made: paths that programs have made.

        A link that a program has replaced since stays known: what stands there is a newer version of the same file,
        not one that was made independently.
        """
        for one in _links_to(self, root):
            self.links.add(one)
        for one in made:
            if one in self.links:
                ensure_witness(self.place(root, one))
        self.mtimes.clear()
        self.save_links(always=True)

    def save_links(self, *, always: bool = False) -> None:
        """Tell the next supervisor which links stood here."""
        if self.links.is_changed or always:
            with suppress(OSError):
                links = msgspec.json.encode(list(map(text_from_path, self.links)))
                replace_private(self.path.parent / LINKS_FILE, links)
                self.links.is_changed = False

    def is_being_removed(self, path: str) -> bool:
        """Whether somebody is removing the copy itself: then the code beside a path is gone as well."""
        folder = path.rpartition("/")[0]
        beside = (one for one in self.manifest.files if one.rpartition("/")[0] == folder)
        return not all(os.path.lexists(self.path / one) for one in beside)


def _saved_links(path: Path) -> list[str]:
    with suppress(OSError, msgspec.DecodeError, UnicodeError):
        raw = msgspec.json.decode((path.parent / LINKS_FILE).read_bytes(), type=list[str])
        return list(map(path_from_text, raw))
    return []


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _links_to(state: CopyState, root: Path) -> Iterator[str]:
    """The links in a copy that lead to the same path in the application's folder."""
    for folder in state.folders:
        with suppress(OSError), os.scandir(state.path / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink():
                    with suppress(OSError):
                        if os.readlink(entry.path) == f"{root}/{path}":
                            yield path
