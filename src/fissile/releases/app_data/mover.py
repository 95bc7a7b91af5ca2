"""Repeats in the application's folder what a program has done in one copy.

All bytes keep a name at every instant, so the order of system calls matters throughout: `moves` has the atomic steps.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import suppress
from pathlib import Path

from fissile.releases.app_data.copy_state import CopyState
from fissile.releases.app_data.index import DataIndex
from fissile.releases.app_data.links import link_one
from fissile.releases.app_data.moves import (
    DRAFT,
    LinkedPath,
    backup_name,
    ensure_witness,
    is_folder,
    is_link_to,
    modified_ns,
    move_file,
    move_folder,
    rename,
    replace_with_link,
    was_moved_away,
)
from fissile.releases.app_data.scan import SKIPPED
from fissile.releases.app_data.sqlite_files import hand_over_log, is_companion, may_move, share_log

# How many entries of folders without code are searched for a link that a program has moved.
SEARCHED_MAX = 1_000_000


class DataMover:
    """Moves what was made in one copy. root: the application's folder. notify: tells people what they should know."""

    def __init__(self, copy: CopyState, root: Path, index: DataIndex, notify: Callable[[str], None]) -> None:
        self._copy = copy
        self._root = root
        self._index = index
        self._notify = notify

    def __repr__(self) -> str:
        return f"<DataMover {self._copy.path} → {self._root}>"

    def _place(self, path: str) -> LinkedPath:
        return self._copy.place(self._root, path)

    # -- renamed ----------------------------------------------------------------------------------

    def rename(self, renamed: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Repeat what a program has renamed; (from, to) of each that was."""
        for old, new in self._rename_order(renamed):
            try:
                done = rename(self._place(old), self._place(new))
            except OSError as error:
                self._notify(f"{old} cannot be renamed to {new} in {self._root}: {error.strerror}")
                continue
            if done:
                yield old, new

    def _rename_order(self, renamed: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Order renames so that none overwrites a file that is still to be renamed, as when logs are rotated."""
        left = dict(renamed)
        while left:
            free = [old for old, new in left.items() if new not in left]
            for old in free:
                yield old, left.pop(old)
            if not free:  # a cycle: break it by a temporary name
                old, new = left.popitem()
                with suppress(OSError):
                    left[self._make_room(old, new)] = new

    def _make_room(self, old: str, new: str) -> str:
        """Give a file a temporary name, so that another can take its own; that name."""
        in_app = self._root / old
        temporary = backup_name(in_app, modified_ns(in_app))
        path = os.path.join(os.path.dirname(old), temporary.name)
        self._copy.links.add(path)
        # Before the file gets the name: after a kill in between, the next scan takes the link for a renamed one.
        self._copy.save_links()
        try:
            os.link(in_app, temporary, follow_symlinks=False)
        except OSError:
            in_app.rename(temporary)
        replace_with_link(self._place(new), temporary, lambda found: is_link_to(found, str(in_app)))
        return path

    # -- moved away -------------------------------------------------------------------------------

    def was_moved_away(self, path: str) -> bool:
        """Whether a program has moved the link at a path to somewhere else."""
        return was_moved_away(self._place(path))

    def follow_link(self, path: str, made: Iterable[str]) -> bool:
        """Move a file after its link, which a program has moved into a folder without code; whether this is settled.

        made: what the program has made in the copy, where the link may be.
        """
        place = self._place(path)
        folders = [self._root / one for one in self._copy.links if (self._root / one).is_dir()]
        found = _find([*folders, *(self._copy.path / one for one in made)], place.witness.lstat().st_ino)
        if found is not None and is_link_to(found, str(place.in_app)):
            if is_folder(place.in_app):
                return True
            draft = found.with_name(DRAFT)
            draft.unlink(missing_ok=True)
            os.link(place.in_app, draft, follow_symlinks=False)
            draft.replace(found)
        elif path not in self._copy.missing:
            self._copy.mtimes.clear()  # it may have moved between two folders during this scan: scan all of them
            return False
        elif path in self._index.paths.made:
            # Its link leads to it from somewhere: a new file of this name must not take its place.
            backup = backup_name(place.in_app, modified_ns(place.in_app))
            place.in_app.rename(backup)
            self._notify(f"a program has moved {path} out of the folder, as a link: the file is {backup.name} now")
        place.witness.unlink(missing_ok=True)
        return True

    # -- made -------------------------------------------------------------------------------------

    def move(self, path: str, others: Set[Path]) -> bool:
        """Move what a program has made at a path; whether it is done. Raises OSError.

        others: all that programs have made in the copy.
        """
        copy, place = self._copy, self._place(path)
        in_copy, in_app = place.in_copy, place.in_app
        if not may_move(in_copy, in_app, others):
            return False
        code = copy.manifest.files.get(path)
        if code is not None:
            self._index.add_code(path)
        replaces = path in copy.links or (code is not None and _is_unchanged(in_app, code.size, code.modified))
        in_app.parent.mkdir(parents=True, exist_ok=True)
        if in_copy.is_symlink():
            return self._move_link(path)
        if in_copy.is_dir():
            if path in copy.links and path in self._index.paths.made and is_folder(in_app):
                self._back_up(path)
            done = move_folder(place, replaces=path in copy.links)
        else:
            # The log first: a database that is found under its second name without one would be read as of its last
            # checkpoint, and written to by a log of its own.
            share_log(in_copy, in_app)
            done = move_file(place, replaces=replaces)
            hand_over_log(in_copy, in_app)
        if code is None:
            self._index.add(path)
        return done

    def _move_link(self, path: str) -> bool:
        """Move a link that a program has made: the application's leads to the same place."""
        place = self._place(path)
        in_app, leads = place.in_app, os.readlink(place.in_copy)
        if os.path.lexists(in_app) and not in_app.is_symlink():
            if path not in self._copy.links:
                return False
            in_app.rename(backup_name(in_app, modified_ns(in_app)))
        target = leads
        if leads.startswith(f"{self._copy.path}/"):
            target = f"{self._root}/{leads.removeprefix(f'{self._copy.path}/')}"
        draft = in_app.with_name(DRAFT)
        draft.unlink(missing_ok=True)
        draft.symlink_to(target)
        draft.replace(in_app)
        replace_with_link(place, in_app, lambda found: is_link_to(found, leads))
        self._index.add(path)
        return True

    # -- deleted ----------------------------------------------------------------------------------

    def delete(self, path: str) -> None:
        """A program has deleted a link: delete the file if a program had made it, or else put the link back."""
        place, links = self._place(path), self._copy.links
        in_app = place.in_app
        with suppress(OSError):
            if not place.in_copy.parent.is_dir() or os.path.lexists(place.in_copy):
                return  # the next scan sees what a program has put there since
            if path in self._index.paths.made and not self._copy.is_being_removed(path):
                if is_folder(in_app):
                    self._back_up(path)
                else:
                    in_app.unlink(missing_ok=True)
                # Last: as long as the index has the path, a kill in between leaves a deletion that the next scan
                # repeats.
                place.witness.unlink(missing_ok=True)
                self._index.discard(path)
                links.discard(path)
            elif os.path.lexists(in_app):
                place.in_copy.symlink_to(in_app)
                ensure_witness(place)
                self._notify(f"a program deleted {path}: it was put back, because it belongs to the application")
            else:
                place.witness.unlink(missing_ok=True)
                links.discard(path)

    def _back_up(self, path: str) -> None:
        """Keep a folder that a program had made and has removed; only its last backup stays.

        A program that removes a link cannot have seen what is in the folder.
        """
        in_app, known = self._root / path, self._index.paths
        backup = backup_name(in_app, modified_ns(in_app))
        in_app.rename(backup)
        before = known.backups.get(path)
        known.backups[path] = os.path.join(os.path.dirname(path), backup.name)
        # Before the older one is removed: after a kill in between, two backups are left, not none that is known.
        with suppress(OSError):
            self._index.save()
        if before:
            shutil.rmtree(self._root / before, ignore_errors=True)
        self._notify(f"a program removed {path}: its content is kept in {known.backups[path]} until the next time")

    # -- moved from another copy ------------------------------------------------------------------

    def link(self, path: str) -> None:
        """Link in this copy what was moved from another one. Raises OSError."""
        copy, place = self._copy, self._place(path)
        in_copy, in_app = place.in_copy, place.in_app
        if is_companion(in_app) or not in_copy.parent.is_dir():
            return
        known = copy.manifest.files.get(path)
        if not os.path.lexists(in_copy) and os.path.lexists(in_app):
            link_one(self._root, path, copy.path)
        elif known is not None and not in_copy.is_symlink() and _is_unchanged(in_copy, known.size, known.modified):
            replace_with_link(place, in_app, lambda found: _is_unchanged(found, known.size, known.modified))
        if in_copy.is_symlink():
            copy.links.add(path)
            ensure_witness(place)


def _find(folders: Iterable[Path], inode: int) -> Path | None:
    """The link with an inode below some folders."""
    todo, left = list(folders), SEARCHED_MAX
    while todo and left > 0:
        with suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                left -= 1
                if entry.is_symlink():
                    if entry.inode() == inode:
                        return Path(entry.path)
                elif entry.name not in SKIPPED and entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))
    return None


def _is_unchanged(path: Path, size: int, modified: int) -> bool:
    with suppress(OSError):
        found = path.lstat()
        return stat.S_ISREG(found.st_mode) and (found.st_size, found.st_mtime_ns) == (size, modified)
    return False
