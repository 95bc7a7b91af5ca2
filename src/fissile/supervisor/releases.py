"""The releases of an application, each with its code as it was: what a rollback needs, after all has changed.

    .fissile/code/<digest of the files>/<name of the application's folder>/…
    .fissile/releases/<release>.json

Code runs from its copy, never from the folder that people edit. What is not code is the application's own and
belongs to no release: in the copy stand links to it. What running code makes beside itself, a database above all,
is therefore moved to the application's folder, and linked (`gather`): it outlives every release.
"""

import ctypes
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from pathlib import Path, PurePosixPath

import msgspec

from fissile.errors import ConfigError
from fissile.orchestrator.code import digest
from fissile.orchestrator.packages import Installed
from fissile.orchestrator.release import Release
from fissile.runtime.settings import FILE_NAME, Settings
from fissile.supervisor.logfiles import private
from fissile.supervisor.source import (
    EXECUTABLE,
    LOCKS,
    MANIFEST,
    SKIPPED,
    code_files,
    command_files,
    manifest,
)
from fissile.supervisor.state import CODE, PRIVATE_FILE, PRIVATE_FOLDER

RELEASES = "releases"
NAME_CHARACTERS_MIN = 4
NEVER_LINKED = frozenset({".fissile", ".git", *SKIPPED})
CACHE = "__pycache__"
NOTHING = Installed()
AT_FDCWD, RENAME_EXCHANGE = -100, 2


class Kept(msgspec.Struct, frozen=True):
    """A release that is kept. made: seconds of the wall clock. code: the digest of its files. installed: what it was
    made with, which lies elsewhere.
    """

    release: Release
    made: float
    code: str
    file: str
    profile: str
    app: str
    installed: Installed = Installed()

    @property
    def name(self) -> str:
        """Of the release."""
        return self.release.name


class BuildLine(msgspec.Struct, frozen=True):
    """What a list tells of a build."""

    name: str


class ReleaseLine(msgspec.Struct, frozen=True):
    """What a list tells of a release: none of its parts and contracts, which are large."""

    topology: str
    builds: dict[str, BuildLine]


class KeptLine(msgspec.Struct, frozen=True):
    """A line of the list of releases that are kept."""

    name: str
    release: ReleaseLine
    made: float
    code: str


class _Line(msgspec.Struct, frozen=True):
    release: ReleaseLine
    made: float
    code: str


