"""SHELL. The command line: one file per command; each parses, asks `daemon` or a supervisor, prints.

May touch the terminal. A command's module is imported when the command is called, and imports what it needs
when it runs, so that the command line starts fast. An error of the user's is one message with the next step, no
traceback. Start reading at `commands`.
"""

import os
import sys

EXIT_FAILED = 1
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130
# As a shell counts whoever was ended by SIGPIPE.
EXIT_UNREAD = 141


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


def main() -> None:
    """The command `fissile`. Exit codes: 1 a call or restart failed, 2 a mistake that the user can mend."""
    stand_in_for_closed()
    from fissile.cli.commands import call
    from fissile.cli.output import complain
    from fissile.errors import CallError, FissileError

    try:
        code = call(sys.argv[1:])
        sys.stdout.flush()
    except FissileError as error:
        from fissile.cli.client import Refused

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
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing is left to be said at the exit
        code = EXIT_UNREAD
    sys.exit(code)
