"""Files of settings and secrets, which belong to no release: processes read them when they are imported.

Which ones an application reads cannot be seen from here. So they are told by their names: what dotenv(5) and its like
read, and what usually holds settings, keys and certificates, at the top or in a folder that is named after that.
"""

import os
from collections.abc import Container, Iterator
from contextlib import suppress
from pathlib import Path

FOLDERS = ("", "config", "conf", "settings", "secrets", "certs", "env", "envs", ".envs", "environments")
SUFFIXES = (".env", ".ini", ".cfg", ".conf", ".properties", ".toml", ".yaml", ".yml", ".json", ".key", ".pem", ".crt")
# Of these, only the names are like those of the others.
PATTERNS = (".example", ".sample", ".template", ".dist", ".tmpl", ".lock")
ENTRIES_MAX = 1000


def settings_files(root: Path, code: Container[str], *folders: str) -> dict[str, str]:
    """What tells each of them from what it was before, by its path from the root.

    code: paths that are of a release. folders: more of them to look in, as those that services run in.
    """
    found: dict[str, str] = {}
    for folder in dict.fromkeys((*FOLDERS, *folders)):
        for name in _names(root / folder):
            path = os.path.normpath(os.path.join(folder, name))
            if path not in code:
                with suppress(OSError):
                    status = os.stat(root / path)
                    # A link may be switched, and a file be moved there that is older: its number and change time tell.
                    found[path] = f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
    return found


def changed(before: dict[str, str], now: dict[str, str]) -> tuple[str, ...]:
    """Those that are not as they were, or are not there any more."""
    return tuple(path for path in sorted(before | now) if before.get(path) != now.get(path))


def _names(folder: Path) -> Iterator[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        for _, entry in zip(range(ENTRIES_MAX), entries, strict=False):
            name = entry.name
            telling = name == ".env" or name.startswith(".env.") or name.endswith(SUFFIXES)
            if telling and not name.endswith(PATTERNS) and entry.is_file():
                yield name
