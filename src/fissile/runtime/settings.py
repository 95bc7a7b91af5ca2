"""fissile.toml: read strictly, every mistake reported at once.

An unknown key is an error that lists the allowed ones: a setting that is silently ignored is found
at 3 a.m. Profiles are merged over the base table by table; environment variables named
FISSILE_<COMPONENT>_<FIELD> come last.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from fissile.component.graph import Graph
from fissile.errors import ConfigError
from fissile.rpc.server import DEFAULT_CONCURRENCY, DEFAULT_QUEUE
from fissile.runtime.host import field_names

FILE_NAME = "fissile.toml"


class CallSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[calls]: timeout_seconds is the deadline of methods that name none."""

    timeout_seconds: float = 10.0


class ServiceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[services.NAME]: replicas; calls at once (concurrency) and waiting (queue) in each; gateway port (0: any)."""

    replicas: int = 1
    concurrency: int = DEFAULT_CONCURRENCY
    queue: int = DEFAULT_QUEUE
    port: int = 0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What fissile.toml says, with a profile and the environment applied. root: its folder."""

    app: str
    root: str = ""
    topology: str = "monolith"
    calls: CallSettings = CallSettings()
    topologies: dict[str, dict[str, list[str]]] = {}
    services: dict[str, ServiceSettings] = {}
    components: dict[str, dict[str, Any]] = {}

    def service(self, name: str) -> ServiceSettings:
        """The settings of a service, or the defaults."""
        return self.services.get(name, ServiceSettings())


_TOP = ("app", "topology", "calls", "topologies", "services", "components", "profiles")
_PROFILE = tuple(key for key in _TOP if key not in ("app", "profiles"))


def load(path: Path, profile: str | None = None) -> Settings:
    """Read fissile.toml in a folder, or the file itself.

    Raises ConfigError with every mistake in it.
    """
    file = path if path.suffix == ".toml" else path / FILE_NAME
    try:
        raw = tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {FILE_NAME} in {path}",
            remedy='write one that says at least: app = "module:attribute"',
        ) from None
    except NotADirectoryError:
        raise ConfigError(f"{path} is not a folder", remedy=f"name the folder that holds {FILE_NAME}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}", remedy="mend that line") from None
    mistakes = _unknown_keys(raw)
    if mistakes:
        raise _mistaken(file, mistakes)
    profiles: dict[str, Any] = raw.pop("profiles", {})
    if profile is not None:
        if profile not in profiles:
            known = ", ".join(profiles) or "none"
            raise ConfigError(f"there is no profile {profile!r} in {file}", remedy=f"those there are: {known}")
        raw = merge(raw, profiles[profile])
    try:
        return msgspec.convert({**raw, "root": str(file.parent.resolve())}, Settings)
    except msgspec.ValidationError as error:
        raise _mistaken(file, [str(error)]) from None


def _mistaken(file: Path, mistakes: list[str]) -> ConfigError:
    listed = "\n".join(f"  - {mistake}" for mistake in mistakes)
    return ConfigError(f"{file} has mistakes:\n{listed}", remedy="mend them; nothing was started")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The base with another table laid over it, key by key and table by table."""
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            merged[key] = merge(cast(dict[str, Any], known), cast(dict[str, Any], value))
        else:
            merged[key] = value
    return merged


def _unknown_keys(raw: dict[str, Any]) -> list[str]:
    mistakes = _check(raw, _TOP, "")
    mistakes += _check_tables(raw, "")
    for name, profile in _tables_of(raw.get("profiles")).items():
        where = f"profiles.{name}"
        mistakes += _check(profile, _PROFILE, where)
        mistakes += _check_tables(profile, f"{where}.")
    if "app" not in raw:
        mistakes.append('`app` is missing: write app = "module:attribute"')
    return mistakes


def _check_tables(raw: dict[str, Any], prefix: str) -> list[str]:
    mistakes: list[str] = []
    if isinstance(raw.get("calls"), dict):
        mistakes += _check(raw["calls"], CallSettings.__struct_fields__, f"{prefix}calls")
    for name, table in _tables_of(raw.get("services")).items():
        mistakes += _check(table, ServiceSettings.__struct_fields__, f"{prefix}services.{name}")
    return mistakes


def _tables_of(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict):
        return {}
    tables = cast(dict[str, Any], value)
    return {name: cast(dict[str, Any], table) for name, table in tables.items() if isinstance(table, dict)}


def _check(table: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> list[str]:
    mistakes: list[str] = []
    for key in table:
        if key in allowed:
            continue
        near = difflib.get_close_matches(key, allowed, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        place = f"in [{where}]" if where else "at the top"
        mistakes.append(f"unknown key {key!r} {place}{hint}; allowed are: {', '.join(allowed)}")
    return mistakes


def resolve(settings: Settings, graph: Graph, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings checked against the application, with the environment's overrides.

    Raises ConfigError where a component is unknown.
    """
    environ = os.environ if environ is None else environ
    mistakes: list[str] = []
    for name in settings.components:
        if name not in graph.components:
            near = difflib.get_close_matches(name, graph.components, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            mistakes.append(f"[components.{name}] is no component{hint}; there are: {', '.join(graph.components)}")
    if mistakes:
        raise _mistaken(Path(settings.root) / FILE_NAME, mistakes)
    tables = {name: dict(table) for name, table in settings.components.items()}
    for name, component in graph.components.items():
        for config in component.configs:
            for field in field_names(config.type):
                value = environ.get(f"FISSILE_{name}_{field}".upper())
                if value is not None:
                    tables.setdefault(name, {})[field] = value
    return msgspec.structs.replace(settings, components=tables)
