"""How commands speak: results on stdout, troubles on stderr, colours only on a terminal."""

import os
import sys
from typing import Any

PREFIX_WIDTH = 16
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


def say(text: str) -> None:
    """A result, at once."""
    print(text, flush=True)


def note(text: str) -> None:
    """What people should know beside the result."""
    print(f"fissile: {text}", file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """An error."""
    name = "fissile:"
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        name = f"\x1b[1;31m{name}\x1b[0m"
    print(name, text, file=sys.stderr, flush=True)


def show(value: Any, *, one_line: bool = False) -> None:
    """A result as JSON."""
    import json

    say(json.dumps(value, ensure_ascii=False, indent=None if one_line else 2))


def faint(text: str) -> str:
    """Less important, where that can be shown."""
    return f"\x1b[2m{text}\x1b[0m" if _coloured() else text


def prefix(name: str) -> str:
    """A replica's name in front of its line."""
    service = name.rpartition(".")[0] or name
    shown = f"{name:<{PREFIX_WIDTH}} | "
    if not _coloured():
        return shown
    return f"\x1b[{COLOURS[sum(service.encode()) % len(COLOURS)]}m{shown}\x1b[0m"


def _coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def user() -> str:
    """Who gives an order."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
