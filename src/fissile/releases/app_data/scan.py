"""Finds what programs have done in a copy since the last scan: files made, links renamed, links deleted."""

import os
import stat
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.releases.app_data.copy_state import CopyState
from fissile.releases.app_data.links import NEVER_LINKED, PACKAGES
from fissile.releases.app_data.moves import is_link_to

# A folder that was changed this shortly before it was read may have been changed again within one tick of its clock.
CLOCK_SECONDS = 0.05
# With more files of code than this, whether programs have written to them is looked at only by every SELDOM-th scan.
CODE_FILES_MAX = 2_000
SELDOM = 20
SKIPPED = NEVER_LINKED | {PACKAGES, "site-packages"}


class Findings(msgspec.Struct):
    """What a scan has found, by path. renamed: (from, to)."""

    made: list[str] = []
    renamed: list[tuple[str, str]] = []
    deleted: list[str] = []


class Scan:
    """One scan of a copy.

    A file that this scan is the first to see is left to the next one: most temporary files are renamed or gone by then.

    root: the application's folder. at_once: do not wait for the next scan.
    """

    def __init__(self, copy: CopyState, root: Path, *, at_once: bool) -> None:
        self._copy = copy
        self._root = root
        self._at_once = at_once
        self._found = Findings([], [], [])
        self._fresh: set[str] = set()

    def run(self) -> Findings:
        """Scan the copy, and note in its state what was seen."""
        copy, now = self._copy, time.time_ns()
        for folder in sorted(copy.folders):
            try:
                found = os.lstat(f"{copy.path}/{folder}".rstrip("/"))
            except OSError:
                continue
            if not stat.S_ISDIR(found.st_mode):
                continue
            if copy.mtimes.get(folder) == found.st_mtime_ns and not self._at_once:
                continue
            has_fresh = self._scan_folder(folder)
            if has_fresh or now - found.st_mtime_ns < CLOCK_SECONDS * 1e9:
                copy.mtimes.pop(folder, None)  # scanned again next time
            else:
                copy.mtimes[folder] = found.st_mtime_ns
        copy.scans += 1
        if self._at_once or len(copy.manifest.files) <= CODE_FILES_MAX or copy.scans % SELDOM == 0:
            self._scan_code()
        copy.fresh = self._fresh
        return self._found

    def _scan_folder(self, folder: str) -> bool:
        """Scan one folder; whether it holds a fresh file."""
        copy = self._copy
        prefix = f"{folder}/" if folder else ""
        deleted = copy.links.in_folder(folder)
        has_fresh = False
        # The whole list first: what is done below may change the folder while it is read.
        with os.scandir(copy.path / folder) as found:
            entries = list(found)
        for entry in entries:
            path = prefix + entry.name
            deleted.discard(path)
            if entry.name in SKIPPED:
                continue
            if entry.is_symlink():
                if copy.manifest.links.get(path) is None:
                    self._scan_link(path)
            elif path in copy.folders or path in copy.manifest.files:
                pass
            elif self._at_once or path in copy.fresh or path in copy.links:
                self._found.made.append(path)
            else:
                self._fresh.add(path)
                has_fresh = True
        self._found.deleted += deleted
        return has_fresh

    def _scan_link(self, path: str) -> None:
        """A link is one of ours, one of ours that a program has renamed, or one that a program has made."""
        links, link, top = self._copy.links, f"{self._copy.path}/{path}", f"{self._root}/"
        leads = os.readlink(link)
        if leads == f"{top}{path}":
            if os.path.lexists(leads):
                links.add(path)
            else:
                # Deleted in the application's folder: a dangling link would keep a program from making it anew with
                # O_EXCL, and mkdir would fail.
                with suppress(FileNotFoundError):
                    os.unlink(link)
                with suppress(OSError):
                    self._copy.place(self._root, path).witness.unlink()
                links.discard(path)
            return
        old = leads.removeprefix(top)
        if leads.startswith(top) and old in links and not is_link_to(self._copy.path / old, leads):
            self._found.renamed.append((old, path))
        elif path in links and leads.startswith("/") and leads.endswith(f"/{path}"):
            pass  # ours, to the folder that the application had before
        elif path not in links or not leads.startswith(top):
            self._found.made.append(path)

    def _scan_code(self) -> None:
        """Find files of code that programs have written to."""
        copy = self._copy
        for path, item in copy.manifest.files.items():
            if path in copy.links:
                continue
            try:
                # No Path: each part of one enters the interpreter's table of names, several times a second.
                found = os.lstat(f"{copy.path}/{path}")
            except OSError:
                continue
            if not stat.S_ISREG(found.st_mode) or (found.st_size, found.st_mtime_ns) == (item.size, item.modified):
                continue
            if self._at_once or path in copy.fresh:
                self._found.made.append(path)
            else:
                self._fresh.add(path)
