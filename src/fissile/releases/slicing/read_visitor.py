"""Visits one statement for the files that it may read."""

import ast
import re
from collections.abc import Iterable

from fissile.releases.slicing.evaluation import PATH_CLASSES, WORKING_FOLDER, Constant, PathEvaluator
from fissile.releases.slicing.paths import FileReads, PathValue, is_specific
from fissile.releases.slicing.provenance import Provenance
from fissile.releases.slicing.scopes import Function, ScopeStack, assigned_value
from fissile.releases.slicing.syntax import COMPREHENSIONS, DEFINITIONS, FUNCTIONS, Module, Modules, chain_of

# Names by which code reads files. Their first argument, or what they are an attribute of, is a path.
READERS = frozenset(
    {"open", "Path", "PurePath", "read_text", "read_bytes", "read_binary", "open_text", "open_binary", "files"}
    | {"get_data", "StaticFiles", "FileSystemLoader", "PackageLoader", "Jinja2Templates", "FileResponse"}
    | {"glob", "iglob", "rglob", "iterdir", "listdir", "scandir", "walk", "getsource", "getsourcefile", "getfile"}
    | {"getlines", "FileIO", "send_from_directory", "send_file", "open_resource"}
)
# Those that are functions only: as a method of something in the application they mean something else.
FUNCTIONS_ONLY = frozenset({"files", "Path", "PurePath", "listdir", "scandir", "getfile", "getsource"})
PATH_KEYWORDS = ("directory", "directories", "path", "file", "filename", "searchpath", "top", "pathname")
WRITE_MODES = re.compile(r"[wax][bt]?")


