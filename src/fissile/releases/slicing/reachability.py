"""Which code a service consists of: everything that its components reach, through the application's modules.

Definitions count, not whole modules. A module that exports a class and a few types counts by those definitions and
what they use, so a change in the body of one component alters its own service, and not those that import its errors or
identifiers. A component's class that is only named in an annotation counts by its contract: names, types, defaults and
decorators of its methods. Comments and formatting are not code.

Whatever is left out must be known to have no effect here; when in doubt it counts. So besides everything that is
reached by name, these count:
- of each module that runs, any statement that alters what is not the application's;
- any statement that alters, or registers with, something that is reached, wherever it stands (`@router.get`);
- a module as a whole that is passed around, imported for its effects, or asked for a name that it does not have;
- everything, for code that finds its modules by computed names.
"""

import ast
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import cast

from fissile.releases.digest import digest
from fissile.releases.slicing.contents import DOC, SliceContents
from fissile.releases.slicing.effects import Effects
from fissile.releases.slicing.paths import FileClaims, FileReads
from fissile.releases.slicing.read_analysis import ReadAnalysis
from fissile.releases.slicing.syntax import (
    WHOLE,
    Module,
    Modules,
    Name,
    Reference,
    Statement,
    references_of,
    signature,
)

# Names by which code reaches what cannot be seen from here.
DYNAMIC = frozenset(
    {"import_module", "__import__", "resolve_name", "spec_from_file_location", "run_path", "run_module"}
    | {"__globals__", "__subclasses__"}
)
BUILTINS = frozenset({"exec", "eval", "globals"})
SYS_MODULES = ("sys", "modules")
# Attributes that every module has.
MODULE_NAMES = frozenset({"__name__", "__file__", "__path__", "__package__", "__spec__"})

ANNOTATIONS = "__annotations__"
# What `from module import *` imports.
ALL = "__all__"

# A visit to a module, a name in it, and why: RUN, the module is imported. USE, the name is used; a module without it
# counts whole. MAYBE, the name is used if the module has it. ANNOTATED, the name stands in an annotation: of a
# component, only the contract counts. CONTRACT, it is the base of a class whose contract counts.
Visit = tuple[str, str, str]
RUN, USE, MAYBE, ANNOTATED, CONTRACT = "run", "use", "maybe", "annotated", "contract"


