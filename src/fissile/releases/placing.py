"""Gives what stands in a copy to the application's folder, name by name, while programs use it.

At every instant a path leads to its newest file, and all bytes have a name: whoever is killed between two system calls
loses nothing. What takes the place of something is exchanged with it (renameat2(2)): only so it is known what was
there. Has a program put something newer there meanwhile, that is put back, and moved next. What was exchanged stands
below DRAFTS beside the copy, at the same path; what is found there was left by somebody who was killed (`recover`).

A link that is put has a second name below WITNESSES: by the number of its names it is known whether a program has
deleted it, or moved it to where nobody looks.
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

from fissile.releases.private import PRIVATE_FOLDER

AT_FDCWD, RENAME_EXCHANGE = -100, 2
DRAFTS, WITNESSES = ".fissile-drafts", ".fissile-witnesses"
# Folders beside a copy that are none.
BESIDE = frozenset({DRAFTS, WITNESSES})
# Of what is beside a name while it is made: short, because a name may be as long as the system allows.
DRAFT = ".fissile-draft"
NAME_BYTES_MAX = 255
# A file that is replaced each time while it is moved is left to the next look.
ATTEMPTS_MAX = 4
# Another file system holds the copy: only what nobody has written to for so long can be moved there.
REST_SECONDS = 2.0


class Place(NamedTuple):
    """One path: in a copy, in the application's folder, where what is exchanged stands, and the link's second name."""

    made: Path
    own: Path
    draft: Path
    witness: Path

    def below(self, name: str) -> "Place":
        """Of what is in a folder."""
        return Place(*(one / name for one in self))


def place_of(home: Path, root: Path, path: str) -> Place:
    """Of a path from both folders on. home: of a copy."""
    return Place(home / path, root / path, home.parent / DRAFTS / path, home.parent / WITNESSES / path)


def make_folders(folder: Path) -> None:
    """A private folder, and those above it that are not there."""
    if not folder.is_dir():
        make_folders(folder.parent)
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def exchange(one: Path, other: Path) -> None:
    """Exchange two names at once. Raises OSError, also where the system or the file system cannot do that."""
    if not _renameat2 or _renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        number = ctypes.get_errno() if _renameat2 else errno.ENOSYS
        raise OSError(number, os.strerror(number), str(one), None, str(other))


_renameat2: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def put_link(place: Place, leads: Path | str, expected: Callable[[Path], bool]) -> bool:
    """A link in the place of what is expected there; whether it stands there now. Raises OSError."""
    made, draft = place.made, place.draft
    if not expected(made):
        return False
    make_folders(draft.parent)
    draft.symlink_to(leads)
    try:
        _bear_witness(draft, place.witness)
        try:
            exchange(draft, made)
        except FileNotFoundError:
            return False  # deleted meanwhile: the next look sees that
        except OSError:
            if expected(made):
                draft.replace(made)
                return True
            return False
        if expected(draft):
            return True
        _put_back(place, str(leads))
        return False
    finally:
        if is_link_to(draft, str(leads)) or expected(draft):
            draft.unlink(missing_ok=True)


def _put_back(place: Place, leads: str) -> None:
    """What a program had put in the place of what was expected."""
    made, draft = place.made, place.draft
    try:
        exchange(draft, made)
    except FileNotFoundError:
        # It has moved our link meanwhile, and meant this: the link leads to it from now on.
        if leads == str(place.own) and is_elsewhere(place):
            with suppress(OSError):
                draft.replace(place.own)
        return
    if not is_link_to(draft, leads) and modified(draft) >= modified(made):
        exchange(draft, made)  # it has replaced our link: that is newer


def _bear_witness(link: Path, witness: Path) -> None:
    with suppress(OSError):
        make_folders(witness.parent)
        witness.unlink(missing_ok=True)
        os.link(link, witness, follow_symlinks=False)


def attest(place: Place) -> None:
    """A link that is there already gets its second name, unless it has it."""
    if not is_same(place.made, place.witness) and place.made.is_symlink():
        _bear_witness(place.made, place.witness)


def attested(home: Path) -> Iterator[str]:
    """Paths of links that have been put in a copy, whatever was written down since."""
    witnesses = home.parent / WITNESSES
    for folder, folders, names in os.walk(witnesses):
        for name in [*names, *(one for one in folders if os.path.islink(os.path.join(folder, one)))]:
            yield os.path.relpath(os.path.join(folder, name), witnesses)


def is_elsewhere(place: Place) -> bool:
    """Whether a link that stood in the copy has been moved, so that its second name is not the only one."""
    with suppress(OSError):
        found = place.witness.lstat()
        return stat.S_ISLNK(found.st_mode) and found.st_nlink > (2 if is_same(place.made, place.witness) else 1)
    return False


def _tidy(folder: Path) -> None:
    """Remove a folder with all that it holds, as far as that is nothing but folders."""
    for one, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            os.rmdir(one)


# -- what a program has made ------------------------------------------------------------------------


def move_file(place: Place, *, replaces: bool) -> bool:
    """Give a file the application's name, and leave a link; whether that is done. Raises OSError.

    replaces: it is a newer one of the same, unless the application's was written after this one was put here, as by
    another release in the same moment. Of two that came to be independently, the newer one stays, and the other is
    kept under another name.
    """
    made, own = place.made, place.own
    for _ in range(ATTEMPTS_MAX):
        if not is_same(made, own):
            if is_folder(own):
                if not replaces:
                    return False  # whose is meant cannot be known from here
                own.rename(aside(own, modified(own)))
            if os.path.lexists(own):
                overtaken = _put(made) < modified(own)
                if overtaken if replaces else modified(made) < modified(own):
                    return _give_way(place)
                if not replaces:
                    _link_or_copy(own, aside(own, modified(made)))
            draft = own.with_name(DRAFT)
            draft.unlink(missing_ok=True)
            try:
                os.link(made, draft, follow_symlinks=False)
            except FileNotFoundError:
                return False
            except OSError:
                return _move_by_copying(place, draft)
            draft.replace(own)
        if put_link(place, own, lambda path: is_same(path, own)):
            return True
        if not _is_file(made):
            return False
        replaces = True
    return False


def _give_way(place: Place) -> bool:
    """What is in the copy is kept under another name."""
    made, own = place.made, place.own
    before = made.lstat()
    kept = aside(own, before.st_mtime_ns)
    _link_or_copy(made, kept)
    if put_link(place, own, lambda path: is_same(path, kept) or _is_unaltered(path, before)):
        return True
    kept.unlink()
    return False


def _move_by_copying(place: Place, draft: Path) -> bool:
    """To another file system, or to one without hard links: what is written to meanwhile has to wait."""
    made, own = place.made, place.own
    before = made.lstat()
    if not stat.S_ISREG(before.st_mode) or time.time() - before.st_mtime < REST_SECONDS:
        return False
    _copy(made, draft)
    if not _is_unaltered(made, before):
        draft.unlink()
        return False
    draft.replace(own)
    return put_link(place, own, lambda path: _is_unaltered(path, before))


def _copy(source: Path, target: Path) -> None:
    """With its times, mode and owner; all of it or nothing."""
    try:
        shutil.copy2(source, target, follow_symlinks=False)
        with suppress(OSError):
            found = source.lstat()
            os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _link_or_copy(source: Path, target: Path) -> None:
    """A second name, or a copy where there can be none."""
    if is_same(source, target):
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        _copy(source, target)


def move_folder(place: Place, *, replaces: bool) -> bool:
    """A folder without code, as a whole; where there is one already, what is in it. Raises OSError.

    replaces: a program has put it in the place of a link, so that a file of its name is kept under another one.
    """
    made, own = place.made, place.own
    if is_link_to(own, str(own)):
        own.unlink()  # of somebody who was killed between the two steps below
    if _is_file(own) and replaces:
        own.rename(aside(own, modified(own)))
    if not os.path.lexists(own):
        own.symlink_to(own)
        try:
            exchange(made, own)
        except OSError as error:
            own.unlink()
            if error.errno != errno.EXDEV:
                made.rename(own)
                made.symlink_to(own)
                return True
            own.mkdir(mode=stat.S_IMODE(made.stat().st_mode))
        else:
            return True
    if not own.is_dir():
        return False
    for name in sorted(os.listdir(made)):
        one = place.below(name)
        if is_folder(one.made):
            move_folder(one, replaces=False)
        elif not one.made.is_symlink():
            move_file(one, replaces=False)
        elif not os.path.lexists(one.own):
            one.own.symlink_to(os.readlink(one.made))
    _tidy(place.draft)
    make_folders(place.draft.parent)
    place.draft.symlink_to(own)
    try:
        exchange(place.draft, made)
        if not _emptied(place.draft):  # somebody was faster: the next look moves it
            exchange(place.draft, made)
            return False
        shutil.rmtree(place.witness, ignore_errors=True)  # those of what was in it
        return True
    finally:
        if place.draft.is_symlink():
            place.draft.unlink()


def _emptied(folder: Path) -> bool:
    """Remove a folder of links; whether nothing else was in it."""
    for name in os.listdir(folder):
        entry = folder / name
        if entry.is_symlink():
            entry.unlink()
        elif not is_folder(entry) or not _emptied(entry):
            return False
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def rename(old: Place, new: Place) -> bool:
    """What a program has renamed in a copy is renamed in the application's folder; whether it has the new name there.

    Raises OSError.
    """

    def is_ours(path: Path) -> bool:
        return is_link_to(path, str(old.own))

    if not is_ours(new.made):
        return False
    if not is_link_to(old.own, str(new.own)) and not is_same(old.own, new.own):  # else somebody was killed meanwhile
        if is_folder(new.own) or (is_folder(old.own) and os.path.lexists(new.own)):
            new.own.rename(aside(new.own, modified(new.own)))
        new.own.parent.mkdir(parents=True, exist_ok=True)
        try:
            if is_folder(old.own):
                new.own.symlink_to(new.own)
                exchange(old.own, new.own)
            else:
                draft = new.own.with_name(DRAFT)
                draft.unlink(missing_ok=True)
                os.link(old.own, draft, follow_symlinks=False)
                draft.replace(new.own)
        except FileNotFoundError:
            raise
        except OSError:
            if is_link_to(new.own, str(new.own)):
                new.own.unlink()
            old.own.replace(new.own)
    put_link(new, new.own, is_ours)
    if is_link_to(old.own, str(new.own)) or is_same(old.own, new.own):
        old.own.unlink()
    old.witness.unlink(missing_ok=True)
    return True


def recover(home: Path, root: Path) -> None:
    """What somebody who was killed has left below DRAFTS goes back to its place, or beside what is newer."""
    drafts = home.parent / DRAFTS
    if not drafts.is_dir():
        return
    for folder, folders, files in os.walk(drafts, topdown=False):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*files, *links]:
            with suppress(OSError):
                _recover(place_of(home, root, os.path.relpath(os.path.join(folder, name), drafts)))
        with suppress(OSError):
            os.rmdir(folder)


def _recover(place: Place) -> None:
    made, own, draft, _ = place
    if is_same(draft, own) or is_link_to(draft, str(own)):
        draft.unlink()
    elif is_link_to(made, str(own)) and modified(own) <= _put(draft):
        exchange(draft, made)
        if is_link_to(draft, str(own)):
            draft.unlink()
    elif is_elsewhere(place) and _is_file(draft) and modified(own) <= _put(draft):
        draft.replace(own)  # a program has moved our link, and meant this
    else:
        own.parent.mkdir(parents=True, exist_ok=True)
        if not (draft.is_symlink() and os.path.lexists(own)):
            _link_or_copy(draft, aside(own, modified(draft)) if os.path.lexists(own) else own)
        draft.unlink()


# -- what is there ----------------------------------------------------------------------------------


def aside(own: Path, stamp: int) -> Path:
    """A free name for what another one of its name has replaced."""
    while True:
        end = f".before-{stamp}"
        kept = own.with_name(os.fsdecode(os.fsencode(own.name)[: NAME_BYTES_MAX - len(end)]) + end)
        if not os.path.lexists(kept) or is_same(kept, own):
            return kept
        stamp += 1


def is_folder(path: Path) -> bool:
    """A folder, and no link to one."""
    with suppress(OSError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def _is_file(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def is_link_to(path: Path, leads: str) -> bool:
    """Whether a link leads there, word by word."""
    with suppress(OSError):
        return os.readlink(path) == leads
    return False


def is_same(one: Path, other: Path) -> bool:
    """Whether two names are of one file; a link is one of its own."""
    with suppress(OSError):
        return os.path.samestat(one.lstat(), other.lstat())
    return False


def _is_unaltered(path: Path, before: os.stat_result) -> bool:
    with suppress(OSError):
        found = path.lstat()
        return os.path.samestat(found, before) and (found.st_size, found.st_mtime_ns) == (
            before.st_size,
            before.st_mtime_ns,
        )
    return False


def modified(path: Path) -> int:
    """When a file was written to (ns); 0 where it is not."""
    with suppress(OSError):
        return path.lstat().st_mtime_ns
    return 0


def _put(path: Path) -> int:
    """When a file got its name, or was altered, whichever was later (ns)."""
    with suppress(OSError):
        return path.lstat().st_ctime_ns
    return 0
