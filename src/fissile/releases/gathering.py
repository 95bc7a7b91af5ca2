"""What running code makes beside itself is moved to the application's folder: it outlives every release.

In the copy stands a link in its place, and at every instant both paths lead to the same file. What programs do to
such a link is done to the application's file: replaced by another (as editors save, by rename), renamed, deleted if a
program had made it. A file of code that a program writes to is data from then on, in this release and all later ones.

A file that was first seen in this look is moved by the next: most temporary files are renamed or gone by then. Nothing
may be moved between the files of an SQLite database that is in use (https://www.sqlite.org/howtocorrupt.html, 2.4):
its log (-wal) and the index of it (-shm) are there before it is, under both names; its rollback journal follows it once
nobody holds a lock by which it is written.
"""

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

from fissile.formats import FISSILE, head_of
from fissile.formats import WRITTEN as WRITTEN_FORMAT
from fissile.releases.copies import CACHE, COMPANIONS, JOURNAL, PACKAGES, SHM, WAL, link_one, replace_private
from fissile.releases.manifest import Manifest, OtherCopy, manifest
from fissile.releases.placing import (
    DRAFT,
    Place,
    aside,
    attest,
    attested,
    is_elsewhere,
    is_folder,
    is_link_to,
    is_same,
    modified,
    move_file,
    move_folder,
    place_of,
    put_link,
    recover,
    rename,
)

LINKS = "links.json"
WRITTEN = "written.json"
# Paths that programs have made; more count as code, if nothing ignores them.
REMEMBERED_MAX = 200_000
# So many are looked after each time whether they are still there; more, seldom.
LOOKED_AFTER_MAX = 5000
SAID_MAX = 1000
# A folder that was altered so shortly before it was read may have been altered again at the same time of its clock.
CLOCK_SECONDS = 0.05
# So many files of code are looked at each time whether a program has written to them; more, seldom.
LOOKED_AT_MAX = 2000
SELDOM = 20
# Of what stands in folders without code, where a link is looked for that a program has moved.
SEARCHED_MAX = 1_000_000
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
    # Where folders are that programs have removed.
    aside: dict[str, str] = {}
    format: int = WRITTEN_FORMAT.number
    fissile: str = FISSILE


