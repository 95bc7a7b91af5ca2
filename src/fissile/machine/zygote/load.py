"""Imports an application in a zygote, and checks it in a child of the zygote.

The import runs in the zygote itself, because replicas are to share its memory. The check sees the settings of all
services, secrets included, so it runs in a child that ends with them.
"""

import gc
import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec

from fissile.component.declaration import class_mark
from fissile.component.graph import Graph
from fissile.component.topology import Topology, check_name, topology_for
from fissile.errors import ConfigError, FissileError
from fissile.machine.stdio import flush_output
from fissile.machine.zygote import sealed_letters
from fissile.machine.zygote.after_fork import Renewal
from fissile.machine.zygote.environment_reads import Reads
from fissile.machine.zygote.fork_hazards import Watch, sentences
from fissile.machine.zygote.protocol import Begin, Load, Loaded, LoadFailed, Settled
from fissile.names import ServiceName
from fissile.releases.fingerprint import outside, release_of
from fissile.releases.installed import installed, working_folder
from fissile.releases.packages import Missing, differences
from fissile.releases.release import Release
from fissile.runtime import prewarm
from fissile.runtime.host import MIGRATE, configured
from fissile.runtime.loading import NOT_COPIED, enter_folder, import_from_copy, load_application, load_object
from fissile.runtime.places import edited, runs_from
from fissile.settings.application import standing_alone
from fissile.settings.load import resolve
from fissile.settings.schema import Settings


class ImportFindings(msgspec.Struct, frozen=True):
    """What people should know of an import.

    Attributes:
        left: Warnings about what all replicas that are forked from it would share.
        live: A warning about code that was not imported from the release's copy; "" if there is none.
        read: Variables that only one service's replicas have, and where the import has read them.
    """

    left: tuple[str, ...] = ()
    live: str = ""
    read: dict[str, str] = {}


def import_application(order: Begin, renewal: Renewal) -> tuple[Graph | None, ImportFindings]:
    """Import the application, if there is one. Returns its graph, and what people should know. Raises ConfigError."""
    root = Path(order.root)
    graph: Graph | None = None
    watch = Watch()
    if order.source:
        runs_from(order.root, order.source)
        import_from_copy(Path(order.source), root)
    enter_folder(root / order.folder)
    os.environ.update(order.environment)
    reads = Reads(name for name in order.own if name not in os.environ)
    if order.folder:
        # An application that knows nothing of Fissile, and stands alone: no graph, and one service to share it.
        with renewal.watching():
            load_object(order.target, root / order.folder)
    elif order.target:
        with renewal.watching(), reads.watching():
            graph = load_application(order.target, root)
    return graph, ImportFindings(tuple(sentences(watch.left())), _live_warning(order), reads.found)


def run_examiner(graph: Graph | None, findings: ImportFindings, order: int, answer: int) -> NoReturn:
    """In a child of the zygote: read the order's letter, write the answer's, and end.

    The order holds the secrets of all services. They end with this process: freed memory of the zygote would still be
    in every replica that it forks.
    """
    code = 1
    try:
        try:
            found = examine(sealed_letters.read(order, Load), graph, findings)
        except FissileError as error:
            found = LoadFailed(str(error))
        sealed_letters.write(answer, found)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        flush_output()
        # Not sys.exit: callbacks of atexit, and objects with files to delete, belong to the zygote.
        os._exit(code)


def examine(order: Load, graph: Graph | None, findings: ImportFindings) -> Loaded:
    """Check an application against all its settings, variables included. Raises ConfigError."""
    settings = order.settings
    services: dict[ServiceName, tuple[str, ...]] = {}
    check_name(order.topology, settings.topologies)
    settings = resolve(settings, graph, order.environment.components())
    if graph is not None:
        topology = topology_for(graph, order.topology, settings.topologies)
        _check_config(graph, settings)
        _check_foreign(graph, topology, settings)
        services = {ServiceName(name): members for name, members in topology.services.items()}
    # Programs first: a database has to be there before those who use it.
    services = {**{ServiceName(name): () for name in standing_alone(settings, graph)}, **services}
    _check_folders(settings, services)
    forks = any(not one.spawn and not one.command for one in map(settings.service, services))
    found = installed(
        settings.root, order.source or settings.root, working_folder(), files=outside(Path(settings.root))
    )
    release = release_of(settings, graph, order.topology, services, found, order.forced)
    missing: tuple[Missing, ...] = ()
    if order.settled is not None:
        missing = differences(order.settled.installed, found)
        release, found = _settled(order.settled, release), order.settled.installed
    components = list(graph.components.values()) if graph is not None else []
    return Loaded(
        graph.name if graph is not None else Path(settings.root).name,
        services,
        {c.name: tuple(r.target for r in c.references) for c in components},
        tuple(c.name for c in components if c.http),
        settings.components,
        release,
        tuple(c.name for c in components if not c.foreign and callable(getattr(c.cls, MIGRATE, None))),
        {c.name: lost for c in components if (mark := class_mark(c.cls)) and (lost := mark.volatile_state)},
        tuple(filter(None, (*(findings.left if forks else ()), findings.live, *_unset(findings, settings, services)))),
        found,
        missing,
    )


