"""The last lines that a process has printed since it was started, for the error that says why it did not start."""

import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress

from fissile.machine.log_lines import plain

LINES_MAX = 20
LINE_CHARACTERS_MAX = 500
READ_BYTES = 16 * 1024
# With which a replica begins its last line.
_CANNOT = "cannot start: "
_DESCRIPTORS = "/proc/self/fd"


# What interpreters and package managers print when what they are to run is not there, or cannot be read as code.
_NOTHING_TO_RUN = re.compile(
    r"\S*python[\d.]*\S*: (?:No module named |Error while finding module |can't (?:open file|find '__main__' module))"
    r"|(?:ModuleNotFoundError|ImportError|SyntaxError|IndentationError|TabError): |Error: Could not import '"
    r"|Error: Cannot find (?:module|package) '|Error \[ERR_MODULE_NOT_FOUND\]|npm (?:error|ERR!) Missing script: "
    r"|npm (?:error|ERR!) enoent Could not read package\.json|ERROR:\s+Error loading ASGI app\. "
    r"|\w*sh: \d+: cannot open |Can't open perl script |Could not open input file: |Error: Unable to access jarfile "
    r"|\S*ruby\S*: No such file or directory -- |make(?:\[\d+\])?: \*\*\* No "
)


def nothing_to_run(lines: Sequence[str]) -> bool:
    """Return whether the last lines of a failed program say that another try will fail too."""
    return any(_NOTHING_TO_RUN.match(line.lstrip()) for line in lines)


def told(lines: Sequence[str], trouble: str) -> tuple[str, ...]:
    """Lines without those that only say the trouble once more."""
    said = {line.strip() for line in trouble.splitlines()}
    kept: list[str] = []
    again = False
    for line in lines:
        if line.startswith(_CANNOT):
            again = line.removeprefix(_CANNOT) in trouble
        elif again:
            again = line.strip() in said
        if not again:
            kept.append(line)
    return tuple(kept)


class LastLines:
    """Reads back what a process prints from now on. fd: where it will write; if that is no file, nothing is known.

    It is its own spool; where none can be made, what others write to its log meanwhile cannot be told apart from it.
    """

    def __init__(self, fd: int) -> None:
        self._fd, self._begin = -1, 0
        with suppress(OSError):
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode):
                self._begin = found.st_size
                # The file itself, by whatever name it goes later (proc_pid_fd(5)).
                self._fd = os.open(f"{_DESCRIPTORS}/{fd}", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> tuple[str, ...]:
        """The newest last, at most LINES_MAX."""
        if self._fd < 0:
            return ()
        with suppress(OSError):
            size = os.fstat(self._fd).st_size
            begin = self._begin if size >= self._begin else 0  # it was cut meanwhile
            place = max(begin, size - READ_BYTES)
            lines = plain(os.pread(self._fd, READ_BYTES, place)).decode(errors="replace").splitlines()
            whole = lines[1:] if place > begin else lines
            return tuple(line.rstrip()[:LINE_CHARACTERS_MAX] for line in whole if line.strip())[-LINES_MAX:]
        return ()

    def close(self) -> None:
        """Nothing more is asked."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
