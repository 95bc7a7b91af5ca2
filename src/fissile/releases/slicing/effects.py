"""What running a module's statements may alter, beside the names that they bind.

A definition that is only made alters nothing. One that is handed to something of the application's (`@router.get`,
`F = cached(f)`, `class User(Base)`) may be kept there; a call whose result nobody takes is made for its effect.
Whether a function or class may alter anything is judged by its own text: by what it assigns to, calls without taking
the result, or inherits from. When in doubt it may.
"""

import ast
from collections.abc import Callable, Iterator

import msgspec

from fissile.releases.slicing.syntax import (
    DEFINITIONS,
    FUNCTIONS,
    Chain,
    Module,
    Modules,
    Name,
    Statement,
    chain_of,
    executed,
)

MAIN = "__name__"
# Classes that only describe data, or behaviour that is looked up by nobody but their users.
QUIET_BASES = frozenset(
    {"object", "Struct", "Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "Protocol", "Generic", "NamedTuple"}
    | {"TypedDict", "ABC", "BaseModel", "str", "int", "float", "bytes", "dict", "list", "tuple", "set", "frozenset"}
)
QUIET_SUFFIXES = ("Error", "Exception", "Warning")
MUTATORS = frozenset(
    {"append", "add", "update", "setdefault", "extend", "insert", "register", "pop", "popitem", "clear", "remove"}
)
BORN = frozenset({"__init__", "__new__", "__post_init__"})
INHERITED = "__init_subclass__"


class Act(msgspec.Struct, frozen=True):
    """What may be altered: by its name, or () for what has none. called: it is called, or inherited from."""

    chain: Chain
    called: bool = False


class Effects:
    """Of an application's modules. Each statement is judged once."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._altered: dict[tuple[str, int], frozenset[Name] | None] = {}
        self._noisy: dict[Name, bool] = {}

    def altered(self, module: Module, statement: Statement) -> frozenset[Name] | None:
        """The names of the application that a statement may alter; None: what is not the application's as well."""
        key = module.name, statement.number
        if key not in self._altered:
            self._altered[key] = self._judge(module, statement)
        return self._altered[key]

    def _judge(self, module: Module, statement: Statement) -> frozenset[Name] | None:
        found: set[Name] = set()
        for act in _loose(statement.node):
            origins = self._origins(module, act.chain)
            if not origins or (act.called and any(self._defines(origin) for origin in origins)):
                return None
            for origin in origins:
                found |= self._led_to(origin)
        for act in _acts(statement.node):
            for origin in self._origins(module, act.chain):
                if not act.called or self._is_noisy(origin, act.chain):
                    found |= self._led_to(origin)
        return frozenset(found)

    def _origins(self, module: Module, chain: Chain) -> list[Name]:
        return self._modules.origins(module, chain) if chain else []

    def _definitions(self, name: Name) -> list[Statement]:
        module = self._modules.get(name[0])
        return module.bound.get(name[1], []) if module is not None else []

    def _defines(self, name: Name) -> bool:
        """Whether it is a function or a class, or not known."""
        found = self._definitions(name)
        return not found or any(isinstance(statement.node, DEFINITIONS) for statement in found)

    def _is_noisy(self, name: Name, chain: Chain = ()) -> bool:
        """Whether calling it, or inheriting from it, may alter anything. chain: as it was written, with a method."""
        if chain[-1:] not in ((), (name[1],)):
            return any(_method_alters(statement.node, chain[-1]) for statement in self._definitions(name))
        if name not in self._noisy:
            self._noisy[name] = False  # of what inherits from itself
            self._noisy[name] = self._hear(name)
        return self._noisy[name]

    def _hear(self, name: Name) -> bool:
        found, module = self._definitions(name), self._modules.get(name[0])
        if not found or module is None:
            return True

        def quiet(chain: Chain) -> bool:
            origins = self._origins(module, chain)
            if not origins:
                return bool(chain) and (chain[-1] in QUIET_BASES or chain[-1].endswith(QUIET_SUFFIXES))
            return not any(self._is_noisy(origin) for origin in origins)

        return any(_may_alter(statement.node, quiet) for statement in found)

    def _led_to(self, name: Name) -> set[Name]:
        """A name, and the variables and noisy classes that its definitions lead to."""
        found, todo, seen = {name}, [name], {name}
        while todo:
            at = todo.pop()
            module = self._modules.get(at[0])
            if module is None:
                continue
            following = self._modules.origins(module, (at[1],)) if at[1] in module.imported else []
            for statement in self._definitions(at):
                if isinstance(statement.node, ast.ClassDef) and at != name and not self._is_noisy(at):
                    continue
                if not isinstance(statement.node, FUNCTIONS):
                    found.add(at)
                for reference in statement.references:
                    following += self._modules.origins(module, reference.chain)
            todo += [one for one in dict.fromkeys(following) if one not in seen]
            seen.update(following)
        return found


def _acts(node: ast.stmt) -> Iterator[Act]:
    """What a statement assigns to beside names, what it calls and inherits from."""
    if _is_main(node):
        return
    if isinstance(node, ast.ClassDef):
        inherited = [*node.bases, *(word.value for word in node.keywords)]
        yield from (Act(chain, called=True) for one in inherited if (chain := chain_of(_plain(one))))
    for inner in executed(node):
        if isinstance(inner, (ast.Attribute, ast.Subscript)) and not isinstance(inner.ctx, ast.Load):
            yield Act(_root(inner))
        elif isinstance(inner, ast.Call):
            yield Act(_root(inner.func), called=True)
        elif isinstance(inner, DEFINITIONS):
            yield from (Act(_root(one), called=True) for one in inner.decorator_list)


def _loose(node: ast.stmt) -> Iterator[Act]:
    """Of these acts, those that are there for their effect alone."""
    if _is_main(node):
        return
    for inner in executed(node):
        if isinstance(inner, ast.Expr) and isinstance(inner.value, (ast.Call, ast.Await)):
            yield Act(_root(inner.value), called=True)
        elif isinstance(inner, (ast.Attribute, ast.Subscript)) and not isinstance(inner.ctx, ast.Load):
            yield Act(_root(inner))
        elif isinstance(inner, ast.Raise):
            yield Act(())


def _is_main(node: ast.stmt) -> bool:
    """`if __name__ == "__main__"`: an application's modules never are."""
    return isinstance(node, ast.If) and any(chain_of(inner) == (MAIN,) for inner in ast.walk(node.test))


def _plain(node: ast.expr) -> ast.expr:
    return node.value if isinstance(node, ast.Subscript) else node


def _root(node: ast.AST) -> Chain:
    """The name at the beginning of an expression, with the attributes that follow it directly."""
    while not (chain := chain_of(node)):
        if isinstance(node, (ast.Attribute, ast.Subscript, ast.Await, ast.Starred)):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return ()
    return chain


def _may_alter(node: ast.AST, quiet: Callable[[Chain], bool]) -> bool:
    """Whether calling a function, or making a class or an instance of it, may alter what is known elsewhere.

    quiet: whether inheriting from a name has no effect.
    """
    if isinstance(node, ast.ClassDef):
        plain = all(isinstance(word.value, ast.Constant) for word in node.keywords)  # as `frozen=True`
        if not plain or not all(quiet(chain_of(_plain(base))) for base in node.bases):
            return True
        own = [method for method in node.body if isinstance(method, FUNCTIONS)]
        return any(m.name == INHERITED or (m.name in BORN and _may_alter(m, quiet)) for m in own)
    if not isinstance(node, FUNCTIONS):
        return True
    return any(_alters(inner) for statement in node.body for inner in ast.walk(statement))


def _method_alters(node: ast.stmt, name: str) -> bool:
    """Whether calling an attribute of it may alter it: known of a class's own methods alone."""
    methods = [one for one in getattr(node, "body", ()) if isinstance(one, FUNCTIONS) and one.name == name]
    if isinstance(node, ast.ClassDef) and methods:
        return any(_may_alter(method, lambda _: False) for method in methods)
    return True


def _alters(node: ast.AST) -> bool:
    if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
        return chain_of(node)[:1] != ("self",)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS
    return isinstance(node, ast.Global) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
