"""Copies of the code of releases: what is copied into them, and what stands in them as a link.

    .fissile/code/<digest of the files>/<name of the application's folder>/…

All that is not code is the application's own: in a copy stands a link to it. Where packages of a workspace are linked
into node_modules, the copy has a node_modules of its own, of links, so that those lead to the copy as well.
"""

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from pathlib import Path, PurePosixPath

import msgspec

from fissile.errors import ConfigError
from fissile.releases.fingerprint import LOCKS, code_files, listings_of, mode_of
from fissile.releases.listing import Listing, is_there, shown
from fissile.releases.manifest import MANIFEST, Item, Manifest
from fissile.releases.placing import DRAFT, is_folder, make_folders, place_of, put_link
from fissile.releases.private import PRIVATE_FILE, PRIVATE_FOLDER, private
from fissile.releases.slicing.reachability import digest
from fissile.settings.schema import FILE_NAME, Settings

CACHE = "__pycache__"
NEVER_LINKED = frozenset({".fissile", ".git", CACHE, DRAFT})
PACKAGES = "node_modules"
# Beside an SQLite database: found where the database itself is, and never through a link.
WAL, SHM, JOURNAL = COMPANIONS = ("-wal", "-shm", "-journal")
# Files that change while they are copied are read again, so often.
ATTEMPTS_MAX = 4
KEPT_BYTES_MAX = 256 * 1024
# ioctl_ficlone(2): the new file shares the blocks of the old one until either is altered.
FICLONE = 0x40049409


class Survey(msgspec.Struct, frozen=True):
    """What of a folder is code. python: what components import and read; others: what a release has beside it."""

    python: tuple[str, ...]
    others: tuple[str, ...]
    services: dict[str, Listing]

    @property
    def paths(self) -> set[str]:
        """Of all files, and of links that stay within the folder."""
        return {*self.python, *self.others, *(path for one in self.services.values() for path in one.files)}


class Taken(msgspec.Struct, frozen=True):
    """A file as it was read. content: None where it is large. leads: of a link."""

    item: Item | None
    mode: int = 0
    content: bytes | None = None
    leads: str = ""


class Changing(Exception):
    """A file was written to while it was read."""


def survey(root: Path, settings: Settings, data: Collection[str] = ()) -> Survey:
    """What is code in a folder. data: what programs have written to. Raises ConfigError."""
    data = frozenset(data)
    names = (*LOCKS, FILE_NAME, settings.file)
    return Survey(
        tuple(path for path in code_files(root) if path not in data),
        tuple(name for name in dict.fromkeys(names) if name and is_there(root, name, [])),
        listings_of(root, settings, data),
    )


def take(root: Path, found: Survey) -> dict[str, Taken]:
    """Read what is code; what went away meanwhile is left out. Raises ConfigError where files do not rest."""
    changing = ""
    for _ in range(ATTEMPTS_MAX):
        taken: dict[str, Taken] = {}
        try:
            for path in sorted(found.paths):
                one = _take(root, path)
                if one is not None:
                    taken[path] = one
        except Changing as error:
            changing = str(error)
            continue
        return taken
    raise restless(changing)


def restless(path: str) -> ConfigError:
    """The error of a file that cannot be copied, because somebody writes to it all the time."""
    return ConfigError(
        f"{shown(path)} is written to while it is copied",
        remedy="wait until it is written; if a program does that, its files are no code: have git ignore them, or say "
        "code = [...] in the service's table",
    )


