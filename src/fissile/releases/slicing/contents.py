"""What a slice consists of: statements, and whatever else of a module has a digest of its own."""

from collections.abc import Iterable

from fissile.releases.digest import digest
from fissile.releases.slicing.syntax import DEFINITIONS, Module, Modules, Statement

DOC = "__doc__"
# Part of a place: in which order its statements run.
ORDER = " (order)"
# Of a whole service: in which order statements with an effect run, in all of its modules.
IMPORT_ORDER = f"imports{ORDER}"


class SliceContents:
    """The contents of one slice, by module. imported: names that it takes from other modules."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._statements: dict[str, dict[int, Statement]] = {}
        self._imported: dict[str, set[str]] = {}
        self._documented: set[str] = set()
        self._contracts: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<SliceContents: {sum(map(len, self._statements.values()))} statements>"

    def include(self, module: Module, statement: Statement) -> bool:
        """Include a statement; False if it was included already."""
        included = self._statements.setdefault(module.name, {})
        is_new = statement.number not in included
        included[statement.number] = statement
        return is_new

    def includes(self, module: Module, statement: Statement) -> bool:
        """Whether a statement is included."""
        return statement.number in self._statements.get(module.name, ())

    def include_import(self, module: Module, name: str) -> None:
        """Include what a name of a module is imported from."""
        self._imported.setdefault(module.name, set()).add(name)

    def include_docstring(self, module: Module) -> None:
        """Include the docstring of a module."""
        self._documented.add(module.name)

    def include_contract(self, place: str, signature: str) -> None:
        """Include what callers count on of a class."""
        self._contracts[f"{place} (contract)"] = digest(signature)

    def digests(self, effects: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Digests by place, such as "shop/cart.py: Cart".

        effects: the statements with an effect, in the order in which they run, each with the path of its module.
        """
        texts: dict[str, list[str]] = {}
        for name, statements in self._statements.items():
            module = self._module(name)
            order: list[str] = []
            for _, statement in sorted(statements.items()):
                labels = [f"{module.path}: {bound}" for bound in statement.binds] if statement.plain else []
                for label in labels or [module.path]:
                    texts.setdefault(label, []).append(statement.text)
                if not isinstance(statement.node, DEFINITIONS):
                    order += labels or [statement.text]
            if len(order) > 1:
                texts[f"{module.path}{ORDER}"] = order
            if module.futures:
                texts[f"{module.path} (future)"] = sorted(module.futures)
        for name, imported in self._imported.items():
            module = self._module(name)
            lines = [f"{root} = {'.'.join(to)}" for root in sorted(imported) for to in module.imported[root]]
            texts[f"{module.path} (imports)"] = lines
        for name in self._documented:
            module = self._module(name)
            texts[f"{module.path} ({DOC})"] = [module.doc]
        run = [*effects]
        if len({path for path, _ in run}) > 1:
            texts[IMPORT_ORDER] = [f"{path}: {text}" for path, text in run]
        return {label: digest("\n".join(lines)) for label, lines in texts.items()} | self._contracts

    def _module(self, name: str) -> Module:
        module = self._modules.get(name)
        assert module is not None, "only statements of modules that can be parsed are included"
        return module
