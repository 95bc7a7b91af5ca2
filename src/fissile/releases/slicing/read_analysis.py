"""Which files each statement of an application may read, by the paths in it. Nothing is run, and no file is opened.

A read by a path of which nothing is known may be of any file.
"""

import ast

from fissile.releases.slicing.evaluation import DEPTH_MAX, PathEvaluator
from fissile.releases.slicing.paths import FileReads, PathValue
from fissile.releases.slicing.read_visitor import ReadVisitor
from fissile.releases.slicing.scopes import ScopeStack, assigned_value
from fissile.releases.slicing.syntax import Module, Modules, Statement


class ReadAnalysis:
    """The file reads of an application's statements. Each statement is analysed once."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._reads: dict[tuple[str, int], FileReads] = {}
        self._constants: dict[tuple[str, str], PathValue | None] = {}
        self._rebound: dict[str, frozenset[str]] = {}

    def reads(self, module: Module, statement: Statement) -> FileReads:
        """The files that a statement may read."""
        key = module.name, statement.number
        if key not in self._reads:
            visitor = ReadVisitor(self._modules, module, self.constant)
            self._reads[key] = visitor.read(statement.node)
        return self._reads[key]

    def of_module(self, module: Module) -> FileReads:
        """The paths that are constants of a module: whoever has the module has them."""
        found = FileReads()
        for name in module.bound:
            found.add_path(self.constant(module, name))
        return found

    def constant(self, module: Module, name: str, depth: int = 0) -> PathValue | None:
        """The path or text that a name of a module stands for wherever it is used; None if that is not known."""
        key = module.name, name
        if key not in self._constants:
            self._constants[key] = None  # while it is evaluated: a name that leads back to itself has no value
            self._constants[key] = self._evaluate(module, name, depth)
        return self._constants[key]

    def _evaluate(self, module: Module, name: str, depth: int) -> PathValue | None:
        if depth > DEPTH_MAX or name in self._rebound_in(module):
            return None
        bound, imported = module.bound.get(name, []), module.imported.get(name, [])
        if len(bound) + len(imported) != 1:
            return None
        if bound:
            value = assigned_value(bound[0].node)
            evaluator = PathEvaluator(self._modules, module, ScopeStack(), self.constant, depth + 1)
            return evaluator.value(value)
        base, attribute = imported[0]
        other = self._modules.get(base)
        return self.constant(other, attribute, depth + 1) if other is not None else None

    def _rebound_in(self, module: Module) -> frozenset[str]:
        """The names of a module that its functions rebind."""
        if module.name not in self._rebound:
            every = (node for statement in module.statements for node in ast.walk(statement.node))
            self._rebound[module.name] = frozenset(
                name for node in every if isinstance(node, ast.Global) for name in node.names
            )
        return self._rebound[module.name]