def _settled(known: Settled, found: Release) -> Release:
    """Return the known release, if its components and methods are still the same. Raises ConfigError."""
    if (found.services, found.contracts) == (known.release.services, known.release.contracts):
        return known.release
    raise ConfigError(
        f"release {known.release.name} has other components or methods when it is imported now: they depend on its "
        "environment or on packages",
        remedy="`fissile deploy` makes a new release of it",
    )


def _live_warning(order: Begin) -> str:
    """Return a warning about modules that come from the folder that people edit, and not from the copy."""
    if not order.source:
        return ""
    source, copy = Path(order.source), Path(order.root)
    live: list[str] = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        own = file.startswith(f"{source}/") and not file.startswith(f"{copy}/")
        if own and not any(part in NOT_COPIED or part.startswith(".") for part in Path(file).relative_to(source).parts):
            live.append(name)
    if not live:
        return ""
    return f"{', '.join(sorted(live)[:5])} is imported from {source} itself: what is edited there is in no release"


def _check_foreign(graph: Graph, topology: Topology, settings: Settings) -> None:
    """Check that every component is implemented by a class or a program. Raises ConfigError."""
    mistakes: list[str] = []
    for service, components in topology.services.items():
        one = settings.service(service)
        missing = [name for name in components if graph.components[name].foreign]
        if missing and not one.command:
            mistakes.append(
                f"{', '.join(missing)} is implemented by no class: name its program with "
                f'command = "..." under [services.{service}]'
            )
        elif one.guest:
            mistakes.append(f"[services.{service}] has {one.guest}, but {service} consists of components: use command")
        elif one.command and any(graph.components[name].http for name in components):
            mistakes.append(f"[services.{service}] has a command, but a component with http(): leave it in Python")
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def _unset(findings: ImportFindings, settings: Settings, services: Iterable[str]) -> Iterator[str]:
    """Yield a warning for each variable of a service that the import has read, and could not get."""
    for name, place in findings.read.items():
        held = [service for service in services if name in settings.service(service).environment]
        forked = [service for service in held if not settings.service(service).spawn]
        if forked:
            yield (
                f"{name} is in `environment` of {' and '.join(forked)} alone, but it is read while the application is "
                f"imported, once for all services ({edited(place)}): read it in start(), or say spawn = true"
            )


def _check_folders(settings: Settings, services: Iterable[str]) -> None:
    """Check that every service has a folder to run in. Raises ConfigError."""
    missing = [
        f"[services.{name}] runs in {settings.service(name).folder!r}, but there is no such folder in {settings.root}"
        for name in services
        if not Path(settings.root, settings.service(name).folder).is_dir()
    ]
    if missing:
        raise ConfigError("\n".join(missing), remedy="fix `folder`, or create it")


def _check_config(graph: Graph, settings: Settings) -> None:
    """Check all components' tables now: a mistake must not wait for the replica that trips over it."""
    problems: list[str] = []
    for name, component in graph.components.items():
        try:
            configured(component, settings.components.get(name, {}))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def warm(graph: Graph) -> None:
    """Do once what every replica does first, and hide what exists from the garbage collector.

    A collection writes to the header of every object that it visits, and so would copy its page in each replica.
    Frozen objects are never visited: their pages stay shared.
    """
    prewarm.prewarm(graph).close()
    gc.collect()
    gc.freeze()


def import_all(modules: Iterable[str], renewal: Renewal) -> None:
    """Import modules that replicas were seen to import. One that fails is left to them."""
    with renewal.watching():
        for name in modules:
            with suppress(Exception):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()
