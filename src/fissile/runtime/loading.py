"""Finds the application that a configuration names, and says clearly why it cannot be found."""

import importlib
import os
import sys
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from fissile.component.graph import Graph
from fissile.errors import ConfigError, DeclarationError

# Folders of installed packages belong to no release, wherever they are.
NOT_COPIED = ("site-packages", "node_modules")


def enter_folder(folder: str | Path) -> None:
    """Work in a folder from now on, so that relative paths mean what is there. Raises ConfigError."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(
            f"{folder}, the folder to work in, cannot be entered: {error.strerror}",
            remedy="mend `folder` in fissile.toml; where a release's own copy was removed, `fissile deploy` makes one",
        ) from None


@contextmanager
def inside(folder: str | Path) -> Generator[None]:
    """Work in a folder for as long as the block lasts. Raises ConfigError."""
    before = None
    with suppress(FileNotFoundError):  # of a folder that was removed
        before = os.getcwd()
    enter_folder(folder)
    try:
        yield
    finally:
        if before is not None:
            os.chdir(before)


def import_from_copy(source: Path, copy: Path) -> None:
    """Import from the copy of the code whatever would be imported from the folder that it was copied from."""
    source = source.resolve()
    for number, entry in enumerate(sys.path):
        path = Path(entry or ".").resolve()
        inside = path.relative_to(source) if path.is_relative_to(source) else None
        if inside is not None and (copy / inside).is_dir() and not any(p in NOT_COPIED for p in inside.parts):
            sys.path[number] = str(copy / inside)
    for places in _editable():
        for name, place in places.items():
            places[name] = _moved(place, source, copy)


def _editable() -> Iterator[dict[str, Any]]:
    """Where packages are imported from that `pip install -e` has put into no folder of the path, by name.

    As setuptools and the library `editables` keep it.
    """
    for name, module in [*sys.modules.items()]:
        if name.startswith("__editable__"):
            yield from (getattr(module, places, {}) for places in ("MAPPING", "NAMESPACES"))
    redirector = getattr(sys.modules.get("editables.redirector"), "RedirectingFinder", None)
    yield getattr(redirector, "_redirections", {})


def _moved(place: Any, source: Path, copy: Path) -> Any:
    """A path, or a list of them, in the copy, if it is there."""
    if isinstance(place, list):
        return [_moved(one, source, copy) for one in cast(list[Any], place)]
    path = Path(place).resolve()
    if path.is_relative_to(source):
        moved = copy / path.relative_to(source)
        if moved.exists() or moved.with_suffix(".py").exists():
            return str(moved)
    return place


def load_application(target: str, root: Path) -> Graph:
    """Import the application "module:attribute" with `root` first on the path.

    Raises ConfigError with file and line of the author's mistake, never the importer's own stack.
    """
    found = load_object(target, root)
    if not isinstance(found, Graph):
        module, _, attribute = target.partition(":")
        raise ConfigError(
            f"{module} has no application {attribute!r}: it is a {type(found).__name__}",
            remedy=f"write {attribute} = Application(...) in it",
        )
    return found


def load_object(target: str, root: Path) -> object:
    """Import "module:attribute" with `root` first on the path.

    Raises ConfigError with file and line of the author's mistake, never the importer's own stack.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{target!r} is not of the form module:attribute", remedy='write app = "shop:app"')
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        module = importlib.import_module(module_name)
    except DeclarationError as error:
        raise ConfigError(str(error), remedy=f"mend that; nothing was started{_place(error, root)}") from None
    except ModuleNotFoundError as error:
        if error.name in (module_name, module_name.partition(".")[0]):
            raise ConfigError(
                f"there is no module {error.name!r} in {root}", remedy="check its name in fissile.toml, and the folder"
            ) from None
        raise ConfigError(
            f"{module_name} imports {error.name!r}, which is not installed{_place(error, root)}",
            remedy="install it in this Python environment",
        ) from None
    except SystemExit as error:
        raise ConfigError(
            f"{module_name} ends the process while it is imported: sys.exit({error.code!r}){_place(error, root)}",
            remedy='keep that from being imported: below `if __name__ == "__main__":`',
        ) from None
    except Exception as error:
        raise ConfigError(
            f"{module_name} cannot be imported: {_said(error)}{_place(error, root)}",
            remedy="mend that line; nothing was started",
        ) from None
    found = getattr(module, attribute, None)
    if found is None:
        raise ConfigError(
            f"{module_name} has no application {attribute!r}: it is not there",
            remedy=f"write {attribute} = Application(...) in it",
        )
    return found


def _said(error: Exception) -> str:
    """Of a syntax error without its place, which follows."""
    return f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"


def _place(error: BaseException, root: Path) -> str:
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    own = [f for f in frames if f.filename.startswith(str(root))] or frames
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
