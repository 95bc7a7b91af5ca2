"""What running code makes beside itself is moved to the application's folder: it outlives every release.

In the copy stands a link in its place, and at every instant both paths lead to the same file. What programs do to
such a link is done to the application's file: replaced by another (as editors save, by rename), renamed, deleted if a
program had made it. A file of code that a program writes to is data from then on, in this release and all later ones.

A file that was first seen in this look is moved by the next: most temporary files are renamed or gone by then. Nothing
may be moved between the files of an SQLite database that is in use (https://www.sqlite.org/howtocorrupt.html, 2.4):
its log (-wal) and the index of it (-shm) are there before it is, under both names; its rollback journal follows it once
nobody holds a lock by which it is written.
"""

import ctypes
import fcntl
import os
import shutil
import stat
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.supervisor.copies import CACHE, COMPANIONS, DRAFT, JOURNAL, PACKAGES, SHM, WAL, put_link, write_private
from fissile.supervisor.manifest import Manifest, manifest

AT_FDCWD, RENAME_EXCHANGE = -100, 2
LINKS = "links.json"
WRITTEN = "written.json"
REMEMBERED_MAX = 10_000
# A folder that was altered so shortly before it was read may have been altered again at the same time of its clock.
CLOCK_SECONDS = 0.05
# So many files of code are looked at each time whether a program has written to them; more, seldom.
LOOKED_AT_MAX = 2000
SELDOM = 20
# Another file system holds the copy: only what nobody has written to for so long can be moved there.
REST_SECONDS = 2.0
# Of an SQLite database (https://www.sqlite.org/fileformat2.html, os_unix.c): the bytes that writers lock.
PENDING_BYTE, LOCK_BYTES = 0x4000_0000, 2
LOCK_FORMAT = "hhqqi4x"
# The beginning of a rollback journal; zeros where it is over.
JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
SKIPPED = frozenset({CACHE, PACKAGES, "site-packages", ".fissile", ".git", DRAFT})


class Written(msgspec.Struct):
    """What programs have made, and which files of code they have written to: by path from the folder on."""

    made: dict[str, None] = {}
    code: dict[str, None] = {}


class _Home(msgspec.Struct):
    """A copy, as it was when it was looked at last. folders: when each was altered (ns)."""

    path: Path
    manifest: Manifest
    parents: frozenset[str]
    links: set[str]
    # As they are written down.
    kept: set[str] = set()
    folders: dict[str, int] = {}
    # First seen by the last look.
    young: set[str] = set()
    looks: int = 0


class _Seen(msgspec.Struct):
    """What is found in a copy. renamed: (from, to)."""

    made: list[str] = []
    renamed: list[tuple[str, str]] = []
    gone: list[str] = []


