"""What commands have in common on the command line: their parser, and the options that several of them take.

argparse does the work: the standard library's own starts in a few milliseconds, and pins nothing that an
application uses. A command is a function; its module's `arguments` declares what it takes, by the same names.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fissile.errors import ConfigError

HELP_COLUMN = 28
# Where there is no terminal.
COLUMNS = 80
MARGIN_COLUMNS = 2
PORT_MAX = 65535
_INVALID = re.compile(r"argument (?P<what>[^:]+): (?P<why>.*)", re.DOTALL)
_CHOICE = re.compile(r"invalid choice: (?P<given>.+) \(choose from (?P<known>.*)\)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """The arguments of one command. A mistake is an error like all others, with the next step."""

    def __init__(self, name: str, summary: str, usage: str = "[OPTIONS]") -> None:
        """name: the command's; summary: its help, whose first line says what it does; usage: what follows its name."""
        super().__init__(
            prog=f"fissile {name}",
            usage=f"fissile {name} {usage}".rstrip(),
            description=summary,
            formatter_class=_Format,
            allow_abbrev=False,
            add_help=False,
        )
        self._positionals.title = "Arguments"
        self._optionals.title = "Options"
        self.command = name

    def option(self, *names: str, **settings: Any) -> None:
        """An option or an argument, as `add_argument` takes it. A default that is not None has to stand in the help."""
        self.add_argument(*names, **settings)

    def flag(self, *names: str, help: str) -> None:
        """An option that is either given or not."""
        self.add_argument(*names, action="store_true", help=help)

    def read(self, words: Sequence[str], folder: Path) -> dict[str, Any]:
        """The values by name. folder: what an earlier -C said. Raises ConfigError."""
        self.add_argument("-h", "--help", action="help", help="show this help")
        known = {"folder": folder} if any(one.dest == "folder" for one in self._actions) else {}
        return vars(self.parse_intermixed_args(list(words), argparse.Namespace(**known)))

    def actions(self, *, hidden: bool = False) -> list[argparse.Action]:
        """Options and arguments that the help shows; or all of them."""
        return [one for one in self._actions if hidden or one.help is not argparse.SUPPRESS]

    def known_options(self) -> list[str]:
        """The names of all options that the help shows."""
        return [name for one in self.actions() for name in one.option_strings]

    def error(self, message: str) -> NoReturn:
        """What argparse finds wrong, in our words. Raises ConfigError."""
        raise ConfigError(self._words(message), remedy=f"`fissile {self.command} --help` shows what it takes")

    def _words(self, message: str) -> str:
        what, _, given = message.partition(": ")
        if what == "unrecognized arguments":
            first = given.split()[0]
            if not first.startswith("-"):
                return f"`fissile {self.command}` does not take {first!r}"
            return f"`fissile {self.command}` has no option {first}{guess(first, self.known_options())}"
        if what == "the following arguments are required":
            return f"{given} is missing"
        found = _INVALID.fullmatch(message)
        if found is None:
            return message
        what = found["what"].rpartition("/")[2]
        if found["why"] == "expected one argument":
            return f"{what} needs a value"
        choice = _CHOICE.fullmatch(found["why"])
        if choice is not None:
            return f"{what} is {choice['given']}: use one of {choice['known'].replace(chr(39), '')}"
        return f"{what}: {found['why']}"


def guess(given: str, known: Sequence[str]) -> str:
    """A question about what was meant, to be appended; "" where nothing is near."""
    from difflib import get_close_matches

    near = get_close_matches(given, known, n=3, cutoff=0.7)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def columns() -> int:
    """The width of the terminal, as shutil.get_terminal_size finds it."""
    try:
        wanted = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        wanted = 0
    if wanted > 0:
        return wanted
    try:
        return os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns or COLUMNS
    except (OSError, ValueError):
        return COLUMNS


class _Format(argparse.HelpFormatter):
    """Paragraphs as wide as the terminal, those with an indented line as they are; one column for explanations."""

    def __init__(self, prog: str, **settings: Any) -> None:
        # As argparse does it, which would import shutil for each command, with all that unpacks archives.
        super().__init__(prog, max_help_position=HELP_COLUMN, width=columns() - MARGIN_COLUMNS, **settings)

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, prefix or "Usage: ")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = text.split("\n\n")
        return "\n\n".join(
            part if "\n " in part else super(_Format, self)._fill_text(part, width, indent) for part in parts
        )


class _Enter(argparse.Action):
    """Folders that are named one after the other lead into each other, as with git and make."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, getattr(namespace, self.dest) / values)


def in_folder(parser: Parser, *, place: bool = False) -> None:
    """-C, and what said the same before. place: also as an argument without a name."""
    parser.option(
        "-C", dest="folder", metavar="DIR", action=_Enter, help="the application's folder  [default: this one]"
    )
    parser.option("--path", dest="folder", action=_Enter, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    if place:
        parser.option("folder", nargs="?", action=_Enter, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def target(parser: Parser) -> None:
    """-C, and what is to run where there is no fissile.toml."""
    in_folder(parser)
    parser.option(
        "target",
        nargs="?",
        default="",
        metavar="MODULE:ATTRIBUTE",
        help="the application, where there is no fissile.toml",
    )


def why(parser: Parser) -> None:
    """The reason for a change."""
    parser.option("--why", default="", metavar="TEXT", help="the reason, for the history")


def for_programs(parser: Parser, help: str = "print JSON") -> None:
    """For programs."""
    parser.flag("--json", help=help)


def profile(parser: Parser) -> None:
    """Which settings count."""
    parser.option("--profile", metavar="NAME", help="a profile from fissile.toml")


def topology(parser: Parser, help: str = "monolith, microservices, or a name from fissile.toml") -> None:
    """Which component is in which service."""
    parser.option("--topology", metavar="NAME", help=help)


def port(parser: Parser) -> None:
    """Where people open the page."""
    parser.option(
        "--port",
        type=whole(0, PORT_MAX),
        metavar="NUMBER",
        help="of the public page; 0: any free one  [default: 8000, or any free one]",
    )


def whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number within bounds, as `type` of an option."""

    def read(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")

    return read
