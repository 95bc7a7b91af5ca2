"""What a Python module consists of: its statements, and the names that they bind and use. Nothing is run here."""

import ast
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import PurePosixPath

import msgspec

WHOLE = "*"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
PLAIN = (*DEFINITIONS, ast.Assign, ast.AnnAssign, ast.AugAssign)
IMPORTS = (ast.Import, ast.ImportFrom)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

Chain = tuple[str, ...]
Name = tuple[str, str]


class Reference(msgspec.Struct, frozen=True):
    """A use of a name, as ("shop", "cart", "Cart"). annotation: it is only said what something is."""

    chain: Chain
    annotation: bool = False


class Statement:
    """One statement at the top of a module.

    binds: names that it gives a value there. runs: its imports that are run with it; imports: all of them.
    """

    def __init__(self, number: int, node: ast.stmt) -> None:
        self.number = number
        self.node = node
        self.plain = isinstance(node, PLAIN)
        self.binds = tuple(dict.fromkeys(_bound(node)))
        self.references: list[Reference] = []
        self.texts: list[str] = []
        self.imports: list[ast.Import | ast.ImportFrom] = []
        _refer(node, self.references, self.texts, self.imports, annotation=False)
        self.runs = [n for n in executed(node) if isinstance(n, IMPORTS)] if self.imports else []

    @cached_property
    def text(self) -> str:
        """What it says, without how it is written."""
        return ast.dump(self.node)


class Module:
    """One parsed module. Raises SyntaxError or ValueError where it cannot be parsed."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        self.name = name
        self.path = path
        self.statements: list[Statement] = []
        self.bound: dict[str, list[Statement]] = {}
        # By name: the module and what of it, WHOLE for itself. Imports within functions are taken for the module's.
        self.imported: dict[str, list[Name]] = {}
        self.stars: list[str] = []
        self.futures: set[str] = set()
        # By what is used in it; an import of anything else is there for its effects.
        self.roots: set[str] = set()
        self._package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
        tree = ast.parse(source)
        self.doc = ast.get_docstring(tree, clean=False) or ""
        for node in tree.body:
            if not _says_nothing(node):
                self._take(Statement(len(self.statements), node))

    def _take(self, statement: Statement) -> None:
        self.statements.append(statement)
        self.roots |= {reference.chain[0] for reference in statement.references}
        for name in statement.binds:
            self.bound.setdefault(name, []).append(statement)
        for node in statement.imports:
            for module, attribute, name in self.targets(node):
                if attribute == WHOLE and isinstance(node, ast.ImportFrom):
                    self.stars.append(module)
                else:
                    self.imported.setdefault(name, []).append((module, attribute))
                if module == "__future__":
                    self.futures.add(attribute)

    def targets(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str, str]]:
        """Of an import: the module, what of it, and under which name."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, WHOLE, alias.asname or alias.name.partition(".")[0]
            return
        base = node.module or ""
        if node.level:
            parents = self._package.split(".")
            kept = parents[: len(parents) - node.level + 1]
            base = ".".join([*kept, base] if base else kept)
        for alias in node.names:
            yield base, alias.name, alias.asname or alias.name


