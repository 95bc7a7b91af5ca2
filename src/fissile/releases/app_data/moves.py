"""Moves files from a copy of the code to the application's folder while programs use them.

At every instant a path leads to its newest file, and every byte has a name: a kill between two system calls loses
nothing. Whatever is replaced is exchanged atomically (renameat2(2), RENAME_EXCHANGE); nothing else tells what was
there at that instant. If a program has put something newer there meanwhile, it is put back, and moved by the next
scan. What was exchanged out stands below EXCHANGED beside the copy, at the same path; whatever is found there was left
by a process that was killed (`recover`).

Each link has a second hard link below WITNESSES. Its link count tells whether a program has deleted the link, or moved
it to where no scan looks.
"""

import ctypes
import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fissile.releases.private import make_folders

AT_FDCWD, RENAME_EXCHANGE = -100, 2
EXCHANGED, WITNESSES = ".fissile-drafts", ".fissile-witnesses"
# Names beside a copy that no copy has.
RESERVED_NAMES = frozenset({EXCHANGED, WITNESSES})
# The name of a file that is being made, beside its final one. Fixed, because the final name may be as long as the
# system allows already.
DRAFT = ".fissile-draft"
NAME_BYTES_MAX = 255
# A file that is replaced this often while it is moved is left to the next scan.
ATTEMPTS_MAX = 4
# Between file systems a file is copied, so only one that has been left alone for this long is moved.
QUIET_SECONDS = 2.0


class LinkedPath(NamedTuple):
    """One path in its four places.

    in_copy: in a copy of the code. in_app: in the application's folder. exchanged: what was exchanged out of the copy.
    witness: the second hard link of the link in the copy.
    """

    in_copy: Path
    in_app: Path
    exchanged: Path
    witness: Path

    def below(self, name: str) -> "LinkedPath":
        """The same for an entry of this folder."""
        return LinkedPath(*(one / name for one in self))


def linked_path(home: Path, root: Path, path: str) -> LinkedPath:
    """The places of a path that is relative to both folders. home: the copy."""
    return LinkedPath(home / path, root / path, home.parent / EXCHANGED / path, home.parent / WITNESSES / path)


def exchange(one: Path, other: Path) -> None:
    """Exchange two names atomically. Raises OSError, also where the system or the file system cannot do it."""
    if not _renameat2 or _renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        number = ctypes.get_errno() if _renameat2 else errno.ENOSYS
        raise OSError(number, os.strerror(number), str(one), None, str(other))


_renameat2: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def replace_with_link(place: LinkedPath, leads: Path | str, expected: Callable[[Path], bool]) -> bool:
    """Replace what is expected at a path of a copy by a link; whether the link stands there now. Raises OSError.

    expected: whether a path is what was expected. It is asked before the exchange, and again about what came out of
    it: a program may replace the file between the two.
    """
    in_copy, exchanged = place.in_copy, place.exchanged
    if not expected(in_copy):
        return False
    make_folders(exchanged.parent)
    exchanged.symlink_to(leads)
    try:
        # Before the exchange: a link without a witness that a program moves away could not be told from one it deleted.
        _make_witness(exchanged, place.witness)
        try:
            exchange(exchanged, in_copy)
        except FileNotFoundError:
            return False  # deleted meanwhile: the next scan sees it
        except OSError:
            # No exchange on this file system: a plain rename, which loses what is written in between.
            if expected(in_copy):
                exchanged.replace(in_copy)
                return True
            return False
        if expected(exchanged):
            return True
        _undo_exchange(place, str(leads))
        return False
    finally:
        if is_link_to(exchanged, str(leads)) or expected(exchanged):
            exchanged.unlink(missing_ok=True)


