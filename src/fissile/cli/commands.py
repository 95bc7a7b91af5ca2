"""Which commands there are, in the order in which their help shows them, and the way to one of them."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from fissile.cli.arguments import Parser, columns, guess
from fissile.errors import ConfigError, FissileError
from fissile.version import VERSION

# By what people want: each command with its module, where that is named otherwise.
GROUPS = {
    "Run": {"run": "", "up": "", "down": ""},
    "Look": {"status": "", "logs": "", "history": "", "releases": "", "graph": ""},
    "Change": {
        "deploy": "",
        "promote": "decide",
        "abort": "decide",
        "rollback": "",
        "restart": "",
        "scale": "",
    },
    "Ask": {"call": "", "contract diff": "contract"},
    "Set up": {"init": "", "doctor": "", "completion": ""},
}
HIDDEN = {"supervise": ""}
# Whose JSON is an object a line.
BY_LINES = frozenset({"logs", "history"})
COMMANDS = {name: module or name for group in (*GROUPS.values(), HIDDEN) for name, module in group.items()}

# What an explanation has beside its name, however narrow the terminal is.
ROOM_COLUMNS_MIN = 20
USAGE = "Usage: fissile [-C DIR] COMMAND [OPTIONS]"
ABOUT = "One Python application, run as a monolith, as microservices, or anything between."
OPTIONS = (
    ("-C DIR", "the application's folder, before the command or after it  [default: this one]"),
    ("--version", "print the version"),
    ("-h, --help", "show this help; `fissile COMMAND --help` shows a command's"),
)
EXAMPLES = (
    ("fissile run", "here and now, until Ctrl-C"),
    ("fissile up --topology microservices", "in the background, each component by itself"),
    ("fissile deploy --canary 5%", "the code in the folder, at first for some"),
    ("fissile -C shop logs -f", "of the application in the folder shop"),
)


def call(words: Sequence[str]) -> int:
    """Do what a command line says; its exit code. Raises FissileError, KeyboardInterrupt, BrokenPipeError."""
    folder, words = within(words)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"fissile {VERSION}")
        return 0
    name, rest = named(words)
    module = module_of(name)
    parser = parser_of(name, module)
    try:
        return getattr(module, function_of(name))(**parser.read(rest, folder)) or 0
    except FissileError as error:
        if "--json" in rest and "--json" in parser.known_options():
            from fissile.cli.output import as_json, show

            show(as_json(error), one_line=name in BY_LINES)
        raise


def function_of(name: str) -> str:
    """The function of a command in its module."""
    return name.rpartition(" ")[2]


def module_of(name: str) -> ModuleType:
    """The module of a command."""
    return import_module(f"fissile.cli.{COMMANDS[name]}")


def parser_of(name: str, module: ModuleType) -> Parser:
    """The parser of a command; its summary is what its function's docstring says."""
    summary = _paragraphs(getattr(module, function_of(name)).__doc__ or "")
    parser = Parser(name, summary, module.USAGE)
    module.arguments(parser)
    return parser


def _paragraphs(docstring: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in docstring.strip().split("\n"))


def within(words: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """The folder that stands before the command, and what follows. Raises ConfigError."""
    folder = Path()
    while words and words[0].startswith("-C"):
        named, words = words[0][2:], words[1:]
        if not named:
            if not words:
                raise ConfigError("-C names no folder", remedy="write `fissile -C DIR COMMAND`")
            named, words = words[0], words[1:]
        folder /= named
    return folder, words


def named(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command that is meant, and what follows. Raises ConfigError."""
    both = " ".join(words[:2])
    if both in COMMANDS:
        return both, words[2:]
    first = words[0]
    if first in COMMANDS:
        return first, words[1:]
    below = [name for name in COMMANDS if name.startswith(f"{first} ")]
    if below and {"-h", "--help"} & set(words[1:]):
        return below[0], ["--help"]
    if below:
        raise ConfigError(f"`fissile {first}` is incomplete", remedy=f"write `fissile {' or '.join(below)}`")
    what = "option" if first.startswith("-") else "command"
    shown = [name for group in GROUPS.values() for name in group]
    near = guess(first, shown) if what == "command" else ""
    raise ConfigError(f"fissile has no {what} {first}{near}", remedy="`fissile --help` shows what there is")


def overview() -> str:
    """The help of all, as wide as the terminal."""
    import textwrap

    terminal = columns()

    def row(first: str, second: str, wide: int) -> str:
        begin = f"  {first:<{wide}}  "
        room = max(terminal, len(begin) + ROOM_COLUMNS_MIN)
        return textwrap.fill(
            second, room, initial_indent=begin, subsequent_indent=" " * len(begin), break_on_hyphens=False
        )

    width = max(len(name) for group in GROUPS.values() for name in group)
    lines = [USAGE, "", textwrap.fill(ABOUT, terminal)]
    for title, group in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [row(name, _summary(name), width) for name in group]
    for title, rows in (("Options", OPTIONS), ("Examples", EXAMPLES)):
        wide = max(len(first) for first, _ in rows)
        lines += ["", f"{title}:", *(row(first, second, wide) for first, second in rows)]
    return "\n".join(lines)


def _summary(name: str) -> str:
    """The first sentence of a command's help."""
    doc: str = getattr(module_of(name), function_of(name)).__doc__ or ""
    return doc.strip().partition("\n")[0].removesuffix(".")
