"""Paths in code: what is known of their values, and which files they match.

A path that begins at the code's own place matches exactly one file, or a folder with all below it. If only its
beginning is known, it matches whatever begins with that. A path that begins at the working folder is a text like any
other, and matches by its end. Whatever a computed part adds is taken to lie below what was known before it.
"""

import posixpath
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import PurePosixPath

import msgspec

WILDCARD = re.compile(r"[*?\[]")
PLACEHOLDER = re.compile(r"[*?\[{%<]")


class PathValue(msgspec.Struct, frozen=True):
    """What is known of a text or a path.

    anchored: it begins at the application's folder. whole: all of it is known, not only its beginning.
    """

    text: str
    anchored: bool = False
    whole: bool = True


class PathPattern(msgspec.Struct, frozen=True):
    """A file, or a folder with all below it, from the application's folder on.

    whole: else it matches whatever begins with the path.
    """

    path: str
    whole: bool = True

    def covers(self, path: str) -> bool:
        """Whether a file matches, whatever its suffix."""
        if not self.whole:
            return path.startswith(self.path)
        return not self.path or path == self.path or path.startswith((f"{self.path}/", f"{self.path}."))


class FileReads:
    """The files that a statement may read.

    patterns: what its anchored paths match. texts: other texts in it, any of which may be part of a path. keys: texts
    that are used as keys. reads: it reads files at all. unknown: by a path of which nothing is known.
    """

    def __init__(self) -> None:
        self.patterns: set[PathPattern] = set()
        self.texts: set[str] = set()
        self.keys: set[str] = set()
        self.reads = False
        self.unknown = False

    def add_path(self, value: PathValue | None) -> None:
        """Add a path or text that the statement uses."""
        if value is None:
            return
        if not value.anchored:
            self.texts.add(value.text)
            return
        self.reads = True
        pattern = _pattern(value)
        if pattern is None:
            self.unknown = True
        else:
            self.patterns.add(pattern)

    def add_unknown(self) -> None:
        """The statement reads files by a path of which nothing is known."""
        self.reads = self.unknown = True

    def add(self, other: "FileReads") -> None:
        """Add what another statement may read."""
        self.patterns |= other.patterns
        self.texts |= other.texts
        self.keys |= other.keys
        self.reads |= other.reads
        self.unknown |= other.unknown


class FileClaims:
    """Which files some code claims by its paths and texts.

    packages: folders with modules; their names are part of almost every path, and claim nothing.
    """

    def __init__(self, reads: FileReads, packages: Collection[str]) -> None:
        self._packages = packages
        self._patterns = reads.patterns
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
        """Whether the code may read a file, or a folder above it."""
        return any(pattern.covers(path) for pattern in self._patterns) or self._says(path)

    def names(self, path: str) -> bool:
        """Whether the code names a file, or a folder above it that is not a package."""
        return self._says(path) or any(
            pattern.path.rstrip("/") not in self._packages and pattern.covers(path) for pattern in self._patterns
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
    """The parts of a text that may be paths: the whole, and any words in it that look like one."""
    yield text
    words = text.split()
    if len(words) > 1:
        yield from (word for word in words if "/" in word or "." in word[1:-1])


def _matches(run: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether a path begins with the parts of a text, the last of which may be the beginning of a name."""
    count = len(run)
    return len(parts) >= count and parts[: count - 1] == run[:-1] and parts[count - 1].startswith(run[-1])


def is_specific(known: PathValue) -> bool:
    """Whether a path from the working folder tells one file or folder from the others."""
    wild = WILDCARD.search(known.text)
    if wild or not known.whole:
        return "/" in known.text[: wild.start() if wild else None].lstrip("./")
    return known.text.strip("./") != ""


def _pattern(known: PathValue) -> PathPattern | None:
    """What an anchored path matches; None if it leads out of the application's folder."""
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
    return PathPattern("/".join(path) if whole else "/".join([*path, last]), whole)


# -- what is known of a value --------------------------------------------------------------------------


def joined(left: PathValue | None, right: PathValue | None) -> PathValue | None:
    """Join as `/` and `os.path.join` do. A right side that is not known lies below the left one."""
    if left is None:
        return None
    if right is not None and (right.anchored or right.text.startswith("/")):
        return right
    if not left.whole:
        return left if right is None or ".." not in right.text.split("/") else None
    base = "" if left.text in ("", ".") else f"{left.text.rstrip('/')}/"
    if right is None:
        return PathValue(base, left.anchored, whole=False)
    return PathValue(base + right.text, left.anchored, right.whole)


def appended(left: PathValue | None, right: PathValue | None) -> PathValue | None:
    """Concatenate texts."""
    if left is None or not left.whole:
        return left
    if right is None:
        return PathValue(left.text, left.anchored, whole=False)
    return None if right.anchored else PathValue(left.text + right.text, left.anchored, right.whole)


def parent(known: PathValue | None, levels: int = 1) -> PathValue | None:
    """The folder of a path; None if it is not within the application's."""
    if known is None or not known.whole or WILDCARD.search(known.text):
        return None
    text = posixpath.normpath(known.text) if known.text else "."
    for _ in range(levels):
        if text in (".", "/") or text.endswith(".."):
            return None
        text = posixpath.dirname(text) or "."
    return PathValue("" if text == "." else text, known.anchored)


def renamed(known: PathValue | None, how: str, text: PathValue | None) -> PathValue | None:
    """Rename as `with_name`, `with_stem` and `with_suffix` do."""
    if known is None or text is None or not known.whole or not text.whole or text.anchored:
        return None
    with suppress(ValueError):
        return PathValue(getattr(PurePosixPath(known.text), how)(text.text).as_posix(), known.anchored)
    return None


def truncated_at(known: PathValue | None, sign: str) -> PathValue | None:
    """What stands before a sign, such as that of a placeholder."""
    if known is None or sign not in known.text:
        return known
    text = known.text.partition(sign)[0]
    return PathValue(text, known.anchored, whole=False) if text else None
