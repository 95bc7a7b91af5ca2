"""Unix sockets at paths of any length.

An address holds 107 bytes of path on Linux and 103 on macOS (unix(7)), and an application may lie deeper. A path that
begins with a descriptor of its folder, /proc/self/fd/N/NAME (proc_pid_fd(5)), is always short enough. So no socket has
to be in a folder that others may write to or clean up, as that of temporary files.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager

PATH_BYTES_MAX = 103
DESCRIPTORS = "/proc/self/fd"
_O_PATH: int = getattr(os, "O_PATH", 0)


def any_length() -> bool:
    """Whether this system can shorten a path."""
    return bool(_O_PATH) and os.path.isdir(DESCRIPTORS)


@contextmanager
def addressed(path: str) -> Generator[str]:
    """The path of a socket as bind(2) and connect(2) take it, for as long as the block lasts.

    Raises OSError where its folder is not there.
    """
    if len(os.fsencode(path)) <= PATH_BYTES_MAX or not any_length():
        yield path
        return
    folder, name = os.path.split(path)
    descriptor = os.open(folder, _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"{DESCRIPTORS}/{descriptor}/{name}"
    finally:
        os.close(descriptor)
