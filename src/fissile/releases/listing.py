"""Which files of an application's folder are the code of a service that is not made of Python components.

By its settings (`code`), or else by what git tracks below its folder, or else all that is not ignored. What a program
writes is no code, wherever it lies; nor is what a package manager has put there: that counts by its lock file. A link
that leads out of the folder is never followed.
"""

import os
import re
import stat
import subprocess
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from fissile.errors import ConfigError
from fissile.releases.commands import EXECUTABLE, SOURCES, data_server, named_files
from fissile.settings.schema import FILE_NAME, ServiceSettings

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

FILES_MAX = 20_000
BYTES_MAX = 1024**3
GIT_SECONDS_MAX = 30.0
# Folders and files that belong to nobody's code, at any depth.
NEVER = frozenset(
    {"node_modules", "bower_components", "__pycache__", "site-packages", ".git", ".hg", ".svn", ".fissile"}
    | {
        ".venv",
        ".tox",
        ".nox",
        ".cache",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        ".DS_Store",
        ".idea",
        ".vscode",
    }
    | {".gitignore", ".gitattributes", ".gitmodules", ".gitkeep", ".keep", ".github", ".gitlab-ci.yml"}
)
# What another one of its name has replaced (see gathering).
SET_ASIDE = re.compile(r"\.before-[0-9]+(?:/|$)")
DATA_SUFFIXES = (
    *(".pyc", ".db", ".db3", ".sqlite", ".sqlite3", "-wal", "-shm", "-journal", ".mdb", ".rdb", ".aof"),
    *(".log", ".pid", ".sock", ".lock~", ".tmp", ".part", "~", ".orig", ".swp", ".swo"),
)
# Folders that hold what a program was given or has made, unless git tracks it.
DATA_FOLDERS = frozenset(
    {
        "data",
        "uploads",
        "upload",
        "media",
        "storage",
        "var",
        "tmp",
        "temp",
        "log",
        "logs",
        "cache",
        "backups",
        "sessions",
    }
)
# Those of them in which even a source, at any depth, is what somebody has sent.
GIVEN_FOLDERS = frozenset({"uploads", "upload", "media", "tmp", "temp", "backups"})
# Of folders that a package manager fills: what counts in their place.
LOCK_FILES = (
    *("package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lockb", "bun.lock", "deno.lock"),
    *(
        "composer.lock",
        "Gemfile.lock",
        "go.sum",
        "go.mod",
        "Cargo.lock",
        "mix.lock",
        "pubspec.lock",
        "packages.lock.json",
    ),
    *("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "requirements.txt", "gradle.lockfile"),
)
# As patterns become regular expressions: a star, and between two of them what stands for one character each.
_STAR = re.escape("[^/]*")
_STARS = re.compile(rf"(?:{_STAR})+")
_BETWEEN = re.compile(rf"{_STAR}((?:\\.|\[\^/\](?!\*)|\[(?!\^/\])[^\]\\]+\]|[^/()|\[\\*+?^$])+)(?={_STAR})")
# Of a repository within the repository, in the index of git.
GITLINK = b"160000 "
# Folders that are a package manager's where one of these files lies beside them.
FILLED = {
    "vendor": ("composer.lock", "composer.json", "Gemfile.lock", "go.sum", "go.mod"),
    "target": ("Cargo.toml", "pom.xml"),
    "deps": ("mix.lock", "mix.exs"),
    "_build": ("mix.lock", "mix.exs"),
}


class Listing(msgspec.Struct, frozen=True):
    """The code of one service.

    rule: which files these are, in words. files: from the application's folder on, names that are no UTF-8 with
    surrogate escapes (PEP 383). notes: what people should know of what is left out.
    """

    rule: str
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """As a plan says it."""
        count = len(self.files)
        return f"{count} file{'' if count == 1 else 's'} {self.rule}" if self.files else f"none, {self.rule}"


def shown(path: str) -> str:
    """A path as text, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def listing_of(root: Path, name: str, settings: ServiceSettings, data: Collection[str] = ()) -> Listing:
    """The files of code of a service. data: paths that programs have written to; what lies below them is none either.

    Raises ConfigError where a pattern matches nothing, or where there are too many.
    """
    folder = root / settings.folder
    if settings.code is not None:
        found = _by_patterns(root, name, settings.code, frozenset(data))
        if settings.guest:
            found = msgspec.structs.replace(found, rule=f"{found.rule}, beside the modules that it imports")
    elif server := data_server(settings.command, folder):
        return Listing(f"because {server} is a data server: say `code = [...]` for more")
    else:
        found = _by_default(root, settings, frozenset(data))
    _check_size(root, name, found.files)
    return found


def _spec(lines: Iterable[str]) -> "GitIgnoreSpec":
    """Patterns as of .gitignore. Raises ValueError.

    The first place where the text after a star fits is as good as any later one: no other is tried, or else many stars
    that do not match would take forever.
    """
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines(lines)
    for pattern in spec.patterns:
        regex: re.Pattern[str] | None = getattr(pattern, "regex", None)
        if regex is not None:
            text = _BETWEEN.sub(r"(?>[^/]*?\1)", _STARS.sub("[^/]*", regex.pattern))
            pattern.regex = re.compile(text)  # type: ignore[attr-defined]
    return spec


def _by_patterns(root: Path, name: str, patterns: Iterable[str], data: frozenset[str]) -> Listing:
    patterns = list(patterns)
    if not patterns:
        return Listing("by `code = []`")
    notes: list[str] = []
    every = [path for path in _walked(root, "", notes, ignoring=False) if not _is_data(path, data)]
    for pattern in patterns:
        try:
            matches = any(_spec([pattern]).match_files(every))
        except ValueError as error:
            raise ConfigError(
                f"{pattern!r} of `code` under [services.{name}] is not a pattern: {error}",
                remedy="write it from fissile.toml on, as in .gitignore: **/*.js, public/**",
            ) from None
        if not pattern.startswith("!") and not matches:
            raise ConfigError(
                f"{pattern!r} of `code` under [services.{name}] matches no file in {root}",
                remedy="write it from fissile.toml on, as in .gitignore: **/*.js, public/**",
            )
    files = dict.fromkeys(_spec(patterns).match_files(every))
    if not files:
        raise ConfigError(
            f"`code` under [services.{name}] leaves no file in {root}",
            remedy="name files before what is left out (!…), or say code = [] if the program has no code here",
        )
    files |= dict.fromkeys(_locks(root, {"", *map(os.path.dirname, files)}))
    return Listing("that `code` names", tuple(sorted(files)), tuple(notes))


def _by_default(root: Path, settings: ServiceSettings, data: frozenset[str]) -> Listing:
    base = os.path.normpath(settings.folder)
    base = "" if base == "." else base
    notes: list[str] = []
    tracked = git_files(root, base)
    if tracked:
        fresh_ones = _with_repositories(root, git_files(root, base, others=True), notes)
        others = [path for path in fresh_ones if not _is_given(path, data)]
        others = [path for path in others if not any(part.startswith(".") for part in path.split("/"))]
        found = [path for path in (*tracked, *others) if _is_code(root, path, data, notes)]
        rule = "that git tracks"
        if fresh := len(set(found).intersection(others)):
            rule += f", {fresh} of them not so far"
    else:
        walked = _walked(root, base, notes, ignoring=True)
        found = [path for path in walked if not _is_given(path, data) and _is_code(root, path, data, notes)]
        rule = "that nothing ignores"
    files = dict.fromkeys(found)
    files |= dict.fromkeys(_of_the_command(root, base, settings.command, files, data))
    files |= dict.fromkeys(_locks(root, {"", base}))
    return Listing(rule, tuple(sorted(files)), tuple(dict.fromkeys(notes)))


def git_files(root: Path, base: str = "", *, others: bool = False) -> list[str]:
    """What git tracks below a folder (others: what it neither tracks nor ignores); nothing where it does not say.

    In repositories within it, as submodules are, too.
    """
    base = f":(literal){base or '.'}"
    index = _git(root, "ls-files", "-z", "--stage", "--", base)
    found = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", base) if others else []
    for line in index:
        mark, _, raw = line.partition(b"\t")
        inside = os.fsdecode(raw)
        if not mark.startswith(GITLINK):
            found += [] if others else [raw]
        elif os.path.lexists(root / inside / ".git"):  # else it was not fetched
            found += [os.fsencode(f"{inside}/{path}") for path in git_files(root / inside, others=others)]
    return list(dict.fromkeys(map(os.fsdecode, found)))


def _git(root: Path, *words: str) -> list[bytes]:
    """What git prints in a folder, between zeros; nothing where it fails."""
    # Not to be led elsewhere by a hook's environment, nor by a repository's own programs.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(root), "-c", "safe.directory=*", "-c", "core.fsmonitor=false", *words]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=GIT_SECONDS_MAX)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    return [name for name in done.stdout.split(b"\0") if name]


def _with_repositories(root: Path, paths: Iterable[str], notes: list[str]) -> Iterator[str]:
    """A repository within the folder, of which git tells nothing but its name with a slash, with its files."""
    for path in paths:
        if not path.endswith("/"):
            yield path
        elif os.path.basename(inside := path.rstrip("/")) not in NEVER:
            yield from _walked(root, inside, notes, ignoring=True)


def _is_given(path: str, data: frozenset[str]) -> bool:
    """Whether a file that git does not track lies where programs put theirs.

    A source in src/cache or lib/sessions is code, whatever its folder is called; in uploads, nothing is.
    """
    parts = path.split("/")[:-1]
    if not parts:
        return _is_data(path, data)
    is_source = os.path.splitext(path)[1] in SOURCES
    folders = DATA_FOLDERS.intersection({parts[0], *GIVEN_FOLDERS.intersection(parts)} if is_source else parts)
    return bool(folders) or _is_data(path, data)


def _is_data(path: str, data: frozenset[str]) -> bool:
    if path.endswith(DATA_SUFFIXES) or SET_ASIDE.search(path):
        return True
    return bool(data) and (path in data or any(str(parent) in data for parent in PurePosixPath(path).parents))


def _is_code(root: Path, path: str, data: frozenset[str], notes: list[str]) -> bool:
    """Whether a file is one of code, and there."""
    parts = path.split("/")
    if not NEVER.isdisjoint(parts) or parts[-1].startswith(".env") or path == FILE_NAME or _is_data(path, data):
        return False
    return is_there(root, path, notes)


def is_there(root: Path, path: str, notes: list[str]) -> bool:
    """Whether a path is a file that can be copied, or a link within the folder. notes: why it is neither."""
    with suppress(OSError):
        mode = os.lstat(root / path).st_mode
        if stat.S_ISLNK(mode):
            return stays_within(root, root / path, notes)
        if stat.S_ISREG(mode):
            if os.access(root / path, os.R_OK):
                return True
            notes.append(f"{shown(path)} cannot be read: it is not part of the code")
    return False


def stays_within(root: Path, link: Path, notes: list[str]) -> bool:
    """Whether what a link leads to is there, and in the folder."""
    real, top = os.path.realpath(link), os.path.realpath(root)
    if not os.path.exists(real):
        return False
    if real == top or real.startswith(f"{top}/"):
        return True
    if os.path.splitext(real)[1] in SOURCES or os.path.isdir(real):
        notes.append(f"{shown(str(link.relative_to(root)))} leads out of the folder: what is there is in no release")
    return False


def _of_the_command(root: Path, base: str, command: str, files: Collection[str], data: frozenset[str]) -> Iterator[str]:
    """What a command names is code though it is ignored, as what a build has made; of scripts, with their folder."""
    for word in named_files(command, root / base):
        path = os.path.normpath(os.path.join(base, word))
        if path in files or not _is_code(root, path, data, []):
            continue
        if os.path.splitext(path)[1] in SOURCES:
            yield path
            parent = os.path.dirname(path)
            if parent not in ("", base):
                beside = _walked(root, parent, [], ignoring=False)
                yield from (one for one in beside if _is_code(root, one, data, []))
        elif os.lstat(root / path).st_mode & EXECUTABLE:
            yield path


def _locks(root: Path, folders: Iterable[str]) -> Iterator[str]:
    for folder in dict.fromkeys(folders):
        for name in LOCK_FILES:
            path = os.path.join(folder, name)
            if is_there(root, path, []):
                yield path


def _walked(root: Path, base: str, notes: list[str], *, ignoring: bool) -> Iterator[str]:
    """The files below a folder, links that stay within as themselves; never what a package manager has filled.

    ignoring: leave out what .gitignore names, and what begins with a dot.
    """
    todo: list[tuple[str, tuple[tuple[str, GitIgnoreSpec], ...]]] = [(base, ())]
    while todo:
        folder, specs = todo.pop()
        try:
            with os.scandir(root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if folder and not isinstance(error, FileNotFoundError):
                notes.append(f"{shown(folder)} cannot be read: it is not part of the code")
            continue
        names = {entry.name for entry in entries}
        if ignoring and ".gitignore" in names:
            specs = (*specs, *_ignored_in(root, folder))
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name in NEVER or (ignoring and entry.name.startswith(".")):
                continue
            if entry.is_dir(follow_symlinks=False):
                if not _is_filled(root / path, names) and not (specs and _ignores(specs, f"{path}/")):
                    todo.append((path, specs))
            elif not (specs and _ignores(specs, path)) and is_there(root, path, notes):
                yield path


def _is_filled(folder: Path, beside: Collection[str]) -> bool:
    """Whether a package manager has filled a folder."""
    marks = FILLED.get(folder.name, ())
    return any(mark in beside for mark in marks) or (folder / "pyvenv.cfg").exists()


def _ignored_in(root: Path, folder: str) -> "Iterator[tuple[str, GitIgnoreSpec]]":
    with suppress(OSError, ValueError):
        text = (root / folder / ".gitignore").read_text(encoding="utf-8", errors="surrogateescape")
        yield (f"{folder}/" if folder else ""), _spec(filter(_is_pattern, text.splitlines()))


def _is_pattern(line: str) -> bool:
    """Whether a line of .gitignore can be read; git passes over the others, one by one."""
    try:
        _spec([line])
    except ValueError:
        return False
    return True


def _ignores(specs: "tuple[tuple[str, GitIgnoreSpec], ...]", path: str) -> bool:
    """The nearest .gitignore that says something decides (gitignore(5))."""
    for folder, spec in reversed(specs):
        said = spec.check_file(path.removeprefix(folder)).include
        if said is not None:
            return said
    return False


def _check_size(root: Path, name: str, files: Iterable[str]) -> None:
    """Raises ConfigError where a service's code is too large to be copied for each release."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for path in files:
        top = path.partition("/")[0] if "/" in path else "its top"
        counts[top] += 1
        with suppress(OSError):
            sizes[top] += os.lstat(root / path).st_size
    for sums, most, unit in ((counts, FILES_MAX, "files"), (sizes, BYTES_MAX, "bytes")):
        if sums.total() > most:
            largest, amount = sums.most_common(1)[0]
            raise ConfigError(
                f"the code of {name} is more than {most} {unit}; {amount} of them are in {shown(largest)}",
                remedy=f"say which are code, as code = [...] under [services.{name}], or have git ignore the rest",
            )
