"""What nobody handles of an application's log goes to stderr; what the application set up itself stays as it is.

Logging asks a handler of last resort where a record finds no other (docs.python.org/3/library/logging.html,
`logging.lastResort`). That is the only place taken here: a handler of ours at the root would make `basicConfig` of
the application do nothing, and show twice what a logger of its own shows.
"""

import logging
import sys
from typing import Any, TextIO

from fissile.runtime.places import edited, formatted, tell_where

LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"
# Those that Fissile writes to.
OURS = ("fissile.door", "fissile.rpc", "uvicorn.error")


class _Lasting(logging.Logger):
    """Names the files that people edit in its tracebacks, whose handlers and formatters ever show them.

    It is not turned off in passing, either: `dictConfig` and `fileConfig` disable every logger there is, unless they
    are told `disable_existing_loggers = False`. The traceback behind an answer of 500 would stand nowhere then. A level
    and handlers count as ever."""

    @property
    def disabled(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] -- set by the configurators
        return False

    def handle(self, record: logging.LogRecord) -> None:
        """Formatters show the text of an exception that a record has already (`logging.Formatter.format`)."""
        if record.exc_info is not None and record.exc_info[1] is not None and not record.exc_text:
            record.exc_text = formatted(record.exc_info[1]).rstrip("\n")
        super().handle(record)

    @disabled.setter
    def disabled(self, value: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """It stays as it is."""


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to whatever is stderr at that time."""

    @property
    def stream(self) -> TextIO:  # pyright: ignore[reportIncompatibleVariableOverride] -- never set from outside
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """There is only one."""


class _Edited(logging.Formatter):
    """Names the files that people edit."""

    def formatException(self, ei: Any) -> str:
        return edited(super().formatException(ei))


def show_unhandled() -> None:
    """Show what nobody handles, from INFO on, and keep our own loggers. To be called before the import."""
    tell_where()
    handler = _ToStderr()
    handler.setLevel(logging.INFO)
    handler.setFormatter(_Edited(LOG_FORMAT))
    logging.lastResort = handler
    for name in OURS:
        logging.getLogger(name).__class__ = _Lasting


def let_info_pass() -> None:
    """Let records of INFO reach it, unless the application has set up the root. To be called after the import."""
    root = logging.getLogger()
    if not root.handlers and root.level == logging.WARNING:
        root.setLevel(logging.INFO)
