"""Reads fissile.toml strictly, and reports every mistake at once.

Profiles are merged over the base table by table; environment variables named FISSILE_<COMPONENT>_<FIELD> come last.
"""

import os
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from fissile.component.graph import Graph
from fissile.errors import ConfigError
from fissile.runtime.named import as_named
from fissile.settings.application import misnamed, overrides
from fissile.settings.check import PROFILE, TOP, check_tables, has_foreign, is_table, listed, near, told_once, unsound
from fissile.settings.schema import FILE_NAME, Settings


def load(path: Path, profile: str | None = None) -> Settings:
    """Read fissile.toml in a folder, or the file itself.

    Raises ConfigError with every mistake in it.
    """
    file = path if path.suffix == ".toml" else path / FILE_NAME
    return settings_from(_read(file), file, profile)


def settings_from(document: Mapping[str, Any], file: Path, profile: str | None = None) -> Settings:
    """The settings that a parsed file holds. Raises ConfigError with every mistake in it."""
    raw = dict(document)
    profiles = raw.pop("profiles", {})
    mistakes = check_tables(raw, TOP, "")
    if not isinstance(profiles, dict):
        mistakes.append("[profiles] is not a table: write [profiles.NAME]")
        profiles = {}
    profiles = cast(dict[str, Any], profiles)
    for name, table in profiles.items():
        mistakes += check_tables(table, PROFILE, f"profiles.{name}")
    if "app" not in raw and not has_foreign(raw, profiles.get(profile or "")):
        mistakes.append('`app` is missing: write app = "module:attribute", or a service with command, asgi or wsgi')
    if profile is not None and profile not in profiles:
        mistakes.append(f"there is no profile {profile!r}{near(profile, profiles)}: {listed(profiles)}")
    if mistakes:
        raise _mistaken(file, mistakes)
    # Each table was checked by itself, so only a mistake of ours could be found now.
    where = {"root": str(file.parent.resolve()), "named": str(as_named(file.parent)), "file": file.name}
    every = {
        name: msgspec.convert({**(merge(raw, profiles[name]) if name else raw), **where, "profile": name}, Settings)
        for name in ("", *profiles)
    }
    chosen = every.pop(profile or "")
    mistakes = told_once(unsound(chosen), {name: unsound(other) for name, other in every.items()})
    if mistakes:
        raise _mistaken(file, mistakes)
    return msgspec.structs.replace(chosen, profiles=every)


def _read(file: Path) -> dict[str, Any]:
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a fifo would be waited for, and a socket cannot be opened
            raise ConfigError(
                f"{file} is not a file", remedy=f"put a file there, or name the folder that holds {FILE_NAME}"
            )
        # Editors of Windows begin a file with a byte order mark (U+FEFF, RFC 3629, section 6); TOML knows none.
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        where = f"there is no {file.name} in {file.parent.resolve()}"
        if not file.parent.is_dir():
            raise ConfigError(
                f"there is no folder {file.parent}", remedy="change to the application's folder, or name it with -C"
            ) from None
        if file.is_symlink():
            where = f"{file} is a link to {os.readlink(file)}, where nothing is"
        raise ConfigError(
            where, remedy='write one that says app = "module:attribute", or run `fissile run module:attribute`'
        ) from None
    except NotADirectoryError:
        raise ConfigError(f"{file.parent} is not a folder", remedy=f"name the folder that holds {FILE_NAME}") from None
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{file} is not valid TOML: line {line} is not UTF-8", remedy="save it as UTF-8 in your editor"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}", remedy="mend that line") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", remedy="see its permissions") from None


def _mistaken(file: Path, mistakes: Iterable[str]) -> ConfigError:
    listed = "\n".join(f"  - {mistake}" for mistake in mistakes)
    return ConfigError(f"{file} has mistakes:\n{listed}", remedy="mend them; nothing was started")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The base with another table laid over it, key by key and table by table."""
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = merge(known, value) if is_table(known) and is_table(value) else value
    return merged


def resolve(settings: Settings, graph: Graph | None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings checked against the application, with the environment's overrides. graph: None where there is none.

    Raises ConfigError with all that names what is not there, used or not: components, services, topologies, variables;
    and with services that wait for each other.
    """
    environ = os.environ if environ is None else environ
    mistakes = told_once(
        list(misnamed(settings, graph)),
        {name: list(misnamed(other, graph)) for name, other in settings.profiles.items()},
    )
    variables = overrides(graph, environ, mistakes) if graph is not None else {}
    if mistakes:
        raise _mistaken(Path(settings.root) / FILE_NAME, mistakes)
    tables = {name: dict(table) for name, table in settings.components.items()}
    for (component, field), value in variables.items():
        tables.setdefault(component, {})[field] = value
    return msgspec.structs.replace(settings, components=tables)