class Slice:
    """Everything that is reached from some definitions.

    components: (module, class) of all components. analysis: shared by the slices of an application. texts: those in
    the code. folders: where the code lies, at the top. reads: the files that it may read.
    """

    def __init__(
        self, modules: Modules, effects: Effects, components: Iterable[Name], analysis: ReadAnalysis | None = None
    ) -> None:
        self.texts: set[str] = set()
        self.folders: set[str] = set()
        self.reads = FileReads()
        self._modules = modules
        self._effects = effects
        self._analysis = analysis or ReadAnalysis(modules)
        self._components = set(components)
        self._component_modules = {module for module, _ in self._components}
        self._contents = SliceContents(modules)
        self._entry_modules: list[str] = []
        self._visited: set[Visit] = set()
        self._reached: set[Name] = set()
        # Statements that alter names that are not reached so far.
        self._waiting: dict[Name, list[tuple[Module, Statement]]] = {}

    def __repr__(self) -> str:
        return f"<Slice from {self._entry_modules}: {self._contents!r}>"

    def run(self, module: str) -> None:
        """Add a module that is imported in any case."""
        self._entry_modules.append(module)
        self._follow([(module, "", RUN)])

    def add(self, module: str, name: str = WHOLE) -> None:
        """Add a definition, or a whole module, and all that it uses; everything, if it cannot be found."""
        if module in self._modules:
            self._entry_modules.append(module)
            self._follow([(module, name, USE)])
        else:
            self.add_all()

    def add_settings(self, values: object) -> None:
        """Add texts from its settings: they may be paths, as those in its code."""
        if isinstance(values, str):
            self.reads.texts.add(values)
        elif isinstance(values, Mapping):
            for value in cast("Mapping[object, object]", values).values():
                self.add_settings(value)
        elif isinstance(values, (list, tuple)):
            for value in cast("Iterable[object]", values):
                self.add_settings(value)

    def add_all(self) -> None:
        """Add all modules."""
        self._follow([(module, WHOLE, USE) for module in self._modules])

    @property
    def modules(self) -> set[str]:
        """The names of the modules that are reached."""
        return {name for name, _, _ in self._visited if name in self._modules}

    @property
    def parts(self) -> dict[str, str]:
        """Digests by place, as "shop/cart.py: Cart"."""
        return self._contents.digests(self._effects_in_order())

    def _effects_in_order(self) -> Iterator[tuple[str, str]]:
        """The statements that alter anything that counts, as they run: the module's path, and the statement's text."""
        begun: set[str] = set()
        for name in self._entry_modules:
            yield from self._effects_of(name, begun)

    def _effects_of(self, name: str, begun: set[str]) -> Iterator[tuple[str, str]]:
        module = self._modules.get(name)
        if module is None or name in begun:
            return
        begun.add(name)
        for statement in module.statements:
            for other in self._imports_of(module, statement):
                yield from self._effects_of(other, begun)
            if self._contents.includes(module, statement):
                altered = self._effects.altered(module, statement)
                if altered is None or altered & self._reached:
                    yield module.path, statement.text

    def _imports_of(self, module: Module, statement: Statement) -> Iterator[str]:
        """The modules that a statement imports, in order: packages before what is in them."""
        for node in statement.runs:
            for base, attribute, _ in module.targets(node):
                parts = base.split(".")
                yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))
                if isinstance(node, ast.ImportFrom):
                    yield f"{base}.{attribute}"

    # -- following references ----------------------------------------------------------------------

    def _follow(self, todo: list[Visit]) -> None:
        while todo:
            visit = todo.pop()
            if visit in self._visited:
                continue
            self._visited.add(visit)
            name, wanted, kind = visit
            module = self._modules.get(name)
            if module is None:
                continue
            if kind == RUN:
                todo += self._run(module)
                continue
            todo.append((name, "", RUN))
            if kind in (ANNOTATED, CONTRACT):
                todo += self._annotated(module, wanted, kind)
            else:
                todo += self._used(module, wanted, in_doubt=kind == USE)

    def _run(self, module: Module) -> Iterator[Visit]:
        """Import a module: its packages, what it imports, and what has an effect."""
        self.folders.add(PurePosixPath(module.path).parts[0] if "/" in module.path else "")
        parents = module.name.split(".")[:-1]
        yield from ((".".join(parents[:count]), "", RUN) for count in range(1, len(parents) + 1))
        for statement in module.statements:
            for node in statement.runs:
                yield from self._run_import(module, node)
            yield from self._run_statement(module, statement)

    def _run_import(self, module: Module, node: ast.Import | ast.ImportFrom) -> Iterator[Visit]:
        for base, attribute, name in module.targets(node):
            yield base, "", RUN
            parts = base.split(".")
            yield from ((".".join(parts[:count]), "", RUN) for count in range(1, len(parts)))
            found = base if isinstance(node, ast.Import) else f"{base}.{attribute}"
            if found in self._modules:
                yield found, "", RUN
                if name not in module.roots and found not in self._component_modules:
                    yield found, WHOLE, USE  # imported for its effects alone

    def _run_statement(self, module: Module, statement: Statement) -> Iterator[Visit]:
        """Include a statement that alters what is not the application's, or what is reached."""
        targets = self._effects.altered(module, statement)
        if targets is None or targets & self._reached:
            yield from self._include(module, statement)
        else:
            for target in targets:
                self._waiting.setdefault(target, []).append((module, statement))

    def _include(self, module: Module, statement: Statement) -> Iterator[Visit]:
        """Include a statement, and all that it refers to."""
        if not self._contents.include(module, statement):
            return
        self.texts.update(statement.texts)
        self.reads.add(self._analysis.reads(module, statement))
        for text in statement.texts:
            named = self._modules.named(text)
            if named:
                yield named, WHOLE, USE
        for node in statement.imports:
            yield from self._run_import(module, node)
        for reference in statement.references:
            yield from self._follow_reference(module, reference)

    def _follow_reference(self, module: Module, reference: Reference) -> Iterator[Visit]:
        chain, root = reference.chain, reference.chain[0]
        said = {*chain, *(attribute for _, attribute in module.imported.get(root, ()))}
        if not DYNAMIC.isdisjoint(said) or chain[:2] == SYS_MODULES or (len(chain) == 1 and root in BUILTINS):
            yield from ((other, WHOLE, USE) for other in self._modules)
        if root in module.imported:
            self._contents.include_import(module, root)
        if chain == (DOC,):
            self._contents.include_docstring(module)
        elif chain == (ANNOTATIONS,):
            yield module.name, WHOLE, USE
        kind = ANNOTATED if reference.annotation else USE
        for name, wanted in self._modules.origins(module, chain):
            yield name, wanted, kind if name == module.name or wanted != WHOLE else USE

    def _used(self, module: Module, wanted: str, *, in_doubt: bool) -> Iterator[Visit]:
        """Use a name of a module, or all of it. in_doubt: if it has no such name, it counts whole."""
        if wanted == WHOLE:
            self.reads.add(self._analysis.of_module(module))
            self._contents.include_docstring(module)
            for statement in module.statements:
                yield from self._include(module, statement)
            for name in [*module.bound, *module.imported]:
                yield from self._reach(module, name)
            yield from ((other, WHOLE, USE) for other in module.stars)
            return
        yield from self._reach(module, wanted)
        for statement in module.bound.get(wanted, ()):
            yield from self._include(module, statement)
        yield from ((other, name, MAYBE) for other in module.stars for name in (wanted, ALL))
        if wanted not in module.bound and wanted not in module.imported:
            submodule = f"{module.name}.{wanted}"
            if submodule in self._modules:
                yield submodule, WHOLE, USE
            elif in_doubt and wanted not in MODULE_NAMES and not module.stars:
                yield module.name, WHOLE, USE

    def _reach(self, module: Module, name: str) -> Iterator[Visit]:
        """Reach a name: whatever alters it counts now, and what it is imported from."""
        self._reached.add((module.name, name))
        for other, statement in self._waiting.pop((module.name, name), ()):
            yield from self._include(other, statement)
        yield from self._follow_import(module, name, USE)

    def _follow_import(self, module: Module, name: str, kind: str) -> Iterator[Visit]:
        """Follow a name to the module that it is imported from."""
        if name in module.imported:
            self._contents.include_import(module, name)
            for base, wanted in self._modules.origins(module, (name,)):
                if (base, wanted) != (module.name, name):
                    yield base, wanted, USE if wanted == WHOLE else kind

    def _annotated(self, module: Module, wanted: str, kind: str) -> Iterator[Visit]:
        """Follow a name in an annotation: of a component, and of its bases, only the contract counts."""
        if kind == ANNOTATED and (module.name, wanted) not in self._components:
            if wanted in module.bound or wanted not in module.imported:
                yield module.name, wanted, USE
            else:
                yield from self._follow_import(module, wanted, ANNOTATED)
            return
        definitions = [statement.node for statement in module.bound.get(wanted, ())]
        if not definitions and wanted in module.imported:
            yield from self._follow_import(module, wanted, CONTRACT)
            return
        if not definitions or not all(isinstance(node, ast.ClassDef) for node in definitions):
            yield module.name, wanted, USE
            return
        said = [signature(node) for node in definitions if isinstance(node, ast.ClassDef)]
        self._contents.include_contract(f"{module.path}: {wanted}", "".join(map(ast.dump, said)))
        for node in said:
            bases = {reference.chain for base in node.bases for reference in references_of(base)}
            for chain in bases:
                yield from ((name, base, CONTRACT) for name, base in self._modules.origins(module, chain))
            for reference in references_of(node):
                if reference.chain not in bases:
                    yield from self._follow_reference(module, reference)


def data_parts(
    files: Mapping[str, bytes], own: Slice, others: Iterable[Slice], folders: Iterable[str] = ()
) -> dict[str, str]:
    """The files beside the code that count for a service: digests by path, of those given.

    A file counts for a service whose code reads it, or a folder above it, by a constant path, or names it, or a folder
    above it that is not a package. A file that no other service claims counts for all services that read by a path
    that is not known, if it lies beside code that they run, or in one of `folders`. If none does, something else reads
    it, and it counts for all.
    """
    packages = frozenset(posixpath.dirname(path) for path in files if path.endswith(".py")) | {""}
    everybody = [own, *(other for other in others if other is not own)]
    claims = [FileClaims(one.reads, packages) for one in everybody]
    anybody = any(one.reads.unknown for one in everybody)
    near = {*own.folders, *folders}
    found: dict[str, str] = {}
    for path, content in files.items():
        if path.endswith(".py"):
            continue
        mine = claims[0].may_read(path)
        if not mine and path.partition("/")[0] in near:
            if own.reads.unknown:
                mine = not any(one.names(path) for one in claims[1:])
            elif not anybody:
                mine = not any(one.may_read(path) for one in claims[1:])
        if mine:
            found[path] = digest(content)
    return found
