"""How commands speak: results on stdout, troubles on stderr, colours only on a terminal."""

import os
import sys


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
