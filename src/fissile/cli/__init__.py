"""SHELL. The command line: one file per command; each parses, asks `api.client` or `daemon`, and prints.

May touch the terminal. A command's module is imported when the command is called, and imports what it needs
when it runs, so that the command line starts fast. An error of the user's is one message with the next step, no
traceback. Start reading at `commands`.
"""

import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import cast

EXIT_FAILED = 1
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130
# As a shell counts whoever was ended by SIGPIPE.
EXIT_UNREAD = 141
# Asked by shells: what may follow the words after it.
COMPLETE = "complete"
# A disk or a quota is full, or a terminal is gone.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def stand_in_for_closed() -> None:
    """Give this process a standard input, output and error of nothing where its parent has closed them.

    Else the next sockets get these numbers: libuv aborts when it closes one, and others are written to.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
    for name, fd, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115 -- for as long as the process lives


def _is_here() -> bool:
    """Whether the working folder is there: somebody may have removed it."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _say_no_more() -> None:
    """Nothing is left to be written at the exit, which would fail as well."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _command(words: Sequence[str]) -> int:
    """Do what a command line says, or what a shell asks for; the exit code."""
    if words[:1] == [COMPLETE]:
        from fissile.cli.completion import candidates

        print("\n".join(candidates(words[1:])))
        return 0
    from fissile.cli.commands import call

    return call(words)


def main() -> None:
    """The command `fissile`. Exit codes: 1 a call or restart failed, 2 a mistake that the user can mend."""
    stand_in_for_closed()
    cast(io.TextIOWrapper, sys.stdout).reconfigure(errors="backslashreplace")  # some locales have no arrows
    from fissile.cli.output import complain
    from fissile.errors import CallError, FissileError

    try:
        code = _command(sys.argv[1:])
        sys.stdout.flush()
    except FissileError as error:
        from fissile.api.client import Refused

        complain(str(error))
        code = EXIT_FAILED if isinstance(error, (CallError, Refused)) else EXIT_MISTAKE
    except FileNotFoundError:
        if _is_here():
            raise
        complain(
            "the folder that you are in is gone\n  → change to another, as with `cd`, or name it in full with -C DIR"
        )
        code = EXIT_MISTAKE
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read it has enough, as `head`
        _say_no_more()
        code = EXIT_UNREAD
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        _say_no_more()
        complain(f"the output cannot be written: {error}\n  → free space on the disk where it goes, or write elsewhere")
        code = EXIT_FAILED
    sys.exit(code)
