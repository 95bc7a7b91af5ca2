"""Files and folders that only their owner may read, and where the copies of code lie in the state folder."""

import os
from pathlib import Path

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
CODE = "code"


def private(path: str, flags: int) -> int:
    """An opener for `open`: a file that it makes is private."""
    return os.open(path, flags, PRIVATE_FILE)


def make_folders(folder: Path) -> None:
    """Make a private folder, and its missing parents."""
    if not folder.is_dir():
        make_folders(folder.parent)
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a private file."""
    with open(path, "wb", opener=private) as file:
        file.write(content)


def replace_private(path: Path, content: bytes) -> None:
    """Replace a private file atomically: after a kill or on a full disk it is the old one or the new one.

    Raises OSError.
    """
    draft = path.with_name(f"{path.name}.new")
    try:
        write_private(draft, content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
