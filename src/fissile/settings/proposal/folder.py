"""What a proposal is made from: the names of files in a folder, and the texts of those that matter."""

from collections.abc import Iterator, Mapping

import msgspec

# Folders whose Python is about the application, not a part of it.
BESIDE = frozenset({"tests", "test", "testing", "docs", "doc", "examples", "migrations", "alembic", "scripts", "tools"})


class Folder(msgspec.Struct, frozen=True):
    """A folder as it was listed.

    Attributes:
        name: Its own name.
        texts: The texts that were read, by path from the folder on.
        paths: All files that were listed, read or not.
        unread: How many files that matter were not read: too many, too large or not UTF-8.
        environments: Virtual environments in it, by path.
        active: The one that Fissile itself runs in, or "".
        packages: Optional packages that Fissile finds: a2wsgi, websockets.
    """

    name: str
    texts: Mapping[str, str]
    paths: frozenset[str] = frozenset()
    unread: int = 0
    environments: tuple[str, ...] = ()
    active: str = ""
    packages: frozenset[str] = frozenset()

    def has(self, path: str) -> bool:
        """Whether a file is there."""
        return path in self.paths or path in self.texts

    def first(self, *paths: str) -> str:
        """The first of these files whose text is known, or ""."""
        return next((path for path in paths if path in self.texts), "")

    def python(self) -> Iterator[tuple[str, str]]:
        """Python files that may hold the application: (path, text)."""
        for path, text in sorted(self.texts.items(), key=lambda one: (one[0].count("/"), one[0])):
            *folders, name = path.split("/")
            tested = name.startswith("test_") or name in ("conftest.py", "setup.py")
            if name.endswith(".py") and not tested and not BESIDE & {*folders}:
                yield path, text

    def mentions(self, *words: str) -> bool:
        """Whether code, or a list of what it needs, has one of these words."""
        return any(
            word in text
            for path, text in self.texts.items()
            if path.endswith((".py", ".toml", ".js", ".mjs", ".cjs", ".json", ".txt"))
            for word in words
        )

    def module(self, name: str) -> str:
        """The file of a module that can be imported from here, or from src/; "" where there is none."""
        inner = name.replace(".", "/")
        places = (f"{top}{inner}{end}" for top in ("", "src/") for end in (".py", "/__init__.py"))
        return next((path for path in places if self.has(path)), "")


def parent(path: str) -> str:
    """The folder of a file; "." at the top."""
    return path.rpartition("/")[0] or "."
