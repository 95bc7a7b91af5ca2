"""What the copy of a release's code consists of: written beside it when it is made, and never altered.

    .fissile/code/<digest of the files>/files.json

Where a file's size or time is another than here, a program has written to it since. Names that are no UTF-8 are kept
byte by byte (`os.fsencode`, read as Latin-1), because JSON has no place for them.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.formats import COPY, FISSILE, head_of
from fissile.releases.listing import Listing
from fissile.releases.private import CODE

MANIFEST = "files.json"


class Item(msgspec.Struct, frozen=True, array_like=True):
    """A file of a copy. size: bytes. modified: ns of the wall clock. digest: of its content, with its mode."""

    size: int
    modified: int
    digest: str


class UnreadableCopy(ConfigError):
    """What stands beside copies of code was written by another Fissile, in a format that this one does not read."""


class Manifest(msgspec.Struct, frozen=True):
    """Of one copy. files: by path. links: those that lead to somewhere in it, by path. python: what is imported or
    read by components, of the files. services: what each service that is not made of components consists of.
    format, fissile: in which it is written, and by which version."""

    files: dict[str, Item]
    links: dict[str, str] = {}
    python: tuple[str, ...] = ()
    services: dict[str, Listing] = {}
    format: int = COPY.number
    fissile: str = FISSILE

    def encoded(self) -> bytes:
        """As it is written."""
        return msgspec.json.encode(
            Manifest(
                {text_from_path(path): item for path, item in self.files.items()},
                {text_from_path(path): text_from_path(leads) for path, leads in self.links.items()},
                tuple(map(text_from_path, self.python)),
                {
                    name: msgspec.structs.replace(one, files=tuple(map(text_from_path, one.files)))
                    for name, one in self.services.items()
                },
            )
        )


def text_from_path(path: str) -> str:
    """A path as JSON can hold it."""
    return path if path.isascii() else os.fsencode(path).decode("latin-1")


def path_from_text(text: str) -> str:
    """The path that `text_from_path` was given."""
    return text if text.isascii() else os.fsdecode(text.encode("latin-1"))


def manifest(root: Path) -> Manifest | None:
    """Of the copy whose files are in this folder; None where it is no copy. Raises UnreadableCopy."""
    if root.parent.parent.name != CODE:
        return None
    file = root.parent / MANIFEST
    try:
        data = file.read_bytes()
    except OSError:
        return None
    head = head_of(data)
    if not COPY.reads(head.format):
        raise UnreadableCopy(
            f"the copy of the code in {root.parent} was made by {COPY.strange(head.format, head.fissile)}: see {file}",
            remedy="go on with that version; or remove that folder once nothing runs from it, and deploy again",
        )
    with suppress(msgspec.DecodeError, UnicodeError):
        found = msgspec.json.decode(data, type=Manifest)
        return Manifest(
            {path_from_text(raw): item for raw, item in found.files.items()},
            {path_from_text(raw): path_from_text(leads) for raw, leads in found.links.items()},
            tuple(map(path_from_text, found.python)),
            {
                name: msgspec.structs.replace(one, files=tuple(map(path_from_text, one.files)))
                for name, one in found.services.items()
            },
        )
    with suppress(msgspec.DecodeError):
        paths = msgspec.json.decode(data, type=list[str])
        return Manifest(dict(_as_they_are(root, paths)), python=tuple(paths))
    return None


def works_in(copy: Path, root: Path, service: str) -> Path:
    """Where a program runs: in the copy of its release's code (root: the application's folder, where it has none).

    Raises UnreadableCopy.
    """
    known = manifest(copy)
    listing = known.services.get(service) if known is not None else None
    return root if listing is not None and not listing.files else copy


def _as_they_are(root: Path, paths: list[str]) -> Iterator[tuple[str, Item]]:
    """The files of a copy that an earlier version made."""
    for path in paths:
        with suppress(OSError):
            found = (root / path).lstat()
            yield path, Item(found.st_size, found.st_mtime_ns, "")
