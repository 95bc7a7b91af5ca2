"""Composes an examination: the settings of a folder, what runs there, and what the machine has.

It stands beside `daemon` and does without it, because what `daemon` imports may be what is missing.
"""

from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from fissile.api.discovery import read_endpoints
from fissile.errors import ConfigError
from fissile.machine.checks.facts import Check, State, Wants
from fissile.machine.checks.gather import gather
from fissile.machine.checks.rules import examine
from fissile.settings.load import load
from fissile.settings.schema import FILE_NAME, LimitSettings, Settings
from fissile.supervisor.endpoints import Endpoints, state_of

__all__ = ["Check", "State", "diagnose"]


def diagnose(folder: Path, profile: str | None = None) -> list[Check]:
    """Look at this machine, and at the application in a folder if there is one. Starts and changes nothing.

    Raises ConfigError where there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder {folder}", remedy="change to the application's folder, or name it with -C"
        )
    settings, mistakes = Settings(), ""
    if (folder / FILE_NAME).exists():
        try:
            settings = load(folder, profile)
        except ConfigError as error:
            mistakes = error.message
    running = _running(folder)
    facts = gather(state_of(folder), _ports(settings), _ports_of(running) if running is not None else frozenset())
    return examine(
        msgspec.structs.replace(
            facts, file=settings.file, mistakes=mistakes, runs=running is not None, wants=_wants(settings)
        )
    )


def _running(folder: Path) -> Endpoints | None:
    try:
        return read_endpoints(folder)
    except ConfigError:
        return None


def _ports(settings: Settings) -> list[tuple[int, str]]:
    """The fixed ports of services, and of the API."""
    named = [(one.port, name) for name, one in settings.services.items() if one.port]
    api = settings.machine.api_port
    return [*named, *([(api, "the API")] if api else [])]


def _ports_of(endpoints: Endpoints) -> frozenset[int]:
    """Where an application that runs can be reached; all of it by addresses in its endpoints."""
    addresses = [endpoints.api]
    for one in endpoints.services.values():
        addresses += [one.gateway, *one.public.values()]
    return frozenset(port for address in addresses if address and (port := urlsplit(address).port) is not None)


def _wants(settings: Settings) -> Wants:
    services = settings.services.items()
    return Wants(
        limits=tuple(name for name, one in services if one.limits != LimitSettings()),
        confined=tuple(name for name, one in services if one.isolate or one.limits.disk is not None or one.user),
        user=tuple(name for name, one in services if one.user),
        wsgi=tuple(name for name, one in services if one.wsgi),
    )
