"""SHELL. Lists a folder for a proposal, and reads the files that tell what it is.

Nothing is run or imported. Links are not followed, so nothing outside the folder is read; files of variables such as
.env are listed and not read, because they may hold secrets.
"""

import os
import stat
import sys
from collections import deque
from importlib.util import find_spec
from pathlib import Path

from fissile.errors import ConfigError
from fissile.settings.proposal.compose import NAMES
from fissile.settings.proposal.folder import Folder

PATHS_MAX = 20_000
READ_MAX = 400
FILE_BYTES_MAX = 256 * 1024
DEPTH_MAX = 6
# How deep scripts of other languages are read: a server is started by one near the top.
SCRIPT_DEPTH_MAX = 1
IGNORED = frozenset(
    {"node_modules", "site-packages", "__pycache__", "build", "dist", "target", "vendor", "venv", "env"}
)
MATTER = frozenset({*NAMES, "Procfile", "Dockerfile", "package.json", "pyproject.toml", "Makefile"})
SCRIPTS = (".js", ".mjs", ".cjs")
# Marks a virtual environment (PEP 405).
ENVIRONMENT = "pyvenv.cfg"
OPTIONAL = ("a2wsgi", "websockets")


def list_folder(root: Path) -> Folder:
    """The folder as a proposal needs it. Raises ConfigError where it cannot be listed."""
    paths: list[str] = []
    environments: list[str] = []
    waiting = deque([("", 0)])
    while waiting and len(paths) < PATHS_MAX:
        place, depth = waiting.popleft()
        try:
            entries = sorted(os.scandir(root / place), key=lambda one: one.name)
        except OSError as error:
            if not place:
                raise ConfigError(
                    f"{root} cannot be listed: {error.strerror}", remedy="name the application's folder"
                ) from None
            continue
        for entry in entries:
            path = f"{place}/{entry.name}" if place else entry.name
            if entry.is_dir(follow_symlinks=False):
                if os.path.lexists(root / path / ENVIRONMENT):
                    environments.append(path)
                elif depth < DEPTH_MAX and not entry.name.startswith(".") and entry.name not in IGNORED:
                    waiting.append((path, depth + 1))
            elif entry.is_file(follow_symlinks=False):
                paths.append(path)
    texts: dict[str, str] = {}
    unread = 0
    for path in filter(_matters, paths):
        text = _read(root / path) if len(texts) < READ_MAX else None
        if text is None:
            unread += 1
        else:
            texts[path] = text
    inside = Path(sys.prefix)
    return Folder(
        root.resolve().name,
        texts,
        frozenset(paths),
        unread,
        tuple(environments),
        str(inside.relative_to(root.resolve())) if inside.is_relative_to(root.resolve()) else "",
        frozenset(name for name in OPTIONAL if find_spec(name) is not None),
    )


def _matters(path: str) -> bool:
    name = path.rpartition("/")[2]
    if name.endswith(SCRIPTS):
        return path.count("/") <= SCRIPT_DEPTH_MAX
    listed = name.startswith("requirements") and name.endswith(".txt")
    return name.endswith(".py") or name in MATTER or name.startswith("Dockerfile.") or listed


def _read(file: Path) -> str | None:
    """Its text; None where it is too large, gone, no UTF-8 or no file any more."""
    try:
        # It may have become a link or a pipe since it was listed.
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as opened:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_size > FILE_BYTES_MAX:
            return None
        try:
            return opened.read(FILE_BYTES_MAX).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError):
            return None
