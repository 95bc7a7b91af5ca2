"""Paths that code says: what is known of them, and which files are meant.

A path that begins at the code's own place is exactly one file, or a folder with all below it. Where only its beginning
is known, whatever begins so may be meant. A path that begins at the working folder is a text like any other, and meant
by its end. What a computed part adds is taken to lie below what was known before it.
"""

import posixpath
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import PurePosixPath

import msgspec

WILDCARD = re.compile(r"[*?\[]")
PLACEHOLDER = re.compile(r"[*?\[{%<]")


class Known(msgspec.Struct, frozen=True):
    """What is known of a text or a path. anchored: it begins at the application's folder. whole: else its beginning."""

    text: str
    anchored: bool = False
    whole: bool = True


class Place(msgspec.Struct, frozen=True):
    """A file, or a folder with all below it, from the application's folder; not whole: all that begins like this."""

    path: str
    whole: bool = True

    def covers(self, path: str) -> bool:
        """Whether a file is meant. One of another suffix is: it is named by the same path."""
        if not self.whole:
            return path.startswith(self.path)
        return not self.path or path == self.path or path.startswith((f"{self.path}/", f"{self.path}."))


class Reads:
    """What a statement may read.

    places: exactly. texts: what it says beside, which may be part of a path. keys: texts by which something is looked
    up. reads: it reads files at all. unknown: by a path of which nothing is known.
    """

    def __init__(self) -> None:
        self.places: set[Place] = set()
        self.texts: set[str] = set()
        self.keys: set[str] = set()
        self.reads = False
        self.unknown = False

    def add(self, other: "Reads") -> None:
        """What another statement may read as well."""
        self.places |= other.places
        self.texts |= other.texts
        self.keys |= other.keys
        self.reads |= other.reads
        self.unknown |= other.unknown


class Claims:
    """Which files are meant by what some code says. packages: folders with modules, whose names are in every path."""

    def __init__(self, reads: Reads, packages: Collection[str]) -> None:
        self._packages = packages
        self._places = reads.places
        self._words: set[str] = set()
        self._first: dict[str, list[tuple[str, ...]]] = {}
        self._last: dict[str, list[tuple[str, ...]]] = {}
        for text in [*reads.texts, *(reads.keys if reads.unknown else ())]:
            for part in _path_texts(text):
                self._take(part)

    def _take(self, text: str) -> None:
        parts = tuple(part for part in text.split("/") if part not in ("", ".", ".."))
        if PLACEHOLDER.search(text):
            self._words.update(part for part in parts if not PLACEHOLDER.search(part))
        elif len(parts) == 1:
            self._words.add(parts[0])
        elif parts:
            self._first.setdefault(parts[0], []).append(parts)
            self._last.setdefault(parts[-1], []).append(parts)

    def may_read(self, path: str) -> bool:
        """Whether the code may mean a file, or a folder above it."""
        return any(place.covers(path) for place in self._places) or self._says(path)

    def names(self, path: str) -> bool:
        """Whether it is this file, or a folder other than a package's, that is meant: so it is of interest there."""
        return self._says(path) or any(
            place.path.rstrip("/") not in self._packages and place.covers(path) for place in self._places
        )

    def _says(self, path: str) -> bool:
        parts = tuple(path.split("/"))
        if parts[-1] in self._words or path in self._words:
            return True
        for number, part in enumerate(parts[:-1]):
            if part in self._words and (number or part not in self._packages):
                return True
            if any(_matches(run, parts[number:]) for run in self._first.get(part, ())):
                return True
        return any(run[-len(parts) :] == parts for run in self._last.get(parts[-1], ()))


def _path_texts(text: str) -> Iterator[str]:
    """What in a text may be a path: of several words, those that look like one."""
    yield text
    words = text.split()
    if len(words) > 1:
        yield from (word for word in words if "/" in word or "." in word[1:-1])


def _matches(run: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether a path begins with what a text says; the end of the text may be the beginning of a name."""
    count = len(run)
    return len(parts) >= count and parts[: count - 1] == run[:-1] and parts[count - 1].startswith(run[-1])


def keep(found: Reads, known: Known | None) -> None:
    """A path or text that is used."""
    if known is None:
        return
    if not known.anchored:
        found.texts.add(known.text)
        return
    found.reads = True
    place = _place(known)
    if place is None:
        found.unknown = True
    else:
        found.places.add(place)


def is_meant(known: Known) -> bool:
    """Whether a path from the working folder says which file or folder: not all of them."""
    wild = WILDCARD.search(known.text)
    if wild or not known.whole:
        return "/" in known.text[: wild.start() if wild else None].lstrip("./")
    return known.text.strip("./") != ""


def _place(known: Known) -> Place | None:
    """Where an anchored path leads; None: out of the application's folder."""
    text, whole = known.text, known.whole
    wild = WILDCARD.search(text)
    if wild:
        text, whole = text[: wild.start()], False
    *folders, last = text.split("/")
    if whole:
        folders.append(last)
    path: list[str] = []
    for part in folders:
        if part == "..":
            if not path:
                return None
            path.pop()
        elif part not in ("", "."):
            path.append(part)
    return Place("/".join(path) if whole else "/".join([*path, last]), whole)


# -- what is known of a value --------------------------------------------------------------------------


def joined(left: Known | None, right: Known | None) -> Known | None:
    """As `/` and `os.path.join` do. A right side that is not known lies below the left one."""
    if left is None:
        return None
    if right is not None and (right.anchored or right.text.startswith("/")):
        return right
    if not left.whole:
        return left if right is None or ".." not in right.text.split("/") else None
    base = "" if left.text in ("", ".") else f"{left.text.rstrip('/')}/"
    if right is None:
        return Known(base, left.anchored, whole=False)
    return Known(base + right.text, left.anchored, right.whole)


def appended(left: Known | None, right: Known | None) -> Known | None:
    """As texts are put together."""
    if left is None or not left.whole:
        return left
    if right is None:
        return Known(left.text, left.anchored, whole=False)
    return None if right.anchored else Known(left.text + right.text, left.anchored, right.whole)


def parent(known: Known | None, levels: int = 1) -> Known | None:
    """The folder of a path; None where it is not within the application's."""
    if known is None or not known.whole or WILDCARD.search(known.text):
        return None
    text = posixpath.normpath(known.text) if known.text else "."
    for _ in range(levels):
        if text in (".", "/") or text.endswith(".."):
            return None
        text = posixpath.dirname(text) or "."
    return Known("" if text == "." else text, known.anchored)


def renamed(known: Known | None, how: str, text: Known | None) -> Known | None:
    """As `with_name`, `with_stem` and `with_suffix` do."""
    if known is None or text is None or not known.whole or not text.whole or text.anchored:
        return None
    with suppress(ValueError):
        return Known(getattr(PurePosixPath(known.text), how)(text.text).as_posix(), known.anchored)
    return None


def until(known: Known | None, sign: str) -> Known | None:
    """What stands before a sign."""
    if known is None or sign not in known.text:
        return known
    text = known.text.partition(sign)[0]
    return Known(text, known.anchored, whole=False) if text else None
