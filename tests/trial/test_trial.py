"""A trial of builds: small changes, whose behaviour each alters, and whose build.

Two kinds of wrong. Behaviour that changes under the same build is dangerous: old code goes on running unnoticed. A
build that changes though nothing else does costs a restart. Both are listed here by name, so a mend shortens the lists,
and nothing lengthens them unnoticed.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from changes import ABSENT, APP, CART, CATALOG, CODE, DATA, runs
from programs import PROGRAMS

from fissile.releases.fingerprint import PAGE_FOLDERS, read_files, release_of
from fissile.releases.release import Release, difference
from fissile.releases.slicing.effects import Effects
from fissile.releases.slicing.reachability import Slice, data_parts
from fissile.releases.slicing.read_analysis import ReadAnalysis
from fissile.releases.slicing.syntax import Modules
from fissile.settings.load import load

CHANGES = {**CODE, **DATA}
SERVICES = [[CART, "shop.cart", CART], [CATALOG, "shop.catalog", CATALOG]]
PLAIN = {"shop/__init__.py": APP, "shop/cart.py": runs(CART, "1"), "shop/catalog.py": runs(CATALOG, "1")}
EDIT = re.compile(r"<<(.*?)\|(.*?)>>", re.DOTALL)

# Old code would go on running.
DANGEROUS = {
    # Who deploys a file means those who name it.
    "a file that one names and the other finds",
    # What lies so deep below folders without a module is taken for data.
    "a namespace package at the top, deep",
    # It would start all callers of a component that gets another reference.
    "annotations of the other's constructor, at run time",
}
DANGEROUS_MAX = 7
# A restart too many.
IMPRECISE = {
    # Which of several values is the last is not asked.
    "the first of two values",
    "a name imported twice, the first",
    # All modules are imported by all services, and what acts there may concern them.
    "a subclass that is looked for",
    "a registry, by call",
    "a registry, from elsewhere",
    "the order of routes",
    "tables by inheritance, from elsewhere",
    "a patch from elsewhere",
    "a patch by setattr",
    "a setting of a library",
    "the order of imports with effects",
    "the order of an import and an effect",
    "an import that is gone",
    # Nobody is known to read it, so anybody may.
    "a file that nobody reads",
    # What is not ignored is a program's code.
    "a readme",
    "a module beside servers of data",
}


def side(files: dict[str, str], number: int) -> dict[str, str]:
    """The files before (0) or after (1) the change."""
    found = {path: EDIT.sub(lambda match: match[number + 1], text) for path, text in files.items()}
    return {path: text for path, text in found.items() if text != ABSENT}


def write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def parts(folder: Path) -> dict[str, dict[str, str]]:
    """What the build of each service is made of, as far as it is code or data."""
    files = dict(read_files(folder))
    modules = Modules(files)
    effects, paths = Effects(modules), ReadAnalysis(modules)
    slices: dict[str, Slice] = {}
    for service, module, name in SERVICES:
        slices[service] = one = Slice(modules, effects, [(module, name) for _, module, name in SERVICES], paths)
        one.run("shop")
        one.add(module, name)
    return {
        service: {**one.parts, **data_parts(files, one, slices.values(), PAGE_FOLDERS)}
        for service, one in slices.items()
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Each change, before and after."""
    top = tmp_path_factory.mktemp("trial")
    found: dict[str, tuple[Path, Path]] = {}
    for number, (name, change) in enumerate(CHANGES.items()):
        found[name] = top / str(number) / "before", top / str(number) / "after"
        for which, folder in enumerate(found[name]):
            write(folder, side({**PLAIN, **change.files}, which))
    return found


@pytest.fixture(scope="module")
def altered(folders: dict[str, tuple[Path, Path]]) -> dict[str, set[str]]:
    """Whose answers really change, of those that can be measured."""
    names = [name for name, change in CHANGES.items() if change.measured]
    lines = [json.dumps([str(folder), "", SERVICES]) for name in names for folder in folders[name]]
    command = [sys.executable, str(Path(__file__).with_name("measured.py"))]
    done = subprocess.run(command, input="\n".join(lines), stdout=subprocess.PIPE, text=True, check=True, timeout=100)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    pairs = zip(names, answers[::2], answers[1::2], strict=True)
    return {name: {one for one in before if before[one] != after[one]} for name, before, after in pairs}


@pytest.fixture(scope="module")
def rebuilt(folders: dict[str, tuple[Path, Path]]) -> dict[str, set[str]]:
    """Whose build changes."""
    return {name: _rebuilt(*pair) for name, pair in folders.items()}


def _rebuilt(before: Path, after: Path) -> set[str]:
    old, new = parts(before), parts(after)
    return {service for service in old if old[service] != new[service]}


@pytest.mark.parametrize("name", [name for name, change in CHANGES.items() if change.measured])
def test_what_is_said_of_a_change_is_true(altered: dict[str, set[str]], name: str):
    assert altered[name] == CHANGES[name].altered


@pytest.mark.parametrize("name", CHANGES)
def test_whoever_changes_is_built_anew_and_nobody_else(rebuilt: dict[str, set[str]], name: str):
    missing, needless = CHANGES[name].altered - rebuilt[name], rebuilt[name] - CHANGES[name].altered
    assert bool(missing) == (name in DANGEROUS), missing
    assert bool(needless) == (name in IMPRECISE), needless


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_built_anew_with_its_code(tmp_path: Path, name: str):
    program = PROGRAMS[name]
    releases: list[Release] = []
    # In the same folder: its name is no part of it.
    for which in (0, 1):
        folder = tmp_path / str(which) / "app"
        write(folder, side(program.files, which))
        settings = load(folder)
        releases.append(release_of(settings, None, "some", dict.fromkeys(settings.services, ())))
    found = {one.service for one in difference(releases[0], releases[1]).changes}
    missing, needless = program.altered - found, found - program.altered
    assert bool(missing) == (name in DANGEROUS), missing
    assert bool(needless) == (name in IMPRECISE), needless


def test_the_trial_is_as_large_as_it_is_said_to_be():
    assert len(CHANGES) + len(PROGRAMS) >= 129
    assert len(DANGEROUS) <= DANGEROUS_MAX
    assert CHANGES.keys() | PROGRAMS.keys() >= DANGEROUS | IMPRECISE
