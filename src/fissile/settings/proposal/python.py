"""Which Python application a folder holds, and as what it is served."""

import ast
import re
from collections.abc import Iterable

import msgspec

from fissile.settings.proposal.applications import ASGI, FISSILE, WSGI, Application, applications
from fissile.settings.proposal.folder import Folder, parent

# Names that tell an application from its parts, the likeliest first.
MODULES = ("asgi", "wsgi", "main", "app", "server", "application", "api", "web", "__init__")
ATTRIBUTES = ("application", "app", "asgi", "wsgi", "server", "api")
# By what a program listens that no framework serves.
_LISTENS = re.compile(r"\bserve\(|serve_forever|run_app\(|start_server\(|create_server\(|\.listen\(")
_READS_PORT = re.compile(r"""(?:environ(?:\.get\(|\[)|getenv\()\s*["']PORT["']""")
ASYNC_DJANGO = ("channels", "daphne")


class Found(msgspec.Struct, frozen=True):
    """Applications of a folder.

    Attributes:
        ours: Fissile's own, the likeliest first.
        guests: Those of other frameworks, the likeliest first; factories last.
        programs: Files that listen at $PORT by themselves.
        elsewhere: Folders that are applications of their own, with what is in them.
    """

    ours: tuple[Application, ...] = ()
    guests: tuple[Application, ...] = ()
    programs: tuple[str, ...] = ()
    elsewhere: tuple[tuple[str, str], ...] = ()


def find(folder: Folder) -> Found:
    """What there is, by its syntax."""
    projects = {parent(path) for path in folder.paths if path.endswith("/manage.py")}
    files: list[tuple[str, str]] = []
    elsewhere: dict[str, str] = dict.fromkeys(sorted(projects), "Django")
    for path, text in folder.python():
        if any(path.startswith(f"{one}/") for one in projects):
            continue
        files.append((path, text))
    guests: list[Application] = []
    ours: list[Application] = []
    for one in sorted(applications(files), key=_likelihood):
        if one.kind == FISSILE:
            ours.append(one)
        elif _leans_on_its_folder(folder, one.path):
            elsewhere.setdefault(parent(one.path), one.framework)
        else:
            guests.append(one)
    served = {one.path for one in [*ours, *guests]}
    programs = [
        path
        for path, text in files
        if "/" not in path and path not in served and _READS_PORT.search(text) and _LISTENS.search(text)
    ]
    return Found(tuple(ours), tuple(_one_of_django(folder, guests)), tuple(programs), tuple(elsewhere.items()))


def _likelihood(one: Application) -> tuple[bool, int, int, int, str]:
    module, _, attribute = one.target.partition(":")
    last = module.rpartition(".")[2]
    return (
        one.factory,
        MODULES.index(last) if last in MODULES else len(MODULES),
        ATTRIBUTES.index(attribute) if attribute in ATTRIBUTES else len(ATTRIBUTES),
        one.path.count("/"),
        one.target,
    )


def _leans_on_its_folder(folder: Folder, path: str) -> bool:
    """Whether a file imports what lies beside it by a bare name: that works where its own folder is on the path."""
    place = parent(path)
    if place in (".", "src") or folder.has(f"{place}/__init__.py"):
        return False
    try:
        tree = ast.parse(folder.texts[path])
    except (SyntaxError, ValueError, RecursionError):
        return False
    names = {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
    names |= {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    tops = {name.partition(".")[0] for name in names}
    return any(folder.has(f"{place}/{top}.py") or folder.has(f"{place}/{top}/__init__.py") for top in tops)


def _one_of_django(folder: Folder, guests: Iterable[Application]) -> list[Application]:
    """A Django project has both kinds: asgi where it has Channels, else wsgi, which its synchronous views suit."""
    wanted = ASGI if folder.mentions(*ASYNC_DJANGO) else WSGI
    return sorted(guests, key=lambda one: (one.factory, one.framework in ("Django", "Channels") and one.kind != wanted))


def migration(folder: Folder) -> str:
    """The command that brings a database up to date, or ""."""
    if folder.has("manage.py") and any("/migrations/0" in f"/{path}" for path in folder.paths):
        return "python manage.py migrate"
    return "alembic upgrade head" if folder.has("alembic.ini") else ""
