"""Evaluates expressions to paths and texts, as far as that is possible without running or opening anything.

A path that begins at the code's own place (`Path(__file__).parent`, `importlib.resources.files`) is followed through
`/`, `joinpath`, `os.path.join`, `parent`, f-strings, and names that have one value.
"""

import ast
import posixpath
from collections.abc import Callable, Iterable

from fissile.releases.slicing.names import NameResolver
from fissile.releases.slicing.paths import PathValue, appended, joined, parent, renamed, truncated_at
from fissile.releases.slicing.scopes import ScopeStack
from fissile.releases.slicing.syntax import Module, Modules

PATH_CLASSES = frozenset(
    {f"pathlib.{name}" for name in ("Path", "PurePath", "PosixPath", "PurePosixPath")} | {"anyio.Path"}
)
RESOURCES = ("importlib.resources.", "importlib_resources.")
RESOURCE_NAMES = frozenset({"path", "read_text", "read_binary", "open_text", "open_binary", "contents", "is_resource"})
# Calls and methods whose result means the same file.
SAME_CALLS = frozenset(
    {f"os.path.{name}" for name in ("abspath", "realpath", "normpath", "normcase")}
    | {"os.fspath", "str", "importlib.resources.as_file", "importlib_resources.as_file"}
)
SAME_METHODS = frozenset({"resolve", "absolute", "as_posix", "__fspath__", "__str__"})
METHODS = frozenset({"joinpath", "with_name", "with_stem", "with_suffix", "format", "expanduser"})
FILES = frozenset(f"{one}files" for one in RESOURCES)
WORKING_FOLDER = frozenset({"os.getcwd", "os.curdir"} | {f"{one}.cwd" for one in PATH_CLASSES})
# How far names are followed from one to the next.
DEPTH_MAX = 8

# The constant of a module by its name, at a depth.
Constant = Callable[[Module, str, int], PathValue | None]