def _undo_exchange(place: LinkedPath, leads: str) -> None:
    """Put back what a program had put there in place of what was expected."""
    in_copy, exchanged = place.in_copy, place.exchanged
    try:
        exchange(exchanged, in_copy)
    except FileNotFoundError:
        # The program has moved our link away meanwhile, and meant this file: make the link lead to it.
        if leads == str(place.in_app) and was_moved_away(place):
            with suppress(OSError):
                exchanged.replace(place.in_app)
        return
    if not is_link_to(exchanged, leads) and modified_ns(exchanged) >= modified_ns(in_copy):
        exchange(exchanged, in_copy)  # the program has replaced our link as well: its file is newer


def _make_witness(link: Path, witness: Path) -> None:
    with suppress(OSError):
        make_folders(witness.parent)
        witness.unlink(missing_ok=True)
        os.link(link, witness, follow_symlinks=False)


def ensure_witness(place: LinkedPath) -> None:
    """Give a link that is there already its witness, unless it has one."""
    if not is_same_file(place.in_copy, place.witness) and place.in_copy.is_symlink():
        _make_witness(place.in_copy, place.witness)


def witnessed_links(home: Path) -> Iterator[str]:
    """The paths of all links that were put in a copy, whether or not they were recorded."""
    witnesses = home.parent / WITNESSES
    for folder, folders, names in os.walk(witnesses):
        for name in [*names, *(one for one in folders if os.path.islink(os.path.join(folder, one)))]:
            yield os.path.relpath(os.path.join(folder, name), witnesses)


def was_moved_away(place: LinkedPath) -> bool:
    """Whether a program has moved a link out of its place: its witness still shares the inode with it."""
    with suppress(OSError):
        found = place.witness.lstat()
        return stat.S_ISLNK(found.st_mode) and found.st_nlink > (2 if is_same_file(place.in_copy, place.witness) else 1)
    return False


def _remove_empty_folders(folder: Path) -> None:
    """Remove a folder as far as it holds nothing but folders."""
    for one, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            os.rmdir(one)


# -- files and folders that a program has made ------------------------------------------------------------------------


def move_file(place: LinkedPath, *, replaces: bool) -> bool:
    """Move a file to the application's folder and leave a link; whether it is done. Raises OSError.

    replaces: it is a newer version of the application's file, unless that was written after this one was put here (by
    another release at the same moment). Of two files that were made independently, the newer one takes the name, and
    the other is kept as a backup.
    """
    in_copy, in_app = place.in_copy, place.in_app
    for _ in range(ATTEMPTS_MAX):
        if not is_same_file(in_copy, in_app):
            if is_folder(in_app):
                if not replaces:
                    return False  # nothing tells which of the two is wanted
                in_app.rename(backup_name(in_app, modified_ns(in_app)))
            if os.path.lexists(in_app):
                overtaken = _changed_ns(in_copy) < modified_ns(in_app)
                if overtaken if replaces else modified_ns(in_copy) < modified_ns(in_app):
                    return _keep_as_backup(place)
                if not replaces:
                    _link_or_copy(in_app, backup_name(in_app, modified_ns(in_copy)))
            draft = in_app.with_name(DRAFT)
            draft.unlink(missing_ok=True)
            try:
                os.link(in_copy, draft, follow_symlinks=False)
            except FileNotFoundError:
                return False
            except OSError:
                return _move_by_copying(place, draft)
            # The application's folder gets the file before the copy gets the link: a kill in between leaves the file
            # under both names, and the next scan moves it again.
            draft.replace(in_app)
        if replace_with_link(place, in_app, lambda path: is_same_file(path, in_app)):
            return True
        if not _is_file(in_copy):
            return False
        replaces = True
    return False


def _keep_as_backup(place: LinkedPath) -> bool:
    """Keep what is in the copy as a backup; the application's file is newer."""
    in_copy, in_app = place.in_copy, place.in_app
    before = in_copy.lstat()
    kept = backup_name(in_app, before.st_mtime_ns)
    _link_or_copy(in_copy, kept)
    if replace_with_link(place, in_app, lambda path: is_same_file(path, kept) or _is_unchanged(path, before)):
        return True
    kept.unlink()
    return False


