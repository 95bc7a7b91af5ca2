"""What the documents say is so: the README's example runs, links lead somewhere, figures were measured."""

import ast
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from fissile.cli.commands import module_of, named, parser_of, within
from fissile.errors import ConfigError
from fissile.runtime.host import Host

ROOT = Path(__file__).parents[2]
# Pages that `make docs` has made of others are no documents of their own.
DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    if not path.read_text().startswith("<!-- Made from ")
)


async def test_the_example_of_the_readme_works(monkeypatch: pytest.MonkeyPatch):
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len([line for line in source.splitlines() if line.strip()]) <= 20, "the README promises a short example"
    module = types.ModuleType("quotes")
    monkeypatch.setitem(sys.modules, "quotes", module)
    exec(compile(source, "README.md", "exec"), vars(module))
    host = Host(module.app, module.app.components)
    await host.start()
    try:
        found = await host.reference("Pricing", "Pricing").quote(7)
        assert (found.title, found.cents) == ("product 7", 1999)
    finally:
        assert await host.stop() == []


def test_the_commands_of_the_readme_work(tmp_path: Path):
    readme = (ROOT / "README.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "quotes.py").write_text(source)
    (settings,) = re.findall(r"write `(app = .*?)` into", readme)
    (tmp_path / "fissile.toml").write_text(settings)
    commands = [line.split("#")[0].strip() for line in re.findall(r"^    (fissile .*)", readme, re.MULTILINE)]
    background = commands[commands.index("fissile up --topology microservices") :]
    commands = commands[: -len(background)]
    assert background[-1] == "fissile down"
    for command in background:
        done = subprocess.run(told(command), cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, command
        # Nothing has changed since `up`, and `deploy` says what would have counted.
        assert all(line.startswith("fissile: what counts:") for line in done.stderr.splitlines()), done.stderr
        assert done.stdout
    runs = [command for command in commands if command.startswith("fissile run")]
    assert len(runs) == 2
    for run in runs:
        with subprocess.Popen(told(run), cwd=tmp_path, stdout=subprocess.PIPE, text=True) as running:
            try:
                assert running.stdout is not None
                assert "quotes is up" in running.stdout.readline()
                for command in commands:
                    if command not in runs:
                        done = subprocess.run(told(command), cwd=tmp_path, capture_output=True, text=True, timeout=30)
                        assert (done.returncode, done.stderr) == (0, "")
                        assert "1999" in done.stdout or "Pricing" in done.stdout
            finally:
                running.terminate()
        assert running.returncode == 0


def told(command: str) -> list[str]:
    """The command as one of this environment."""
    program, *arguments = shlex.split(command)
    return [str(Path(sys.executable).with_name(program)), *arguments]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text())
    missing = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert not missing, f"{document.relative_to(ROOT)} links to {', '.join(missing)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_that_are_named_exist(document: Path):
    if document.name == "CHANGELOG.md":  # it also speaks of what has gone
        pytest.skip("the change log names files of the past")
    named = re.findall(r"`((?:src|tests|examples|benchmarks|docs)/[\w./-]+|[\w/]+/\w+\.py)`", document.read_text())
    places = (ROOT, ROOT / "src" / "fissile", document.parent)
    missing = [name for name in named if not any((place / name).exists() for place in places)]
    assert not missing, f"{document.relative_to(ROOT)} names {', '.join(missing)}"


def _docstrings() -> Iterator[tuple[Path, str, bool]]:
    """File, docstring and whether it is that of a package."""
    for file in sorted((ROOT / "src" / "fissile").rglob("*.py")):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield file, ast.get_docstring(node) or "", node is tree and file.name == "__init__.py"


def test_modules_that_docstrings_name_exist():
    source = ROOT / "src" / "fissile"
    modules = {file.stem for file in source.rglob("*.py")}
    rooms = {file.name.removesuffix(".py") for file in source.iterdir()}
    missing: list[str] = []
    for file, text, package in _docstrings():
        if package:  # it says where to start reading
            own = re.findall(r"`([a-z_]+)`", text)
            missing += [
                f"{file}: {n}"
                for n in own
                if n not in rooms and not any((file.parent / f"{n}{end}").exists() for end in ("", ".py"))
            ]
        missing += [f"{file}: {n}" for n in re.findall(r"\(see (\w+)\)", text) if n not in modules]
        dotted = re.findall(r"`(\w+)\.(\w+)[\w.]*`", text)
        missing += [
            f"{file}: {room}.{name}"
            for room, name in dotted
            if room in rooms and not any((source / room / f"{name}{end}").exists() for end in ("", ".py"))
        ]
    assert not missing, missing


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ +make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"the README names `make {target}`"


def commands_named(text: str) -> set[str]:
    """All that a text says to type: in backticks, after a prompt, or indented; adjacent strings of code are joined."""
    joined = re.sub(r'"\s*\n\s*f?"', "", text)
    found = re.findall(r"`(fissile(?: [^`\n]*)?)`|^(?:\$ |    )(fissile [^\n#|;]*)", joined, re.MULTILINE)
    return {(quoted or typed).strip() for quoted, typed in found}


def unknown_words(command: str) -> str:
    """What a command line names that does not exist; "" where all does."""
    # Words of people and what is put in at run time are not looked at.
    words = re.sub(r"'[^']*'|\"[^\"]*\"|\{[^}]*\}|\$\([^)]*\)", "X", command).split()[1:]
    try:
        _, words = within(words)
        if not words or words[0] in ("-h", "--help", "--version", "-C", "COMMAND", "NAME", "X", "complete"):
            return ""
        name, rest = named(words)
    except ConfigError as error:
        return error.message
    parser = parser_of(name, module_of(name))
    known = {option for action in parser.actions(hidden=True) for option in action.option_strings} | {"--help", "-h"}
    return " ".join(word for word in rest if word.startswith("-") and word.partition("=")[0] not in known)


NAMING = sorted(
    [*ROOT.glob("src/**/*.py"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md")]
)


@pytest.mark.parametrize("file", NAMING, ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_that_are_named_exist(file: Path):
    wrong = {command: unknown for command in commands_named(file.read_text()) if (unknown := unknown_words(command))}
    assert not wrong


def test_a_wrong_command_would_be_found():
    said = 'remedy="see `fissile stauts`, or `fissile down "\n    "--hard`"\n\n$ fissile logs --wrong x\n'
    said += "    fissile up --now\n"
    assert {unknown_words(one) for one in commands_named(said)} == {
        "fissile has no command stauts; did you mean status?",
        "--hard",
        "--wrong",
        "--now",
    }


def test_the_python_page_has_every_public_name():
    import fissile

    page = (ROOT / "docs/reference/python.md").read_text()
    shown = set(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE))
    assert shown == set(fissile.__all__)


def test_the_picture_of_the_shop_has_its_components_twice():
    from fissile.runtime.loading import load_application

    shop = load_application("shop:app", ROOT / "examples/shop")
    picture = (ROOT / "docs/shop.svg").read_text()
    assert [name for name in shop.components if len(re.findall(rf">{name}</text>", picture)) != 2] == []


def test_every_page_is_in_the_contents_of_the_site():
    index = (ROOT / "docs/index.md").read_text()
    listed = {line.strip() for line in index.splitlines()}
    pages = {
        str(path.relative_to(ROOT / "docs").with_suffix("")) for path in DOCUMENTS if ROOT / "docs" in path.parents
    }
    assert {page for page in pages - listed if not page.startswith("decisions/")} == {"index"}
