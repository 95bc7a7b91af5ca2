"""Which files a statement may read, by the paths that it says. Nothing is run, and no file is looked at.

A path that begins at the code's own place (`Path(__file__).parent`, `importlib.resources.files`) is followed through
`/`, `joinpath`, `os.path.join`, `parent`, f-strings and names that are given one value. A read by a path of which
nothing is known may be of any file.
"""

import ast
import posixpath
import re
from collections.abc import Iterable, Iterator

import msgspec

from fissile.releases.slicing.paths import Known, Reads, appended, is_meant, joined, keep, parent, renamed, until
from fissile.releases.slicing.syntax import COMPREHENSIONS, DEFINITIONS, FUNCTIONS, Module, Modules, Statement, chain_of

# Names by which code reads files. What they are given first is a path, or what they belong to is one.
READS = frozenset(
    {"open", "Path", "PurePath", "read_text", "read_bytes", "read_binary", "open_text", "open_binary", "files"}
    | {"get_data", "StaticFiles", "FileSystemLoader", "PackageLoader", "Jinja2Templates", "FileResponse"}
    | {"glob", "iglob", "rglob", "iterdir", "listdir", "scandir", "walk", "getsource", "getsourcefile", "getfile"}
    | {"getlines", "FileIO", "send_from_directory", "send_file", "open_resource"}
)
# Names that have no receiver, and mean something else where they have one of the application's.
FUNCTIONS_ALONE = frozenset({"files", "Path", "PurePath", "listdir", "scandir", "getfile", "getsource"})
PATH_KEYWORDS = ("directory", "directories", "path", "file", "filename", "searchpath", "top", "pathname")
PATH_CLASSES = frozenset(
    {f"pathlib.{name}" for name in ("Path", "PurePath", "PosixPath", "PurePosixPath")} | {"anyio.Path"}
)
RESOURCES = ("importlib.resources.", "importlib_resources.")
RESOURCE_NAMES = frozenset({"path", "read_text", "read_binary", "open_text", "open_binary", "contents", "is_resource"})
# Of a path or a text that means the same file afterwards.
SAME_CALLS = frozenset(
    {f"os.path.{name}" for name in ("abspath", "realpath", "normpath", "normcase")}
    | {"os.fspath", "str", "importlib.resources.as_file", "importlib_resources.as_file"}
)
FILES = frozenset(f"{one}files" for one in RESOURCES)
SAME_METHODS = frozenset({"resolve", "absolute", "as_posix", "__fspath__", "__str__"})
WORKING_FOLDER = frozenset({"os.getcwd", "os.curdir"} | {f"{one}.cwd" for one in PATH_CLASSES})
# What these give is a path that they were given, or lies below it.
FROM_ITERABLES = frozenset({"sorted", "list", "tuple", "set", "reversed", "enumerate", "next", "iter", "map", "filter"})
BELOW_CALLS = frozenset({"os.scandir", "os.walk", "glob.glob", "glob.iglob"}) | SAME_CALLS
BELOW_METHODS = frozenset({"glob", "rglob", "iterdir", "joinpath", "walk"}) | SAME_METHODS
WRITES = re.compile(r"[wax][bt]?")
# How far names are followed from one to the other.
DEPTH_MAX = 8

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Paths:
    """Of an application's modules. Each statement is read once."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._reads: dict[tuple[str, int], Reads] = {}
        self._constants: dict[tuple[str, str], Known | None] = {}
        self._rebound: dict[str, frozenset[str]] = {}

    def reads(self, module: Module, statement: Statement) -> Reads:
        """What a statement may read."""
        key = module.name, statement.number
        if key not in self._reads:
            self._reads[key] = _Reader(self, self._modules, module).read(statement.node)
        return self._reads[key]

    def of_module(self, module: Module) -> Reads:
        """What its constants say, to whoever has the module itself."""
        found = Reads()
        for name in module.bound:
            keep(found, self.constant(module, name))
        return found

    def constant(self, module: Module, name: str, depth: int = 0) -> Known | None:
        """The path or text that a name of a module means wherever it is used; None where that is not known."""
        key = module.name, name
        if key not in self._constants:
            self._constants[key] = None  # of what leads back to itself
            self._constants[key] = self._evaluated(module, name, depth)
        return self._constants[key]

    def _evaluated(self, module: Module, name: str, depth: int) -> Known | None:
        if depth > DEPTH_MAX or name in self._globals(module):
            return None
        bound, imported = module.bound.get(name, []), module.imported.get(name, [])
        if len(bound) + len(imported) != 1:
            return None
        if bound:
            value = _assigned(bound[0].node)
            return _Reader(self, self._modules, module, depth + 1).known(value) if value is not None else None
        base, attribute = imported[0]
        other = self._modules.get(base)
        return self.constant(other, attribute, depth + 1) if other is not None else None

    def _globals(self, module: Module) -> frozenset[str]:
        """Names that functions give another value."""
        if module.name not in self._rebound:
            every = (node for statement in module.statements for node in ast.walk(statement.node))
            self._rebound[module.name] = frozenset(
                name for node in every if isinstance(node, ast.Global) for name in node.names
            )
        return self._rebound[module.name]


def _assigned(node: ast.stmt) -> ast.expr | None:
    """The value of `name = value` and `name: type = value`."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.value
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.value
    return None