class _Links:
    """Paths that stand as links in a copy, by their folder."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_folder: dict[str, set[str]] = {}
        # Whether they were altered since they were written down.
        self.news = False
        for path in paths:
            self.add(path)
        self.news = False

    def __contains__(self, path: str) -> bool:
        return path in self._by_folder.get(path.rpartition("/")[0], ())

    def __iter__(self) -> Iterator[str]:
        for paths in self._by_folder.values():
            yield from paths

    def within(self, folder: str) -> set[str]:
        """A set of its own, of those in this folder, but not in those below it."""
        return set(self._by_folder.get(folder, ()))

    def add(self, path: str) -> None:
        """One more."""
        paths = self._by_folder.setdefault(path.rpartition("/")[0], set())
        self.news |= path not in paths
        paths.add(path)

    def discard(self, path: str) -> None:
        """One less."""
        paths = self._by_folder.get(path.rpartition("/")[0], set())
        self.news |= path in paths
        paths.discard(path)


class _Home(msgspec.Struct):
    """A copy, as it was when it was looked at last. folders: when each was altered (ns)."""

    path: Path
    manifest: Manifest
    parents: frozenset[str]
    links: _Links
    folders: dict[str, int] = {}
    # First seen by the last look.
    young: set[str] = set()
    looks: int = 0
    # Links that a program has moved to where they were not found so far.
    lost: set[str] = set()


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
        self._changes = 0

    def move(self, root: Path) -> None:
        """The application's folder is another one from now on."""
        self._root = root

    def check(self) -> None:
        """Whether what programs have made is known here. Raises OtherCopy."""
        self._known()

    @property
    def data(self) -> list[str]:
        """Paths that programs have written to, or made. Raises OtherCopy."""
        written = self._known()
        return [*written.made, *written.code]

    def _known(self) -> Written:
        """Raises OtherCopy: it is no cache, because nobody else knows what of the folder programs have made."""
        if self._written is None:
            self._written = self._read()
        return self._written

    def _read(self) -> Written:
        file, found = self._code / WRITTEN, Written()
        try:
            data = file.read_bytes()
        except OSError:
            return found
        head = head_of(data)
        if not WRITTEN_FORMAT.reads(head.format):
            raise OtherCopy(
                f"{file} was written by {WRITTEN_FORMAT.strange(head.format, head.fissile)}",
                remedy="go on with that version; or remove that file: what programs have made beside the code, and "
                "nothing ignores, counts as code then",
            )
        with suppress(msgspec.DecodeError, UnicodeError):
            raw = msgspec.json.decode(data, type=Written)
            found.made = {_path(path): None for path in raw.made}
            found.code = {_path(path): None for path in raw.code}
            found.aside = {_path(path): _path(kept) for path, kept in raw.aside.items()}
        return found

    def look(self, homes: Iterable[Path], *, at_once: bool) -> list[str]:
        """Move what was made in these copies; its paths. at_once: what was first seen now as well.

        Where another Fissile has written what is known of them, nothing is moved, and it is said.
        """
        moved: list[str] = []
        try:
            self._known()
        except OtherCopy as error:
            self._say_once(f"what programs make stays in the copies of releases: {error}")
            return moved
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
            for one in _links_in(home, self._root):
                home.links.add(one)
            for one in self._known().made:
                if one in home.links:
                    attest(self._place(home, one))
            home.folders.clear()
            self._keep_links(home, always=True)

    # -- one copy ---------------------------------------------------------------------------------

    def _home(self, path: Path) -> _Home | None:
        home = self._homes.get(path)
        if home is None:
            try:
                known = manifest(path)
            except OtherCopy as error:
                self._say_once(str(error))
                return None
            if known is None:
                return None
            parents = {parent for one in (*known.files, *known.links) for parent in _parents(one)}
            links: set[str] = set()
            with suppress(OSError, msgspec.DecodeError, UnicodeError):
                raw = msgspec.json.decode((path.parent / LINKS).read_bytes(), type=list[str])
                links = set(map(_path, raw))
            links.update(attested(path))
            home = self._homes[path] = _Home(path, known, frozenset({"", *parents}), _Links(links))
        return home

    def _keep_links(self, home: _Home, *, always: bool = False) -> None:
        """Whoever supervises next knows what stood here as a link."""
        if not home.links.news and not always:
            return
        with suppress(OSError):
            replace_private(home.path.parent / LINKS, msgspec.json.encode(list(map(_raw, home.links))))
            home.links.news = False

    def _gathered(self, home: _Home, *, at_once: bool) -> list[str]:
        recover(home.path, self._root)
        seen = self._look_at(home, at_once=at_once)
        moved: list[str] = []
        news = [*seen.made, *(new for _, new in seen.renamed)]
        if news:
            # Before anything is moved: a kill between would leave files of which nobody knows that they are no code.
            for path in news:
                if path in home.manifest.files:
                    self._known().code[path] = None
                else:
                    self._made(path)
            try:
                self._write()
            except OSError as error:
                home.folders.clear()
                self._say_once(
                    f"what programs make stays in the copy of a release: {WRITTEN} cannot be written: {error}"
                )
                return []
        gone = set(seen.gone).difference(old for old, _ in seen.renamed)
        for old, new in self._in_order(home, seen.renamed):
            try:
                if not rename(self._place(home, old), self._place(home, new)):
                    continue
            except OSError as error:
                self._say_once(f"{old} cannot be renamed to {new} in {self._root}: {error.strerror}")
                continue
            if old not in seen.made:
                home.links.discard(old)
            home.links.add(new)
            moved.append(new)
        lost: set[str] = set()
        for path in sorted({*gone, *seen.made}):
            if is_elsewhere(self._place(home, path)) and not self._follow_link(home, path, seen):
                lost.add(path)
        home.lost = lost
        for path in gone - lost:
            self._delete(home, path)
        for path in sorted(set(seen.made) - lost, key=_with_companions):
            try:
                if self._move(home, path, seen.made):
                    moved.append(path)
                    home.links.add(path)
                else:
                    home.folders.pop(path.rpartition("/")[0], None)  # once more by the next look
            except OSError as error:
                home.folders.pop(path.rpartition("/")[0], None)
                self._say_once(
                    f"{path} cannot be moved to {self._root}: {error.strerror}; it stays in the copy of a release"
                )
        return moved

    def _in_order(self, home: _Home, renamed: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """So that none takes the place of another that is still to be renamed, as when logs are rotated."""
        left = dict(renamed)
        while left:
            free = [old for old, new in left.items() if new not in left]
            for old in free:
                yield old, left.pop(old)
            if not free:  # they go round in a circle
                old, new = left.popitem()
                with suppress(OSError):
                    left[self._room(home, old, new)] = new

    def _room(self, home: _Home, old: str, new: str) -> str:
        """Have a file that was renamed make room for another one that takes its name; what it is called meanwhile."""
        own = self._root / old
        kept = aside(own, modified(own))
        room = os.path.join(os.path.dirname(old), kept.name)
        home.links.add(room)
        self._keep_links(home)  # a kill from here on leaves one that was renamed
        try:
            os.link(own, kept, follow_symlinks=False)
        except OSError:
            own.rename(kept)
        put_link(self._place(home, new), kept, lambda found: is_link_to(found, str(own)))
        return room

    def _place(self, home: _Home, path: str) -> Place:
        return place_of(home.path, self._root, path)

    def _follow_link(self, home: _Home, path: str, seen: _Seen) -> bool:
        """A program has moved a link to where no other look finds it, into a folder without code: the file follows.

        Whether nothing is left to be done.
        """
        place = self._place(home, path)
        known = [one for one in home.links if (self._root / one).is_dir()]
        folders = [self._root / one for one in known] + [home.path / one for one in seen.made]
        found = _find(folders, place.witness.lstat().st_ino)
        if found is not None and is_link_to(found, str(place.own)):
            if is_folder(place.own):
                return True
            draft = found.with_name(DRAFT)
            draft.unlink(missing_ok=True)
            os.link(place.own, draft, follow_symlinks=False)
            draft.replace(found)
        elif path not in home.lost:
            home.folders.clear()  # perhaps it was moved between two folders during this look
            return False
        elif path in self._known().made:
            # Somewhere its link leads to it: a new one of this name must not take its place.
            kept = aside(place.own, modified(place.own))
            place.own.rename(kept)
            self._say_once(f"{path} was moved out of the folder by a program, as a link: it is {kept.name} now")
        place.witness.unlink(missing_ok=True)
        return True

    def _say_once(self, text: str) -> None:
        if text not in self._said and len(self._said) < SAID_MAX:
            self._said.add(text)
            self._say(os.fsencode(text).decode("utf-8", "backslashreplace"))

    def _look_at(self, home: _Home, *, at_once: bool) -> _Seen:
        """What a program has done here since the last look."""
        seen = _Seen([], [], [])
        young: set[str] = set()
        now = time.time_ns()
        for folder in sorted(home.parents):
            try:
                altered = os.lstat(f"{home.path}/{folder}".rstrip("/"))
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
        missing = home.links.within(folder)
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
        link, top = f"{home.path}/{path}", f"{self._root}/"
        leads = os.readlink(link)
        if leads == f"{top}{path}":
            if os.path.lexists(leads):
                home.links.add(path)
            else:  # deleted there: who wants to make it anew is not to be in the way of itself
                with suppress(FileNotFoundError):
                    os.unlink(link)
                with suppress(OSError):
                    self._place(home, path).witness.unlink()
                home.links.discard(path)
            return
        old = leads.removeprefix(top)
        if leads.startswith(top) and old in home.links and not is_link_to(home.path / old, leads):
            seen.renamed.append((old, path))
        elif path in home.links and leads.startswith("/") and leads.endswith(f"/{path}"):
            pass  # ours, to the folder that the application had before
        elif path not in home.links or not leads.startswith(top):
            seen.made.append(path)

    def _look_at_code(self, home: _Home, seen: _Seen, young: set[str], *, at_once: bool) -> None:
        """Whether programs have written to files of code."""
        for path, item in home.manifest.files.items():
            if path in home.links:
                continue
            try:
                # No Path: each part of one enters the interpreter's table of names, several times a second.
                found = os.lstat(f"{home.path}/{path}")
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
        place = self._place(home, path)
        made, own = place.made, place.own
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
            if path in home.links and path in self._known().made and is_folder(own):
                self._put_aside(path)
            done = move_folder(place, replaces=path in home.links)
        else:
            companions = [(Path(f"{made}{one}"), Path(f"{own}{one}")) for one in (WAL, SHM)]
            for beside, its in companions:
                _share(beside, its, instead=not os.path.lexists(own))
            done = move_file(place, replaces=replaces)
            for beside, its in companions:
                _share(beside, its)
                if is_same(beside, its):
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
        return not (_is_hot(journal) and _is_locked(home.path / path))

    def _move_link(self, home: _Home, path: str) -> bool:
        """A link that a program has made: the application's leads to the same place."""
        place = self._place(home, path)
        own, leads = place.own, os.readlink(place.made)
        if os.path.lexists(own) and not own.is_symlink():
            if path not in home.links:
                return False
            own.rename(aside(own, modified(own)))
        ours = leads
        if leads.startswith(f"{home.path}/"):
            ours = f"{self._root}/{leads.removeprefix(f'{home.path}/')}"
        draft = own.with_name(DRAFT)
        draft.unlink(missing_ok=True)
        draft.symlink_to(ours)
        draft.replace(own)
        put_link(place, own, lambda found: is_link_to(found, leads))
        self._made(path)
        return True

    def _delete(self, home: _Home, path: str) -> None:
        """A program has deleted a link: with it goes what a program had made; all else is put back."""
        place = self._place(home, path)
        own = place.own
        with suppress(OSError):
            if not place.made.parent.is_dir() or os.path.lexists(place.made):
                return  # the next look sees what a program has put there since
            if path in self._known().made and not _is_being_removed(home, path):
                if is_folder(own):
                    self._put_aside(path)
                else:
                    own.unlink(missing_ok=True)
                place.witness.unlink(missing_ok=True)
                self._known().made.pop(path, None)
                home.links.discard(path)
            elif os.path.lexists(own):
                place.made.symlink_to(own)
                attest(place)
                self._say_once(f"{path} was deleted by a program, and is put back: it belongs to the application")
            else:
                place.witness.unlink(missing_ok=True)
                home.links.discard(path)

    def _put_aside(self, path: str) -> None:
        """A folder that a program had made, and has removed with all that was in it: the last one of each is kept.

        What removes a link cannot have seen what is in the folder.
        """
        own, known = self._root / path, self._known()
        kept = aside(own, modified(own))
        own.rename(kept)
        before = known.aside.get(path)
        known.aside[path] = os.path.join(os.path.dirname(path), kept.name)
        with suppress(OSError):
            self._write()
        if before:
            shutil.rmtree(self._root / before, ignore_errors=True)
        self._say_once(
            f"{path} was removed by a program: what was in it is in {known.aside[path]}, until the next time"
        )

    def _link_there(self, home: _Home, path: str) -> None:
        """What was moved from one copy stands in all others."""
        target, own = home.path / path, self._root / path
        if any(path.endswith(one) and Path(str(own).removesuffix(one)).is_file() for one in COMPANIONS):
            return
        if not target.parent.is_dir():
            return
        known = home.manifest.files.get(path)
        if not os.path.lexists(target) and os.path.lexists(own):
            link_one(self._root, path, home.path)
        elif known is not None and not target.is_symlink() and _is_still(target, known.size, known.modified):
            put_link(self._place(home, path), own, lambda found: _is_still(found, known.size, known.modified))
        if target.is_symlink():
            home.links.add(path)
            attest(self._place(home, path))

    def _made(self, path: str) -> None:
        made = self._known().made
        if len(made) < REMEMBERED_MAX:
            made[path] = None
        elif path not in made:
            self._say_once(
                f"programs have made more than {REMEMBERED_MAX} files beside the code: those made from now on may be "
                "taken for code; have git ignore them, or say code = [...] in the service's table"
            )

    def _remember(self) -> None:
        known = self._known()
        self._changes += 1
        seldom = len(known.made) > LOOKED_AFTER_MAX and self._changes % SELDOM
        for paths in (known.made, known.code) if not seldom else (known.code,):
            for path in [path for path in paths if not os.path.lexists(self._root / path)]:
                del paths[path]
        with suppress(OSError):
            self._write()

    def _write(self) -> None:
        """Raises OSError."""
        known = self._known()
        raw = Written(
            {_raw(path): None for path in known.made},
            {_raw(path): None for path in known.code},
            {_raw(path): _raw(kept) for path, kept in known.aside.items()},
        )
        replace_private(self._code / WRITTEN, msgspec.json.encode(raw))


def _raw(path: str) -> str:
    return path if path.isascii() else os.fsencode(path).decode("latin-1")


def _path(raw: str) -> str:
    return raw if raw.isascii() else os.fsdecode(raw.encode("latin-1"))


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _links_in(home: _Home, root: Path) -> Iterator[str]:
    for folder in home.parents:
        with suppress(OSError), os.scandir(home.path / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink():
                    with suppress(OSError):
                        if os.readlink(entry.path) == f"{root}/{path}":
                            yield path


def _is_being_removed(home: _Home, path: str) -> bool:
    """Whether somebody removes the copy itself: then the code beside is gone as well."""
    folder = path.rpartition("/")[0]
    beside = (one for one in home.manifest.files if one.rpartition("/")[0] == folder)
    return not all(os.path.lexists(home.path / one) for one in beside)


def _find(folders: Iterable[Path], number: int) -> Path | None:
    """The link of this inode below folders."""
    todo, left = list(folders), SEARCHED_MAX
    while todo and left > 0:
        with suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                left -= 1
                if entry.is_symlink():
                    if entry.inode() == number:
                        return Path(entry.path)
                elif entry.name not in SKIPPED and entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))
    return None


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


def _share(made: Path, own: Path, *, instead: bool = False) -> None:
    """Give a file a second name, if it is there. instead: of what has that name, and is of a file that is gone."""
    with suppress(OSError):
        if stat.S_ISREG(made.lstat().st_mode):
            if instead and own.exists() and not is_same(made, own):
                own.rename(f"{own}.before-{modified(made)}")
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
