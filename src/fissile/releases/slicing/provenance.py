"""Where a path comes from: one that is known, or something below it, however it got here."""

import ast
from collections.abc import Generator
from contextlib import contextmanager

from fissile.releases.slicing.evaluation import DEPTH_MAX, PATH_CLASSES, SAME_CALLS, SAME_METHODS, PathEvaluator
from fissile.releases.slicing.paths import is_specific
from fissile.releases.slicing.scopes import Scope, ScopeStack
from fissile.releases.slicing.syntax import FUNCTIONS, chain_of

# Their results are items of what they are given.
FROM_ITERABLES = frozenset({"sorted", "list", "tuple", "set", "reversed", "enumerate", "next", "iter", "map", "filter"})
# Their results are the path that they are given, or lie below it.
BELOW_CALLS = frozenset({"os.scandir", "os.walk", "glob.glob", "glob.iglob"}) | SAME_CALLS
BELOW_METHODS = frozenset({"glob", "rglob", "iterdir", "joinpath", "walk"}) | SAME_METHODS


class Provenance:
    """Traces expressions in one statement back to paths that are known."""

    def __init__(self, evaluator: PathEvaluator, scopes: ScopeStack) -> None:
        self._evaluator = evaluator
        self._scopes = scopes
        # What is assigned to the attributes of `self` in the class at hand, with the scopes of each assignment.
        self._attributes: dict[str, list[tuple[list[Scope], ast.expr]]] = {}
        # Names that are being traced: what a name gets from itself adds nothing.
        self._tracing: set[str] = set()

    def is_known(self, node: ast.expr, depth: int = 0) -> bool:
        """Whether a path is known, or lies below one that is."""
        if depth > DEPTH_MAX:
            return False
        found = self._evaluator.value(node) or self._evaluator.files_of(node, [])
        if found is not None:
            return found.anchored or is_specific(found)
        match node:
            case ast.List() | ast.Tuple() | ast.Set():
                return bool(node.elts) and all(self.is_known(one, depth + 1) for one in node.elts)
            case ast.IfExp():
                return self.is_known(node.body, depth + 1) and self.is_known(node.orelse, depth + 1)
            case ast.BoolOp():
                return all(self.is_known(one, depth + 1) for one in node.values)
            case ast.Name():
                return self._is_name_known(node.id, depth)
            case ast.Starred() | ast.Await():
                return self.is_known(node.value, depth + 1)
            case ast.Attribute():
                is_path = node.attr == "path"  # of an entry of os.scandir
                return self._is_attribute_known(node, depth) or (is_path and self.is_known(node.value, depth + 1))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                with self._scopes.entered(node):
                    return self.is_known(node.elt, depth + 1)
            case ast.BinOp():
                return isinstance(node.op, ast.Div) and self.is_known(node.left, depth + 1)
            case ast.Call():
                return self._is_call_known(node, depth)
            case _:
                return False

    def _is_name_known(self, name: str, depth: int) -> bool:
        """Whether every value of a name is known."""
        bound = self._scopes.lookup(name)
        if not bound or name in self._tracing:
            return bool(bound)
        self._tracing.add(name)
        try:
            return all(one.value is not None and self.is_known(one.value, depth + 1) for one in bound)
        finally:
            self._tracing.discard(name)

    def _is_attribute_known(self, node: ast.Attribute, depth: int) -> bool:
        """Whether every value of `self.folder` is known."""
        given = self._attributes.get(node.attr, []) if chain_of(node.value) == ("self",) else []
        for scopes, value in given:
            with self._scopes.restored(scopes):
                if not self.is_known(value, depth + 1):
                    return False
        return bool(given)

    def _is_call_known(self, node: ast.Call, depth: int) -> bool:
        names, func = self._evaluator.names, node.func
        name = names.dotted(func)
        if name in BELOW_CALLS or name in PATH_CLASSES or name in FROM_ITERABLES or name == "os.path.join":
            which = node.args[1:2] if name in ("map", "filter") else node.args[:1]
            return bool(which) and self.is_known(which[0], depth + 1)
        return (
            isinstance(func, ast.Attribute)
            and func.attr in BELOW_METHODS
            and not names.is_external(func.value)
            and self.is_known(func.value, depth + 1)
        )

    # -- attributes of self -----------------------------------------------------------------------

    @contextmanager
    def in_class(self, node: ast.ClassDef) -> Generator[None, None, None]:
        """Be in a class, whose attributes are known by what it and its methods assign to them."""
        before, self._attributes = self._attributes, {}
        for child in node.body:
            if isinstance(child, FUNCTIONS):
                scopes = self._scopes.around(child)
                for inner in ast.walk(child):
                    self._collect(inner, scopes, ("self",))
            else:
                self._collect(child, self._scopes.around(), ())
        yield
        self._attributes = before

    def _collect(self, node: ast.AST, scopes: list[Scope], of: tuple[str, ...]) -> None:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets = [node.target]
        else:
            return
        for target in targets:
            chain = chain_of(target)
            if chain and chain[:-1] == of and node.value is not None:
                self._attributes.setdefault(chain[-1], []).append((scopes, node.value))
