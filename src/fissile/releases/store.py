"""The releases of an application, each with its code as it was: what a rollback needs, after all has changed.

    .fissile/code/<digest of the files>/<name of the application's folder>/…
    .fissile/releases/<release>.json

Code runs from its copy, never from the folder that people edit. What is not code is the application's own and
belongs to no release: in the copy stand links to it. What running code makes beside itself, a database above all,
is therefore moved to the application's folder, and linked (`gather`): it outlives every release.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.formats import FISSILE, RELEASE
from fissile.releases.app_data.links import has_more, link
from fissile.releases.app_data.moves import RESERVED_NAMES
from fissile.releases.app_data.writeback import Writeback
from fissile.releases.fingerprint import uncounted
from fissile.releases.listing import shown
from fissile.releases.manifest import MANIFEST, manifest
from fissile.releases.packages import Installed
from fissile.releases.private import CODE, make_folders, write_private
from fissile.releases.release import Release
from fissile.releases.snapshot import copy_name, find_code, read_code, write_copy
from fissile.settings.schema import Settings

RELEASES = "releases"
NAME_CHARACTERS_MIN = 4
NOTHING = Installed()
# How often it is looked what people have put beside the code.
FOLLOW_SECONDS = 2.0


class OtherRelease(ConfigError):
    """A release was deployed by another version of Fissile."""


class Kept(msgspec.Struct, frozen=True):
    """A release that is kept. made, deployed: when it was first and last begun with, in seconds of the wall clock.

    served: whether it ever had all requests; a record of an earlier Fissile does not say. code: the digest of its
    files. installed: what it was made with, which lies elsewhere. format: see `formats`; fissile: the version that
    deployed it.
    """

    release: Release
    made: float
    code: str
    file: str
    profile: str
    app: str
    installed: Installed = Installed()
    deployed: float = 0.0
    served: bool = True
    format: int = RELEASE.number
    fissile: str = FISSILE

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
    deployed: float
    served: bool


class _Followed(msgspec.Struct):
    """A copy that may be in use. altered: when each folder was that it has links into (ns); since: monotonic seconds;
    root: the application's folder then.
    """

    settings: Settings
    altered: dict[str, int]
    since: float
    root: Path


class _Line(msgspec.Struct, frozen=True):
    release: ReleaseLine
    made: float
    code: str
    deployed: float = 0.0
    served: bool = True


class _Head(msgspec.Struct, frozen=True):
    """What every version says of a release. One without a format is of the first. code: "" where it cannot be told."""

    format: int = 1
    fissile: str = ""
    code: str = ""

    @property
    def strange(self) -> str:
        """By whom it was written, in words, if not by one of this format; else ""."""
        return "" if RELEASE.reads(self.format) else RELEASE.strange(self.format, self.fissile)


def _head(data: bytes) -> _Head:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(data, type=_Head)
    return _Head()


class Releases:
    """Of one application. state: its folder .fissile; root: where people edit it; say: for what they should know.

    May be used by several threads.
    """

    def __init__(self, state: Path, root: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self._code = state / CODE
        self._folder = state / RELEASES
        self._root = root
        self._writeback = Writeback(self._code, root, say)
        self._turn = threading.RLock()
        self._followed: dict[Path, _Followed] = {}

    def move(self, root: Path) -> None:
        """The application's folder is another one from now on, as where a link to it was switched."""
        with self._turn:
            self._root = root
            self._writeback.set_root(root)

    def check(self) -> None:
        """Whether what is known of copies is to be understood here. Raises UnreadableCopy."""
        with self._turn:
            self._writeback.check()

    def copy(self, settings: Settings) -> Settings:
        """Copy the code that the settings' folder holds now; the settings with the copy as their folder.

        Raises ConfigError where it cannot be written, or where the folder holds more than code.
        """
        root = Path(settings.root)
        try:
            with self._turn:
                found = find_code(root, settings, self._writeback.data)
                taken = read_code(root, found)
                name = copy_name(found, taken)
                if not (self._code / name / MANIFEST).exists():
                    write_copy(self._code, name, root, found, taken)
                home = self._home(name)
                link(root, home, found.paths)
                self._link_disks(home, settings)
                self._linked(home, settings)
        except OSError as error:
            raise ConfigError(
                f"the code cannot be copied to {self._code}: {_told(error)}",
                remedy="make room on the disk, or see its permissions; nothing was touched",
            ) from None
        return msgspec.structs.replace(settings, root=str(home))

    def _home(self, code: str) -> Path:
        """Where the files of a copy are: named as the application's folder was when it was made."""
        named = self._code / code / self._root.name
        if not named.is_dir():
            with suppress(OSError):
                folders = [one for one in sorted(named.parent.iterdir()) if one.is_dir()]
                return next((one for one in folders if one.name not in RESERVED_NAMES), named)
        return named

    def _link_disks(self, home: Path, settings: Settings) -> None:
        """Folders that replicas may write to are the application's own from the beginning."""
        for service in settings.services.values():
            for path in service.limits.disk or ():
                own, disk = self._root / path, home / path
                if own.is_dir() and not disk.is_symlink() and not disk.exists():
                    make_folders(disk.parent)
                    disk.symlink_to(own)

    def gather(self, roots: Iterable[str] | None = None, *, at_once: bool = True) -> list[str]:
        """Move what the code in these folders has made beside itself to the application's folder; what was moved.

        None: in all copies. Each of them finds it there, by a link. at_once: what was not there at the last look, too.
        """
        with self._turn:
            copies = self._copies(roots) if roots is not None else {one.name for one in self._code.glob("*")}
            homes = [self._home(code) for code in sorted(copies)]
            moved = self._writeback.run(homes, at_once=at_once)
            for home in homes:
                self._follow(home, at_once=at_once)
        return sorted(dict.fromkeys(map(shown, moved)))

    def _copies(self, roots: Iterable[str]) -> set[str]:
        """Which copies folders of code are, or are in."""
        code = self._code.resolve()
        paths = [Path(root).resolve() for root in roots]
        return {path.relative_to(code).parts[0] for path in paths if path != code and path.is_relative_to(code)}

    def relink(self, settings: Settings) -> None:
        """A copy that is to serve again finds what the application has made since. Raises UnreadableCopy."""
        home = Path(settings.root)
        here = msgspec.structs.replace(settings, root=str(self._root))
        with suppress(OSError), self._turn:
            code: set[str] = set()
            with suppress(ConfigError):  # too large by now: its names are not needed
                code = find_code(self._root, here, self._writeback.data).paths
            known = manifest(home)
            link(self._root, home, code.union(known.files if known is not None else ()))
            self._linked(home, settings)

    def _linked(self, home: Path, settings: Settings) -> None:
        self._writeback.note_links(home)
        self._followed[home] = _Followed(settings, self._altered(home), time.monotonic(), self._root)

    def _altered(self, home: Path) -> dict[str, int]:
        """When the application's folders were altered that a copy has links into."""
        found: dict[str, int] = {}
        for folder in self._writeback.folders(home):
            with suppress(OSError):
                found[folder] = (self._root / folder).stat().st_mtime_ns
        return found

    def _follow(self, home: Path, *, at_once: bool) -> None:
        """What people put beside the code, and is none, stands in a copy that is in use, too."""
        one = self._followed.get(home)
        if one is None or (not at_once and time.monotonic() < one.since + FOLLOW_SECONDS):
            return
        altered = self._altered(home)
        changed = [folder for folder, when in altered.items() if one.altered.get(folder) != when]
        if one.root != self._root or any(has_more(self._root / folder, home / folder) for folder in changed):
            self.relink(msgspec.structs.replace(one.settings, root=str(home)))
        else:  # most often by us: what is moved stands in the copy already
            one.altered, one.since = altered, time.monotonic()

    def record(self, release: Release, settings: Settings, installed: Installed = NOTHING) -> None:
        """Remember a release that was loaded from its copy, and is begun with. Raises ConfigError."""
        code, now = Path(settings.root).parent.name, time.time()
        before = self._read(release.name)
        made, served = (before.made, before.served) if before is not None else (now, False)
        self._write(Kept(release, made, code, settings.file, settings.profile, settings.app, installed, now, served))

    def serve(self, name: str) -> None:
        """A release has all requests: from now on it is one to go back to. Raises ConfigError."""
        kept = self._read(name)
        if kept is not None and not kept.served:
            self._write(msgspec.structs.replace(kept, served=True))

    def _read(self, name: str) -> Kept | None:
        with suppress(OSError, msgspec.DecodeError):
            data = (self._folder / f"{name}.json").read_bytes()
            return None if _head(data).strange else msgspec.json.decode(data, type=Kept)
        return None

    def _others(self) -> dict[Path, _Head]:
        """Records that another version wrote: they stay, and the code that they are of."""
        found: dict[Path, _Head] = {}
        for file in self._folder.glob("*.json"):
            with suppress(OSError):
                head = _head(file.read_bytes())
                if head.strange:
                    found[file] = head
        return found

    def _spared(self, found: set[str]) -> bool:
        """Add the copies that other versions' releases are of; whether it is known which those are."""
        others = {head.code for head in self._others().values()}
        found |= others
        return "" not in others

    def _write(self, kept: Kept) -> None:
        try:
            make_folders(self._folder)
            draft = self._folder / f"{kept.name}.new"
            write_private(draft, msgspec.json.encode(kept))
            draft.rename(self._folder / f"{kept.name}.json")
        except OSError as error:
            raise ConfigError(
                f"the release cannot be written to {self._folder}: {error}", remedy="make room on the disk"
            ) from None

    def all(self) -> list[KeptLine]:
        """Those that are kept, newest first. What another version wrote is left out."""
        found: list[KeptLine] = []
        for file in self._folder.glob("*.json"):
            with suppress(OSError, msgspec.DecodeError):
                data = file.read_bytes()
                line = msgspec.json.decode(data, type=_Line)
                if _head(data).strange:
                    continue
                deployed = line.deployed or line.made
                found.append(KeptLine(file.stem, line.release, line.made, line.code, deployed, line.served))
        return sorted(found, key=lambda kept: kept.made, reverse=True)

    def told(self, settings: Settings) -> tuple[str, ...]:
        """Which files the services of a copy have whose code is listed, in words."""
        known = manifest(Path(settings.root))
        services = known.services if known is not None else {}
        found = [f"code of {name}: {one.words}" for name, one in services.items()]
        notes = dict.fromkeys(note for one in services.values() for note in one.notes)
        return (*found, *notes, *self.unnamed(settings))

    def unnamed(self, settings: Settings) -> tuple[str, ...]:
        """What programs of a copy run that is in no release, because their `code` does not name it, in words."""
        return tuple(uncounted(Path(settings.root), settings))

    def find(self, name: str) -> Kept:
        """A release by its name or the beginning of it. Raises OtherRelease, or ConfigError."""
        kept = self.all()
        found = [one for one in kept if one.name.startswith(name) and len(name) >= NAME_CHARACTERS_MIN]
        if len(found) == 1:
            whole = self._read(found[0].name)
            if whole is not None:
                return whole
        if not found and len(name) >= NAME_CHARACTERS_MIN:
            for file, head in self._others().items():
                if file.stem.startswith(name) and head.strange:
                    raise OtherRelease(
                        f"release {file.stem} was deployed by {head.strange}: see {file}",
                        remedy="go back to it with that version, or deploy its code with this one",
                    )
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
        """Remove all but those that serve and those that were deployed last; the names of those removed.

        One that never had all requests is none to go back to.
        roots: folders of code that are read from, whatever release they are of.
        """
        serving, used = set(serving), self._copies(roots)
        kept = sorted(self.all(), key=lambda one: one.deployed, reverse=True)
        idle = [one for one in kept if one.name not in serving]
        spare = [one for one in idle if one.served and one.code not in used][keep:]
        spare += [one for one in idle if not one.served]
        left = {one.code for one in kept if one not in spare} | used
        for one in spare:
            (self._folder / f"{one.name}.json").unlink(missing_ok=True)
        known = self._spared(left)
        for folder in self._code.glob("*"):
            if known and folder.name not in left and folder.is_dir():
                self._remove_copy(folder.name)
        return [one.name for one in spare]

    def forget(self, settings: Settings, roots: Iterable[str]) -> None:
        """Remove a copy that no release came of, if nobody reads from it (roots)."""
        left = {one.code for one in self.all()} | self._copies(roots)
        if self._spared(left):
            for code in self._copies([settings.root]) - left:
                self._remove_copy(code)

    def _remove_copy(self, code: str) -> None:
        """What was made in it is the application's first of all."""
        with self._turn:
            home = self._home(code)
            self._writeback.run([home], at_once=True)
            self._writeback.forget(home)
            self._followed.pop(home, None)
            shutil.rmtree(self._code / code, ignore_errors=True)


def _told(error: OSError) -> str:
    """What went wrong, and with which file."""
    file = error.filename2 or error.filename
    name = shown(file) if isinstance(file, str) else ""
    return f"{error.strerror}{f': {name}' if name else ''}"
