"""An application as its code is now: graph, topology, the release that it would be, and what that would break.

The code is imported into this process.
"""

import time
from pathlib import Path

import msgspec

from fissile.api import schema
from fissile.component.graph import Graph
from fissile.component.topology import BUILT_IN, Topology, check_name, topology_for
from fissile.daemon.project import settings_of
from fissile.errors import ConfigError
from fissile.names import ServiceName
from fissile.orchestrator.deploy_rules import in_place
from fissile.releases.callers import Called
from fissile.releases.fingerprint import outside, release_of
from fissile.releases.installed import installed, working_folder
from fissile.releases.release import Release, Surroundings, difference
from fissile.runtime.loading import inside, load_application
from fissile.settings.load import resolve
from fissile.settings.schema import Settings
from fissile.supervisor.release_spec import spec_of


class Project(msgspec.Struct, frozen=True, eq=False):
    """An application with its settings and the topology that was chosen."""

    settings: Settings
    graph: Graph
    topology: Topology


def open_project(folder: Path, target: str = "", *, topology: str | None = None, profile: str | None = None) -> Project:
    """Read the settings and import the application into this process. Raises ConfigError."""
    settings, graph, grouped = look_at(folder, target, topology=topology, profile=profile)
    if graph is None:
        raise ConfigError(f"{settings.file} names no application", remedy='add app = "module:attribute"')
    return Project(settings, graph, grouped)


def look_at(
    folder: Path, target: str = "", *, topology: str | None = None, profile: str | None = None, like: str = ""
) -> tuple[Settings, Graph | None, Topology]:
    """The same, also of a folder that has only services in other technologies: None then. Raises ConfigError.

    like: the topology where none is asked for; "", or one that is not there any more: that of the settings.
    """
    settings = settings_of(folder, target, profile)
    graph = None
    if settings.app:
        with inside(settings.root):
            graph = load_application(settings.app, Path(settings.root))
    settings = resolve(settings, graph)
    known = {*BUILT_IN, *settings.topologies}
    name = topology or (like if like in known else settings.topology)
    if graph is None:
        check_name(name, settings.topologies)
        return settings, None, Topology(name, {})
    return settings, graph, topology_for(graph, name, settings.topologies)


def release_here(settings: Settings, topology: str) -> Release:
    """The release that the folder of an application holds now; its code is imported into this process.

    Raises ConfigError.
    """
    with inside(settings.root):
        graph = load_application(settings.app, Path(settings.root)) if settings.app else None
    services: dict[ServiceName, tuple[str, ...]] = {}
    settings = resolve(settings, graph)
    if graph is not None:
        grouped = topology_for(graph, topology, settings.topologies).services
        services = {ServiceName(name): members for name, members in grouped.items()}
    alone: dict[ServiceName, tuple[str, ...]] = {
        ServiceName(name): () for name, one in settings.services.items() if one.foreign and name not in services
    }
    found = installed(settings.root, working_folder(), files=outside(Path(settings.root)))
    return release_of(settings, graph, topology, {**alone, **services}, found)


def breaks(
    settings: Settings, running: bytes, kept: bytes | None, calls: dict[str, schema.Called]
) -> tuple[schema.ContractBreak, ...]:
    """What a release would break for the callers that run now.

    running, kept: releases as the API gives them; kept None: the code in the folder. calls: from outside, by method.
    Raises ConfigError.
    """
    before = _release_from(running)
    after = _release_from(kept) if kept is not None else release_here(settings, before.topology)
    replaced = frozenset(in_place(spec_of(before, settings), spec_of(after, settings)))
    called = msgspec.convert(calls, dict[str, Called], from_attributes=True)
    found = difference(before, after, Surroundings(called, replaced, time.time())).breaks
    return msgspec.convert(found, tuple[schema.ContractBreak, ...], from_attributes=True)


def _release_from(document: bytes) -> Release:
    """A release as the API gives it. Raises ConfigError if another version of Fissile wrote it."""
    try:
        return msgspec.json.decode(document, type=Release)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"what runs was started by another version of Fissile: {error}",
            remedy="use that version, or start the application anew",
        ) from None
