"""Every command of the tutorials is run, in order, and prints what they say. Numbers may be others.

Where a tutorial tells to keep shopping "in a browser at ADDRESS", a real browser does, for as long as the commands run.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "system"))

from shopper import CHROMIUM, shopping

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
COMMAND_SECONDS_MAX = 60
PORTS = ("8123", "8124")
ANYTHING = "…"


def plain(line: str) -> str:
    """A line without what differs from machine to machine: numbers, ids, spaces, and whether ages are minutes yet."""
    line = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12}\b|\d+(?:\.\d+)?", "#", line)
    line = re.sub(r"# +(?:s|min)\b", "# s", line)
    return " ".join(line.split())


def matching(line: str) -> str:
    """The pattern of a line, "…" standing for anything in it."""
    return re.escape(plain(line)).replace(re.escape(ANYTHING), ".*")


def agrees(told: list[str], printed: list[str]) -> bool:
    """Whether the lines are those, "…" standing for any. Empty ones say nothing."""
    lines = [line for line in told if line.strip()]
    pattern = "".join(r"(?:.*\n)*" if line == ANYTHING else matching(line) + "\n" for line in lines)
    return re.fullmatch(pattern, "".join(plain(line) + "\n" for line in printed if line.strip())) is not None


def commands(block: str) -> Iterator[tuple[str, list[str]]]:
    """Each with the lines that it is to print."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.rstrip("\n").split("\n")
        yield command, lines


def interrupted(command: str, told: list[str], folder: Path, environment: dict[str, str]) -> list[str]:
    """What a command prints until Ctrl-C is pressed after the last line that is told."""
    with subprocess.Popen(command.split(), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        printed = [running.stdout.readline().rstrip("\n") for _ in told]
        running.send_signal(signal.SIGINT)
        assert running.wait(COMMAND_SECONDS_MAX) == 0
    return printed


def run(command: str, told: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command, and see that it prints what is told."""
    if told[-1:] == ["^C"]:
        told = told[:-1]
        printed = interrupted(command, told, folder, environment)
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


def browsing(before: str) -> AbstractContextManager[None]:
    """What goes on beside a block of commands."""
    address = re.search(r"in a browser at (http://localhost:\d+)", before)
    if address is None or CHROMIUM is None:
        return nullcontext()
    return shopping(address[1])


@pytest.fixture
def text(document: Path) -> str:
    """A tutorial, with ports that are free here."""
    found = document.read_text()
    with ExitStack() as stack:
        for port in PORTS:
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            found = found.replace(port, str(sock.getsockname()[1]))
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", TUTORIALS, ids=lambda file: file.stem)
def test_the_tutorial_is_true(text: str, tmp_path: Path):
    if shutil.which("curl") is None:
        pytest.skip("there is no curl: apt-get install curl")
    (tmp_path / "fissile").symlink_to(ROOT)  # a checkout
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    environment.pop("PYTHONPATH", None)
    count = 0
    try:
        for before, kind, block in re.findall(r"([^\n]*)\n\n```(\w+)\n(.*?)```", text, re.DOTALL):
            if kind != "console":
                (name,) = re.findall(r"`([\w.-]+)`[^`]*:$", before)[-1:]
                with (tmp_path / name).open("a") as file:
                    file.write(block)
                continue
            with browsing(before):
                for command, told in commands(block):
                    count += 1
                    run(command, told, tmp_path, environment)
    finally:
        for folder in (tmp_path, tmp_path / "shop"):
            subprocess.run(["fissile", "down", folder], env=environment, capture_output=True, check=False)
    assert count > 10
