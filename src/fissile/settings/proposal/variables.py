"""Which variables of the environment the code asks for without doing without them."""

import ast
import re

from fissile.settings.proposal.folder import Folder

# Set by Fissile, or known to every machine.
GIVEN = frozenset({"PORT", "HOST", "PATH", "HOME", "USER", "PWD", "NODE_ENV", "DJANGO_SETTINGS_MODULE", "TZ", "LANG"})
_NODE = re.compile(r"process\.env\.(?P<name>[A-Z][A-Z0-9_]*)(?P<instead>\s*(?:\|\||\?\?))?")
_UNPACKED = re.compile(r"(?:const|let|var)\s*\{(?P<names>[^}]*)\}\s*=\s*process\.env\b")


def variables(folder: Folder) -> list[str]:
    """Their names: `os.environ["NAME"]`, `process.env.NAME`. With a default beside it, a variable may be absent."""
    found: set[str] = set()
    for _, text in folder.python():
        if "environ" in text:
            found |= _of_python(text)
    for path, text in folder.texts.items():
        if path.endswith((".js", ".mjs", ".cjs")):
            found |= {one["name"] for one in _NODE.finditer(text) if one["instead"] is None}
            for one in _UNPACKED.finditer(text):
                names = (name.partition(":")[0].strip() for name in one["names"].split(",") if "=" not in name)
                found |= {name for name in names if name.isidentifier()}
    return sorted(found - GIVEN)


def _of_python(text: str) -> set[str]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return set()
    return {
        node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Load)
        and ast.unparse(node.value) in ("os.environ", "environ")
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    }
