"""Paths as people name them: a link in them may be switched, so it is not followed before it has to be."""

import os
from pathlib import Path


def as_named(folder: Path) -> Path:
    """An absolute path; links stand. Raises FileNotFoundError where it is relative to a folder that is gone."""
    if ".." in folder.parts:
        return folder.resolve()  # what it leads to depends on the links before it
    return folder if folder.is_absolute() else _here() / folder


def _here() -> Path:
    """The working folder as the shell has it (PWD, see pwd(1)), if that is still the same."""
    shown = os.environ.get("PWD", "")
    real = os.getcwd()
    try:
        same = os.path.isabs(shown) and ".." not in Path(shown).parts and os.path.samefile(shown, real)
    except OSError:
        same = False
    return Path(shown if same else real)
