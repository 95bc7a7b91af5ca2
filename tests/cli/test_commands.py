"""Every command takes what it declares, says what is wrong, and starts without what it does not need."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from commands import fissile

from fissile import __version__
from fissile.cli.arguments import Parser
from fissile.cli.commands import COMMANDS, GROUPS, function_of, module_of, named, overview, parser_of, within
from fissile.cli.completion import candidates
from fissile.errors import ConfigError

SHOWN = [name for group in GROUPS.values() for name in group]


def parser(name: str) -> Parser:
    return parser_of(name, module_of(name))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_function_takes_what_its_parser_reads(name: str):
    takes = set(inspect.signature(getattr(module_of(name), function_of(name))).parameters)
    reads = {one.dest for one in parser(name).actions()}
    assert takes == reads


@pytest.mark.parametrize("name", COMMANDS)
def test_help_tells_of_everything_in_the_width_of_a_terminal(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = parser(name).format_help()
    assert text.startswith(f"Usage: fissile {name}")
    assert max(map(len, text.splitlines())) <= 80 or "Examples:" in text
    for action in parser(name).actions():
        assert action.help, action.dest
        assert all(option in text for option in action.option_strings)


@pytest.mark.parametrize("name", SHOWN)
def test_the_folder_is_named_in_one_way(name: str):
    if name == "completion":
        return
    assert "-C DIR" in parser(name).format_help()
    assert "--path" not in parser(name).format_help()


FOLDERS = [
    (["-C", "a", "status"], "a"),
    (["status", "-C", "a"], "a"),
    (["-Ca", "status"], "a"),
    (["-C", "a", "status", "-C", "b"], "a/b"),
    (["-C", "a", "-C", "b", "status"], "a/b"),
    (["-C", "a", "status", "-C", "/b"], "/b"),
    (["status", "a"], "a"),
    (["-C", "a", "status", "b"], "a/b"),
    (["status", "--path", "a"], "a"),
    (["status", "--path=a", "--json"], "a"),
    (["status"], "."),
]


@pytest.mark.parametrize(
    ("words", "folder"), FOLDERS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_the_folder_before_the_command_and_after_it(words: list[str], folder: str):
    before, rest = within(words)
    name, given = named(rest)
    assert parser(name).read(given, before)["folder"] == Path(folder)


def test_options_may_stand_between_arguments():
    read = parser("call").read(["Back.take", "-C", "a", '{"item": "tea"}'], Path())
    assert (read["method"], read["given"], read["folder"]) == ("Back.take", '{"item": "tea"}', Path("a"))
    assert parser("scale").read(["back", "--why", "a sale", "2"], Path())["replicas"] == "2"


MISTAKES = [
    (["stauts"], "no command stauts; did you mean status?"),
    (["--jsn"], "no option --jsn"),
    (["-C"], "-C names no folder"),
    (["contract"], "write `fissile contract diff`"),
    (["status", "--jsno"], "no option --jsno; did you mean --json?"),
    (["status", "--js"], "no option --js"),
    (["scale", "back"], "REPLICAS is missing"),
    (["scale"], "SERVICE, REPLICAS is missing"),
    (["restart", "back", "front"], "does not take 'front'"),
    (["history", "-n", "0"], "-n: '0' is not a whole number from 1 to"),
    (["up", "--port", "http"], "--port: 'http' is not a whole number from 0 to 65535"),
    (["run", "--calls", "fast"], "--calls is 'fast': use one of copied, direct"),
    (["logs", "--since"], "--since needs a value"),
]


@pytest.mark.parametrize(
    ("words", "message"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_is_told_with_the_next_step(words: list[str], message: str):
    with pytest.raises(ConfigError) as found:
        folder, rest = within(words)
        name, given = named(rest)
        parser(name).read(given, folder)
    assert message in str(found.value)
    assert "→" in str(found.value)


def test_from_outside(tmp_path: Path):
    assert fissile().stdout == fissile("--help").stdout == f"{overview()}\n"
    assert fissile("--version").stdout == f"fissile {__version__}\n"
    assert fissile("scale", "--help").stdout.startswith("Usage: fissile scale SERVICE REPLICAS")
    mistake = fissile("stauts", cwd=tmp_path)
    assert (mistake.returncode, mistake.stdout) == (2, "")
    assert mistake.stderr.startswith("fissile: fissile has no command stauts; did you mean status?")


@pytest.mark.parametrize("columns", [80, 46])
def test_the_help_of_all_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    wide = overview()
    monkeypatch.setenv("COLUMNS", str(columns))
    narrow = overview()
    examples = narrow.index("Examples:")
    assert max(map(len, narrow[:examples].splitlines())) <= columns
    assert narrow.split() == wide.split()


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path):
    command = f"{sys.executable} -m fissile --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


COMPLETED = [
    ([], {"status", "deploy", "contract", "-C"}),
    (["contract"], {"diff"}),
    (["status"], {"--json", "--watch", "-C"}),
    (["-C", "nowhere", "scale"], {"--why"}),
    (["run", "--calls"], {"copied", "direct"}),
    (["completion"], {"bash", "zsh", "fish"}),
    (["stauts"], set[str]()),
]


@pytest.mark.parametrize(
    ("words", "some"), COMPLETED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_what_a_shell_may_complete(words: list[str], some: set[str]):
    found = candidates(words)
    assert some <= set(found)
    assert bool(some) == bool(found)


def test_bash_completes(tmp_path: Path):
    program = f"""
fissile() {{ {sys.executable} -m fissile "$@"; }}
eval "$(fissile completion bash)"
COMP_WORDS=(fissile status --j); COMP_CWORD=2
_fissile fissile --j status
echo "${{COMPREPLY[@]}}"
COMP_WORDS=(fissile ro); COMP_CWORD=1
_fissile fissile ro fissile
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--json", "rollback"]


def test_to_ask_for_the_version_imports_nothing():
    program = "import sys, fissile; fissile.__version__; print('msgspec' in sys.modules, 'asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
