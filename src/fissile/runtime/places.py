"""Where the code that runs here is edited: it runs from a copy, and people are told of the file that they know.

A traceback names the copy, and shows its lines, which are those that run (see docs/decisions/0018). What is told to
people names the application's own file instead; the number of the line is that of the copy.
"""

import os
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

_FISSILE = f"{Path(__file__).parents[1]}{os.sep}"
# Of this process: the folder of the copy, and that which it was copied from.
_places: dict[str, str] = {}


def runs_from(copy: str, source: str) -> None:
    """The code of this process, and of those that it forks, runs from a copy. source: "" where it does not."""
    _places.update(places(copy, source))


def places(copy: str, source: str) -> dict[str, str]:
    """How the files of a copy are called by people. source: "" where it is none."""
    if not source or copy == source:
        return {}
    return dict.fromkeys((os.path.realpath(copy), copy.rstrip("/")), source.rstrip("/"))


def edited(text: str, known: dict[str, str] | None = None) -> str:
    """A text with the files that people edit, in place of those of the copy.

    known: of `places`; None: those of this process.
    """
    for copy, source in (_places if known is None else known).items():
        text = text.replace(copy, source)
    return text


def formatted(error: BaseException) -> str:
    """Its traceback, as Python writes it, with the files that people edit."""
    return edited("".join(traceback.format_exception(error)))


def authors(error: BaseException) -> str:
    """The same of what an author's code raised, without the steps of ours that led there."""
    told = traceback.TracebackException.from_exception(error)
    one: traceback.TracebackException | None = told
    while one is not None:
        own = [frame for frame in one.stack if not frame.filename.startswith(_FISSILE)]
        one.stack = traceback.StackSummary.from_list(own or list(one.stack))
        one = one.__cause__ or one.__context__
    return edited("".join(told.format()))


def tell_where() -> None:
    """Have Python's own tracebacks of what nobody catches say so, too. To be called before the application's code."""
    sys.excepthook = _excepthook
    threading.excepthook = _in_thread
    sys.unraisablehook = _unraisable


def _excepthook(kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    if not _places:
        sys.__excepthook__(kind, error, _trace)
    elif sys.stderr is not None:
        print(formatted(error), end="", file=sys.stderr, flush=True)


def _in_thread(args: Any) -> None:
    if not _places or args.exc_value is None or args.exc_type is SystemExit:
        threading.__excepthook__(args)
        return
    name = args.thread.name if args.thread is not None else "unknown"
    print(f"Exception in thread {name}:\n{formatted(args.exc_value)}", end="", file=sys.stderr, flush=True)


def _unraisable(args: Any) -> None:
    if not _places or args.exc_value is None:
        sys.__unraisablehook__(args)
        return
    what = f"{args.err_msg or 'Exception ignored in'}: {args.object!r}"
    print(f"{what}\n{formatted(args.exc_value)}", end="", file=sys.stderr, flush=True)