class Releases:
    """Of one application. state: its folder .fissile; root: where people edit it."""

    def __init__(self, state: Path, root: Path) -> None:
        self._code = state / CODE
        self._folder = state / RELEASES
        self._root = root

    def copy(self, settings: Settings) -> Settings:
        """Copy the code that the settings' folder holds now; the settings with the copy as their folder.

        Raises ConfigError where it cannot be written.
        """
        root = Path(settings.root)
        try:
            files = sorted({*(root / path for path in code_files(root)), *_others(root, settings)})
            found = [(file.relative_to(root).as_posix(), file.read_bytes()) for file in files]
            name = digest("\n".join(f"{path} {digest(data)}{_mode(root / path)}" for path, data in found))[:16]
            if not (self._code / name / MANIFEST).exists():
                self._write(name, root, found)
            home = self._home(name)
            _link(root, home)
            self._link_disks(home, settings)
        except OSError as error:
            raise ConfigError(
                f"the code cannot be copied to {self._code}: {error}",
                remedy="make room on the disk; nothing was touched",
            ) from None
        return msgspec.structs.replace(settings, root=str(home))

    def _home(self, code: str) -> Path:
        """Where the files of a copy are: named as the application's folder was when it was made."""
        named = self._code / code / self._root.name
        if not named.is_dir():
            with suppress(OSError):
                return next((entry for entry in sorted(named.parent.iterdir()) if entry.is_dir()), named)
        return named

    def _write(self, name: str, root: Path, found: list[tuple[str, bytes]]) -> None:
        draft = self._code / f"{name}.new"
        shutil.rmtree(draft, ignore_errors=True)
        home = draft / root.name
        _make_folders(home)
        for path, content in found:
            target = home / path
            _make_folders(target.parent)
            if target.suffix == ".py":
                _make_folders(target.parent / CACHE)  # else importing makes it, for everybody
            _write(target, content)
            shutil.copystat(root / path, target)
            target.chmod(PRIVATE_FOLDER if _mode(root / path) else PRIVATE_FILE)
        _write(draft / MANIFEST, msgspec.json.encode([path for path, _ in found]))
        shutil.rmtree(self._code / name, ignore_errors=True)
        draft.rename(self._code / name)

    def _link_disks(self, home: Path, settings: Settings) -> None:
        """Folders that replicas may write to are the application's own from the beginning."""
        for service in settings.services.values():
            for path in service.limits.disk or ():
                own, link = self._root / path, home / path
                if own.is_dir() and not os.path.lexists(link):
                    _make_folders(link.parent)
                    link.symlink_to(own)

    def gather(self, roots: Iterable[str]) -> list[str]:
        """Move what the code in these folders has made beside itself to the application's folder.

        Each of them finds it there, by a link. Returns what was moved.
        """
        homes = [self._home(code) for code in sorted(self._copies(roots))]
        moved: list[str] = []
        for home in homes:
            code = manifest(home)
            if code is not None:
                with suppress(OSError):
                    moved += self._gathered(home, home, set(code))
        for home in homes:
            with suppress(OSError):
                _link(self._root, home)
                _link_each(self._root, home, moved)
        return moved

    def _copies(self, roots: Iterable[str]) -> set[str]:
        """Which copies folders of code are, or are in."""
        code = self._code.resolve()
        paths = [Path(root).resolve() for root in roots]
        return {path.relative_to(code).parts[0] for path in paths if path != code and path.is_relative_to(code)}

    def relink(self, settings: Settings) -> None:
        """A copy that is to serve again finds what the application has made since."""
        with suppress(OSError):
            _link(self._root, Path(settings.root))

    def _gathered(self, home: Path, folder: Path, code: set[str]) -> Iterator[str]:
        """Moved are whole folders without code, and files; their links take their places at once."""
        for entry in sorted(folder.iterdir()):
            path = entry.relative_to(home).as_posix()
            if entry.is_symlink() or entry.name in SKIPPED or path in code:
                continue
            if entry.is_dir() and any(name.startswith(f"{path}/") for name in code):
                yield from self._gathered(home, entry, code)
            elif _exchange(entry, self._root / path):
                yield path

    def record(self, release: Release, settings: Settings, installed: Installed = NOTHING) -> None:
        """Remember a release that was loaded from its copy. Raises ConfigError."""
        code = Path(settings.root).parent.name
        kept = Kept(release, time.time(), code, settings.file, settings.profile, settings.app, installed)
        try:
            _make_folders(self._folder)
            draft = self._folder / f"{release.name}.new"
            _write(draft, msgspec.json.encode(kept))
            draft.rename(self._folder / f"{release.name}.json")
        except OSError as error:
            raise ConfigError(
                f"the release cannot be written to {self._folder}: {error}", remedy="make room on the disk"
            ) from None

    def all(self) -> list[KeptLine]:
        """Those that are kept, newest first. What another version wrote is left out."""
        found: list[KeptLine] = []
        for file in self._folder.glob("*.json"):
            with suppress(OSError, msgspec.DecodeError):
                line = msgspec.json.decode(file.read_bytes(), type=_Line)
                found.append(KeptLine(file.stem, line.release, line.made, line.code))
        return sorted(found, key=lambda kept: kept.made, reverse=True)

    def find(self, name: str) -> Kept:
        """A release by its name or the beginning of it. Raises ConfigError."""
        kept = self.all()
        found = [one for one in kept if one.name.startswith(name) and len(name) >= NAME_CHARACTERS_MIN]
        if len(found) == 1:
            with suppress(OSError, msgspec.DecodeError):
                return msgspec.json.decode((self._folder / f"{found[0].name}.json").read_bytes(), type=Kept)
        known = ", ".join(one.name for one in kept) or "none"
        why = "is the beginning of several" if found else "is not kept: it never was deployed, or it was pruned"
        raise ConfigError(f"release {name!r} {why}", remedy=f"those that are kept: {known} (see `fissile releases`)")

    def settings(self, kept: Kept) -> Settings:
        """Whose folder is the copy of a release's code; to be read anew."""
        root = self._home(kept.code)
        if not root.is_dir():
            raise ConfigError(f"the code of release {kept.name} is gone from {root}", remedy="deploy another release")
        return Settings(app=kept.app, root=str(root.resolve()), file=kept.file, profile=kept.profile)

    def prune(self, keep: int, serving: Iterable[str], roots: Iterable[str]) -> list[str]:
        """Remove all but the newest ones and those that serve; the names of those removed.

        roots: folders of code that are read from, whatever release they are of.
        """
        serving, used = set(serving), self._copies(roots)
        kept = self.all()
        spare = [one for one in kept if one.name not in serving and one.code not in used][keep:]
        left = {one.code for one in kept if one not in spare} | used
        for one in spare:
            (self._folder / f"{one.name}.json").unlink(missing_ok=True)
        for folder in self._code.glob("*"):
            if folder.name not in left:
                shutil.rmtree(folder, ignore_errors=True)
        return [one.name for one in spare]

    def remove(self, name: str) -> None:
        """Forget a release."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)

    def forget(self, settings: Settings, roots: Iterable[str]) -> None:
        """Remove a copy that no release came of, if nobody reads from it (roots)."""
        left = {one.code for one in self.all()} | self._copies(roots)
        for code in self._copies([settings.root]) - left:
            shutil.rmtree(self._code / code, ignore_errors=True)


def _others(root: Path, settings: Settings) -> Iterator[Path]:
    """What belongs to a release beside what Python imports."""
    for name in (*LOCKS, FILE_NAME, settings.file):
        if name and (root / name).is_file():
            yield root / name
    for service in settings.services.values():
        yield from (file for file in command_files(root, service) if file.is_relative_to(root))


def _make_folders(folder: Path) -> None:
    """A private folder, and those above it that are not there."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def _write(path: Path, content: bytes) -> None:
    """A private file."""
    with open(path, "wb", opener=private) as file:
        file.write(content)


