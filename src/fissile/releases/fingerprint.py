"""The release that an application's folder holds now: its files are read, and its services' builds made of them.

What is code: Python files, and what lies in the folders of those that are reached (templates and style sheets
among them). What runs writes to elsewhere, or to files with the suffix of data.
"""

import hashlib
import os
import stat
import sys
import sysconfig
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import pairwise
from pathlib import Path, PurePosixPath

import msgspec

import fissile
from fissile.component.contract import Contracts, contracts_of
from fissile.component.graph import Component, Graph
from fissile.errors import ConfigError
from fissile.names import ServiceName
from fissile.releases.commands import EXECUTABLE, PROJECTS, SOURCES, data_server, named_files, segments
from fissile.releases.digest import digest
from fissile.releases.installed import installed, working_folder
from fissile.releases.listing import DATA_SUFFIXES, SET_ASIDE, Listing, listing_of, shown, stays_within
from fissile.releases.manifest import manifest
from fissile.releases.packages import Installed
from fissile.releases.release import FORCED, Build, Release, build_of
from fissile.releases.slicing.effects import Effects
from fissile.releases.slicing.imports import imported
from fissile.releases.slicing.reachability import Slice, data_parts
from fissile.releases.slicing.read_analysis import ReadAnalysis
from fissile.releases.slicing.syntax import Modules
from fissile.settings.schema import ServiceSettings, Settings

FILES_MAX = 50_000
FILE_BYTES_MAX = 4 * 1024 * 1024
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})
# At the top, beside a single module: what pages are made of.
PAGE_FOLDERS = ("templates", "static")
# How deep packages are looked for below folders that hold none: what lies deeper is data.
DEPTH_MAX = 3
PROJECT_FILES = frozenset(PROJECTS)
LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "requirements.txt")
# Settings that a supervisor applies to what runs: no process starts anew for them.
APPLIED = frozenset({"replicas", "scale"})
# Of modules that are no text.
EXTENSIONS = tuple(EXTENSION_SUFFIXES)
PACKAGE_FOLDERS = ("site-packages", "dist-packages")


def release_of(
    settings: Settings,
    graph: Graph | None,
    topology: str,
    services: Mapping[ServiceName, tuple[str, ...]],
    found: Installed | None = None,
    forced: Mapping[str, str] | None = None,
) -> Release:
    """The release in the folder of the settings. found: what is imported from elsewhere. forced: as of `Load`.

    Raises ConfigError where it is too large to be an application's.
    """
    root = Path(settings.root)
    files = {shown(path): content for path, content in read_files(root)}
    listings = listings_of(root, settings)
    components = graph.components if graph is not None else {}
    contracts: Contracts = {}
    for component in components.values():
        contracts |= contracts_of(component.interface)
    reader = _reader(root, files, settings)
    slices = _slices(reader, settings, components, services)
    found = found or installed(settings.root, working_folder())
    common = {**_locks(root), **found.files, "installed packages": found.content()}
    forced = forced or {}
    builds: dict[ServiceName, Build] = {}
    foreign = {name for service, members in services.items() for name in members if settings.service(service).command}
    # All that is copied may be read: it is not what people edit, whoever it was copied for.
    copied = {path: one for listing in listings.values() for path, one in _listed(root, listing).items()}
    near = {path: one.encode() for path, one in copied.items()} | files
    for service, members in services.items():
        own, reached = settings.service(service), slices[service]
        parts: dict[str, str] = {}
        listing = listings.get(service)
        if listing is not None:
            parts = _listed(root, listing)
        elif not own.command:
            parts = {**reached.parts, **data_parts(near, reached, slices.values(), PAGE_FOLDERS)}
        if why := forced.get(service) or forced.get(""):
            parts[FORCED] = why
        if own.guest and own.code is None:
            # It finds its modules in its own way.
            parts |= {path: digest(content) for path, content in files.items()} | copied
        elif own.guest:
            parts |= {path: digest(files[path]) for path in _imported(root, reader, settings, own)}
        if not own.command:
            parts |= {path: digest(content) for path, content in files.items() if path.endswith(EXTENSIONS)}
        if members or own.guest or listing is None or listing.files:
            parts |= common
        parts[f"[services.{service}]"] = _settings_digest(own)
        if members:
            parts["[calls]"] = digest(msgspec.json.encode(settings.calls, order="sorted"))
        called = {target for name in members for target in (r.target for r in components[name].references)}
        for name in members:
            parts[f"[components.{name}]"] = digest(
                msgspec.json.encode(settings.components.get(name, {}), order="sorted")
            )
        for name in sorted(called | set(own.calls) | set(members)):
            fingerprints = [one.fingerprint for label, one in contracts.items() if label.startswith(f"{name}.")]
            # Programs in other languages are called another way.
            spoken = "HTTP" if name in foreign else "wire"
            parts[f"contract of {name}"] = digest(" ".join([spoken, *fingerprints]))
        builds[service] = build_of(parts)
    references = {name: tuple(r.target for r in component.references) for name, component in components.items()}
    calls = {str(service): tuple(settings.service(service).calls) for service in services}
    programs = {service: targets for service, targets in calls.items() if targets}
    name = graph.name if graph is not None else root.name
    return Release(name, topology, dict(services), builds, contracts, references, programs)


