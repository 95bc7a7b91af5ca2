"""What import-linter cannot hold: explained rooms, telling names, light replicas, a text of its own."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "fissile"
MODULES = sorted(SOURCE.rglob("*.py"))
ROOMS = sorted(file.parent for file in SOURCE.glob("*/__init__.py"))

# Start-up time and memory of every process. uvicorn is not here: each replica has an HTTP/JSON gateway.
HEAVY = (
    "typer",
    "rich",
    "starlette",
    "fastapi",
    "pydantic",
    "sqlalchemy",
    "psutil",
    "httpx",
    "hypothesis",
    "pytest",
    "websockets",
    "wsproto",
    "fissile.supervisor",
    "fissile.daemon",
    "fissile.cli",
    "fissile.testing",
    "fissile.bench",
)
# Start-up time of every command that only looks: it has to be there at once.
SLOW = ("asyncio", "uvloop", "uvicorn", "starlette", "pydantic", "typer", "click", "rich", "ssl", "email")
LOOKS = (("status",), ("logs",), ("history",), ("releases",), ("--help",), ("status", "--help"), ("stauts",))
NAMES_THAT_SAY_NOTHING = {"types", "models", "utils", "util", "common", "helpers", "misc", "base"}


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_every_module_opens_with_what_it_is_for(file: Path):
    docstring = ast.get_docstring(ast.parse(file.read_text()))
    assert docstring is not None, f"{name_of(file)} has no opening docstring"
    assert len(docstring.split()) > 2, f"{name_of(file)} says too little: {docstring!r}"


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_every_room_says_where_to_start_reading(room: Path):
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    match = re.search(r"Start\s+reading\s+at\s+`(\w+)`", docstring)
    assert match is not None, f"{name_of(room)}/__init__.py does not say where to start reading"
    assert (room / f"{match[1]}.py").exists(), f"{name_of(room)} has no {match[1]}.py to start reading at"


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_a_name_says_what_is_inside(file: Path):
    assert file.stem not in NAMES_THAT_SAY_NOTHING, f"{name_of(file)}: each noun lives with its owner"


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_a_public_class_or_function_is_documented(file: Path):
    tree = ast.parse(file.read_text())
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    silent = [
        node.name
        for node in tree.body
        if isinstance(node, kinds)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and "overload" not in {getattr(decorator, "id", "") for decorator in node.decorator_list}
    ]
    assert not silent, f"{name_of(file)}: {', '.join(silent)} have no docstring"


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_nothing_is_pickled(file: Path):
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(file.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & {"pickle", "marshal", "shelve", "dill", "cloudpickle"}


def modules_after(statement: str) -> set[str]:
    program = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import fissile", "import fissile.runtime.process"])
def test_a_replica_imports_only_what_it_needs(statement: str):
    loaded = modules_after(statement)
    assert "fissile" in loaded
    heavy = [name for name in HEAVY if name in loaded]
    assert not heavy, f"`{statement}` loads {', '.join(heavy)}: every replica would pay for it"


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_a_command_that_only_looks_starts_at_once(words: tuple[str, ...], tmp_path: Path):
    program = (
        "import sys\nfrom fissile.cli import main\n"
        f"sys.argv = ['fissile', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "import fissile.api.client, fissile.cli.table\n"
        "print('\\nloaded', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    loaded = done.stdout.rpartition("loaded")[2].split()
    assert "fissile.api.client" in loaded
    slow = [name for name in SLOW if name in loaded]
    assert not slow, f"`fissile {' '.join(words)}` loads {', '.join(slow)}"
