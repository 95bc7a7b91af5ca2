"""Which packages a release was made with, and what is missing of them when it is to run again.

They are no part of a release's copy: pip replaces them where they are. So a release remembers what was installed, and
whoever brings it back is told what is not there any more.
"""

import shlex
from collections.abc import Iterable

import msgspec

from fissile.releases.digest import digest

# Fissile is what brings releases back, and goes back itself with none of them.
OURSELVES = "fissile"


class Package(msgspec.Struct, frozen=True):
    """A distribution that is installed. content: a digest of what it has recorded of its files; "": of nothing.

    source: where it came from, if from no index, as pip understands it after `NAME @`; "": from an index.
    editable: whether it is a link to a folder that people edit (PEP 660).
    """

    version: str
    content: str = ""
    source: str = ""
    editable: bool = False


class Installed(msgspec.Struct, frozen=True):
    """What is imported from elsewhere than an application's folder.

    python: the interpreter's version in full; "": nobody has noted it. prefix: its environment's folder. packages: by
    name, normalized (PEP 503). files: digests of imported files that are of no package, by path.
    """

    python: str = ""
    prefix: str = ""
    packages: dict[str, Package] = {}
    files: dict[str, str] = {}

    def content(self) -> str:
        """A digest of what it is made of, wherever that is; without the files, which count each by itself."""
        found = [f"{name} {one.version} {one.content} {one.editable}" for name, one in sorted(self.packages.items())]
        return digest("\n".join([self.python, *found]))


class Missing(msgspec.Struct, frozen=True):
    """What is not as it was. name: of a package, the path of a file, or "Python".

    before, now: its version, or the digest of a file; "" where it is not there. The same twice: the same version has
    other files.
    """

    name: str
    before: str
    now: str

    def __str__(self) -> str:
        if self.name.startswith("/"):
            return f"{self.name} was edited"
        if not self.now:
            return f"{self.name} {self.before} is gone"
        if not self.before:
            return f"{self.name} {self.now} is new"
        if self.before == self.now:
            return f"{self.name} {self.now} has other files"
        return f"{self.name} {self.before} → {self.now}"


def differences(before: Installed, now: Installed) -> tuple[Missing, ...]:
    """What is not as it was; last, what is new. Nothing, if an earlier Fissile has not noted what was.

    A file that is not imported any more is no loss: which ones are depends on how far an import goes.
    """
    if not before.python:
        return ()
    found: list[Missing] = []
    if before.python != now.python:
        old, new = _short(before.python), _short(now.python)
        found.append(Missing("Python", old, new) if old != new else Missing("Python", before.python, now.python))
    for name, package in before.packages.items():
        there = now.packages.get(name)
        if name != OURSELVES and (there is None or there != package):
            found.append(Missing(name, package.version, there.version if there is not None else ""))
    found += [
        Missing(path, content, there)
        for path, content in before.files.items()
        if (there := now.files.get(path, content)) != content
    ]
    found += [Missing(name, "", one.version) for name, one in now.packages.items() if name not in before.packages]
    return tuple(found)


def gone(found: Iterable[Missing]) -> tuple[Missing, ...]:
    """Those that would be missed: what came in addition is not."""
    return tuple(one for one in found if one.before)


def listed(found: Iterable[Missing]) -> str:
    """For people."""
    return ", ".join(map(str, found))


def way_back(found: Iterable[Missing], before: Installed, python: str, *, uv: bool) -> str:
    """The command that installs again what is gone. python: the interpreter's path. uv: its environment is uv's.

    What came from a folder or a file of this machine is not in it: see `from_here`.
    """
    wanted: list[str] = []
    forced = False
    for one in gone(found):
        package = before.packages.get(one.name)
        if package is None or _is_from_here(package):
            continue
        forced = forced or one.before == one.now
        if package.editable:
            wanted += ["-e", package.source]
        elif package.source:
            wanted.append(f"{one.name} @ {package.source}")
        else:
            wanted.append(f"{one.name}=={package.version}")
    if not wanted:
        return ""
    if uv:
        return shlex.join(["uv", "pip", "install", "--python", python, *(["--reinstall"] if forced else []), *wanted])
    return shlex.join([python, "-m", "pip", "install", *(["--force-reinstall"] if forced else []), *wanted])


def from_here(found: Iterable[Missing], before: Installed) -> tuple[str, ...]:
    """What came from a folder or a file of this machine, each with where that is, for people.

    No command brings it back for certain: by now another version may be there, and what an index has by the same name
    may be somebody else's.
    """
    return tuple(
        f"{one.name} {package.version} from {package.source.removeprefix('file://')}"
        for one in gone(found)
        if (package := before.packages.get(one.name)) is not None and _is_from_here(package)
    )


def _is_from_here(package: Package) -> bool:
    return package.source.startswith("file:") and not package.editable


def _short(version: str) -> str:
    return version.split()[0] if version else ""