def _take(root: Path, path: str) -> Taken | None:
    file = root / path
    try:
        before = file.lstat()
        if stat.S_ISLNK(before.st_mode):
            leads = _leads(root, path)
            return Taken(None, leads=leads) if leads else None
        if not stat.S_ISREG(before.st_mode):
            return None
        with file.open("rb") as opened:
            content = opened.read() if before.st_size <= KEPT_BYTES_MAX else None
            found = _sum(content) if content is not None else hashlib.file_digest(opened, "sha256").hexdigest()[:16]
            after = os.fstat(opened.fileno())
    except FileNotFoundError:
        return None
    except PermissionError:
        return None  # said where it was listed
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Changing(path)
    return Taken(Item(after.st_size, after.st_mtime_ns, found + mode_of(after.st_mode)), after.st_mode, content)


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _leads(root: Path, path: str) -> str:
    """Where a link is to lead in a copy: to the same place in it, from there; "" where that is not in the folder."""
    text = os.readlink(root / path)
    folder = os.path.dirname(path)
    inside = os.path.normpath(os.path.join(folder, text))
    if not os.path.isabs(text) and not inside.startswith(".."):
        return text
    real, top = os.path.realpath(root / path), os.path.realpath(root)
    return os.path.relpath(os.path.relpath(real, top), folder or ".") if real.startswith(f"{top}/") else ""


def name_of(found: Survey, taken: Mapping[str, Taken]) -> str:
    """The name of a copy: another for other files, and for the same ones that mean another code."""
    lines = [f"{shown(path)} {one.item.digest if one.item else shown(one.leads)}" for path, one in taken.items()]
    lines += [f"[{name}] {one.rule} {len(one.files)}" for name, one in found.services.items()]
    return digest("\n".join(lines))[:16]


def write(folder: Path, name: str, root: Path, found: Survey, taken: Mapping[str, Taken]) -> None:
    """Make a copy of what was read. Raises OSError, and ConfigError where a file has changed since."""
    draft = folder / f"{name}.new"
    shutil.rmtree(draft, ignore_errors=True)
    home = draft / root.name
    make_folders(home)
    items: dict[str, Item] = {}
    links: dict[str, str] = {}
    for path, one in taken.items():
        target = home / path
        make_folders(target.parent)
        if one.item is None:
            links[path] = one.leads
            continue
        if target.suffix == ".py":
            make_folders(target.parent / CACHE)  # else importing makes it, for everybody
        if one.content is not None:
            write_private(target, one.content)
        else:
            _copy_large(root / path, target, path, one.item)
        os.utime(target, ns=(one.item.modified, one.item.modified))
        target.chmod(PRIVATE_FOLDER if mode_of(one.mode) else PRIVATE_FILE)
        items[path] = one.item
    for path, leads in links.items():
        with suppress(FileExistsError):
            (home / path).symlink_to(leads)
    listed = {name: _there(one, taken) for name, one in found.services.items()}
    python = tuple(path for path in found.python if path in taken)
    write_private(draft / MANIFEST, Manifest(items, links, python, listed).encoded())
    shutil.rmtree(folder / name, ignore_errors=True)
    draft.rename(folder / name)


def _there(listing: Listing, taken: Collection[str]) -> Listing:
    return msgspec.structs.replace(listing, files=tuple(path for path in listing.files if path in taken))


def _copy_large(source: Path, target: Path, path: str, item: Item) -> None:
    """Without its bytes passing through here where the system can do that."""
    with source.open("rb") as old, open(target, "w+b", opener=private) as new:
        try:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
        except OSError:
            left = item.size
            with suppress(OSError, AttributeError):
                while left > 0 and (count := os.copy_file_range(old.fileno(), new.fileno(), left)):
                    left -= count
            shutil.copyfileobj(old, new)
        new.seek(0)
        if hashlib.file_digest(new, "sha256").hexdigest()[:16] != item.digest.partition(" ")[0]:
            raise restless(path)


def write_private(path: Path, content: bytes) -> None:
    """A private file."""
    with open(path, "wb", opener=private) as file:
        file.write(content)