Reader = tuple[Modules, Effects, ReadAnalysis]


def _reader(root: Path, files: Mapping[str, bytes], settings: Settings) -> Reader:
    folders = [*_import_folders(root), *(one.folder for one in settings.services.values() if one.guest)]
    modules = Modules(files, dict.fromkeys(folders))
    return modules, Effects(modules), ReadAnalysis(modules)


def _imported(root: Path, reader: Reader, settings: Settings, own: ServiceSettings) -> set[str]:
    """The files that a service imports which knows nothing of Fissile, or may import; all, where it is installed."""
    target = getattr(own, own.guest)
    names = [target, *own.environment.values(), *(one for one in os.environ.values() if "." in one)]
    if settings.lone_guest is own:  # nothing else of the application was imported here
        top = f"{root}/"
        names += [
            name for name, module in [*sys.modules.items()] if (getattr(module, "__file__", None) or "").startswith(top)
        ]
    return imported(*reader, names) if imported(*reader, [target]) else set(map(reader[0].path, reader[0]))


def uncounted(root: Path, settings: Settings) -> Iterator[str]:
    """What programs run that is no part of their releases because `code` does not name it, in words."""
    files: dict[str, bytes] = {}
    for name, own in settings.services.items():
        folder = root / own.folder
        if not own.command or own.code is None or data_server(own.command, folder):
            continue
        files = files or dict(read_files(root))
        listing = listings_of(root, settings).get(name)
        base = os.path.relpath(folder, root)
        named = {os.path.normpath(os.path.join(base, word)) for word in named_files(own.command, folder)}
        run = {path for path in named if os.path.splitext(path)[1] in SOURCES}
        words = [word for one in segments(own.command) for word in one[1:]]
        folders = [base, *(os.path.join(base, word) for word in ("src", *words) if (folder / word).is_dir())]
        modules = Modules(files, dict.fromkeys(map(os.path.normpath, (*folders, *map(os.path.dirname, run)))))
        texts = [word for before, word in pairwise(["", *words]) if before == "-m" or "." in word or ":" in word]
        begun = [one for one in modules if modules.path(one) in run]
        run |= imported(modules, Effects(modules), ReadAnalysis(modules), [*texts, *begun])
        missing = sorted(run.difference(listing.files if listing is not None else ()))
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            yield f"{name} runs {shown(missing[0])}{more}, not named by its `code`: edits there are in no release"


def _slices(
    reader: Reader,
    settings: Settings,
    components: Mapping[str, Component],
    services: Mapping[ServiceName, tuple[str, ...]],
) -> dict[str, Slice]:
    """The code that each service consists of."""
    modules, effects, paths = reader
    classes = [(c.cls.__module__, c.cls.__qualname__) for c in components.values()]
    found: dict[str, Slice] = {}
    for service, members in services.items():
        found[service] = one = Slice(modules, effects, classes, paths)
        one.add_settings(
            [settings.service(service).environment, *(settings.components.get(name, {}) for name in members)]
        )
        if members:
            one.run(settings.app.partition(":")[0])
        for name in members:
            cls = components[name].cls
            if not components[name].foreign and not _is_installed(cls.__module__):
                one.add(cls.__module__, cls.__qualname__)
        if settings.service(service).guest:
            one.add_all()
    return found


def _import_folders(root: Path) -> Iterator[str]:
    """The folders below an application's in which modules are looked for, as "src"."""
    for entry in sys.path:
        path = Path(entry or ".").resolve()
        if path != root.resolve() and path.is_relative_to(root.resolve()):
            inside = path.relative_to(root.resolve())
            if not any(part.startswith(".") or part in SKIPPED for part in inside.parts):
                yield inside.as_posix()


def _is_installed(module: str) -> bool:
    """Whether a module is of an installed package, which counts by its version."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return any(part in PACKAGE_FOLDERS for part in Path(file).parts)


def outside(root: Path) -> dict[str, str]:
    """Digests of the modules that this process has imported from neither the application, a package nor Python."""
    ours = [Path(fissile.__file__).parent, root.resolve()]
    theirs = [Path(path) for name in ("stdlib", "platstdlib") if (path := sysconfig.get_paths().get(name))]
    found: dict[str, str] = {}
    for name, module in sorted(sys.modules.items()):
        path = Path(getattr(module, "__file__", None) or "")
        if not path.is_absolute() or path.suffix != ".py" or _is_installed(name):
            continue
        path = path.resolve()
        if not any(path.is_relative_to(folder) for folder in (*ours, *theirs)) and (content := _content(path)):
            found[str(path)] = digest(content)
    return found


def _top(path: str) -> str:
    parts = PurePosixPath(path).parts
    return parts[0] if len(parts) > 1 else ""


def _settings_digest(settings: ServiceSettings) -> str:
    kept = {key: value for key, value in msgspec.to_builtins(settings).items() if key not in APPLIED}
    return digest(msgspec.json.encode(kept, order="sorted"))


def read_files(root: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an application by path from its root. Raises ConfigError beyond FILES_MAX."""
    for path in code_files(root):
        content = _content(root / path)
        if content is not None:
            yield path, content


