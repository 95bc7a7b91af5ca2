"""PURE. Which modules of an application are imported by code that knows nothing of Fissile, or may be.

By whole packages: what is found by a convention of a framework (template tags, models, admin pages) lies beside what is
imported by its name. A text that names a module, or a package at the top, imports it, as INSTALLED_APPS does.
"""

from collections.abc import Iterable

from fissile.releases.slicing.effects import Effects
from fissile.releases.slicing.reachability import Slice
from fissile.releases.slicing.read_analysis import ReadAnalysis
from fissile.releases.slicing.syntax import Modules


def imported(modules: Modules, effects: Effects, paths: ReadAnalysis, names: Iterable[str]) -> set[str]:
    """The files of all modules that are reached from some, with all others of the packages at the top that they are in.

    names: of modules, or texts that may name one.
    """
    inside: dict[str, list[str]] = {}
    for name in modules:
        inside.setdefault(_top(name), []).append(name)
    one = Slice(modules, effects, (), paths)
    todo, tops = set(map(_top, names)) & inside.keys(), set[str]()
    while todo:
        tops |= todo
        for name in (name for top in sorted(todo) for name in inside[top]):
            one.add(name)
        todo = ({*map(_top, one.modules), *map(_top, one.texts)} & inside.keys()) - tops
    return {modules.path(name) for top in tops for name in inside[top]}


def _top(name: str) -> str:
    return name.partition(":")[0].partition(".")[0]
