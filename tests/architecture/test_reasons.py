"""Nobody looks for anything in the words of a reason: whoever has to act on one asks for its type."""

import ast
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import fissile
from fissile.orchestrator import reasons
from fissile.orchestrator.reasons import (
    CannotStart,
    Exited,
    InternalError,
    Reason,
    Said,
    StartsAgain,
    endings,
    replicas,
    rollouts,
    scaling,
    tagged,
)
from fissile.orchestrator.reasons.reason import Plain, ReasonBase

PACKAGE = Path(fissile.__file__).parent
ROOMS = ("cli", "api", "supervisor", "orchestrator", "simulation", "testing")
WORDS = frozenset(
    {"reason", "trouble", "last_trouble", "error", "why", "how", "message", "stuck", "ending", "undecided"}
)
LOOKS = frozenset(
    {"startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "split", "find"}
)
# What argparse finds wrong, it says in text alone. An answer of the API may be an object with this key. What a process
# has printed is text, and is not shown twice. How source code calls something is no reason.
OTHERS = {
    "cli/arguments.py": {"message.partition", "== why"},
    "cli/call.py": {"in message"},
    "machine/last_lines.py": {"in trouble"},
    "orchestrator/reading.py": {"== how"},
}


def name_of(node: ast.AST) -> str:
    """What a value is called."""
    if isinstance(node, ast.Call):  # str(reason), reason.strip()
        inner = [*node.args, *([node.func.value] if isinstance(node.func, ast.Attribute) else [])]
        return next((found for one in inner if (found := name_of(one)) in WORDS), "")
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return ""


def looks(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where something is looked for in what is called a reason."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
                if isinstance(operator, ast.In | ast.NotIn) and name_of(right) in WORDS:
                    yield node.lineno, f"in {name_of(right)}"
                text = any(
                    isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value for one in (left, right)
                )
                if isinstance(operator, ast.Eq | ast.NotEq) and text and {name_of(left), name_of(right)} & WORDS:
                    yield node.lineno, f"== {name_of(left) or name_of(right)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOOKS:
            found = name_of(node.func.value)
            if found in WORDS:
                yield node.lineno, f"{found}.{node.func.attr}"


def test_nobody_looks_for_anything_in_a_reason():
    found: list[str] = []
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            name = str(path.relative_to(PACKAGE))
            if name.startswith("orchestrator/reasons/"):
                continue
            lines = looks(ast.parse(path.read_text()))
            found += [f"{name}:{line}: {what}" for line, what in lines if what not in OTHERS.get(name, ())]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        'x = "cannot start" in reason',
        'x = service not in entry["reason"]',
        'x = memory.last_trouble.removeprefix("cannot start: ")',
        'x = str(error).partition("\\n")',
        'x = why == "it is held"',
        'x = "killed" in str(replica.stuck)',
    ],
)
def test_it_is_noticed(text: str):
    assert list(looks(ast.parse(text)))


def kinds() -> list[type[ReasonBase]]:
    modules = (reasons, endings, replicas, rollouts, scaling)
    found = [one for module in modules for one in vars(module).values() if isinstance(one, type)]
    return [one for one in dict.fromkeys(found) if issubclass(one, ReasonBase) and one not in (ReasonBase, Plain)]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_each_kind_is_a_reason_with_words_of_its_own(kind: type[ReasonBase]):
    assert kind in Reason.__args__
    assert kind.__str__ is not ReasonBase.__str__
    assert not issubclass(kind, Plain) or kind.words


def test_programs_read_the_same_value():
    for how in (
        Said("ended"),
        CannotStart("no such file", advice=True),
        CannotStart(InternalError("KeyError", "7")),
        Exited(-9, 7),
    ):
        reason = StartsAgain(how, 3, True, 0.5)
        found = tagged(reason)
        assert (found["kind"], found["how"]["kind"]) == ("StartsAgain", how.kind)
        assert msgspec.convert(found, Reason) == reason
        assert str(msgspec.convert(found, Reason)) == str(reason)


def test_the_cause_is_where_it_began():
    assert StartsAgain(CannotStart(InternalError("KeyError", "7")), 1, False, 0.0).cause.kind == "InternalError"
    assert StartsAgain(Exited(1, 7), 1, False, 0.0).cause == Exited(1, 7)