class PathEvaluator:
    """Evaluates expressions of one module.

    names, scopes: of where the expressions stand. constant: evaluates the names of modules. depth: how many names have
    been followed already.
    """

    def __init__(
        self, modules: Modules, module: Module, scopes: ScopeStack, constant: Constant, depth: int = 0
    ) -> None:
        self.names = NameResolver(modules, module, scopes)
        self._modules = modules
        self._module = module
        self._scopes = scopes
        self._constant = constant
        self._depth = depth

    def constant(self, module: Module, name: str) -> PathValue | None:
        """The value of a name of a module, wherever it is used."""
        return self._constant(module, name, self._depth)

    def value(self, node: ast.expr | None, rest: list[ast.expr] | None = None) -> PathValue | None:
        """What is known of an expression's value. rest: gets the parts that are not known."""
        return self._value(node, rest if rest is not None else []) if node is not None else None

    def _part(self, node: ast.expr, rest: list[ast.expr]) -> PathValue | None:
        """The value of a part, which may be unknown."""
        own: list[ast.expr] = []
        found = self._value(node, own)
        rest += own if found is not None else [node]
        return found

    def _value(self, node: ast.expr, rest: list[ast.expr]) -> PathValue | None:
        match node:
            case ast.Constant():
                return PathValue(node.value) if isinstance(node.value, str) else None
            case ast.Name():
                return self.named(node.id)
            case ast.Attribute():
                return self._attribute(node, rest)
            case ast.Subscript():
                return self._item(node, rest)
            case ast.JoinedStr():
                return self._formatted(node, rest)
            case ast.BinOp():
                return self._operation(node, rest)
            case ast.Await() | ast.NamedExpr():
                return self._value(node.value, rest)
            case ast.Call():
                return self._call(node, rest)
            case _:
                return None

    def named(self, name: str) -> PathValue | None:
        """The value of a name where the expression stands."""
        bound = self._scopes.lookup(name)
        if bound is not None:
            one = bound[0]
            if len(bound) > 1 or one.value is None or one.each or self._depth > DEPTH_MAX:
                return None
            if name in self._module.bound or name in self._module.imported:
                return None
            self._depth += 1
            try:
                return self.value(one.value)
            finally:
                self._depth -= 1
        if name == "__file__" and name not in self._module.bound:
            return PathValue(self._module.path, anchored=True)
        return self.constant(self._module, name)

    def _attribute(self, node: ast.Attribute, rest: list[ast.expr]) -> PathValue | None:
        if node.attr == "parent":
            return parent(self._value(node.value, rest))
        if self.names.dotted(node) in WORKING_FOLDER:
            return PathValue("")
        module = self.names.module(node.value)
        if module is None:
            return None
        if node.attr == "__file__":
            return PathValue(module.path, anchored=True)
        return self.constant(module, node.attr)

    def _item(self, node: ast.Subscript, rest: list[ast.expr]) -> PathValue | None:
        """`path.parents[1]`."""
        of, index = node.value, node.slice
        if not (isinstance(of, ast.Attribute) and of.attr == "parents" and isinstance(index, ast.Constant)):
            return None
        number = index.value
        return parent(self._value(of.value, rest), number + 1) if isinstance(number, int) and number >= 0 else None

    def _formatted(self, node: ast.JoinedStr, rest: list[ast.expr]) -> PathValue | None:
        found: PathValue | None = PathValue("")
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                plain = value.format_spec is None and value.conversion in (-1, ord("s"))
                part = self._part(value.value, rest) if plain else None
                if found == PathValue("") and part is not None:
                    found = part
                    continue
            else:
                part = self._part(value, rest)
            found = appended(found, part)
        return found if found != PathValue("", whole=False) else None

    def _operation(self, node: ast.BinOp, rest: list[ast.expr]) -> PathValue | None:
        if isinstance(node.op, ast.Mod):
            left = self._value(node.left, rest)
            rest.append(node.right)
            return truncated_at(left, "%")
        if not isinstance(node.op, (ast.Add, ast.Div)):
            return None
        left = self._value(node.left, rest)
        if left is None:
            return None
        right = self._part(node.right, rest)
        return joined(left, right) if isinstance(node.op, ast.Div) else appended(left, right)

    def _call(self, node: ast.Call, rest: list[ast.expr]) -> PathValue | None:
        name = self.names.dotted(node.func)
        if any(isinstance(one, ast.Starred) for one in node.args):
            return None
        if name in PATH_CLASSES or name == "os.path.join":
            return self._join(PathValue(""), node.args, rest) if not node.keywords else None
        if name in WORKING_FOLDER:
            return PathValue("")
        if name in SAME_CALLS and len(node.args) == 1:
            return self._value(node.args[0], rest)
        if name == "os.path.dirname" and len(node.args) == 1:
            return parent(self._value(node.args[0], rest))
        if name in FILES:
            return self._package(node.args[0] if node.args else ast.Name("__package__", ast.Load()))
        if isinstance(node.func, ast.Attribute):
            return self._method(node.func, node, rest)
        return None

    def _method(self, func: ast.Attribute, node: ast.Call, rest: list[ast.expr]) -> PathValue | None:
        """The result of a method of a path or a text."""
        how = func.attr
        if how not in SAME_METHODS and how not in METHODS:
            return None
        of = self._value(func.value, rest)
        if of is None:
            return None
        rest += [word.value for word in node.keywords]
        if how in SAME_METHODS:
            return of
        if how == "expanduser":
            return None if of.text.startswith("~") else of
        if how == "format":
            rest += node.args
            return truncated_at(of, "{")
        if how == "joinpath":
            return self._join(of, node.args, rest)
        return renamed(of, how, self._value(node.args[0], rest)) if len(node.args) == 1 else None

    def _join(self, base: PathValue | None, parts: Iterable[ast.expr], rest: list[ast.expr]) -> PathValue | None:
        found = base
        for number, one in enumerate(parts):
            part = self._part(one, rest)
            if number == 0 and part is None and base == PathValue(""):
                return None
            found = joined(found, part)
        return found

    def files_of(self, node: ast.expr, rest: list[ast.expr]) -> PathValue | None:
        """The path of the files that a call returns, such as `folder.glob("*.html")`; None if it is not known."""
        if not isinstance(node, ast.Call) or any(isinstance(one, ast.Starred) for one in node.args):
            return None
        name, func = self.names.dotted(node.func), node.func
        last = name.rpartition(".")[2]
        if node.args and (name == "pkgutil.get_data" or (name.startswith(RESOURCES) and last in RESOURCE_NAMES)):
            return self._join(self._package(node.args[0]), node.args[1:], rest)
        if last == "PackageLoader" and node.args:
            said = [word.value for word in node.keywords if word.arg == "package_path"]
            folder = [*node.args[1:2], *said, ast.Constant("templates")][:1]
            return self._join(self._package(node.args[0]), folder, rest)
        if not isinstance(func, ast.Attribute) or func.attr not in ("glob", "rglob"):
            return None
        if self.names.is_external(func.value):
            return None
        of = self._value(func.value, rest)
        if func.attr == "rglob":
            rest += node.args
            return joined(of, None)
        return self._join(of, node.args, rest) if of is not None else None

    def _package(self, node: ast.expr) -> PathValue | None:
        """The folder of a package, which is given by its name or as a module."""
        if isinstance(node, ast.Name) and node.id in ("__name__", "__package__") and not self.names.is_local(node.id):
            return PathValue(posixpath.dirname(self._module.path), anchored=True)
        module = self.names.module(node)
        if module is not None:
            return PathValue(posixpath.dirname(module.path), anchored=True)
        text = self.value(node)
        if text is None or text.anchored or not text.whole:
            return None
        folder = self._modules.folder(text.text)
        return PathValue(folder, anchored=True) if folder is not None else None