class Gathering:
    """Of one application. code: the folder of its copies; root: its own folder; say: for what people should know."""

    def __init__(self, code: Path, root: Path, say: Callable[[str], None]) -> None:
        self._code = code
        self._root = root
        self._say = say
        self._homes: dict[Path, _Home] = {}
        self._said: set[str] = set()
        self._written: Written | None = None

    def move(self, root: Path) -> None:
        """The application's folder is another one from now on."""
        self._root = root

    @property
    def data(self) -> list[str]:
        """Paths that programs have written to, or made."""
        written = self._known()
        return [*written.made, *written.code]

    def _known(self) -> Written:
        if self._written is None:
            self._written = Written()
            with suppress(OSError, msgspec.DecodeError, UnicodeError):
                raw = msgspec.json.decode((self._code / WRITTEN).read_bytes(), type=Written)
                for path in raw.made:
                    self._written.made[_path(path)] = None
                for path in raw.code:
                    self._written.code[_path(path)] = None
        return self._written

    def look(self, homes: Iterable[Path], *, at_once: bool) -> list[str]:
        """Move what was made in these copies; its paths. at_once: what was first seen now as well."""
        moved: list[str] = []
        there = [home for path in homes if (home := self._home(path)) is not None]
        for home in there:
            with suppress(OSError):
                moved += self._gathered(home, at_once=at_once)
        for home in there:
            for path in moved:
                with suppress(OSError):
                    self._link_there(home, path)
            self._keep_links(home)
        if moved:
            self._remember()
        return moved

    def folders(self, home: Path) -> list[str]:
        """The folders of a copy that hold code, from it on."""
        known = self._home(home)
        return sorted(known.parents) if known is not None else []

    def forget(self, home: Path) -> None:
        """A copy is removed."""
        self._homes.pop(home, None)

    def linked(self, path: Path) -> None:
        """Links were made in a copy: which there are is found out anew."""
        home = self._home(path)
        if home is not None:
            # A link that a program has replaced since stays known: what stands there is newer, not of another origin.
            home.links |= set(_links_in(home, self._root))
            home.folders.clear()
            self._keep_links(home, always=True)

    # -- one copy ---------------------------------------------------------------------------------

    def _home(self, path: Path) -> _Home | None:
        home = self._homes.get(path)
        if home is None:
            known = manifest(path)
            if known is None:
                return None
            parents = {parent for one in (*known.files, *known.links) for parent in _parents(one)}
            links: set[str] = set()
            with suppress(OSError, msgspec.DecodeError, UnicodeError):
                raw = msgspec.json.decode((path.parent / LINKS).read_bytes(), type=list[str])
                links = set(map(_path, raw))
            home = self._homes[path] = _Home(path, known, frozenset({"", *parents}), links, set(links))
        return home

    def _keep_links(self, home: _Home, *, always: bool = False) -> None:
        """Whoever supervises next knows what stood here as a link."""
        if home.links == home.kept and not always:
            return
        with suppress(OSError):
            write_private(home.path.parent / LINKS, msgspec.json.encode(sorted(map(_raw, home.links))))
            home.kept = set(home.links)

    def _gathered(self, home: _Home, *, at_once: bool) -> list[str]:
        seen = self._look_at(home, at_once=at_once)
        moved: list[str] = []
        news = [path for path in (*seen.made, *(new for _, new in seen.renamed)) if path not in home.manifest.files]
        if news:
            # Before anything is moved: a kill between would leave files of which nobody knows that they are no code.
            for path in news:
                self._made(path)
            self._write()
        for old, new in _in_order(seen.renamed):
            with suppress(OSError):
                (self._root / old).replace(self._root / new)
                put_link(self._root / new, home.path / new)
                self._made(new)
                home.links.discard(old)
                home.links.add(new)
                moved.append(new)
        for path in seen.gone:
            self._delete(home, path)
        for path in sorted(seen.made, key=_with_companions):
            try:
                if self._move(home, path, seen.made):
                    moved.append(path)
                    home.links.add(path)
            except OSError as error:
                self._say_once(
                    f"{path} cannot be moved to {self._root}: {error.strerror}; it stays in the copy of a release"
                )
        return moved

    def _say_once(self, text: str) -> None:
        if text not in self._said and len(self._said) < REMEMBERED_MAX:
            self._said.add(text)
            self._say(os.fsencode(text).decode("utf-8", "backslashreplace"))

    def _look_at(self, home: _Home, *, at_once: bool) -> _Seen:
        """What a program has done here since the last look."""
        seen = _Seen([], [], [])
        young: set[str] = set()
        now = time.time_ns()
        for folder in sorted(home.parents):
            where = home.path / folder
            try:
                altered = where.lstat()
            except OSError:
                continue
            if not stat.S_ISDIR(altered.st_mode):
                continue
            if home.folders.get(folder) == altered.st_mtime_ns and not at_once:
                continue
            waits = self._look_in(home, folder, seen, young, at_once=at_once)
            if waits or now - altered.st_mtime_ns < CLOCK_SECONDS * 1e9:
                home.folders.pop(folder, None)  # once more by the next look
            else:
                home.folders[folder] = altered.st_mtime_ns
        home.looks += 1
        if at_once or len(home.manifest.files) <= LOOKED_AT_MAX or home.looks % SELDOM == 0:
            self._look_at_code(home, seen, young, at_once=at_once)
        home.young = young
        return seen

    def _look_in(self, home: _Home, folder: str, seen: _Seen, young: set[str], *, at_once: bool) -> bool:
        """In one folder; whether something there has to wait."""
        prefix = f"{folder}/" if folder else ""
        missing = {path for path in home.links if path.rpartition("/")[0] == folder}
        waits = False
        with os.scandir(home.path / folder) as found:
            entries = list(found)
        for entry in entries:
            path = prefix + entry.name
            if entry.name in SKIPPED:
                missing.discard(path)
                continue
            if entry.is_symlink():
                missing.discard(path)
                if home.manifest.links.get(path) is None:
                    self._look_at_link(home, path, seen)
            elif path in home.parents or path in home.manifest.files:
                missing.discard(path)
            elif at_once or path in home.young or path in home.links:
                seen.made.append(path)
                missing.discard(path)
            else:
                young.add(path)
                waits = True
                missing.discard(path)
        seen.gone += missing
        return waits

    def _look_at_link(self, home: _Home, path: str, seen: _Seen) -> None:
        """A link: ours, one of ours that a program renamed, or one that it made."""
        link = home.path / path
        leads = os.readlink(link)
        top = f"{self._root}/"
        if leads == f"{top}{path}":
            if os.path.lexists(leads):
                home.links.add(path)
            else:  # deleted there: who wants to make it anew is not to be in the way of itself
                link.unlink(missing_ok=True)
                home.links.discard(path)
            return
        old = leads.removeprefix(top)
        if leads.startswith(top) and old in home.links and not _is_link_to(home.path / old, leads):
            seen.renamed.append((old, path))
        elif path not in home.links or not leads.startswith(top):
            seen.made.append(path)

    def _look_at_code(self, home: _Home, seen: _Seen, young: set[str], *, at_once: bool) -> None:
        """Whether programs have written to files of code."""
        for path, item in home.manifest.files.items():
            if path in home.links:
                continue
            try:
                found = (home.path / path).lstat()
            except OSError:
                continue
            if not stat.S_ISREG(found.st_mode) or (found.st_size, found.st_mtime_ns) == (item.size, item.modified):
                continue
            if at_once or path in home.young:
                seen.made.append(path)
            else:
                young.add(path)

    # -- one file ---------------------------------------------------------------------------------

    def _move(self, home: _Home, path: str, others: list[str]) -> bool:
        """Make what stands at a path of a copy the application's; whether it is now."""
        made, own = home.path / path, self._root / path
        if not self._may_move(home, path, others):
            return False
        code = home.manifest.files.get(path)
        if code is not None:
            self._known().code[path] = None
        replaces = path in home.links or (code is not None and _is_still(own, code.size, code.modified))
        own.parent.mkdir(parents=True, exist_ok=True)
        if made.is_symlink():
            return self._move_link(home, path)
        if made.is_dir():
            done = _move_folder(made, own)
        else:
            companions = [(Path(f"{made}{one}"), Path(f"{own}{one}")) for one in (WAL, SHM)]
            for beside, its in companions:
                _share(beside, its, instead=not os.path.lexists(own))
            done = _move_file(made, own, replaces=replaces)
            for beside, its in companions:
                _share(beside, its)
                if _same(beside, its):
                    beside.unlink(missing_ok=True)
        if code is None:
            self._made(path)
        return done

    def _may_move(self, home: _Home, path: str, others: list[str]) -> bool:
        """Whether a file can be moved now without parting the files of a database."""
        for companion in COMPANIONS:
            base = path.removesuffix(companion)
            if base == path or not base:
                continue
            if base in others or not (home.path / base).is_symlink():
                # With its database; but a journal comes first, while nobody writes.
                return companion == JOURNAL and (home.path / base).is_file() and not _is_locked(home.path / base)
            if companion == JOURNAL:
                return _is_hot(home.path / path) and not _is_locked(home.path / base)
            return not (self._root / path).exists()
        journal = home.path / f"{path}{JOURNAL}"
        return not (journal.exists() and _is_hot(journal) and _is_locked(home.path / path))

    def _move_link(self, home: _Home, path: str) -> bool:
        """A link that a program has made: the application's leads to the same place."""
        own, leads = self._root / path, os.readlink(home.path / path)
        if os.path.lexists(own) and not own.is_symlink():
            return False
        if leads.startswith(f"{home.path}/"):
            leads = f"{self._root}/{leads.removeprefix(f'{home.path}/')}"
        put_link(leads, own)
        put_link(own, home.path / path)
        self._made(path)
        return True

    def _delete(self, home: _Home, path: str) -> None:
        """A program has deleted a link: with it goes what a program had made; all else is put back."""
        own = self._root / path
        with suppress(OSError):
            if not (home.path / path).parent.is_dir() or os.path.lexists(home.path / path):
                return  # the next look sees what a program has put there since
            if path in self._known().made and not own.is_dir():
                own.unlink(missing_ok=True)
                self._known().made.pop(path, None)
                home.links.discard(path)
            elif os.path.lexists(own):
                (home.path / path).symlink_to(own)
                self._say_once(f"{path} was deleted by a program, and is put back: it belongs to the application")
            else:
                home.links.discard(path)

    def _link_there(self, home: _Home, path: str) -> None:
        """What was moved from one copy stands in all others."""
        target, own = home.path / path, self._root / path
        if any(path.endswith(one) and Path(str(own).removesuffix(one)).is_file() for one in COMPANIONS):
            return
        if not target.parent.is_dir():
            return
        known = home.manifest.files.get(path)
        if not os.path.lexists(target) and os.path.lexists(own):
            target.symlink_to(own)
        elif known is not None and not target.is_symlink() and _is_still(target, known.size, known.modified):
            put_link(own, target)  # it is no code any more
        if target.is_symlink():
            home.links.add(path)

    def _made(self, path: str) -> None:
        made = self._known().made
        if len(made) < REMEMBERED_MAX:
            made[path] = None

    def _remember(self) -> None:
        known = self._known()
        for paths in (known.made, known.code):
            for path in [path for path in paths if not os.path.lexists(self._root / path)]:
                del paths[path]
        self._write()

    def _write(self) -> None:
        known = self._known()
        raw = Written({_raw(path): None for path in known.made}, {_raw(path): None for path in known.code})
        with suppress(OSError):
            write_private(self._code / WRITTEN, msgspec.json.encode(raw))