def _mode(path: Path) -> str:
    return " executable" if path.stat().st_mode & EXECUTABLE else ""


def _link(root: Path, copy: Path) -> None:
    """Beside what was copied, links to what is no code. Code that came later is of another release."""
    code = code_files(root)
    folders = {parent.as_posix() for path in code for parent in PurePosixPath(path).parents}
    _link_within(root, root, copy, folders.union(code))


def _link_within(root: Path, source: Path, copy: Path, code: Set[str]) -> None:
    for entry in source.iterdir():
        target = copy / entry.name
        if target.is_dir() and not target.is_symlink():
            _link_within(root, entry, target, code)
        elif entry.relative_to(root).as_posix() in code or entry.name in NEVER_LINKED or entry.suffix == ".pyc":
            continue
        elif not os.path.lexists(target):
            target.symlink_to(entry)
        elif _leads_elsewhere(target, entry, root):
            draft = target.with_name(f"{entry.name}.new-link")
            draft.unlink(missing_ok=True)
            draft.symlink_to(entry)
            draft.replace(target)


def _leads_elsewhere(link: Path, own: Path, root: Path) -> bool:
    """Whether a link leads to the same place in another folder: this one was moved, or is a copy of that."""
    try:
        leads = os.readlink(link)
    except OSError:
        return False  # no link
    return leads != str(own) and leads.startswith("/") and leads.endswith(f"/{own.relative_to(root).as_posix()}")


def _link_each(root: Path, copy: Path, paths: Iterable[str]) -> None:
    for path in paths:
        target = copy / path
        if target.parent.is_dir() and not os.path.lexists(target):
            target.symlink_to(root / path)


def _exchange(made: Path, own: Path) -> bool:
    """Move a file or folder, and leave a link to it, so that nobody ever finds nothing there; whether it was moved.

    A newer file takes the place of the one that is there, which is kept under another name.
    """
    own.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(own):
        own.symlink_to(own)
        if _swap(made, own):
            return True
        own.unlink()
    elif made.is_dir() or not own.is_file() or made.stat().st_mtime_ns < own.stat().st_mtime_ns:
        return False  # two of the same name: whose is meant cannot be known from here
    else:
        own.replace(own.with_name(f"{own.name}.before-{made.stat().st_mtime_ns}"))
    made.replace(own)
    made.symlink_to(own)
    return True


def _swap(one: Path, other: Path) -> bool:
    """Exchange two names at once (renameat2(2)); whether the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    return rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0
