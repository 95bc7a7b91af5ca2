"""What a name in a module refers to: a local, something of the application's, or something of another package."""

import ast

from fissile.releases.slicing.scopes import ScopeStack
from fissile.releases.slicing.syntax import Chain, Module, Modules, chain_of


class NameResolver:
    """Resolves the names in one module. scopes: those around what is looked at."""

    def __init__(self, modules: Modules, module: Module, scopes: ScopeStack) -> None:
        self._modules = modules
        self._module = module
        self._scopes = scopes

    def dotted(self, node: ast.AST) -> str:
        """What an expression names outside the application, such as "os.path.join"; "" if that is not known."""
        chain = chain_of(node)
        if not chain or self.is_local(chain[0]) or chain[0] in self._module.bound:
            return ""
        imported = self._module.imported.get(chain[0], [])
        if not imported:
            return ".".join(chain)
        base, attribute = imported[0]
        if any(one != imported[0] for one in imported[1:]):
            # Imported in several ways, as in `try: import a as json except ImportError: import json`.
            roots = {one[0].partition(".")[0] for one in imported}
            if len(roots) > 1 or any(attribute != "*" for _, attribute in imported):
                return ""
        if attribute != "*":
            return ".".join([base, attribute, *chain[1:]])
        return ".".join(chain if chain[0] == base.partition(".")[0] else [base, *chain[1:]])

    def is_local(self, name: str) -> bool:
        """Whether a function around binds a name."""
        return self._scopes.lookup(name) is not None

    def is_external(self, node: ast.AST) -> bool:
        """Whether an expression is a module of another package, or something in one."""
        chain = chain_of(node)
        if not chain or self.is_local(chain[0]) or chain[0] not in self._module.imported:
            return False
        return not self._modules.origins(self._module, chain)

    def is_reexported(self, chain: Chain) -> bool:
        """Whether a dotted name may be the application's own name for something external, as `compat.Path`."""
        return len(chain) > 1 and not self.is_local(chain[0]) and bool(self._modules.origins(self._module, chain))

    def module(self, node: ast.expr) -> Module | None:
        """The module of the application that an expression is; None if it is none."""
        chain = chain_of(node)
        if not chain or self.is_local(chain[0]) or chain[0] in self._module.bound:
            return None
        found = self.dotted(node)
        if found not in self._modules:
            return None
        base, _, attribute = found.rpartition(".")
        parent = self._modules.get(base)
        return None if parent is not None and attribute in parent.bound else self._modules.get(found)