def code_files(root: Path) -> list[str]:
    """The paths of an application's files of code, from its root: of a copy, those that were copied.

    Raises ConfigError beyond FILES_MAX.
    """
    copied = manifest(root)
    if copied is not None:
        return list(copied.python)
    found = [path for path in _walk(root) if _top(path) or path.endswith((".py", *EXTENSIONS))]
    if len(found) > FILES_MAX:
        counts = Counter(map(_top, found))
        raise ConfigError(
            f"{root} holds more than {FILES_MAX} files of code; most of them in {counts.most_common(1)[0][0] or root}",
            remedy="keep data out of its packages' folders",
        )
    return found


def _walk(root: Path) -> Iterator[str]:
    visited: set[str] = set()
    depths: dict[Path, int] = {}
    for folder, folders, names in os.walk(root, followlinks=True):
        here = Path(folder)
        # Of a project within the project, as a member of a workspace, depth is counted from there on.
        project = here == root or not PROJECT_FILES.isdisjoint(names)
        depths[here] = 0 if project else depths[here.parent] + 1
        real = os.path.realpath(folder)
        if real in visited:
            folders.clear()  # a link that leads back
            continue
        visited.add(real)
        code = any(name.endswith(".py") for name in names)
        inside = here != root
        folders[:] = [name for name in _entered(here, folders) if _is_inside(root, here / name)]
        if inside and not code and not _below_code(root, here):
            names = []
            if depths[here] >= DEPTH_MAX:
                folders.clear()
        for name in sorted(names):
            if (
                not name.startswith(".")
                and not name.endswith(DATA_SUFFIXES)
                and not SET_ASIDE.search(name)
                and _is_code(root, here / name)
            ):
                yield (here / name).relative_to(root).as_posix()


def _entered(here: Path, folders: Iterable[str]) -> list[str]:
    """The folders that may hold code of the application."""
    return sorted(
        name
        for name in folders
        if not name.startswith(".")
        and name not in SKIPPED
        and not SET_ASIDE.search(name)
        and not (here / name / "pyvenv.cfg").exists()
    )


def _is_inside(root: Path, path: Path) -> bool:
    """Whether a path is no link, or one that leads to somewhere in the folder."""
    return not path.is_symlink() or stays_within(root, path, [])


def _is_code(root: Path, path: Path) -> bool:
    """Whether it is a file of the application that can be read; a pipe is none."""
    with suppress(OSError):
        return stat.S_ISREG(path.stat().st_mode) and _is_inside(root, path) and os.access(path, os.R_OK)
    return False


def _below_code(root: Path, folder: Path) -> bool:
    """Whether a folder without Python files lies in a package, or is one that pages are made of."""
    if folder.relative_to(root).parts[0] in PAGE_FOLDERS:
        return True
    return any(parent != root and parent.is_relative_to(root) and _holds_code(parent) for parent in folder.parents)


def _holds_code(folder: Path) -> bool:
    with suppress(OSError):
        return any(name.endswith(".py") for name in os.listdir(folder))
    return False


def _content(path: Path) -> bytes | None:
    """What a file holds; of a very large one, a digest of it."""
    try:
        if path.stat().st_size <= FILE_BYTES_MAX:
            return path.read_bytes()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None  # it went away, or is nobody's to read: its importer will say so


def _locks(root: Path) -> dict[str, str]:
    return {name: digest(content) for name in LOCKS if (content := _content(root / name)) is not None}


def listings_of(root: Path, settings: Settings, data: Collection[str] = ()) -> dict[str, Listing]:
    """The code of each service that its folder has a list of: of all but components, unless they name their files.

    data: paths that programs have written to. Of a copy, what was found when it was made. Raises ConfigError.
    """
    copied = manifest(root)
    if copied is not None:
        return copied.services
    listed = {name: one for name, one in settings.services.items() if one.command or one.guest or one.code is not None}
    return {name: listing_of(root, name, one, data) for name, one in listed.items()}


def _listed(root: Path, listing: Listing) -> dict[str, str]:
    """The files of a listing with their digests."""
    copied = manifest(root)
    if copied is not None:
        known = {path: item.digest for path, item in copied.files.items()} | copied.links
        return {shown(path): known[path] for path in listing.files if path in known}
    found = {path: digest_of(root / path) for path in listing.files}
    return {shown(path): one for path, one in found.items() if one is not None}


def digest_of(path: Path) -> str | None:
    """Of a file's content and mode, or of where a link leads; None where it went away."""
    with suppress(OSError):
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            return shown(os.readlink(path))
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16] + mode_of(found.st_mode)
    return None


def mode_of(mode: int) -> str:
    """What of a file's mode is a part of the code."""
    return " executable" if mode & EXECUTABLE else ""
