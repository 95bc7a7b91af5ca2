"""SHELL. Writes a proposed fissile.toml, and never over one that is there unless it is told to."""

import os
from pathlib import Path

from fissile.errors import ConfigError
from fissile.settings.proposal.proposal import Proposal
from fissile.settings.schema import FILE_NAME


def check_absent(folder: Path, *, force: bool) -> None:
    """Raises ConfigError where the folder has a fissile.toml already, or is no folder."""
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}", remedy="name the application's folder")
    if os.path.lexists(folder / FILE_NAME) and not force:
        raise ConfigError(
            f"there is a {FILE_NAME} in {folder.resolve()} already",
            remedy="look at a new one with --print, or write over it with --force",
        )


def nothing_found(folder: Path, proposal: Proposal) -> ConfigError:
    """The error for a folder in which nothing was found that could be started, with what was seen."""
    seen = "".join(f"\n  - {one}" for one in [*proposal.unclear, *proposal.assumed])
    return ConfigError(
        f"nothing that could be started was found in {folder.resolve()}{seen}",
        remedy=f'write {FILE_NAME} with [services.web] and command, asgi = "module:app" or wsgi = "module:app"',
    )


def write(folder: Path, text: str, *, force: bool) -> Path:
    """Write the file, whole or not at all; its path. Raises ConfigError."""
    file = folder / FILE_NAME
    new = folder / f".{FILE_NAME}.{os.getpid()}"
    try:
        new.write_text(text, encoding="utf-8")
        try:
            if force:
                os.replace(new, file)
            else:
                os.link(new, file)  # fails where somebody has made one meanwhile
        finally:
            new.unlink(missing_ok=True)
    except FileExistsError:
        check_absent(folder, force=False)
        raise
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}", remedy="see its folder's permissions"
        ) from None
    return file
