"""Pages of the documentation as programs: their code blocks are files to save, and commands to run.

A fenced block is a file if the paragraph before it ends with the file's name and a colon: "Save this as `app.py`:". The
block replaces the file, or is added to it where the paragraph says "Add". A `console` block is a transcript: each line
after "$ " is a command, followed by what it prints; "^C" at its end presses Ctrl-C. Numbers and spaces may differ, and
"…" stands for anything.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
COMMAND_SECONDS_MAX = 60
# Pages name these ports; here others are used, which are free.
PORTS = ("8000", "8001", "8123", "8124")
ANYTHING = "…"
_BLOCK = re.compile(r"(?P<before>(?:^(?!```)[^\n]+\n)*)\n*^```(?P<kind>\w+)[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)
_FILE = re.compile(r"`((?:[\w./-]+\.(?:html|ini|js|py|sh|toml|txt)|Containerfile))`[^`]*:$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. before: the paragraph above it. file: the file that it is, or is added to."""

    kind: str
    text: str
    before: str

    @property
    def file(self) -> str | None:
        """The file's name; None for a transcript, and for a block that nobody is told to save."""
        named = _FILE.findall(self.before.strip())
        return named[-1] if named and self.kind != "console" else None

    @property
    def adds(self) -> bool:
        """Whether it is added to what the file has."""
        return re.search(r"\b(Add|add)\b", self.before) is not None


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(found["kind"], found["text"], found["before"]) for found in _BLOCK.finditer(page)]


def save(block: Block, folder: Path) -> None:
    """Do with a file what the page says."""
    assert block.file is not None
    path = folder / block.file
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text() + "\n" if block.adds and path.exists() else ""
    path.write_text(before + block.text)


def module(page: Path, name: str) -> types.ModuleType:
    """All Python blocks of a page that are no files, as one module of this name, which stays imported."""
    made = types.ModuleType(name)
    sys.modules[name] = made  # annotations and dataclasses look there
    for block in blocks(page.read_text()):
        if block.kind == "python" and block.file is None:
            exec(compile(block.text, page.name, "exec"), vars(made))
    return made


def with_free_ports(page: str) -> str:
    """The page, its ports replaced by some that are free here."""
    with ExitStack() as stack:
        for port in PORTS:
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            page = re.sub(rf"\b{port}\b", str(sock.getsockname()[1]), page)
    return page


def play(
    page: str, folder: Path, beside: Callable[[str], AbstractContextManager[None]] = lambda before: nullcontext()
) -> int:
    """Save the files of a page and run its commands, in order, in a folder. Returns how many commands there were.

    beside: what goes on while the commands of a block run, by the paragraph before it.
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    environment.pop("PYTHONPATH", None)
    count = 0
    for block in blocks(page):
        if block.kind == "console":
            with beside(block.before):
                for command, told in commands(block.text):
                    count += 1
                    run(command, told, folder, environment)
        elif block.file is not None:
            save(block, folder)
    return count


def commands(block: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a transcript, with the lines that it is to print."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.rstrip("\n").split("\n")
        yield command, lines


def run(command: str, told: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command, and see that it prints what is told."""
    if told[-1:] == ["^C"]:
        told = told[:-1]
        printed = _interrupted(command, told, folder, environment)
    else:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        printed = done.stdout.splitlines()
    assert agrees(told, printed), "\n".join([f"$ {command}", "is told to print", *told, "and prints", *printed])


def _interrupted(command: str, told: list[str], folder: Path, environment: dict[str, str]) -> list[str]:
    """What a command prints until Ctrl-C is pressed after the last line that is told."""
    with subprocess.Popen(command.split(), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        printed = [running.stdout.readline().rstrip("\n") for _ in told]
        running.send_signal(signal.SIGINT)
        assert running.wait(COMMAND_SECONDS_MAX) == 0
    return printed


def agrees(told: list[str], printed: list[str]) -> bool:
    """Whether the lines are those that are told. Empty lines say nothing."""
    lines = [line for line in told if line.strip()]
    pattern = "".join(r"(?:.*\n)*" if line == ANYTHING else _pattern(line) + "\n" for line in lines)
    return re.fullmatch(pattern, "".join(_plain(line) + "\n" for line in printed if line.strip())) is not None


def _plain(line: str) -> str:
    """A line without what differs from machine to machine: numbers, ids, spaces, and whether ages are minutes yet."""
    line = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12}\b|\d+(?:\.\d+)?", "#", line)
    line = re.sub(r"# +(?:s|min)\b", "# s", line)
    return " ".join(line.split())


def _pattern(line: str) -> str:
    return re.escape(_plain(line)).replace(re.escape(ANYTHING), ".*")