class _Bound(msgspec.Struct, frozen=True, eq=False):
    """How a name gets a value in a function. value: None if that is not known. each: it is each item of the value."""

    value: ast.expr | None
    each: bool = False


_Scope = dict[str, list[_Bound]]


class _Reader:
    """Reads one statement."""

    def __init__(self, paths: Paths, modules: Modules, module: Module, depth: int = 0) -> None:
        self._paths = paths
        self._modules = modules
        self._module = module
        self._depth = depth
        self._scopes: list[_Scope] = []
        # What is given to attributes of `self`, with the scopes in which that is said.
        self._own: dict[str, list[tuple[list[_Scope], ast.expr]]] = {}
        self._asked: set[str] = set()
        self._bindings: dict[ast.AST, _Scope] = {}
        self._found = Reads()

    def read(self, node: ast.stmt) -> Reads:
        """All that a statement may read. What a constant says counts where it is used."""
        if self._is_constant(node):
            return self._found
        if not isinstance(node, (*DEFINITIONS, ast.Assign, ast.AnnAssign)):
            self._scopes.append(self._scope(node))  # as of a loop
        self._visit(node)
        return self._found

    def _is_constant(self, node: ast.stmt) -> bool:
        """Whether it gives a name its one value, which is known wherever it is used."""
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        return (
            _assigned(node) is not None
            and isinstance(target, ast.Name)
            and self._paths.constant(self._module, target.id) is not None
        )

    # -- names ------------------------------------------------------------------------------------

    def _local(self, name: str) -> list[_Bound] | None:
        """What gives a name a value in the functions around; None where none does."""
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return None

    def _dotted(self, node: ast.AST) -> str:
        """What an expression names outside the application, as "os.path.join"; "" where that is not known."""
        chain = chain_of(node)
        if not chain or self._local(chain[0]) is not None or chain[0] in self._module.bound:
            return ""
        imported = self._module.imported.get(chain[0], [])
        if not imported:
            return ".".join(chain)
        base, attribute = imported[0]
        if any(one != imported[0] for one in imported[1:]):
            roots = {one[0].partition(".")[0] for one in imported}
            if len(roots) > 1 or any(attribute != "*" for _, attribute in imported):
                return ""
        if attribute != "*":
            return ".".join([base, attribute, *chain[1:]])
        return ".".join(chain if chain[0] == base.partition(".")[0] else [base, *chain[1:]])

    def _is_imported(self, node: ast.AST) -> bool:
        """Whether an expression is a module, or something of one, from outside the application."""
        chain = chain_of(node)
        return bool(chain) and self._local(chain[0]) is None and chain[0] in self._module.imported and (
            not self._modules.origins(self._module, chain)
        )  # fmt: skip

    def _module_of(self, node: ast.expr) -> Module | None:
        """The module of the application that an expression is."""
        chain = chain_of(node)
        if not chain or self._local(chain[0]) is not None or chain[0] in self._module.bound:
            return None
        found = self._dotted(node)
        if found not in self._modules:
            return None
        base, _, attribute = found.rpartition(".")
        parent = self._modules.get(base)
        return None if parent is not None and attribute in parent.bound else self._modules.get(found)

    # -- values -----------------------------------------------------------------------------------

    def known(self, node: ast.expr | None, rest: list[ast.expr] | None = None) -> Known | None:
        """What is known of a value. rest: gets the parts that are not."""
        return self._known(node, rest if rest is not None else []) if node is not None else None

    def _part(self, node: ast.expr, rest: list[ast.expr]) -> Known | None:
        """Of a part that may be unknown."""
        own: list[ast.expr] = []
        found = self._known(node, own)
        rest += own if found is not None else [node]
        return found

    def _known(self, node: ast.expr, rest: list[ast.expr]) -> Known | None:
        if isinstance(node, ast.Constant):
            return Known(node.value) if isinstance(node.value, str) else None
        if isinstance(node, ast.Name):
            return self._named(node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, rest)
        if isinstance(node, ast.Subscript):
            return self._item(node, rest)
        if isinstance(node, ast.JoinedStr):
            return self._formatted(node, rest)
        if isinstance(node, ast.BinOp):
            return self._combined(node, rest)
        if isinstance(node, (ast.Await, ast.NamedExpr)):
            return self._known(node.value, rest)
        if isinstance(node, ast.Call):
            return self._called(node, rest)
        return None

    def _named(self, name: str) -> Known | None:
        bound = self._local(name)
        if bound is not None:
            one = bound[0]
            if len(bound) > 1 or one.value is None or one.each or self._depth > DEPTH_MAX:
                return None
            if name in self._module.bound or name in self._module.imported:
                return None
            self._depth += 1
            try:
                return self.known(one.value)
            finally:
                self._depth -= 1
        if name == "__file__" and name not in self._module.bound:
            return Known(self._module.path, anchored=True)
        return self._paths.constant(self._module, name, self._depth)

    def _attribute(self, node: ast.Attribute, rest: list[ast.expr]) -> Known | None:
        if node.attr == "parent":
            return parent(self._known(node.value, rest))
        if self._dotted(node) in WORKING_FOLDER:
            return Known("")
        module = self._module_of(node.value)
        if module is None:
            return None
        if node.attr == "__file__":
            return Known(module.path, anchored=True)
        return self._paths.constant(module, node.attr, self._depth)

    def _item(self, node: ast.Subscript, rest: list[ast.expr]) -> Known | None:
        """`path.parents[1]`."""
        of, index = node.value, node.slice
        if not (isinstance(of, ast.Attribute) and of.attr == "parents" and isinstance(index, ast.Constant)):
            return None
        number = index.value
        return parent(self._known(of.value, rest), number + 1) if isinstance(number, int) and number >= 0 else None

    def _formatted(self, node: ast.JoinedStr, rest: list[ast.expr]) -> Known | None:
        found: Known | None = Known("")
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                plain = value.format_spec is None and value.conversion in (-1, ord("s"))
                part = self._part(value.value, rest) if plain else None
                if found == Known("") and part is not None:
                    found = part
                    continue
            else:
                part = self._part(value, rest)
            found = appended(found, part)
        return found if found != Known("", whole=False) else None

    def _combined(self, node: ast.BinOp, rest: list[ast.expr]) -> Known | None:
        if isinstance(node.op, ast.Mod):
            left = self._known(node.left, rest)
            rest.append(node.right)
            return until(left, "%")
        if not isinstance(node.op, (ast.Add, ast.Div)):
            return None
        left = self._known(node.left, rest)
        if left is None:
            return None
        right = self._part(node.right, rest)
        return joined(left, right) if isinstance(node.op, ast.Div) else appended(left, right)

    def _called(self, node: ast.Call, rest: list[ast.expr]) -> Known | None:
        name = self._dotted(node.func)
        if any(isinstance(one, ast.Starred) for one in node.args):
            return None
        if name in PATH_CLASSES or name == "os.path.join":
            return self._all_joined(Known(""), node.args, rest) if not node.keywords else None
        if name in WORKING_FOLDER:
            return Known("")
        if name in SAME_CALLS and len(node.args) == 1:
            return self._known(node.args[0], rest)
        if name == "os.path.dirname" and len(node.args) == 1:
            return parent(self._known(node.args[0], rest))
        if name in FILES:
            return self._package(node.args[0] if node.args else ast.Name("__package__", ast.Load()))
        if isinstance(node.func, ast.Attribute):
            return self._method(node.func, node, rest)
        return None

    def _method(self, func: ast.Attribute, node: ast.Call, rest: list[ast.expr]) -> Known | None:
        """Of a path or a text that is known."""
        how = func.attr
        if how not in SAME_METHODS and how not in _METHODS:
            return None
        of = self._known(func.value, rest)
        if of is None:
            return None
        rest += [word.value for word in node.keywords]
        if how in SAME_METHODS:
            return of
        if how == "expanduser":
            return None if of.text.startswith("~") else of
        if how == "format":
            rest += node.args
            return until(of, "{")
        if how == "joinpath":
            return self._all_joined(of, node.args, rest)
        return renamed(of, how, self._known(node.args[0], rest)) if len(node.args) == 1 else None

    def _all_joined(self, base: Known | None, parts: Iterable[ast.expr], rest: list[ast.expr]) -> Known | None:
        found = base
        for number, one in enumerate(parts):
            part = self._part(one, rest)
            if number == 0 and part is None and base == Known(""):
                return None
            found = joined(found, part)
        return found

    def _content(self, node: ast.expr, rest: list[ast.expr]) -> Known | None:
        """The path whose files a call gives, where that is known."""
        if not isinstance(node, ast.Call) or any(isinstance(one, ast.Starred) for one in node.args):
            return None
        name, func = self._dotted(node.func), node.func
        last = name.rpartition(".")[2]
        if node.args and (name == "pkgutil.get_data" or (name.startswith(RESOURCES) and last in RESOURCE_NAMES)):
            return self._all_joined(self._package(node.args[0]), node.args[1:], rest)
        if last == "PackageLoader" and node.args:
            said = [word.value for word in node.keywords if word.arg == "package_path"]
            folder = [*node.args[1:2], *said, ast.Constant("templates")][:1]
            return self._all_joined(self._package(node.args[0]), folder, rest)
        if not isinstance(func, ast.Attribute) or func.attr not in ("glob", "rglob") or self._is_imported(func.value):
            return None
        of = self._known(func.value, rest)
        if func.attr == "rglob":
            rest += node.args
            return joined(of, None)
        return self._all_joined(of, node.args, rest) if of is not None else None

    def _package(self, node: ast.expr) -> Known | None:
        """The folder of a package, by its name or as a module."""
        if isinstance(node, ast.Name) and node.id in ("__name__", "__package__") and self._local(node.id) is None:
            return Known(posixpath.dirname(self._module.path), anchored=True)
        module = self._module_of(node)
        if module is not None:
            return Known(posixpath.dirname(module.path), anchored=True)
        text = self.known(node)
        if text is None or text.anchored or not text.whole:
            return None
        folder = self._modules.folder(text.text)
        return Known(folder, anchored=True) if folder is not None else None

    # -- what a path was made from ----------------------------------------------------------------

    def _is_explained(self, node: ast.expr, depth: int = 0) -> bool:
        """Whether a path is one that is known, or lies below one."""
        if depth > DEPTH_MAX:
            return False
        found = self.known(node) or self._content(node, [])
        if found is not None:
            return found.anchored or is_meant(found)
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return bool(node.elts) and all(self._is_explained(one, depth + 1) for one in node.elts)
        if isinstance(node, ast.IfExp):
            return self._is_explained(node.body, depth + 1) and self._is_explained(node.orelse, depth + 1)
        if isinstance(node, ast.BoolOp):
            return all(self._is_explained(one, depth + 1) for one in node.values)
        if isinstance(node, ast.Name):
            return self._is_name_explained(node.id, depth)
        if isinstance(node, (ast.Starred, ast.Await)):
            return self._is_explained(node.value, depth + 1)
        if isinstance(node, ast.Attribute):
            return self._is_own_explained(node, depth) or (
                node.attr == "path" and self._is_explained(node.value, depth + 1)
            )
        if isinstance(node, COMPREHENSIONS):
            return not isinstance(node, ast.DictComp) and self._is_comprehension_explained(node, depth)
        if isinstance(node, ast.BinOp):
            return isinstance(node.op, ast.Div) and self._is_explained(node.left, depth + 1)
        return isinstance(node, ast.Call) and self._is_call_explained(node, depth)

    def _is_name_explained(self, name: str, depth: int) -> bool:
        """Whether all that a name is given is; what it is given from itself is as the rest."""
        bound = self._local(name)
        if not bound or name in self._asked:
            return bool(bound)
        self._asked.add(name)
        try:
            return all(one.value is not None and self._is_explained(one.value, depth + 1) for one in bound)
        finally:
            self._asked.discard(name)

    def _is_comprehension_explained(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, depth: int) -> bool:
        self._scopes.append(self._scope(node))
        try:
            return self._is_explained(node.elt, depth + 1)
        finally:
            self._scopes.pop()

    def _is_own_explained(self, node: ast.Attribute, depth: int) -> bool:
        """`self.folder`, where all that it is given is."""
        given = self._own.get(node.attr, []) if chain_of(node.value) == ("self",) else []
        for scopes, value in given:
            before, self._scopes = self._scopes, scopes
            try:
                if not self._is_explained(value, depth + 1):
                    return False
            finally:
                self._scopes = before
        return bool(given)

    def _is_call_explained(self, node: ast.Call, depth: int) -> bool:
        name = self._dotted(node.func)
        if name in BELOW_CALLS or name in PATH_CLASSES or name in FROM_ITERABLES or name == "os.path.join":
            which = node.args[1:2] if name in ("map", "filter") else node.args[:1]
            return bool(which) and self._is_explained(which[0], depth + 1)
        func = node.func
        return (
            isinstance(func, ast.Attribute)
            and func.attr in BELOW_METHODS
            and not self._is_imported(func.value)
            and self._is_explained(func.value, depth + 1)
        )

    # -- all that is said -------------------------------------------------------------------------

    def _visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            rest: list[ast.expr] = []
            found = self.known(node, rest) or self._content(node, rest := [])
            if found is not None and not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
                self._keep(node, found)
                for one in rest:
                    self._visit(one)
                return
        if isinstance(node, (ast.Name, ast.Attribute)):
            self._name(node)
        elif isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            self._definition(node)
        elif isinstance(node, COMPREHENSIONS):
            self._within(node, ast.iter_child_nodes(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and self._is_followed(node):
            return  # it counts where it is used
        else:
            self._children(node)

    def _children(self, node: ast.AST) -> None:
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:  # pyright: ignore[reportUnknownVariableType]
                if not isinstance(child, ast.AST):
                    continue
                is_key = (isinstance(node, ast.Dict) and field == "keys") or (
                    isinstance(node, ast.Subscript) and field == "slice"
                )
                if is_key and isinstance(child, ast.Constant) and isinstance(child.value, str):
                    self._found.keys.add(child.value)
                else:
                    self._visit(child)

    def _keep(self, node: ast.expr, found: Known) -> None:
        keep(self._found, found)
        if found.anchored or not isinstance(node, ast.Call) or is_meant(found):
            return
        name = self._dotted(node.func)
        if name in PATH_CLASSES or name in WORKING_FOLDER or self._reader(node.func):
            self._found.reads = self._found.unknown = True  # the working folder itself

    def _name(self, node: ast.Name | ast.Attribute) -> None:
        """A name whose value is not known. What it may mean counts; so does a reader that is passed on."""
        chain = chain_of(node)
        if chain and self._local(chain[0]) is None:
            for base, name in self._modules.origins(self._module, chain):
                other = self._modules.get(base)
                if other is not None:
                    keep(self._found, self._paths.constant(other, name, self._depth))
        if self._reader(node):
            self._found.reads = self._found.unknown = True
        elif isinstance(node, ast.Attribute):
            if node.attr in ("__file__", "__path__"):
                self._found.reads = self._found.unknown = True
            if not self._is_imported(node.value):
                self._visit(node.value)
        elif node.id in ("__path__", "__spec__", "__loader__"):
            self._found.reads = self._found.unknown = True

    def _reader(self, node: ast.AST) -> str:
        """By which name of READS an expression reads files; "" if it does not."""
        chain = chain_of(node)
        said = chain[-1] if chain else node.attr if isinstance(node, ast.Attribute) else ""
        if len(chain) == 1 and self._local(chain[0]) is None:
            said = next((name for _, name in self._module.imported.get(chain[0], ()) if name in READS), said)
        if said not in READS:
            return ""
        alone = isinstance(node, ast.Attribute) and said in FUNCTIONS_ALONE and not self._is_imported(node.value)
        return "" if alone and not self._modules_passed(chain) else said

    def _modules_passed(self, chain: tuple[str, ...]) -> bool:
        """Whether a name may be the application's for something from outside, as `compat.Path`."""
        return len(chain) > 1 and self._local(chain[0]) is None and bool(self._modules.origins(self._module, chain))

    def _call(self, node: ast.Call) -> None:
        reader, func = self._reader(node.func), node.func
        if not reader:
            self._children(node)
            return
        self._found.reads = True
        if not (self._is_write(reader, node) or self._is_known_read(reader, node)):
            self._found.unknown = True
        if isinstance(func, ast.Attribute) and not self._is_imported(func.value):
            self._visit(func.value)
        for one in [*node.args, *(word.value for word in node.keywords)]:
            self._visit(one)

    def _is_write(self, reader: str, node: ast.Call) -> bool:
        """`open(path, "w")`."""
        words = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "mode")]
        mode = words[0] if words else None
        if reader != "open" or not (isinstance(mode, ast.Constant) and isinstance(mode.value, str)):
            return False
        return WRITES.fullmatch(mode.value) is not None

    def _is_known_read(self, reader: str, node: ast.Call) -> bool:
        func = node.func
        if isinstance(func, ast.Attribute) and not self._is_imported(func.value):
            if self._is_explained(func.value):
                return True
            return reader == "open" and bool(node.args) and self._is_explained(node.args[0])
        if reader in ("files", "get_data", "getsource", "getfile"):
            return False  # else its value were known
        said = node.args[:1] or [word.value for word in node.keywords if word.arg in PATH_KEYWORDS]
        return bool(said) and all(self._is_explained(one) for one in said)

    # -- scopes -----------------------------------------------------------------------------------

    def _scope(self, node: ast.AST) -> _Scope:
        if node not in self._bindings:
            self._bindings[node] = _bindings(node)
        return self._bindings[node]

    def _within(self, node: ast.AST, children: Iterable[ast.AST]) -> None:
        self._scopes.append(self._scope(node))
        for child in children:
            self._visit(child)
        self._scopes.pop()

    def _definition(self, node: Function | ast.ClassDef) -> None:
        for outside in [*getattr(node, "decorator_list", ()), *getattr(node, "bases", ()), *_defaults(node)]:
            self._visit(outside)
        for word in getattr(node, "keywords", ()):
            self._visit(word.value)
        if not isinstance(node, ast.ClassDef):
            self._within(node, [node.body] if isinstance(node, ast.Lambda) else node.body)
            return
        before, self._own = self._own, {}
        self._note_own(node)
        for child in node.body:
            self._visit(child)
        self._own = before

    def _note_own(self, node: ast.ClassDef) -> None:
        """What methods give to attributes of `self`, and the class to its own."""
        for child in node.body:
            if isinstance(child, FUNCTIONS):
                scopes = [*self._scopes, self._scope(child)]
                for inner in ast.walk(child):
                    self._note(inner, scopes, ("self",))
            else:
                self._note(child, self._scopes, ())

    def _note(self, node: ast.AST, scopes: list[_Scope], of: tuple[str, ...]) -> None:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets = [node.target]
        else:
            return
        value = node.value
        for target in targets:
            chain = chain_of(target)
            if chain and chain[:-1] == of and value is not None:
                self._own.setdefault(chain[-1], []).append((scopes, value))

    def _is_followed(self, node: ast.Assign | ast.AnnAssign) -> bool:
        """Whether a function's name has one value, which is known: it counts where it is used."""
        value = _assigned(node)
        if value is None or not self._scopes:
            return False
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        assert isinstance(target, ast.Name)
        return target.id in self._scopes[-1] and self._named(target.id) is not None


