"""How commands speak: results on stdout, troubles on stderr, colours only on a terminal."""

import os
import re
import sys
from typing import Any, TextIO

from fissile.errors import FissileError

PREFIX_WIDTH = 16
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


# Colours that are ours, and what a terminal would obey (ECMA-48), or show in another order (Unicode's bidi controls).
_OBEYED = re.compile(
    r"\x1b\[(?:0|2|1;31|3[1-6]|9[1-6])m|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


def harmless(text: str) -> str:
    """A text that a terminal only shows: what others have written may hold orders to it."""
    return _OBEYED.sub(lambda found: found[0] if len(found[0]) > 1 else ascii(found[0])[1:-1], text)


# How text looks (SGR, ECMA-48 8.3.117), as applications write it.
_LOOKED = re.compile(rf"(?P<look>\x1b\[(?P<how>[\d;:]{{0,64}})m)|{_OBEYED.pattern}", re.ASCII)
_RESET = "\x1b[0m"


def looking(text: str) -> str:
    """A line of an application that a terminal only shows, in the application's own colours; they end with it."""
    if _LOOKED.search(text) is None:
        return text
    coloured = False

    def safe(found: re.Match[str]) -> str:
        nonlocal coloured
        if found["look"] is None:
            return ascii(found[0])[1:-1]
        coloured = bool(found["how"].strip("0"))
        return found["look"]

    shown = _LOOKED.sub(safe, text)
    return f"{shown}{_RESET}" if coloured else shown


def in_line(text: object) -> str:
    """The same within one line: nobody's words begin another."""
    return str(text).replace("\n", "\\n")


def say(text: str, *, raw: bool = False) -> None:
    """A result, at once. raw: what an application wrote to its own terminal."""
    print(text if raw else harmless(text), flush=True)


def note(text: str) -> None:
    """What people should know beside the result."""
    print(harmless(f"fissile: {text}"), file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """An error."""
    name = "fissile:"
    if coloured(sys.stderr):
        name = f"\x1b[1;31m{name}\x1b[0m"
    print(name, harmless(text), file=sys.stderr, flush=True)


def show(value: Any, *, one_line: bool = False) -> None:
    """A result as JSON; in ASCII if the output takes no more. value: plain, or a struct of the API's schema."""
    if not isinstance(value, dict):
        import msgspec

        value = msgspec.to_builtins(value)
    text = json_line(value, indent=None if one_line else 2)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json_line(value, indent=None if one_line else 2, ascii_alone=True)
    say(text, raw=True)


def as_json(error: FissileError) -> dict[str, Any]:
    """An error for programs. state: of an application that takes no orders, else "". service, last_lines: where one
    service did not come up, and what its process had printed."""
    return {
        "error": error.message,
        "remedy": error.remedy,
        "state": getattr(error, "state", ""),
        "service": getattr(error, "service", ""),
        "last_lines": list(getattr(error, "last_lines", ())),
    }


def json_line(value: Any, *, indent: int | None = None, ascii_alone: bool = False) -> str:
    """A value as JSON that a terminal only shows."""
    import json

    text = json.dumps(value, ensure_ascii=ascii_alone, indent=indent)
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def faint(text: str) -> str:
    """Less important, where that can be shown."""
    return f"\x1b[2m{text}\x1b[0m" if coloured() else text


def redraw(text: str) -> None:
    """What is looked at again and again: in the place of what was there on a terminal, else after it."""
    begin = "\x1b[H\x1b[2J\x1b[3J" if sys.stdout.isatty() else ""
    print(f"{begin}{harmless(text)}", flush=True)


def width() -> int | None:
    """Of the terminal, in characters; None where the output goes elsewhere."""
    return os.get_terminal_size(sys.stdout.fileno()).columns or None if sys.stdout.isatty() else None


def prefix(name: str) -> str:
    """A replica's name in front of its line."""
    service = name.rpartition(".")[0] or name
    shown = f"{name:<{PREFIX_WIDTH}} | "
    if not coloured():
        return shown
    return f"\x1b[{COLOURS[sum(service.encode()) % len(COLOURS)]}m{shown}\x1b[0m"


def coloured(stream: TextIO | None = None) -> bool:
    """Whether a stream (stdout) shows colours (https://no-color.org, https://force-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") != "dumb" and (stream or sys.stdout).isatty()


def user() -> str:
    """Who gives an order."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
