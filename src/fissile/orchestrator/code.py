"""Which code a service consists of: the definitions that its components reach, through the application's modules.

Not whole modules: a module that gives away a class and a few types counts by those definitions and what
they use. So a change in one component's body alters its own service, and not those who import its errors
or its identifiers. A component's class that another module imports does not count at all there: callers
count on its contract. Comments and formatting are no code.

When in doubt it counts: statements that are no definitions count for whoever imports their module, a
module imported as a whole counts whole, and code that imports by computed names counts on everything.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

# Names by which code reaches what cannot be seen from here.
DYNAMIC = frozenset({"import_module", "__import__", "exec", "eval", "globals"})
WHOLE = "*"


def digest(data: bytes | str) -> str:
    """Of some content."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


class Module:
    """One parsed module: what it defines, what it imports, and what it just does."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        self.name = name
        self.path = path
        self.defined: dict[str, list[ast.stmt]] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        self.whole: list[str] = []
        self.loose: list[ast.stmt] = []
        self.run: list[str] = []
        tree = ast.parse(source)
        package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imported[alias.asname or alias.name.partition(".")[0]] = (alias.name, WHOLE)
            elif isinstance(node, ast.ImportFrom):
                self._import_from(node, package)
        for statement in tree.body:
            self._sort(statement)

    def _import_from(self, node: ast.ImportFrom, package: str) -> None:
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            kept = parents[: len(parents) - node.level + 1]
            base = ".".join([*kept, base] if base else kept)
        for alias in node.names:
            if alias.name == WHOLE:
                self.whole.append(base)
            else:
                self.imported[alias.asname or alias.name] = (base, alias.name)

    def _sort(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import):
            self.run += [alias.name for alias in statement.names]
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            return
        names: list[str] = []
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names = [statement.name]
        elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            found = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
            plain = all(isinstance(target, (ast.Name, ast.Tuple, ast.List)) for target in targets)
            names = found if plain else []
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            return  # the docstring
        for name in names:
            self.defined.setdefault(name, []).append(statement)
        if not names:
            self.loose.append(statement)


class Modules:
    """The modules among an application's files, by name; parsed when they are reached."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._paths: dict[str, str] = {}
        self._parsed: dict[str, Module | None] = {}
        for path in files:
            if path.endswith(".py"):
                parts = PurePosixPath(path).with_suffix("").parts
                self._paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path

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


class Slice:
    """All that is reached from some definitions.

    parts: digests by place, as "shop/cart.py: Cart". texts: what the code says. folders: where it lies, at the top.
    """

    def __init__(self, modules: Modules, components: Iterable[tuple[str, str]]) -> None:
        self.parts: dict[str, str] = {}
        self.texts: set[str] = set()
        self.folders: set[str] = set()
        self._modules = modules
        self._components = set(components)
        self._seen: set[tuple[str, str]] = set()

    def add(self, module: str, name: str = WHOLE) -> None:
        """A definition, or a whole module, and all that it uses."""
        todo = [(module, name)]
        while todo:
            node = todo.pop()
            if node not in self._seen:
                self._seen.add(node)
                todo += self._visit(*node)

    def _visit(self, name: str, wanted: str) -> Iterator[tuple[str, str]]:
        module = self._modules.get(name)
        if module is None:
            return
        self.folders.add(PurePosixPath(module.path).parts[0] if "/" in module.path else "")
        for package in _packages(name):
            yield package, ""  # importing it runs them
        yield name, ""
        if wanted == WHOLE:
            for defined in module.defined:
                yield name, defined
            for imported in module.imported.values():
                yield from self._target(*imported, used=False)
            for other in module.whole:
                yield other, WHOLE
            return
        statements = module.defined.get(wanted, []) if wanted else module.loose
        if statements:
            label = f"{module.path}: {wanted}" if wanted else module.path
            self.parts[label] = digest("".join(ast.dump(statement) for statement in statements))
        elif wanted and wanted in module.imported:
            yield from self._target(*module.imported[wanted], used=True)
        elif wanted:
            for other in module.whole:
                yield other, WHOLE
        if not wanted:
            for other in module.run:
                yield other, WHOLE
        for statement in statements:
            yield from self._used(module, statement)

    def _used(self, module: Module, statement: ast.stmt) -> Iterator[tuple[str, str]]:
        annotated = _annotations(statement)
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self.texts.add(node.value)
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, WHOLE
            name = _named(node)
            if not name:
                continue
            if name in DYNAMIC:
                for other in self._modules:
                    yield other, WHOLE
            if name in module.defined:
                if id(node) not in annotated or (module.name, name) not in self._components:
                    yield module.name, name
            elif name in module.imported:
                yield from self._target(*module.imported[name], used=id(node) not in annotated)
            else:
                for other in module.whole:
                    yield other, name

    def _target(self, module: str, name: str, *, used: bool) -> Iterator[tuple[str, str]]:
        """What an import leads to. used: whether it is more than an annotation."""
        if name == WHOLE:
            for part in [*_packages(module), module]:
                yield part, WHOLE if part == module else ""
        elif f"{module}.{name}" in self._modules:
            yield f"{module}.{name}", WHOLE
        elif (module, name) in self._components and not used:
            return  # its contract counts, not its body
        else:
            yield module, name


def _packages(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _named(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and node.attr in ("import_module", "__import__"):
        return node.attr
    # A forward reference.
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
        return node.value
    return ""


def _annotations(statement: ast.stmt) -> set[int]:
    """The nodes that are annotations, by identity."""
    found: set[int] = set()
    for node in ast.walk(statement):
        annotations: list[Any] = []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            annotations = [node.returns]
        elif isinstance(node, (ast.arg, ast.AnnAssign)):
            annotations = [node.annotation]
        for annotation in annotations:
            if annotation is not None:
                found |= {id(inner) for inner in ast.walk(annotation)}
    return found


def data_parts(files: Mapping[str, bytes], texts: set[str], all_texts: set[str]) -> dict[str, str]:
    """The files beside the code that count: those that are named, by their own name or a folder's.

    texts: what the service's code says. all_texts: what any code says; a file that none of it names counts for all.
    """
    found: dict[str, str] = {}
    for path, content in files.items():
        if path.endswith(".py"):
            continue
        names = {path, *PurePosixPath(path).parts}
        if names & texts or not names & all_texts:
            found[path] = digest(content)
    return found
