"""Which code a service consists of: all that its components reach, through the application's modules.

Not whole modules: a module that gives away a class and a few types counts by those definitions and what they use. So
a change in one component's body alters its own service, and not those who import its errors or its identifiers. A
component's class that is only named in an annotation counts by what callers count on: its methods' names, types,
defaults and decorators. Comments and formatting are no code.

What is left out must be known to do nothing here; when in doubt it counts. So beside what is reached by name there
count: of each module that is run, whatever alters what is not the application's; all that alters, or registers with,
something that is reached, wherever it stands (`@router.get`); a module whole that is passed around, imported for its
effects, or asked for a name that it does not have; everything, for code that finds its modules by computed names.
"""

import ast
import hashlib
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import cast

from fissile.releases.slicing.effects import Effects
from fissile.releases.slicing.paths import Claims, Reads
from fissile.releases.slicing.reading import Paths
from fissile.releases.slicing.syntax import (
    DEFINITIONS,
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

DOC, ANNOTATIONS = "__doc__", "__annotations__"
# What `from module import *` gives.
ALL = "__all__"
# Part of a place: in which order its statements are run.
ORDER = " (order)"
# Of an application: in which order what acts is run, in all modules.
IMPORT_ORDER = f"imports{ORDER}"

RUN, USE, MAYBE, ANNOTATED, CONTRACT = "run", "use", "maybe", "annotated", "contract"
Visit = tuple[str, str, str]


def digest(data: bytes | str) -> str:
    """Of some content."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


class Slice:
    """All that is reached from some definitions. components: (module, class) of all components.

    paths: shared by the slices of an application. texts: what the code says. folders: where it lies, at the top.
    reads: the files that it may read.
    """

    def __init__(
        self, modules: Modules, effects: Effects, components: Iterable[Name], paths: Paths | None = None
    ) -> None:
        self.texts: set[str] = set()
        self.folders: set[str] = set()
        self.reads = Reads()
        self._modules = modules
        self._effects = effects
        self._paths = paths or Paths(modules)
        self._components = set(components)
        self._component_modules = {module for module, _ in self._components}
        self._seen: set[Visit] = set()
        self._begins: list[str] = []
        self._documented: set[str] = set()
        self._reached: set[Name] = set()
        self._included: dict[str, dict[int, Statement]] = {}
        self._imported: dict[str, set[str]] = {}
        self._contracts: dict[str, str] = {}
        # What alters a name that is not reached, so far.
        self._waiting: dict[Name, list[tuple[Module, Statement]]] = {}

    def run(self, module: str) -> None:
        """A module that is imported in any case."""
        self._begins.append(module)
        self._follow([(module, "", RUN)])

    def add(self, module: str, name: str = WHOLE) -> None:
        """A definition, or a whole module, and all that it uses. Where it cannot be found, everything counts."""
        if module in self._modules:
            self._begins.append(module)
            self._follow([(module, name, USE)])
        else:
            self.add_all()

    def say(self, values: object) -> None:
        """What it is told by its settings: texts there may be paths, as those in its code."""
        if isinstance(values, str):
            self.reads.texts.add(values)
        elif isinstance(values, Mapping):
            for value in cast("Mapping[object, object]", values).values():
                self.say(value)
        elif isinstance(values, (list, tuple)):
            for value in cast("Iterable[object]", values):
                self.say(value)

    def add_all(self) -> None:
        """All modules."""
        self._follow([(module, WHOLE, USE) for module in self._modules])

    @property
    def modules(self) -> set[str]:
        """The names of those that are reached."""
        return {name for name, _, _ in self._seen if name in self._modules}

    @property
    def parts(self) -> dict[str, str]:
        """Digests by place, as "shop/cart.py: Cart"."""
        texts: dict[str, list[str]] = {}
        for name, statements in self._included.items():
            module = self._modules.get(name)
            assert module is not None
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
            module = self._modules.get(name)
            assert module is not None
            lines = [f"{root} = {'.'.join(to)}" for root in sorted(imported) for to in module.imported[root]]
            texts[f"{module.path} (imports)"] = lines
        for name in self._documented:
            module = self._modules.get(name)
            assert module is not None
            texts[f"{module.path} ({DOC})"] = [module.doc]
        acts = [*self._acts()]
        if len({path for path, _ in acts}) > 1:
            texts[IMPORT_ORDER] = [f"{path}: {text}" for path, text in acts]
        return {label: digest("\n".join(lines)) for label, lines in texts.items()} | self._contracts

    def _acts(self) -> Iterator[tuple[str, str]]:
        """What alters anything that counts, in the order in which it is run: the module's path, and the statement."""
        begun: set[str] = set()
        for name in self._begins:
            yield from self._acts_of(name, begun)

    def _acts_of(self, name: str, begun: set[str]) -> Iterator[tuple[str, str]]:
        module = self._modules.get(name)
        if module is None or name in begun:
            return
        begun.add(name)
        included = self._included.get(name, {})
        for statement in module.statements:
            for other in self._imports_of(module, statement):
                yield from self._acts_of(other, begun)
            if statement.number in included:
                altered = self._effects.altered(module, statement)
                if altered is None or altered & self._reached:
                    yield module.path, statement.text

    def _imports_of(self, module: Module, statement: Statement) -> Iterator[str]:
        """The modules that a statement has imported, in this order: packages before what is in them."""
        for node in statement.runs:
            for base, attribute, _ in module.targets(node):
                parts = base.split(".")
                yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))
                if isinstance(node, ast.ImportFrom):
                    yield f"{base}.{attribute}"

    # -- what leads to what -------------------------------------------------------------------------

    def _follow(self, todo: list[Visit]) -> None:
        while todo:
            visit = todo.pop()
            if visit in self._seen:
                continue
            self._seen.add(visit)
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
        """What importing a module does."""
        self.folders.add(PurePosixPath(module.path).parts[0] if "/" in module.path else "")
        parents = module.name.split(".")[:-1]
        yield from ((".".join(parents[:count]), "", RUN) for count in range(1, len(parents) + 1))
        for statement in module.statements:
            for node in statement.runs:
                yield from self._importing(module, node)
            yield from self._acting(module, statement)

    def _importing(self, module: Module, node: ast.Import | ast.ImportFrom) -> Iterator[Visit]:
        for base, attribute, name in module.targets(node):
            yield base, "", RUN
            parts = base.split(".")
            yield from ((".".join(parts[:count]), "", RUN) for count in range(1, len(parts)))
            found = base if isinstance(node, ast.Import) else f"{base}.{attribute}"
            if found in self._modules:
                yield found, "", RUN
                if name not in module.roots and found not in self._component_modules:
                    yield found, WHOLE, USE  # it is there for its effects

    def _acting(self, module: Module, statement: Statement) -> Iterator[Visit]:
        """A statement counts that alters what is not the application's, or what is reached."""
        targets = self._effects.altered(module, statement)
        if targets is None or targets & self._reached:
            yield from self._include(module, statement)
        else:
            for target in targets:
                self._waiting.setdefault(target, []).append((module, statement))

    def _include(self, module: Module, statement: Statement) -> Iterator[Visit]:
        """A statement counts, and with it all that it refers to."""
        included = self._included.setdefault(module.name, {})
        if statement.number in included:
            return
        included[statement.number] = statement
        self.texts.update(statement.texts)
        self.reads.add(self._paths.reads(module, statement))
        for text in statement.texts:
            named = self._modules.named(text)
            if named:
                yield named, WHOLE, USE
        for node in statement.imports:
            yield from self._importing(module, node)
        for reference in statement.references:
            yield from self._referred(module, reference)

    def _referred(self, module: Module, reference: Reference) -> Iterator[Visit]:
        chain, root = reference.chain, reference.chain[0]
        said = {*chain, *(attribute for _, attribute in module.imported.get(root, ()))}
        if not DYNAMIC.isdisjoint(said) or chain[:2] == SYS_MODULES or (len(chain) == 1 and root in BUILTINS):
            yield from ((other, WHOLE, USE) for other in self._modules)
        if root in module.imported:
            self._imported.setdefault(module.name, set()).add(root)
        if chain == (DOC,):
            self._documented.add(module.name)
        elif chain == (ANNOTATIONS,):
            yield module.name, WHOLE, USE
        kind = ANNOTATED if reference.annotation else USE
        for name, wanted in self._modules.origins(module, chain):
            yield name, wanted, kind if name == module.name or wanted != WHOLE else USE

    def _used(self, module: Module, wanted: str, *, in_doubt: bool) -> Iterator[Visit]:
        """A name of a module, or all of it. in_doubt: where it has no such name, it counts whole."""
        if wanted == WHOLE:
            self.reads.add(self._paths.of_module(module))
            self._documented.add(module.name)
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
        """A name is reached: what alters it counts, and what it is imported from."""
        self._reached.add((module.name, name))
        for other, statement in self._waiting.pop((module.name, name), ()):
            yield from self._include(other, statement)
        yield from self._passed_on(module, name, USE)

    def _passed_on(self, module: Module, name: str, kind: str) -> Iterator[Visit]:
        """A name that a module has from another."""
        if name in module.imported:
            self._imported.setdefault(module.name, set()).add(name)
            for base, wanted in self._modules.origins(module, (name,)):
                if (base, wanted) != (module.name, name):
                    yield base, wanted, USE if wanted == WHOLE else kind

    def _annotated(self, module: Module, wanted: str, kind: str) -> Iterator[Visit]:
        """A name in an annotation: of a component's class, only its contract counts; of a base of one as well."""
        if kind == ANNOTATED and (module.name, wanted) not in self._components:
            if wanted in module.bound or wanted not in module.imported:
                yield module.name, wanted, USE
            else:
                yield from self._passed_on(module, wanted, ANNOTATED)
            return
        definitions = [statement.node for statement in module.bound.get(wanted, ())]
        if not definitions and wanted in module.imported:
            yield from self._passed_on(module, wanted, CONTRACT)
            return
        if not definitions or not all(isinstance(node, ast.ClassDef) for node in definitions):
            yield module.name, wanted, USE
            return
        said = [signature(node) for node in definitions if isinstance(node, ast.ClassDef)]
        self._contracts[f"{module.path}: {wanted} (contract)"] = digest("".join(map(ast.dump, said)))
        for node in said:
            bases = {reference.chain for base in node.bases for reference in references_of(base)}
            for chain in bases:
                yield from ((name, base, CONTRACT) for name, base in self._modules.origins(module, chain))
            for reference in references_of(node):
                if reference.chain not in bases:
                    yield from self._referred(module, reference)


def data_parts(
    files: Mapping[str, bytes], own: Slice, others: Iterable[Slice], folders: Iterable[str] = ()
) -> dict[str, str]:
    """The files beside the code that count for a service: by path, of those given.

    A file counts for those whose code reads it, or a folder above it, by a constant path, or says its name, or that of
    a folder above it that is no package. One that nobody else claims counts for all who read by a path that is not
    known, if it lies beside code that they run, or in one of `folders`. Where nobody does, something else reads it, and
    it counts for all.
    """
    packages = frozenset(posixpath.dirname(path) for path in files if path.endswith(".py")) | {""}
    everybody = [own, *(other for other in others if other is not own)]
    claims = [Claims(one.reads, packages) for one in everybody]
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