def replace_private(path: Path, content: bytes) -> None:
    """A private file, the old one or the new one whenever somebody is killed or the disk is full. Raises OSError."""
    draft = path.with_name(f"{path.name}.new")
    try:
        write_private(draft, content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


# -- links ------------------------------------------------------------------------------------------


def link(root: Path, home: Path, code: Iterable[str]) -> None:
    """Beside what was copied, links to what is no code. code: of the folder now: what came later is of another release.

    What cannot be linked is left out.
    """
    code = set(code)
    folders = {parent.as_posix() for path in code for parent in PurePosixPath(path).parents}
    _link_within(root, "", home, folders.union(code))


def _link_within(root: Path, inside: str, home: Path, code: Set[str]) -> None:
    with os.scandir(root / inside) as found:
        entries = list(found)
    names = {entry.name for entry in entries}
    for entry in entries:
        path = f"{inside}/{entry.name}" if inside else entry.name
        with suppress(OSError):
            if entry.name == PACKAGES and _is_workspace(root, path):
                _link_packages(root, path, home)
            elif entry.is_dir(follow_symlinks=False) and is_folder(home / path):
                _link_within(root, path, home, code)
            elif path not in code and not _is_never_linked(entry.name, names):
                link_one(root, path, home)


def has_more(folder: Path, copy: Path) -> bool:
    """Whether there is anything in a folder for which the copy of it has no link yet."""
    with suppress(OSError):
        names = set(os.listdir(folder))
        return any(not _is_never_linked(name, names) for name in names.difference(os.listdir(copy)))
    return False


def _is_never_linked(name: str, beside: Set[str]) -> bool:
    companion = any(name.endswith(one) and name.removesuffix(one) in beside for one in COMPANIONS)
    return companion or name in NEVER_LINKED or name.endswith(".pyc")


def link_one(root: Path, path: str, home: Path) -> None:
    """A link to what the application has at a path, unless something is there. Raises OSError.

    Where a link has been, a program has moved or deleted it: that is for the next look (see gathering).
    """
    target, own = f"{home}/{path}", f"{root}/{path}"
    if not os.path.lexists(target):
        if not place_of(home, root, path).witness.is_symlink():
            os.symlink(own, target)
    elif _leads_elsewhere(target, path, root):
        put_link(place_of(home, root, path), root / path, lambda found: _leads_elsewhere(found, path, root))


def _leads_elsewhere(target: Path | str, path: str, root: Path) -> bool:
    """Whether a link leads to the same place in another folder: this one was moved, or is a copy of that."""
    try:
        leads = os.readlink(target)
    except OSError:
        return False  # no link
    return leads != f"{root}/{path}" and leads.startswith("/") and leads.endswith(f"/{path}")


def _entries(folder: Path) -> Iterator[str]:
    """Of a folder of packages, as "express" and "@me/library"."""
    for name in os.listdir(folder):
        if name.startswith("@"):
            yield from (f"{name}/{one}" for one in os.listdir(folder / name))
        else:
            yield name


def _is_workspace(root: Path, path: str) -> bool:
    """Whether packages in node_modules are links to the application's own folders, as npm makes them of a workspace."""
    folder = root / path
    return folder.is_dir() and any(_own_package(root, folder / name) for name in _entries(folder))


def _own_package(root: Path, package: Path) -> str:
    """Where in the application's folder a linked package is; "" for all others."""
    if not package.is_symlink():
        return ""
    real, top = os.path.realpath(package), os.path.realpath(root)
    inside = os.path.relpath(real, top)
    return inside if real.startswith(f"{top}/") and PACKAGES not in inside.split("/") else ""


def _link_packages(root: Path, path: str, home: Path) -> None:
    """Links to packages, one by one; to those of the application's own, as they are in the copy."""
    folder, target = root / path, home / path
    if target.is_symlink():
        target.unlink()
    make_folders(target)
    for name in _entries(folder):
        make_folders((target / name).parent)
        own = _own_package(root, folder / name)
        if not os.path.lexists(target / name):
            (target / name).symlink_to(home / own if own else folder / name)