class Modules:
    """The modules among an application's files, by name; parsed when they are reached.

    folders: below the root, in which modules are looked for as well ("src"): as `sys.path` has them.
    """

    def __init__(self, files: Mapping[str, bytes], folders: Iterable[str] = ()) -> None:
        self._files = files
        self._paths: dict[str, str] = {}
        self._parsed: dict[str, Module | None] = {}
        for folder in ("", *folders):
            for path in files:
                inside = PurePosixPath(path)
                if path.endswith(".py") and inside.is_relative_to(folder or "."):
                    parts = inside.relative_to(folder or ".").with_suffix("").parts
                    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                    self._paths.setdefault(name, path)

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def get(self, name: str) -> Module | None:
        """One module; None where there is none, or its importer will say that it cannot be parsed."""
        if name not in self._parsed:
            path = self._paths.get(name)
            try:
                self._parsed[name] = None if path is None else Module(name, path, self._files[path])
            except (SyntaxError, ValueError):
                self._parsed[name] = None
        return self._parsed[name]

    def path(self, name: str) -> str:
        """Of the file of a module. Raises KeyError where there is none."""
        return self._paths[name]

    def named(self, text: str) -> str:
        """The module that a text names, as "shop.plugins:load"; "" if none. A single word is a word."""
        parts = text.replace(":", ".").split(".")
        for count in range(len(parts), 0, -1):
            name = ".".join(parts[:count])
            if name in self._paths and (count > 1 or ":" in text):
                return name
        return ""

    def folder(self, name: str) -> str | None:
        """The folder that a package's name means: also one without modules, in a package; None: none of these."""
        path = self._paths.get(name)
        if path is not None:
            return posixpath.dirname(path)
        for other, path in self._paths.items():
            if other.startswith(f"{name}."):
                own = path.removesuffix("/__init__.py").removesuffix(".py")
                return own.rsplit("/", other.count(".") - name.count("."))[0]
        parent, _, last = name.rpartition(".")
        folder = self.folder(parent) if parent else None
        return f"{folder}/{last}" if folder else None

    def origins(self, module: Module, chain: Chain) -> list[Name]:
        """Where what a name means in a module may come from, in the application; none: it is not the application's."""
        root = chain[0]
        found: list[Name] = [(module.name, root)] if root in module.bound else []
        for base, attribute in module.imported.get(root, ()):
            if attribute == WHOLE:
                # `import a.b` binds `a`; `import a.b as c` binds `c` to `a.b`.
                dotted = chain if root == base.partition(".")[0] else (*base.split("."), *chain[1:])
                found += self._within(dotted)
            elif f"{base}.{attribute}" in self._paths:
                found += self._within((*base.split("."), attribute, *chain[1:]))
                if base in self._paths:
                    found.append((base, attribute))
            elif base in self._paths:
                found.append((base, attribute))
        if not found or root in module.bound:
            found += [(other, root) for other in module.stars if other in self._paths]
        return found

    def _within(self, chain: Chain) -> Iterator[Name]:
        """The longest module that a chain names, and what of it."""
        for count in range(len(chain), 0, -1):
            name = ".".join(chain[:count])
            if name in self._paths:
                yield name, chain[count] if count < len(chain) else WHOLE
                return


# -- what a statement says ---------------------------------------------------------------------------


def _says_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a statement gives a value in its module, or takes it from them. Imports are kept apart."""
    if isinstance(node, DEFINITIONS):
        yield node.name
        return
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name
    if not isinstance(node, (ast.Lambda, *IMPORTS, *COMPREHENSIONS)):
        for child in ast.iter_child_nodes(node):
            yield from _bound(child)


def chain_of(node: ast.AST) -> Chain:
    """`a.b.c` as ("a", "b", "c"); () for what begins otherwise."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else ()


def _refer(
    node: ast.AST,
    found: list[Reference],
    texts: list[str],
    imports: list[ast.Import | ast.ImportFrom],
    *,
    annotation: bool,
) -> None:
    """All names that are used, all texts and all imports within a node."""
    if isinstance(node, (ast.Name, ast.Attribute)):
        chain = chain_of(node)
        if chain:
            found.append(Reference(chain, annotation))
            return
        assert isinstance(node, ast.Attribute)
        found.append(Reference(("", node.attr)))  # of what something returns
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        texts.append(node.value)
        if annotation:
            try:
                _refer(ast.parse(node.value, mode="eval").body, found, [], [], annotation=True)
            except (SyntaxError, ValueError):
                return
        elif node.value.isidentifier():
            found.append(Reference((node.value,)))  # as in getattr
    elif isinstance(node, IMPORTS):
        imports.append(node)
        return
    for name, value in ast.iter_fields(node):
        said = annotation or (name == "annotation" or (name == "returns" and isinstance(node, FUNCTIONS)))
        for child in value if isinstance(value, list) else [value]:  # pyright: ignore[reportUnknownVariableType]
            if isinstance(child, ast.AST):
                _refer(child, found, texts, imports, annotation=said)


def references_of(node: ast.AST) -> list[Reference]:
    """All names that are used within a node."""
    found: list[Reference] = []
    _refer(node, found, [], [], annotation=False)
    return found


def signature(node: ast.ClassDef) -> ast.ClassDef:
    """A class without what its methods do: what its callers count on."""
    body: list[ast.stmt] = [
        ast.AsyncFunctionDef(m.name, m.args, [], m.decorator_list, m.returns)
        for m in node.body
        if isinstance(m, ast.AsyncFunctionDef) and not m.name.startswith("_")
    ]
    return ast.ClassDef(node.name, node.bases, node.keywords, body, node.decorator_list)


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that are run when a statement is: not what functions do once they are called."""
    yield node
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, (*FUNCTIONS, ast.Lambda)):
            continue
        for child in value if isinstance(value, list) else [value]:  # pyright: ignore[reportUnknownVariableType]
            if isinstance(child, ast.AST):
                yield from executed(child)
