"""SHELL. The copies of the code of one application, with their links to data: made, kept up to date, removed.

    .fissile/code/<digest of the files>/<name of the application's folder>/…

Code runs from its copy, never from the folder that people edit. What is not code belongs to the application and to no
release: it is linked into the copies, and whatever running code makes beside itself, a database above all, is moved to
the application's folder and linked (`app_data`).
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.releases.app_data.links import has_more, link
from fissile.releases.app_data.moves import RESERVED_NAMES
from fissile.releases.app_data.writeback import Writeback
from fissile.releases.fingerprint import uncounted
from fissile.releases.listing import shown
from fissile.releases.manifest import MANIFEST, manifest
from fissile.releases.private import make_folders
from fissile.releases.snapshot import copy_name, find_code, read_code, write_copy
from fissile.settings.schema import Settings

# How often the application's folder is checked for what people have put beside the code.
FOLLOW_SECONDS = 2.0


class _LinkedCopy(msgspec.Struct):
    """A copy that may be in use.

    mtimes: when the application's folders were last changed that it has links into (ns). checked_at: monotonic
    seconds. root: the application's folder then.
    """

    settings: Settings
    mtimes: dict[str, int]
    checked_at: float
    root: Path


class CodeCopies:
    """The copies of one application. folder: where they are. root: the folder that people edit. say: tells them.

    May be used by several threads.
    """

    def __init__(self, folder: Path, root: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._root = root
        self._writeback = Writeback(folder, root, say)
        self._linked: dict[Path, _LinkedCopy] = {}
        # Held while files move: two threads that move the same file would each take the other for a program. Reentrant,
        # because writing back may link a copy anew.
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<CodeCopies {self._folder} of {self._root}>"

    def set_root(self, root: Path) -> None:
        """The application's folder is another one from now on, as when a link to it is switched."""
        with self._lock:
            self._root = root
            self._writeback.set_root(root)

    def check(self) -> None:
        """Check that what is known of data can be read. Raises UnreadableCopy."""
        with self._lock:
            self._writeback.check()

    def make(self, settings: Settings) -> Settings:
        """Copy the code that the settings' folder holds now; the settings with the copy as their folder.

        Raises ConfigError if it cannot be written, or if the folder holds more than code.
        """
        root = Path(settings.root)
        try:
            with self._lock:
                found = find_code(root, settings, self._writeback.data)
                read = read_code(root, found)
                name = copy_name(found, read)
                if not (self._folder / name / MANIFEST).exists():
                    write_copy(self._folder, name, root, found, read)
                home = self.home(name)
                link(root, home, found.paths)
                self._link_writable(home, settings)
                self._note_links(home, settings)
        except OSError as error:
            raise ConfigError(
                f"the code cannot be copied to {self._folder}: {_reason(error)}",
                remedy="make room on the disk, or check its permissions; nothing was changed",
            ) from None
        return msgspec.structs.replace(settings, root=str(home))

    def home(self, name: str) -> Path:
        """Where the files of a copy are: in a folder named as the application's was when the copy was made."""
        named = self._folder / name / self._root.name
        if not named.is_dir():
            with suppress(OSError):
                folders = [one for one in sorted(named.parent.iterdir()) if one.is_dir()]
                return next((one for one in folders if one.name not in RESERVED_NAMES), named)
        return named

    def _link_writable(self, home: Path, settings: Settings) -> None:
        """Link the folders that replicas may write to: they are the application's from the beginning."""
        for service in settings.services.values():
            for path in service.limits.disk or ():
                own, disk = self._root / path, home / path
                if own.is_dir() and not disk.is_symlink() and not disk.exists():
                    make_folders(disk.parent)
                    disk.symlink_to(own)

    def names(self) -> list[str]:
        """The names of all copies."""
        return [one.name for one in self._folder.glob("*") if one.is_dir()]

    def holding(self, roots: Iterable[str]) -> set[str]:
        """The names of the copies that some folders are, or are in."""
        code = self._folder.resolve()
        paths = [Path(root).resolve() for root in roots]
        return {path.relative_to(code).parts[0] for path in paths if path != code and path.is_relative_to(code)}

    def write_back(self, roots: Iterable[str] | None = None, *, at_once: bool = True) -> list[str]:
        """Move what the code in these folders has made beside itself to the application's folder; the paths moved.

        Every copy finds it there, by a link. roots: None for all copies. at_once: also what was not there at the last
        scan.
        """
        with self._lock:
            names = self.holding(roots) if roots is not None else {one.name for one in self._folder.glob("*")}
            homes = [self.home(name) for name in sorted(names)]
            moved = self._writeback.run(homes, at_once=at_once)
            for home in homes:
                self._follow(home, at_once=at_once)
        return sorted(dict.fromkeys(map(shown, moved)))

    def relink(self, settings: Settings) -> None:
        """Link what the application has made since into a copy that is to serve again. Raises UnreadableCopy."""
        home = Path(settings.root)
        here = msgspec.structs.replace(settings, root=str(self._root))
        with suppress(OSError), self._lock:
            code: set[str] = set()
            with suppress(ConfigError):  # too large by now: the names of its files are not needed
                code = find_code(self._root, here, self._writeback.data).paths
            known = manifest(home)
            link(self._root, home, code.union(known.files if known is not None else ()))
            self._note_links(home, settings)

    def _note_links(self, home: Path, settings: Settings) -> None:
        self._writeback.note_links(home)
        self._linked[home] = _LinkedCopy(settings, self._mtimes(home), time.monotonic(), self._root)

    def _mtimes(self, home: Path) -> dict[str, int]:
        """When the application's folders were last changed that a copy has links into."""
        found: dict[str, int] = {}
        for folder in self._writeback.folders(home):
            with suppress(OSError):
                found[folder] = (self._root / folder).stat().st_mtime_ns
        return found

    def _follow(self, home: Path, *, at_once: bool) -> None:
        """Link what people have put beside the code, and is not code, into a copy that is in use."""
        one = self._linked.get(home)
        if one is None or (not at_once and time.monotonic() < one.checked_at + FOLLOW_SECONDS):
            return
        mtimes = self._mtimes(home)
        changed = [folder for folder, when in mtimes.items() if one.mtimes.get(folder) != when]
        if one.root != self._root or any(has_more(self._root / folder, home / folder) for folder in changed):
            self.relink(msgspec.structs.replace(one.settings, root=str(home)))
        else:  # changed by us: what was moved there has its link already
            one.mtimes, one.checked_at = mtimes, time.monotonic()

    def remove(self, name: str) -> None:
        """Remove a copy, after what was made in it has been moved to the application's folder."""
        with self._lock:
            home = self.home(name)
            self._writeback.run([home], at_once=True)
            self._writeback.forget(home)
            self._linked.pop(home, None)
            shutil.rmtree(self._folder / name, ignore_errors=True)


def describe(settings: Settings) -> tuple[str, ...]:
    """Which files of a copy are the code of which service, in words."""
    known = manifest(Path(settings.root))
    services = known.services if known is not None else {}
    found = [f"code of {name}: {one.words}" for name, one in services.items()]
    notes = dict.fromkeys(note for one in services.values() for note in one.notes)
    return (*found, *notes, *uncounted_code(settings))


def uncounted_code(settings: Settings) -> tuple[str, ...]:
    """What programs of a copy run that is in no release because `code` does not name it, in words."""
    return tuple(uncounted(Path(settings.root), settings))


def _reason(error: OSError) -> str:
    """What went wrong, and with which file."""
    file = error.filename2 or error.filename
    name = shown(file) if isinstance(file, str) else ""
    return f"{error.strerror}{f': {name}' if name else ''}"
