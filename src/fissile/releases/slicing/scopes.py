"""How names get their values in functions, comprehensions and statements: bindings, and the scopes that hold them."""

import ast
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager

import msgspec

from fissile.releases.slicing.syntax import COMPREHENSIONS, DEFINITIONS, FUNCTIONS

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Binding(msgspec.Struct, frozen=True, eq=False):
    """How a name gets a value. value: None if it is not known. each: the name gets each item of the value in turn."""

    value: ast.expr | None
    each: bool = False


Scope = dict[str, list[Binding]]


class ScopeStack:
    """The scopes around an expression, innermost last. Each node's bindings are collected once."""

    def __init__(self) -> None:
        self._scopes: list[Scope] = []
        self._collected: dict[ast.AST, Scope] = {}

    def __repr__(self) -> str:
        return f"<ScopeStack {[sorted(scope) for scope in self._scopes]}>"

    def lookup(self, name: str) -> list[Binding] | None:
        """The bindings of a name in the innermost scope that has any; None if none has."""
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return None

    @property
    def innermost(self) -> Scope | None:
        """The innermost scope; None at the top of a module."""
        return self._scopes[-1] if self._scopes else None

    def push(self, node: ast.AST) -> None:
        """Enter the scope of a node for good."""
        self._scopes.append(self._of(node))

    @contextmanager
    def entered(self, node: ast.AST) -> Generator[None, None, None]:
        """Be in the scope of a node."""
        self._scopes.append(self._of(node))
        try:
            yield
        finally:
            self._scopes.pop()

    def around(self, *nodes: ast.AST) -> list[Scope]:
        """These scopes and, in them, those of nodes: to come back to (`restored`)."""
        return [*self._scopes, *map(self._of, nodes)]

    @contextmanager
    def restored(self, scopes: list[Scope]) -> Generator[None, None, None]:
        """Be in other scopes."""
        before, self._scopes = self._scopes, scopes
        try:
            yield
        finally:
            self._scopes = before

    def _of(self, node: ast.AST) -> Scope:
        if node not in self._collected:
            self._collected[node] = bindings(node)
        return self._collected[node]


def assigned_value(node: ast.stmt) -> ast.expr | None:
    """The value of `name = value` and `name: type = value`; None for any other statement."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.value
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.value
    return None


def bindings(node: ast.AST) -> Scope:
    """The bindings in the scope of a function, a comprehension, or a statement at the top of a module."""
    found: Scope = {}
    if isinstance(node, (*FUNCTIONS, ast.Lambda)):
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        for one in every:
            if one is not None:
                found.setdefault(one.arg, []).append(Binding(None))
        _collect(node.body if isinstance(node.body, list) else [node.body], found)
    else:
        _collect([node] if isinstance(node, ast.stmt) else [*ast.iter_child_nodes(node)], found)
    return found


def _collect(nodes: Iterable[ast.AST], found: Scope) -> None:
    """Collect the names that nodes bind, and those that functions within them rebind."""
    todo = [*nodes]
    while todo:
        node = todo.pop()
        if isinstance(node, (*DEFINITIONS, ast.Lambda, *COMPREHENSIONS)):
            if isinstance(node, DEFINITIONS):
                _bind(found, node.name)
                _collect_rebound(node, found)
            continue
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                _bind(found, node.id)
            continue
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and (value := assigned_value(node)) is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            assert isinstance(target, ast.Name)
            _bind(found, target.id, value)
            todo.append(value)
            continue
        if isinstance(node, (ast.Nonlocal, ast.Global)):
            for name in node.names:
                _bind(found, name)
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            _bind(found, node.name)
        target, value = _iteration(node)
        for name in _names(target) if target is not None else ():
            _bind(found, name.id, value, each=True)
        todo += [child for child in ast.iter_child_nodes(node) if child is not target]


def _iteration(node: ast.AST) -> tuple[ast.AST | None, ast.expr | None]:
    """The target of a loop or a `with`, and what it is taken from."""
    if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        return node.target, node.iter
    if isinstance(node, ast.withitem) and node.optional_vars is not None:
        return node.optional_vars, node.context_expr
    return None, None


def _bind(found: Scope, name: str, value: ast.expr | None = None, *, each: bool = False) -> None:
    found.setdefault(name, []).append(Binding(value, each))


def _collect_rebound(node: ast.AST, found: Scope) -> None:
    """Collect the names that functions within rebind, by `nonlocal` and `global`."""
    for inner in ast.walk(node):
        if isinstance(inner, (ast.Nonlocal, ast.Global)):
            for name in inner.names:
                _bind(found, name)


def _names(node: ast.AST) -> Iterator[ast.Name]:
    return (one for one in ast.walk(node) if isinstance(one, ast.Name))
