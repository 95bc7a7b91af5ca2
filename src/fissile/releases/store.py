"""SHELL. The releases of an application, each with its code as it was: what a rollback needs after all has changed.

A release has a record (`records`) and a copy of its code (`copies`), which other releases may share.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.releases.copies import CodeCopies
from fissile.releases.packages import Installed
from fissile.releases.private import CODE
from fissile.releases.records import ReleaseRecord, ReleaseRecords, ReleaseSummary, UnreadableRelease
from fissile.releases.release import Release
from fissile.settings.schema import Settings

RELEASES = "releases"
NAME_CHARACTERS_MIN = 4
NOTHING = Installed()
__all__ = ["ReleaseRecord", "ReleaseStore", "ReleaseSummary", "UnreadableRelease"]


class ReleaseStore:
    """The releases of one application. state: its folder .fissile. root: the folder that people edit. say: tells them.

    May be used by several threads.
    """

    def __init__(self, state: Path, root: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.copies = CodeCopies(state / CODE, root, say)
        self._records = ReleaseRecords(state / RELEASES)

    def __repr__(self) -> str:
        return f"<ReleaseStore {self.copies!r}>"

    def record(self, release: Release, settings: Settings, installed: Installed = NOTHING) -> None:
        """Record a release that is about to be deployed from its copy. Raises ConfigError."""
        code, now = Path(settings.root).parent.name, time.time()
        before = self._records.read(release.name)
        made, served = (before.made, before.served) if before is not None else (now, False)
        self._records.write(
            ReleaseRecord(release, made, code, settings.file, settings.profile, settings.app, installed, now, served)
        )

    def mark_served(self, name: str) -> None:
        """A release has all requests: from now on it is one to roll back to. Raises ConfigError."""
        record = self._records.read(name)
        if record is not None and not record.served:
            self._records.write(msgspec.structs.replace(record, served=True))

    def summaries(self) -> list[ReleaseSummary]:
        """The releases that are kept, newest first, without those of other versions of Fissile."""
        return self._records.summaries()

    def find(self, name: str) -> ReleaseRecord:
        """A release by its name, or the beginning of it. Raises UnreadableRelease, or ConfigError."""
        known = self.summaries()
        is_long = len(name) >= NAME_CHARACTERS_MIN
        found = [one for one in known if one.name.startswith(name) and is_long]
        if len(found) == 1:
            record = self._records.read(found[0].name)
            if record is not None:
                return record
        if not found and is_long:
            for file, header in self._records.foreign().items():
                if file.stem.startswith(name):
                    raise UnreadableRelease(
                        f"release {file.stem} was deployed by {header.foreign}: see {file}",
                        remedy="roll back with that version, or deploy its code with this one",
                    )
        names = ", ".join(one.name for one in known) or "none"
        why = "is ambiguous" if found else "is not kept: it was never deployed, or it was pruned"
        raise ConfigError(f"release {name!r} {why}", remedy=f"releases that are kept: {names} (see `fissile releases`)")

    def settings(self, record: ReleaseRecord) -> Settings:
        """Settings with the copy of a release as their folder; to be read anew. Raises ConfigError."""
        root = self.copies.home(record.code)
        if not root.is_dir():
            raise ConfigError(
                f"the code of release {record.name} is missing from {root}", remedy="deploy another release"
            )
        return Settings(app=record.app, root=str(root.resolve()), file=record.file, profile=record.profile)

    def prune(self, keep: int, serving: Iterable[str], roots: Iterable[str]) -> list[str]:
        """Remove all but the releases that serve and the `keep` that were deployed last; the names of those removed.

        A release that never had all requests is none to roll back to.
        roots: folders of code that are in use, whatever release they are of.
        """
        serving, used = set(serving), self.copies.holding(roots)
        known = sorted(self.summaries(), key=lambda one: one.deployed, reverse=True)
        idle = [one for one in known if one.name not in serving]
        spare = [one for one in idle if one.served and one.code not in used][keep:]
        spare += [one for one in idle if not one.served]
        needed = {one.code for one in known if one not in spare} | used
        # Records first: a copy without a record is removed by the next prune; a record without a copy would be a
        # release that cannot be rolled back to.
        for one in spare:
            self._records.remove(one.name)
        self._remove_copies(set(self.copies.names()), needed)
        return [one.name for one in spare]

    def forget(self, settings: Settings, roots: Iterable[str]) -> None:
        """Remove a copy that no release was made of, unless it is in use. roots: as of `prune`."""
        needed = {one.code for one in self.summaries()} | self.copies.holding(roots)
        self._remove_copies(self.copies.holding([settings.root]), needed)

    def _remove_copies(self, names: set[str], needed: set[str]) -> None:
        """Remove copies that are not needed, as far as that is known of releases that other versions deployed."""
        foreign = {header.code for header in self._records.foreign().values()}
        if "" not in foreign:  # else any copy may be one of theirs
            for name in names - needed - foreign:
                self.copies.remove(name)