_METHODS = frozenset({"joinpath", "with_name", "with_stem", "with_suffix", "format", "expanduser"})


def _defaults(node: ast.AST) -> list[ast.expr]:
    if not isinstance(node, (*FUNCTIONS, ast.Lambda)):
        return []
    return [one for one in [*node.args.defaults, *node.args.kw_defaults] if one is not None]


def _bindings(node: ast.AST) -> _Scope:
    """How the names of a function, of a comprehension or of a statement at the top get their values."""
    found: _Scope = {}
    if isinstance(node, (*FUNCTIONS, ast.Lambda)):
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        for one in every:
            if one is not None:
                found.setdefault(one.arg, []).append(_Bound(None))
        _bind_all(node.body if isinstance(node.body, list) else [node.body], found)
    else:
        _bind_all([node] if isinstance(node, ast.stmt) else [*ast.iter_child_nodes(node)], found)
    return found


def _bind_all(nodes: Iterable[ast.AST], found: _Scope) -> None:
    """The names that are given a value by these nodes, or taken from elsewhere by functions within them."""
    todo = [*nodes]
    while todo:
        node = todo.pop()
        if isinstance(node, (*DEFINITIONS, ast.Lambda, *COMPREHENSIONS)):
            if isinstance(node, DEFINITIONS):
                _bind(found, node.name)
                _rebind(node, found)
            continue
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                _bind(found, node.id)
            continue
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and (value := _assigned(node)) is not None:
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
        given: ast.AST | None = None
        if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            given, value = node.target, node.iter
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            given, value = node.optional_vars, node.context_expr
        else:
            value = None
        for name in _names(given) if given is not None else ():
            _bind(found, name.id, value, each=True)
        todo += [child for child in ast.iter_child_nodes(node) if child is not given]


def _bind(found: _Scope, name: str, value: ast.expr | None = None, *, each: bool = False) -> None:
    found.setdefault(name, []).append(_Bound(value, each))


def _rebind(node: ast.AST, found: _Scope) -> None:
    """What functions within give another value."""
    for inner in ast.walk(node):
        if isinstance(inner, (ast.Nonlocal, ast.Global)):
            for name in inner.names:
                _bind(found, name)


def _names(node: ast.AST) -> Iterator[ast.Name]:
    return (one for one in ast.walk(node) if isinstance(one, ast.Name))
