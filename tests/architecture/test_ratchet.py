"""What is too large may only become smaller: modules, classes by methods, and by attributes.

`python tests/architecture/test_ratchet.py` notes what is too large now, where nothing has grown.
"""

import ast
import json
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "fissile"
NOTED = Path(__file__).with_name("ratchet.json")
LINES_MAX, METHODS_MAX, ATTRIBUTES_MAX = 450, 25, 15


def too_large() -> dict[str, int]:
    """Sizes beyond the limits, by what they are of."""
    found: dict[str, int] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        text, name = file.read_text(), str(file.relative_to(SOURCE))
        lines = len(text.splitlines())
        if lines > LINES_MAX:
            found[f"lines of {name}"] = lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                found |= _class(f"{name}: {node.name}", node)
    return found


def _class(name: str, node: ast.ClassDef) -> dict[str, int]:
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    attributes = {
        target.attr
        for one in ast.walk(node)
        for target in (
            one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        )
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"
    }
    sizes = {
        f"methods of {name}": (len(methods), METHODS_MAX),
        f"attributes of {name}": (len(attributes), ATTRIBUTES_MAX),
    }
    return {what: size for what, (size, most) in sizes.items() if size > most}


def test_nothing_becomes_too_large_and_what_is_becomes_smaller():
    noted, found = json.loads(NOTED.read_text()), too_large()
    grown = {what: size for what, size in found.items() if size > noted.get(what, 0)}
    assert grown == {}, "split what has grown: its limits stand at the top"
    smaller = {what: size for what, size in noted.items() if found.get(what, 0) < size}
    assert smaller == {}, f"well done: note it by `python {Path(__file__).relative_to(SOURCE.parents[1])}`"


if __name__ == "__main__":
    before = json.loads(NOTED.read_text()) if NOTED.exists() else None
    now = too_large()
    if before is not None and any(size > before.get(what, 0) for what, size in now.items()):
        sys.exit("something has grown: split it")
    NOTED.write_text(json.dumps(now, indent=1) + "\n")
