"""SHELL. The record of each release that is kept: .fissile/releases/<release>.json."""

from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.formats import FISSILE, RELEASE
from fissile.releases.packages import Installed
from fissile.releases.private import make_folders, replace_private
from fissile.releases.release import Release


class UnreadableRelease(ConfigError):
    """A release was deployed by another version of Fissile, in a format that this one does not read."""


class ReleaseRecord(msgspec.Struct, frozen=True):
    """A release that is kept.

    made, deployed: when it was first and last deployed, in seconds of the wall clock. served: whether it ever had all
    requests. code: the name of its copy. installed: the packages that it was made with. format, fissile: in which it
    is written, and by which version.
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
        """The name of the release."""
        return self.release.name


class BuildSummary(msgspec.Struct, frozen=True):
    """What a list says of a build."""

    name: str


class ReleaseBuilds(msgspec.Struct, frozen=True):
    """What a list says of the content of a release: not its parts and contracts, which are large."""

    topology: str
    builds: dict[str, BuildSummary]


class ReleaseSummary(msgspec.Struct, frozen=True):
    """A line in the list of releases that are kept."""

    name: str
    release: ReleaseBuilds
    made: float
    code: str
    deployed: float
    served: bool


class _SummaryOnDisk(msgspec.Struct, frozen=True):
    """The part of a record that is read for a list."""

    release: ReleaseBuilds
    made: float
    code: str
    deployed: float = 0.0
    served: bool = True


class RecordHeader(msgspec.Struct, frozen=True):
    """What every version writes of a release. format: 1 in records without one. code: "" if it is not known."""

    format: int = 1
    fissile: str = ""
    code: str = ""

    @property
    def foreign(self) -> str:
        """Who wrote it, in words, if the format is not read here; else ""."""
        return "" if RELEASE.reads(self.format) else RELEASE.strange(self.format, self.fissile)


class ReleaseRecords:
    """The records of one application, by the name of the release. folder: where they are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"<ReleaseRecords {self._folder}>"

    def read(self, name: str) -> ReleaseRecord | None:
        """One record; None if there is none that can be read here."""
        with suppress(OSError, msgspec.DecodeError):
            data = (self._folder / f"{name}.json").read_bytes()
            return None if _header(data).foreign else msgspec.json.decode(data, type=ReleaseRecord)
        return None

    def write(self, record: ReleaseRecord) -> None:
        """Write a record. Raises ConfigError."""
        try:
            make_folders(self._folder)
            replace_private(self._folder / f"{record.name}.json", msgspec.json.encode(record))
        except OSError as error:
            raise ConfigError(
                f"the release cannot be written to {self._folder}: {error}", remedy="make room on the disk"
            ) from None

    def remove(self, name: str) -> None:
        """Remove a record, if it is there."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)

    def summaries(self) -> list[ReleaseSummary]:
        """The releases that are kept, newest first, without those of other versions."""
        found: list[ReleaseSummary] = []
        for file in self._folder.glob("*.json"):
            with suppress(OSError, msgspec.DecodeError):
                data = file.read_bytes()
                line = msgspec.json.decode(data, type=_SummaryOnDisk)
                if _header(data).foreign:
                    continue
                deployed = line.deployed or line.made
                found.append(ReleaseSummary(file.stem, line.release, line.made, line.code, deployed, line.served))
        return sorted(found, key=lambda one: one.made, reverse=True)

    def foreign(self) -> dict[Path, RecordHeader]:
        """The records of other versions, by file. They are kept, and the copies of the code that they name."""
        found: dict[Path, RecordHeader] = {}
        for file in self._folder.glob("*.json"):
            with suppress(OSError):
                header = _header(file.read_bytes())
                if header.foreign:
                    found[file] = header
        return found


def _header(data: bytes) -> RecordHeader:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(data, type=RecordHeader)
    return RecordHeader()
