"""What is installed where this interpreter runs: read from the metadata that installers leave.

Each distribution has a folder NAME-VERSION.dist-info with RECORD, the digests of its files (the specification
"Recording installed projects" of packaging.python.org), and where it came from no index, direct_url.json (PEP 610).
A file that somebody edits in there without an installer is not seen.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fissile.releases.digest import digest
from fissile.releases.packages import Installed, Package

METADATA = (".dist-info", ".egg-info")
PATH_SECONDS_MAX = 10.0
DIRECT_URL = "direct_url.json"


def installed(*own: str, files: Mapping[str, str] | None = None, path: Sequence[str] | None = None) -> Installed:
    """The interpreter, and all distributions that it can import from its path.

    own: folders of the application, whose code is in its releases. files: see `Installed`. path: instead of the one
    that this process began with.
    """
    found: dict[str, Package] = {}
    for folder in dict.fromkeys(map(os.path.abspath, sys.path if path is None else path)):
        if folder in own or any(folder.startswith(f"{one}/") and not _is_packages(folder) for one in own):
            continue
        for name, package in _packages(folder):
            found.setdefault(name, package)  # the first on the path is imported
    return Installed(sys.version, sys.prefix, dict(sorted(found.items())), dict(files or {}))


def path_now(environment: Mapping[str, str]) -> list[str]:
    """The path of an interpreter that begins now: what is read for it at its start (PYTHONPATH, .pth files) may be
    other than when this process began, whose own path it is where no other can be asked.
    """
    command = [sys.executable, "-P", "-c", "import sys; print(ascii(sys.path))"]
    with suppress(OSError, subprocess.SubprocessError, ValueError, SyntaxError):
        told = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATH_SECONDS_MAX,
            check=True,
        )
        return list(map(str, ast.literal_eval(told.stdout.decode().splitlines()[-1])))
    return list(sys.path)


def _is_packages(folder: str) -> bool:
    """Whether it is where an installer puts packages, as in an environment within the application's folder."""
    return os.path.basename(folder) in ("site-packages", "dist-packages")


def working_folder() -> str:
    """Of this process; "" if that is gone."""
    with suppress(OSError):
        return os.getcwd()
    return ""


def is_uvs(prefix: str) -> bool:
    """Whether an environment was made by uv, which puts no pip in it."""
    try:
        lines = (Path(prefix) / "pyvenv.cfg").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.partition("=")[0].strip() == "uv" for line in lines)


def _packages(folder: str) -> Iterator[tuple[str, Package]]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return  # a path that is not there, or a zip file
    for entry in names:
        if entry.endswith(METADATA):
            name, _, version = entry.rpartition(".")[0].partition("-")
            yield re.sub(r"[-_.]+", "-", name).lower(), _package(os.path.join(folder, entry), version)


def _package(folder: str, version: str) -> Package:
    content = _content(folder, "RECORD") or _content(folder, "installed-files.txt")
    source, editable = _source(folder)
    return Package(version.partition("-")[0] or "?", digest(content) if content else "", source, editable)


def _content(folder: str, name: str) -> bytes:
    with suppress(OSError), open(os.path.join(folder, name), "rb", buffering=0) as file:
        return file.readall()
    return b""


def _source(folder: str) -> tuple[str, bool]:
    """Where a distribution came from, and whether it is a link to that."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, AttributeError, TypeError):
        told: Any = msgspec.json.decode(_content(folder, DIRECT_URL) or b"{}")
        url = str(told.get("url", ""))
        if told.get("vcs_info"):
            return f"{told['vcs_info'].get('vcs', 'git')}+{url}@{told['vcs_info'].get('commit_id', '')}", False
        if told.get("dir_info", {}).get("editable"):
            return url.removeprefix("file://"), True
        return url, False
    return "", False