def _raw(path: str) -> str:
    return os.fsencode(path).decode("latin-1")


def _path(raw: str) -> str:
    return os.fsdecode(raw.encode("latin-1"))


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _links_in(home: _Home, root: Path) -> Iterator[str]:
    for folder in home.parents:
        with suppress(OSError), os.scandir(home.path / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink() and _is_link_to(home.path / path, f"{root}/{path}"):
                    yield path


def _is_link_to(path: Path, leads: str) -> bool:
    with suppress(OSError):
        return os.readlink(path) == leads
    return False


def _in_order(renamed: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """So that none takes the place of another that is still to be renamed, as when logs are rotated."""
    left = dict(renamed)
    while left:
        free = [old for old, new in left.items() if new not in left]
        for old in free or list(left)[:1]:
            yield old, left.pop(old)


def _with_companions(path: str) -> tuple[str, int]:
    """Journals come before their database, and it before what is moved with it."""
    for order, companion in ((0, JOURNAL), (2, WAL), (3, SHM)):
        if path.endswith(companion):
            return path.removesuffix(companion), order
    return path, 1


def _is_still(path: Path, size: int, modified: int) -> bool:
    with suppress(OSError):
        found = path.lstat()
        return stat.S_ISREG(found.st_mode) and (found.st_size, found.st_mtime_ns) == (size, modified)
    return False


def _same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(one.lstat(), other.lstat())
    return False


def _share(made: Path, own: Path, *, instead: bool = False) -> None:
    """Give a file a second name, if it is there. instead: of what has that name, and is of a file that is gone."""
    with suppress(OSError):
        if stat.S_ISREG(made.lstat().st_mode):
            if instead and own.exists() and not _same(made, own):
                own.rename(f"{own}.before-{_modified(made)}")
            os.link(made, own, follow_symlinks=False)


def _is_hot(journal: Path) -> bool:
    """Whether a rollback journal holds what a transaction has overwritten."""
    with suppress(OSError), journal.open("rb") as file:
        return file.read(len(JOURNAL_MAGIC)) == JOURNAL_MAGIC
    return False


def _is_locked(database: Path) -> bool:
    """Whether somebody is about to write to an SQLite database (fcntl_locking(2), F_GETLK)."""
    with suppress(OSError), database.open("rb") as file:
        asked = struct.pack(LOCK_FORMAT, fcntl.F_RDLCK, os.SEEK_SET, PENDING_BYTE, LOCK_BYTES, 0)
        found = fcntl.fcntl(file, fcntl.F_GETLK, asked)
        return struct.unpack(LOCK_FORMAT, found)[0] != fcntl.F_UNLCK
    return False


def _move_file(made: Path, own: Path, *, replaces: bool) -> bool:
    """Give a file the application's name, and leave a link. replaces: it is a newer one of the same, unless the
    application's was written after this one was put here, as by another release in the same moment.

    Of two that came to be independently, the newer one stays, and the other is kept under another name.
    """
    if _same(made, own):
        _put_link_for(made, own)
        return True
    if own.is_dir() and not own.is_symlink():
        return False  # whose is meant cannot be known from here
    kept = own.with_name(f"{own.name}.before-{_modified(made)}")
    overtaken = _put(made) < _modified(own)
    if os.path.lexists(own) and (overtaken or not replaces):
        if overtaken if replaces else _modified(made) < _modified(own):
            made.rename(kept)
            made.symlink_to(own)
            return True
        own.rename(kept)
    draft = own.with_name(DRAFT)
    draft.unlink(missing_ok=True)
    try:
        os.link(made, draft, follow_symlinks=False)
    except OSError:
        return _move_by_copying(made, own, draft)
    draft.replace(own)
    _put_link_for(made, own)
    return True


def _put_link_for(made: Path, own: Path) -> None:
    """A link in the place of a file that has both names; what has replaced it meanwhile replaces the other, too."""
    draft = made.with_name(DRAFT)
    draft.unlink(missing_ok=True)
    draft.symlink_to(own)
    if not _swap(draft, made):
        draft.replace(made)
    elif _same(draft, own):
        draft.unlink()
    else:
        draft.replace(own)


def _move_by_copying(made: Path, own: Path, draft: Path) -> bool:
    """To another file system, or to one without hard links: what is written to meanwhile has to wait."""
    before = made.lstat()
    if not stat.S_ISREG(before.st_mode) or time.time() - before.st_mtime < REST_SECONDS:
        return False
    shutil.copy2(made, draft)
    if not _is_still(made, before.st_size, before.st_mtime_ns):
        draft.unlink()
        return False
    draft.replace(own)
    put_link(own, made)
    return True


def _modified(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_mtime_ns
    return 0


def _put(path: Path) -> int:
    """When a file got its name, or was altered, whichever was later (ns)."""
    with suppress(OSError):
        return path.lstat().st_ctime_ns
    return 0


def _move_folder(made: Path, own: Path) -> bool:
    """A folder without code, as a whole; where there is one already, what is in it."""
    if _is_link_to(own, str(own)):
        own.unlink()  # of somebody who was killed between the two steps below
    if not os.path.lexists(own):
        own.symlink_to(own)
        if _swap(made, own):
            return True
        own.unlink()
        shutil.move(made, own)
        made.symlink_to(own)
        return True
    if not own.is_dir():
        return False
    for name in sorted(os.listdir(made)):
        entry, target = made / name, own / name
        if entry.is_dir() and not entry.is_symlink():
            _move_folder(entry, target)
        elif not entry.is_symlink():
            _move_file(entry, target, replaces=False)
    put = made.with_name(DRAFT)
    put.unlink(missing_ok=True)
    put.symlink_to(own)
    if not _swap(put, made):
        put.unlink()
        return False
    left = [name for name in os.listdir(put) if not (put / name).is_symlink()]
    if left:  # somebody was faster: the next look moves it
        _swap(put, made)
        put.unlink()
        return False
    shutil.rmtree(put, ignore_errors=True)
    return True


def _swap(one: Path, other: Path) -> bool:
    """Exchange two names at once (renameat2(2)); whether the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    return rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0
