"""SHELL. Snapshots: copies of the code as it was when a release was made, from which it runs.

    .fissile/code/<digest of the files>/<name of the application's folder>/…

What is not code belongs to the application, and is linked into the copy (`app_data.links`).
"""

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.releases.digest import digest
from fissile.releases.fingerprint import LOCKS, code_files, listings_of, mode_of
from fissile.releases.listing import Listing, is_there, shown
from fissile.releases.manifest import MANIFEST, Item, Manifest
from fissile.releases.private import PRIVATE_FILE, PRIVATE_FOLDER, make_folders, private, write_private
from fissile.settings.schema import FILE_NAME, Settings

BYTECODE = "__pycache__"
# All files are read again this often if one changes meanwhile.
ATTEMPTS_MAX = 4
# Larger files are not kept in memory between reading and writing.
IN_MEMORY_BYTES_MAX = 256 * 1024
# ioctl_ficlone(2): the new file shares the blocks of the old one until either is written to.
FICLONE = 0x40049409


class CodeFiles(msgspec.Struct, frozen=True):
    """Which files of a folder are code.

    python: what components import and read. others: lock files and settings. services: the files of each service that
    lists its own.
    """

    python: tuple[str, ...]
    others: tuple[str, ...]
    services: dict[str, Listing]

    @property
    def paths(self) -> set[str]:
        """All files, and links that stay within the folder."""
        return {*self.python, *self.others, *(path for one in self.services.values() for path in one.files)}


class FileRead(msgspec.Struct, frozen=True):
    """A file as it was read. item: None for a link. content: None if it is large. leads: the target of a link."""

    item: Item | None
    mode: int = 0
    content: bytes | None = None
    leads: str = ""


class FileChanging(Exception):
    """A file was written to while it was read."""


def find_code(root: Path, settings: Settings, data: Collection[str] = ()) -> CodeFiles:
    """Find the code in a folder. data: paths that programs have written to. Raises ConfigError."""
    data = frozenset(data)
    names = (*LOCKS, FILE_NAME, settings.file)
    return CodeFiles(
        tuple(path for path in code_files(root) if path not in data),
        tuple(name for name in dict.fromkeys(names) if name and is_there(root, name, [])),
        listings_of(root, settings, data),
    )


def read_code(root: Path, found: CodeFiles) -> dict[str, FileRead]:
    """Read the code, without files that are gone by now. Raises ConfigError if files keep changing."""
    changing = ""
    for _ in range(ATTEMPTS_MAX):
        taken: dict[str, FileRead] = {}
        try:
            for path in sorted(found.paths):
                one = _read_file(root, path)
                if one is not None:
                    taken[path] = one
        except FileChanging as error:
            changing = str(error)
            continue
        return taken
    raise keeps_changing(changing)


def keeps_changing(path: str) -> ConfigError:
    """The error for a file that cannot be copied because it is written to all the time."""
    return ConfigError(
        f"{shown(path)} is written to while it is copied",
        remedy="wait until it is written; if a program writes it, it is not code: have git ignore it, or set "
        "code = [...] in the service's table",
    )


def _read_file(root: Path, path: str) -> FileRead | None:
    file = root / path
    try:
        before = file.lstat()
        if stat.S_ISLNK(before.st_mode):
            leads = _leads(root, path)
            return FileRead(None, leads=leads) if leads else None
        if not stat.S_ISREG(before.st_mode):
            return None
        with file.open("rb") as opened:
            content = opened.read() if before.st_size <= IN_MEMORY_BYTES_MAX else None
            found = _sum(content) if content is not None else hashlib.file_digest(opened, "sha256").hexdigest()[:16]
            after = os.fstat(opened.fileno())
    except FileNotFoundError:
        return None
    except PermissionError:
        return None  # reported when it was listed
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FileChanging(path)
    return FileRead(Item(after.st_size, after.st_mtime_ns, found + mode_of(after.st_mode)), after.st_mode, content)


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _leads(root: Path, path: str) -> str:
    """The relative target of a link in a copy: the same place within it; "" if that is not in the folder."""
    text = os.readlink(root / path)
    folder = os.path.dirname(path)
    inside = os.path.normpath(os.path.join(folder, text))
    if not os.path.isabs(text) and not inside.startswith(".."):
        return text
    real, top = os.path.realpath(root / path), os.path.realpath(root)
    return os.path.relpath(os.path.relpath(real, top), folder or ".") if real.startswith(f"{top}/") else ""


def copy_name(found: CodeFiles, taken: Mapping[str, FileRead]) -> str:
    """The name of a copy: a digest of its files, and of which of them are whose code."""
    lines = [f"{shown(path)} {one.item.digest if one.item else shown(one.leads)}" for path, one in taken.items()]
    lines += [f"[{name}] {one.rule} {len(one.files)}" for name, one in found.services.items()]
    return digest("\n".join(lines))[:16]


def write_copy(folder: Path, name: str, root: Path, found: CodeFiles, taken: Mapping[str, FileRead]) -> None:
    """Write a copy of what was read. Raises OSError, or ConfigError if a file has changed since.

    It gets its name last, with all that is in it: after a kill there is a whole copy or none.
    """
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
            make_folders(target.parent / BYTECODE)  # else the first import makes it, with the permissions of its umask
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
    listed = {name: _only_read(one, taken) for name, one in found.services.items()}
    python = tuple(path for path in found.python if path in taken)
    write_private(draft / MANIFEST, Manifest(items, links, python, listed).encoded())
    shutil.rmtree(folder / name, ignore_errors=True)
    draft.rename(folder / name)


def _only_read(listing: Listing, taken: Collection[str]) -> Listing:
    return msgspec.structs.replace(listing, files=tuple(path for path in listing.files if path in taken))


def _copy_large(source: Path, target: Path, path: str, item: Item) -> None:
    """Copy a file within the kernel if the file system can do that."""
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
            raise keeps_changing(path)
