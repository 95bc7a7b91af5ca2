"""Links in a copy of the code to what is not code: data, packages, and anything else in the application's folder.

Where packages of a workspace are linked into node_modules, the copy has a node_modules of its own, made of links, so
that those lead to the packages in the copy as well.
"""

import os
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from pathlib import Path, PurePosixPath

from fissile.releases.app_data.moves import DRAFT, is_folder, linked_path, replace_with_link
from fissile.releases.app_data.sqlite_files import COMPANIONS
from fissile.releases.private import make_folders

NEVER_LINKED = frozenset({".fissile", ".git", "__pycache__", DRAFT})
PACKAGES = "node_modules"


def link(root: Path, home: Path, code: Iterable[str]) -> None:
    """Link what is not code into a copy.

    code: the files that are code in the folder now; those that came after the copy was made are of another release.
    Anything that cannot be linked is left out.
    """
    code = set(code)
    folders = {parent.as_posix() for path in code for parent in PurePosixPath(path).parents}
    _link_within(root, "", home, folders.union(code))


def _link_within(root: Path, inside: str, home: Path, code: Set[str]) -> None:
    with os.scandir(root / inside) as found:
        entries = list(found)
    names = {entry.name for entry in entries}
    for entry in entries:
        path = f"{inside}/{entry.name}" if inside else entry.name
        with suppress(OSError):
            if entry.name == PACKAGES and _is_workspace(root, path):
                _link_packages(root, path, home)
            elif entry.is_dir(follow_symlinks=False) and is_folder(home / path):
                _link_within(root, path, home, code)
            elif path not in code and not _is_never_linked(entry.name, names):
                link_one(root, path, home)


def has_more(folder: Path, copy: Path) -> bool:
    """Whether a folder holds anything that its copy has no link to yet."""
    with suppress(OSError):
        names = set(os.listdir(folder))
        return any(not _is_never_linked(name, names) for name in names.difference(os.listdir(copy)))
    return False


def _is_never_linked(name: str, beside: Set[str]) -> bool:
    companion = any(name.endswith(one) and name.removesuffix(one) in beside for one in COMPANIONS)
    return companion or name in NEVER_LINKED or name.endswith(".pyc")


def link_one(root: Path, path: str, home: Path) -> None:
    """Link to what the application has at a path, unless something is there. Raises OSError.

    Where a link has been, a program has moved or deleted it: only the next scan may decide what becomes of that.
    """
    target, own = f"{home}/{path}", f"{root}/{path}"
    if not os.path.lexists(target):
        if not linked_path(home, root, path).witness.is_symlink():
            os.symlink(own, target)
    elif _leads_elsewhere(target, path, root):
        replace_with_link(linked_path(home, root, path), root / path, lambda found: _leads_elsewhere(found, path, root))


def _leads_elsewhere(target: Path | str, path: str, root: Path) -> bool:
    """Whether a link leads to the same path in another folder: this one was moved, or was copied from it."""
    try:
        leads = os.readlink(target)
    except OSError:
        return False  # no link
    return leads != f"{root}/{path}" and leads.startswith("/") and leads.endswith(f"/{path}")


def _entries(folder: Path) -> Iterator[str]:
    """The packages in a folder, such as "express" and "@me/library"."""
    for name in os.listdir(folder):
        if name.startswith("@"):
            yield from (f"{name}/{one}" for one in os.listdir(folder / name))
        else:
            yield name


def _is_workspace(root: Path, path: str) -> bool:
    """Whether node_modules links to packages in the application's own folders, as npm workspaces do."""
    folder = root / path
    return folder.is_dir() and any(_own_package(root, folder / name) for name in _entries(folder))


def _own_package(root: Path, package: Path) -> str:
    """Where in the application's folder a linked package lies; "" for any other package."""
    if not package.is_symlink():
        return ""
    real, top = os.path.realpath(package), os.path.realpath(root)
    inside = os.path.relpath(real, top)
    return inside if real.startswith(f"{top}/") and PACKAGES not in inside.split("/") else ""


def _link_packages(root: Path, path: str, home: Path) -> None:
    """Link packages one by one: the application's own as they are in the copy."""
    folder, target = root / path, home / path
    if target.is_symlink():
        target.unlink()
    make_folders(target)
    for name in _entries(folder):
        make_folders((target / name).parent)
        own = _own_package(root, folder / name)
        if not os.path.lexists(target / name):
            (target / name).symlink_to(home / own if own else folder / name)