class ReadVisitor:
    """Visits the nodes of one statement, and collects what it may read. constant: the value of a module's name."""

    def __init__(self, modules: Modules, module: Module, constant: Constant) -> None:
        self._modules = modules
        self._module = module
        self._scopes = ScopeStack()
        self._evaluator = PathEvaluator(modules, module, self._scopes, constant)
        self._names = self._evaluator.names
        self._provenance = Provenance(self._evaluator, self._scopes)
        self._found = FileReads()

    def read(self, node: ast.stmt) -> FileReads:
        """All that a statement may read. A constant counts where it is used."""
        if self._is_constant(node):
            return self._found
        if not isinstance(node, (*DEFINITIONS, ast.Assign, ast.AnnAssign)):
            self._scopes.push(node)  # the targets of a loop or a `with`
        self._visit(node)
        return self._found

    def _is_constant(self, node: ast.stmt) -> bool:
        """Whether a statement gives a name its only value, which is known wherever it is used."""
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        return (
            assigned_value(node) is not None
            and isinstance(target, ast.Name)
            and self._evaluator.constant(self._module, target.id) is not None
        )

    def _visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            rest: list[ast.expr] = []
            found = self._evaluator.value(node, rest) or self._evaluator.files_of(node, rest := [])
            if found is not None and not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
                self._add(node, found)
                for one in rest:
                    self._visit(one)
                return
        if isinstance(node, (ast.Name, ast.Attribute)):
            self._visit_name(node)
        elif isinstance(node, ast.Call):
            self._visit_call(node)
        elif isinstance(node, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            self._visit_definition(node)
        elif isinstance(node, COMPREHENSIONS):
            self._visit_within(node, ast.iter_child_nodes(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and self._is_followed(node):
            return  # it counts where it is used
        else:
            self._visit_children(node)

    def _visit_children(self, node: ast.AST) -> None:
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

    def _add(self, node: ast.expr, found: PathValue) -> None:
        self._found.add_path(found)
        if found.anchored or not isinstance(node, ast.Call) or is_specific(found):
            return
        name = self._names.dotted(node.func)
        if name in PATH_CLASSES or name in WORKING_FOLDER or self._reader(node.func):
            self._found.add_unknown()  # the working folder itself

    def _visit_name(self, node: ast.Name | ast.Attribute) -> None:
        """A name whose value is not known: whatever it may stand for counts, and so does a reader passed on."""
        chain = chain_of(node)
        if chain and not self._names.is_local(chain[0]):
            for base, name in self._modules.origins(self._module, chain):
                other = self._modules.get(base)
                if other is not None:
                    self._found.add_path(self._evaluator.constant(other, name))
        if self._reader(node):
            self._found.add_unknown()
        elif isinstance(node, ast.Attribute):
            if node.attr in ("__file__", "__path__"):
                self._found.add_unknown()
            if not self._names.is_external(node.value):
                self._visit(node.value)
        elif node.id in ("__path__", "__spec__", "__loader__"):
            self._found.add_unknown()

    def _visit_call(self, node: ast.Call) -> None:
        reader, func = self._reader(node.func), node.func
        if not reader:
            self._visit_children(node)
            return
        self._found.reads = True
        if not (self._is_write(reader, node) or self._is_known_read(reader, node)):
            self._found.unknown = True
        if isinstance(func, ast.Attribute) and not self._names.is_external(func.value):
            self._visit(func.value)
        for one in [*node.args, *(word.value for word in node.keywords)]:
            self._visit(one)

    def _visit_within(self, node: ast.AST, children: Iterable[ast.AST]) -> None:
        with self._scopes.entered(node):
            for child in children:
                self._visit(child)

    def _visit_definition(self, node: Function | ast.ClassDef) -> None:
        for outside in [*getattr(node, "decorator_list", ()), *getattr(node, "bases", ()), *_defaults(node)]:
            self._visit(outside)
        for word in getattr(node, "keywords", ()):
            self._visit(word.value)
        if not isinstance(node, ast.ClassDef):
            self._visit_within(node, [node.body] if isinstance(node, ast.Lambda) else node.body)
            return
        with self._provenance.in_class(node):
            for child in node.body:
                self._visit(child)

    # -- what reads -------------------------------------------------------------------------------

    def _reader(self, node: ast.AST) -> str:
        """The name of READERS by which an expression reads files; "" if it does not."""
        chain = chain_of(node)
        said = chain[-1] if chain else node.attr if isinstance(node, ast.Attribute) else ""
        if len(chain) == 1 and not self._names.is_local(chain[0]):
            said = next((name for _, name in self._module.imported.get(chain[0], ()) if name in READERS), said)
        if said not in READERS:
            return ""
        if isinstance(node, ast.Attribute) and said in FUNCTIONS_ONLY and not self._names.is_external(node.value):
            return said if self._names.is_reexported(chain) else ""
        return said

    def _is_write(self, reader: str, node: ast.Call) -> bool:
        """`open(path, "w")`."""
        words = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "mode")]
        mode = words[0] if words else None
        if reader != "open" or not (isinstance(mode, ast.Constant) and isinstance(mode.value, str)):
            return False
        return WRITE_MODES.fullmatch(mode.value) is not None

    def _is_known_read(self, reader: str, node: ast.Call) -> bool:
        func, is_known = node.func, self._provenance.is_known
        if isinstance(func, ast.Attribute) and not self._names.is_external(func.value):
            if is_known(func.value):
                return True
            return reader == "open" and bool(node.args) and is_known(node.args[0])
        if reader in ("files", "get_data", "getsource", "getfile"):
            return False  # else its value would be known
        said = node.args[:1] or [word.value for word in node.keywords if word.arg in PATH_KEYWORDS]
        return bool(said) and all(is_known(one) for one in said)

    def _is_followed(self, node: ast.Assign | ast.AnnAssign) -> bool:
        """Whether a statement gives a local name its only value, which is known: it counts where it is used."""
        value, scope = assigned_value(node), self._scopes.innermost
        if value is None or scope is None:
            return False
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        assert isinstance(target, ast.Name)
        return target.id in scope and self._evaluator.named(target.id) is not None


def _defaults(node: ast.AST) -> list[ast.expr]:
    if not isinstance(node, (*FUNCTIONS, ast.Lambda)):
        return []
    return [one for one in [*node.args.defaults, *node.args.kw_defaults] if one is not None]
