"""The release that an application's folder holds now: its files are read, and its services' builds made of them.

What is code: Python files, and what lies in the folders of those that are reached (templates and style sheets
among them). What runs writes to elsewhere, or to files with the suffix of data.
"""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import msgspec

from fissile.component.contract import Contracts, contracts_of
from fissile.component.graph import Graph
from fissile.errors import ConfigError
from fissile.orchestrator.code import Modules, Slice, data_parts, digest
from fissile.orchestrator.release import Build, Release, build_of
from fissile.runtime.settings import ServiceSettings, Settings

FILES_MAX = 50_000
FILE_BYTES_MAX = 4 * 1024 * 1024
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})
DATA_SUFFIXES = (".pyc", ".db", ".sqlite", ".sqlite3", "-wal", "-shm", "-journal", ".log", ".pid", ".sock", ".tmp")
# At the top, beside a single module: what pages are made of.
PAGE_FOLDERS = ("templates", "static")
# How deep packages are looked for below folders that hold none: what lies deeper is data.
DEPTH_MAX = 3
LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "requirements.txt")
# Settings that a supervisor applies to what runs: no process starts anew for them.
APPLIED = frozenset({"replicas", "scale"})


def release_of(
    settings: Settings, graph: Graph | None, topology: str, services: Mapping[str, tuple[str, ...]]
) -> Release:
    """The release in the folder of the settings. Raises ConfigError where it is too large to be an application's."""
    root = Path(settings.root)
    files = dict(read_files(root))
    modules = Modules(files)
    components = graph.components if graph is not None else {}
    classes = [(c.cls.__module__, c.cls.__qualname__) for c in components.values()]
    contracts: Contracts = {}
    for component in components.values():
        contracts |= contracts_of(component.interface)
    common = {**_locks(root), "installed packages": installed()}
    slices: dict[str, Slice] = {}
    for service in services:
        slices[service] = found = Slice(modules, classes)
        own = settings.service(service)
        for name in services[service]:
            if not components[name].foreign:
                found.add(components[name].cls.__module__, components[name].cls.__qualname__)
        if own.guest:
            found.add(getattr(own, own.guest).partition(":")[0])
    texts = {text for one in slices.values() for text in one.texts}
    builds: dict[str, Build] = {}
    foreign = {name for service, members in services.items() for name in members if settings.service(service).command}
    for service, members in services.items():
        own, found = settings.service(service), slices[service]
        near = {path: data for path, data in files.items() if _top(path) in {*found.folders, *PAGE_FOLDERS}}
        parts = {**common, **found.parts, **data_parts(near, found.texts, texts)}
        parts[f"[services.{service}]"] = _settings_digest(own)
        called = {target for name in members for target in (r.target for r in components[name].references)}
        for name in members:
            parts[f"[components.{name}]"] = digest(
                msgspec.json.encode(settings.components.get(name, {}), order="sorted")
            )
        for name in sorted(called | set(own.calls) | {name for name in members if components[name].foreign}):
            fingerprints = [one.fingerprint for label, one in contracts.items() if label.startswith(f"{name}.")]
            # Programs in other languages are called another way.
            spoken = "HTTP" if name in foreign else "wire"
            parts[f"contract of {name}"] = digest(" ".join([spoken, *fingerprints]))
        parts |= _command_parts(root, own)
        builds[service] = build_of(parts)
    references = {name: tuple(r.target for r in component.references) for name, component in components.items()}
    name = graph.name if graph is not None else root.name
    return Release(name, topology, dict(services), builds, contracts, references)


def _top(path: str) -> str:
    parts = PurePosixPath(path).parts
    return parts[0] if len(parts) > 1 else ""


def _settings_digest(settings: ServiceSettings) -> str:
    kept = {key: value for key, value in msgspec.to_builtins(settings).items() if key not in APPLIED}
    return digest(msgspec.json.encode(kept, order="sorted"))


def read_files(root: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an application by path from its root. Raises ConfigError beyond FILES_MAX."""
    count = 0
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        code = any(name.endswith(".py") for name in names)
        inside = here != root
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in SKIPPED and not (here / name / "pyvenv.cfg").exists()
        )
        if inside and not code and not _below_code(root, here):
            names = []
            if len(here.relative_to(root).parts) >= DEPTH_MAX:
                folders.clear()
        for name in sorted(names):
            if name.startswith(".") or name.endswith(DATA_SUFFIXES) or not (inside or name.endswith(".py")):
                continue
            count += 1
            if count > FILES_MAX:
                raise ConfigError(
                    f"{root} holds more than {FILES_MAX} files of code", remedy="keep data out of its packages' folders"
                )
            content = _content(here / name)
            if content is not None:
                yield (here / name).relative_to(root).as_posix(), content


def _below_code(root: Path, folder: Path) -> bool:
    """Whether a folder without Python files lies in a package, or is one that pages are made of."""
    if folder.relative_to(root).parts[0] in PAGE_FOLDERS:
        return True
    return any(parent != root and parent.is_relative_to(root) and any(parent.glob("*.py")) for parent in folder.parents)


def _content(path: Path) -> bytes | None:
    """What a file holds; of a very large one, that it is there and how large."""
    try:
        size = path.stat().st_size
        return path.read_bytes() if size <= FILE_BYTES_MAX else b"%d bytes" % size
    except OSError:
        return None  # it went away, or is nobody's to read: its importer will say so


def _locks(root: Path) -> dict[str, str]:
    return {name: digest(content) for name in LOCKS if (content := _content(root / name)) is not None}


def installed() -> str:
    """A digest of the interpreter and the distributions that can be imported: their folders' names carry versions."""
    names: set[str] = set()
    for entry in sys.path:
        try:
            names.update(name for name in os.listdir(entry or ".") if name.endswith((".dist-info", ".egg-info")))
        except OSError:
            continue
    return digest("\n".join([sys.version, *sorted(names)]))


def _command_parts(root: Path, settings: ServiceSettings) -> dict[str, str]:
    """The files that a command names, and those beside them."""
    files = {path: _content(path) for path in command_files(root, settings)}
    return {os.path.relpath(path, root): digest(content) for path, content in files.items() if content is not None}


def command_files(root: Path, settings: ServiceSettings) -> Iterator[Path]:
    """The files of code that a service's command consists of."""
    folder = root / settings.folder
    for word in shlex.split(settings.command):
        file = folder / word
        if not file.is_file():
            continue
        beside = sorted(file.parent.iterdir()) if file.parent != root else [file]
        yield from (path for path in beside if path.is_file() and not path.name.endswith(DATA_SUFFIXES))