def _move_by_copying(place: LinkedPath, draft: Path) -> bool:
    """Move to another file system, or one without hard links. A file that is being written to has to wait."""
    in_copy, in_app = place.in_copy, place.in_app
    before = in_copy.lstat()
    if not stat.S_ISREG(before.st_mode) or time.time() - before.st_mtime < QUIET_SECONDS:
        return False
    _copy(in_copy, draft)
    if not _is_unchanged(in_copy, before):
        draft.unlink()
        return False
    draft.replace(in_app)
    return replace_with_link(place, in_app, lambda path: _is_unchanged(path, before))


def _copy(source: Path, target: Path) -> None:
    """Copy a file with its times, mode and owner; all of it or nothing."""
    try:
        shutil.copy2(source, target, follow_symlinks=False)
        with suppress(OSError):
            found = source.lstat()
            os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where hard links are not possible."""
    if is_same_file(source, target):
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        _copy(source, target)


def move_folder(place: LinkedPath, *, replaces: bool) -> bool:
    """Move a folder without code as a whole, or entry by entry into an existing one. Raises OSError.

    replaces: a program has put it in the place of a link to a file; the file is kept as a backup.
    """
    in_copy, in_app = place.in_copy, place.in_app
    if is_link_to(in_app, str(in_app)):
        in_app.unlink()  # left by a process that was killed between symlink_to and exchange below
    if _is_file(in_app) and replaces:
        in_app.rename(backup_name(in_app, modified_ns(in_app)))
    if not os.path.lexists(in_app):
        # A link to itself first, so that the exchange leaves the copy with a link that leads to the folder at once: at
        # no instant is the folder without its path in the copy.
        in_app.symlink_to(in_app)
        try:
            exchange(in_copy, in_app)
        except OSError as error:
            in_app.unlink()
            if error.errno != errno.EXDEV:
                in_copy.rename(in_app)
                in_copy.symlink_to(in_app)
                return True
            in_app.mkdir(mode=stat.S_IMODE(in_copy.stat().st_mode))
        else:
            return True
    if not in_app.is_dir():
        return False
    for name in sorted(os.listdir(in_copy)):
        one = place.below(name)
        if is_folder(one.in_copy):
            move_folder(one, replaces=False)
        elif not one.in_copy.is_symlink():
            move_file(one, replaces=False)
        elif not os.path.lexists(one.in_app):
            one.in_app.symlink_to(os.readlink(one.in_copy))
    _remove_empty_folders(place.exchanged)
    make_folders(place.exchanged.parent)
    place.exchanged.symlink_to(in_app)
    try:
        exchange(place.exchanged, in_copy)
        if not _remove_folder_of_links(place.exchanged):  # a program has added a file: the next scan moves it
            exchange(place.exchanged, in_copy)
            return False
        shutil.rmtree(place.witness, ignore_errors=True)  # the witnesses of its entries
        return True
    finally:
        if place.exchanged.is_symlink():
            place.exchanged.unlink()


def _remove_folder_of_links(folder: Path) -> bool:
    """Remove a folder that holds only links; whether it did."""
    for name in os.listdir(folder):
        entry = folder / name
        if entry.is_symlink():
            entry.unlink()
        elif not is_folder(entry) or not _remove_folder_of_links(entry):
            return False
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def rename(old: LinkedPath, new: LinkedPath) -> bool:
    """Repeat in the application's folder what a program has renamed in a copy; whether it has the new name there.

    Raises OSError.
    """

    def is_ours(path: Path) -> bool:
        return is_link_to(path, str(old.in_app))

    if not is_ours(new.in_copy):
        return False
    # Already so if a process was killed between this step and the next.
    is_done = is_link_to(old.in_app, str(new.in_app)) or is_same_file(old.in_app, new.in_app)
    if not is_done:
        if is_folder(new.in_app) or (is_folder(old.in_app) and os.path.lexists(new.in_app)):
            new.in_app.rename(backup_name(new.in_app, modified_ns(new.in_app)))
        new.in_app.parent.mkdir(parents=True, exist_ok=True)
        try:
            if is_folder(old.in_app):
                new.in_app.symlink_to(new.in_app)
                exchange(old.in_app, new.in_app)
            else:
                draft = new.in_app.with_name(DRAFT)
                draft.unlink(missing_ok=True)
                os.link(old.in_app, draft, follow_symlinks=False)
                draft.replace(new.in_app)
        except FileNotFoundError:
            raise
        except OSError:
            if is_link_to(new.in_app, str(new.in_app)):
                new.in_app.unlink()
            old.in_app.replace(new.in_app)
    replace_with_link(new, new.in_app, is_ours)
    if is_link_to(old.in_app, str(new.in_app)) or is_same_file(old.in_app, new.in_app):
        old.in_app.unlink()
    old.witness.unlink(missing_ok=True)
    return True


def recover(home: Path, root: Path) -> None:
    """Put what a killed process has left below EXCHANGED back in its place, or beside what is newer there."""
    drafts = home.parent / EXCHANGED
    if not drafts.is_dir():
        return
    for folder, folders, files in os.walk(drafts, topdown=False):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*files, *links]:
            with suppress(OSError):
                _recover(linked_path(home, root, os.path.relpath(os.path.join(folder, name), drafts)))
        with suppress(OSError):
            os.rmdir(folder)


def _recover(place: LinkedPath) -> None:
    in_copy, in_app, exchanged, _ = place
    if is_same_file(exchanged, in_app) or is_link_to(exchanged, str(in_app)):
        exchanged.unlink()
    elif is_link_to(in_copy, str(in_app)) and modified_ns(in_app) <= _changed_ns(exchanged):
        exchange(exchanged, in_copy)
        if is_link_to(exchanged, str(in_app)):
            exchanged.unlink()
    elif was_moved_away(place) and _is_file(exchanged) and modified_ns(in_app) <= _changed_ns(exchanged):
        exchanged.replace(in_app)  # a program has moved our link away, and meant this file
    else:
        in_app.parent.mkdir(parents=True, exist_ok=True)
        if not (exchanged.is_symlink() and os.path.lexists(in_app)):
            _link_or_copy(exchanged, backup_name(in_app, modified_ns(exchanged)) if os.path.lexists(in_app) else in_app)
        exchanged.unlink()


# -- looking at files -----------------------------------------------------------------------------------


def backup_name(in_app: Path, stamp: int) -> Path:
    """A free name for a file that another one of its name has replaced."""
    while True:
        end = f".before-{stamp}"
        kept = in_app.with_name(os.fsdecode(os.fsencode(in_app.name)[: NAME_BYTES_MAX - len(end)]) + end)
        if not os.path.lexists(kept) or is_same_file(kept, in_app):
            return kept
        stamp += 1


def is_folder(path: Path) -> bool:
    """Whether it is a folder, not a link to one."""
    with suppress(OSError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def _is_file(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def is_link_to(path: Path, leads: str) -> bool:
    """Whether it is a link with exactly this target."""
    with suppress(OSError):
        return os.readlink(path) == leads
    return False


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths name the same file. A link counts as itself."""
    with suppress(OSError):
        return os.path.samestat(one.lstat(), other.lstat())
    return False


def _is_unchanged(path: Path, before: os.stat_result) -> bool:
    with suppress(OSError):
        found = path.lstat()
        return os.path.samestat(found, before) and (found.st_size, found.st_mtime_ns) == (
            before.st_size,
            before.st_mtime_ns,
        )
    return False


def modified_ns(path: Path) -> int:
    """When a file was last written to (ns); 0 if there is none."""
    with suppress(OSError):
        return path.lstat().st_mtime_ns
    return 0


def _changed_ns(path: Path) -> int:
    """When a file was last written to, renamed or linked (ns); 0 if there is none."""
    with suppress(OSError):
        return path.lstat().st_ctime_ns
    return 0
