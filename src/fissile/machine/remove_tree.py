"""Removes a folder in which others have written: however deep it is, and whatever modes they left on it.

`shutil.rmtree` calls itself for each folder in a folder, and so fails where a service has made a thousand of them.
"""

import os
from contextlib import suppress
from secrets import token_hex

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ALL = 0o700


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Remove a folder with all that is in it; links are not followed. What cannot be removed is left."""
    _open_up(path)
    try:
        top = os.open(path, _OPEN)
    except OSError:
        return
    try:
        # Folders with something in them come up to the top, and are next: nothing is ever deeper than two.
        ahead = _swept(top, top)
        while ahead:
            name = ahead.pop()
            with suppress(OSError):
                folder = os.open(name, _OPEN, dir_fd=top)
                try:
                    ahead += _swept(folder, top)
                finally:
                    os.close(folder)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    with suppress(OSError):
        os.rmdir(path)


def _swept(folder: int, top: int) -> list[str]:
    """Remove what can be at once; the folders that were moved to the top. Both are descriptors."""
    moved: list[str] = []
    with os.scandir(folder) as found:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, is_folder in entries:
        with suppress(OSError):
            if not is_folder:
                os.unlink(name, dir_fd=folder)
                continue
            _open_up(name, folder)
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError:
                later = f"{token_hex(8)}.swept"
                os.rename(name, later, src_dir_fd=folder, dst_dir_fd=top)
                moved.append(later)
    return moved


def _open_up(name: str | os.PathLike[str], folder: int | None = None) -> None:
    """Let its owner in: so may only be altered what it is, not what a link leads to (O_PATH, open(2))."""
    with suppress(OSError, AttributeError):
        fd = os.open(name, os.O_PATH | _OPEN, dir_fd=folder)
        try:
            os.chmod(f"/proc/self/fd/{fd}", _ALL)
        finally:
            os.close(fd)
