"""What is desired is altered through one door: no code but the ChangeWriter replaces it, or could be seen to."""

import ast
from collections.abc import Iterator
from pathlib import Path

import fissile

PACKAGE = Path(fissile.__file__).parent
OWNER = "orchestrator/change_writer.py"
STATE = "orchestrator/state.py"


def replaces(tree: ast.AST) -> Iterator[int]:
    """The lines that assign what is desired of anything, delete it, or call what does."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in (part for one in targets for part in ast.walk(one)):
            if isinstance(target, ast.Attribute) and target.attr in ("desired", "_desired"):
                yield target.lineno
        if isinstance(node, ast.Attribute) and node.attr == "replace_desired":
            yield node.lineno
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and isinstance(called, ast.Name) and called.id in ("setattr", "delattr"):
            names = [one.value for one in node.args if isinstance(one, ast.Constant)]
            if "desired" in names or "_desired" in names:
                yield node.lineno


def found(path: Path) -> list[int]:
    return sorted(set(replaces(ast.parse(path.read_text()))))


def test_nothing_but_the_change_writer_alters_what_is_desired():
    # `Router` is made for one look, and only keeps what it was given.
    allowed = {OWNER, STATE, "orchestrator/routing.py"}
    others = {
        name: lines
        for path in PACKAGE.rglob("*.py")
        if (name := path.relative_to(PACKAGE).as_posix()) not in allowed and (lines := found(path))
    }
    assert not others


def test_the_search_finds_what_it_looks_for():
    assert found(PACKAGE / OWNER)
    assert found(PACKAGE / STATE)
    lines = ["a.b.desired = x", "a.desired: int = 1", "a.desired, c = 1, 2", "setattr(a, 'desired', x)"]
    written = "\n".join([*lines, "a.replace_desired(x)"])
    assert sorted(set(replaces(ast.parse(written)))) == [1, 2, 3, 4, 5]
