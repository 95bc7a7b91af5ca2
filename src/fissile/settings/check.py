"""What is wrong with fissile.toml by itself.

An unknown key is an error that lists the allowed ones: a setting that is silently ignored is found at 3 a.m.
"""

import difflib
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

import msgspec

from fissile.component.topology import BUILT_IN
from fissile.settings.schema import (
    FOREIGN,
    OURS,
    SERVICE_NAME,
    CallSettings,
    LimitSettings,
    MachineSettings,
    ReleaseSettings,
    ScaleSettings,
    ServiceSettings,
    Settings,
)

TOP = ("app", "topology", "calls", "machine", "releases", "topologies", "services", "components", "profiles")
PROFILE = tuple(key for key in TOP if key not in ("app", "profiles"))


def told_once(mistakes: list[str], others: Mapping[str, list[str]]) -> list[str]:
    """The mistakes of the settings that are used, and those that only another profile has ("": none)."""
    told = list(mistakes)
    for profile, more in others.items():
        told += [
            f"{mistake} (with the profile {profile})" if profile else mistake
            for mistake in more
            if not any(known.startswith(mistake) for known in told)
        ]
    return told


def unsound(settings: Settings) -> list[str]:
    """What is wrong with settings as a whole, though each of them could be."""
    services = settings.services.items()
    crowded = [_crowded(name, one) for name, one in services if _wanted_most(one) > one.replicas_most]
    return [*crowded, *(mistake for name, one in services for mistake in _check_code(name, one))]


def _wanted_most(service: ServiceSettings) -> int:
    return max(service.replicas, service.scale.max if service.scale is not None else 1)


def _crowded(name: str, service: ServiceSettings) -> str:
    return (
        f"[services.{name}] asks for {_wanted_most(service)} replicas at port {service.port}, which only one can have: "
        'leave `port` out, so that each gets one, or share it with ports = "inherited" or "reuseport"'
    )


def _check_code(name: str, service: ServiceSettings) -> Iterable[str]:
    if service.code is not None and not service.foreign:
        yield (
            f"[services.{name}] has `code`, which is for command, asgi and wsgi: the code of components is what they "
            "reach; leave it out"
        )
    for pattern in service.code or ():
        if not pattern.strip("!/ ") or pattern.startswith("#"):
            yield f"`code` in [services.{name}] has {pattern!r}, which names no files"
        elif ".." in pattern.split("/"):
            yield f"`code` in [services.{name}] has {pattern!r}, which leads out of the folder: code is what is in it"


def has_foreign(*tables: object) -> bool:
    """Whether some service is something else than Python components."""
    for table in tables:
        services = table.get("services") if is_table(table) else None
        for service in services.values() if is_table(services) else ():
            if is_table(service) and any(key in service for key in FOREIGN):
                return True
    return False


def is_table(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a value of TOML is a table."""
    return isinstance(value, dict)


def check_tables(table: object, allowed: tuple[str, ...], where: str) -> list[str]:
    """The mistakes of the whole file, or of one profile."""
    if not is_table(table):
        return [f"[{where}] is not a table"]
    prefix = f"{where}." if where else ""
    mistakes = _unknown(table, allowed, where)
    for key in ("app", "topology"):
        if key in table and not (isinstance(table[key], str) and table[key]):
            mistakes.append(f"`{prefix}{key}` is not text: write it in quotation marks")
    if "calls" in table:
        mistakes += _check_struct(table["calls"], CallSettings, f"{prefix}calls")
    if "machine" in table:
        mistakes += _check_struct(table["machine"], MachineSettings, f"{prefix}machine")
    if "releases" in table:
        mistakes += _check_struct(table["releases"], ReleaseSettings, f"{prefix}releases")
    for name, service in _tables(table, "services", prefix, mistakes):
        mistakes += _check_service(name, service, f"{prefix}services.{name}")
    for name, services in _tables(table, "topologies", prefix, mistakes):
        mistakes += _check_topology(name, services, f"{prefix}topologies.{name}")
    for name, component in _tables(table, "components", prefix, mistakes):
        if not is_table(component):
            mistakes.append(f"[{prefix}components.{name}] is not a table")
    return mistakes


def _tables(table: dict[str, Any], key: str, prefix: str, mistakes: list[str]) -> list[tuple[str, object]]:
    found = table.get(key, {})
    if not is_table(found):
        mistakes.append(f"[{prefix}{key}] is not a table: write [{prefix}{key}.NAME]")
        return []
    return list(found.items())


def _check_struct(table: object, kind: type[msgspec.Struct], where: str) -> list[str]:
    """Every unknown key and every wrong value, not only the first."""
    if not is_table(table):
        return [f"[{where}] is not a table"]
    mistakes = _unknown(table, kind.__struct_fields__, where)
    for field in msgspec.structs.fields(kind):
        if field.name in table:
            try:
                msgspec.convert(table[field.name], field.type)
            except msgspec.ValidationError as error:
                mistakes.append(f"`{field.name}` in [{where}] is {table[field.name]!r}: {error}")
    return mistakes


def _check_service(name: str, table: object, where: str) -> list[str]:
    mistakes = _check_struct(table, ServiceSettings, where)
    if not is_table(table):
        return mistakes
    if SERVICE_NAME.fullmatch(name) is None:
        mistakes.append(f"{name!r} in [{where}] is not a valid service name: use small letters, digits, - and _")
    for key, kind in (("scale", ScaleSettings), ("limits", LimitSettings)):
        if is_table(table.get(key)):
            # Said once, and with the table's own name.
            mistakes = [mistake for mistake in mistakes if not mistake.startswith(f"`{key}` in [{where}]")]
            mistakes += _check_struct(table[key], kind, f"{where}.{key}")
    scale = table.get("scale")
    low, high = (scale.get("min", 1), scale.get("max", 1)) if is_table(scale) else (1, 1)
    if isinstance(low, int) and isinstance(high, int) and low > high:
        mistakes.append(f"[{where}.scale] has min above max: write the greater one as max")
    mistakes += [f"{mistake} in [{where}]" for mistake in _misused(table)]
    several = [key for key in FOREIGN if table.get(key)]
    if len(several) > 1:
        mistakes.append(f"[{where}] has {' and '.join(several)}: a service is one of them")
    return mistakes


def _misused(table: Mapping[str, Any]) -> Iterator[str]:
    """Texts of a service that are no mistake of type, and cannot mean anything."""
    command, ready, environment = table.get("command"), table.get("ready"), table.get("environment")
    if isinstance(command, str):
        try:
            if "command" in table and not shlex.split(command):
                yield "`command` names no program"
        except ValueError as error:
            yield f"`command` is {command!r}: {error}"
    for kind in ("asgi", "wsgi"):
        target = table.get(kind)
        if isinstance(target, str) and not all(target.partition(":")[::2]):
            yield f'`{kind}` is {target!r}: write {kind} = "module:attribute"'
    if isinstance(ready, str) and ready not in ("", "tcp") and not ready.startswith("/"):
        yield f'`ready` is {ready!r}: write a path as "/health", or "tcp"'
    for name, value in environment.items() if is_table(environment) else ():
        if not name or "=" in name or "\0" in name:
            yield f"{name!r} is not a valid variable name: `environment`"
        elif isinstance(value, str) and "\0" in value:
            yield f"`environment` has a zero byte in {name}, which no variable can hold:"
        elif name.startswith(OURS) or name in ("LISTEN_FDS", "LISTEN_PID"):
            yield f"{name} is Fissile's own to set: leave it out of `environment`"
        elif name == "PORT" and isinstance(command, str) and command:
            yield "PORT in `environment` is where Fissile expects the program: write `port` instead"


def _check_topology(name: str, services: object, where: str) -> list[str]:
    if name in BUILT_IN:
        return [f"[{where}] is built in: choose another name"]
    if not is_table(services):
        return [f'[{where}] is not a table: write service = ["Component", ...] in it']
    mistakes: list[str] = []
    for service, components in services.items():
        if SERVICE_NAME.fullmatch(service) is None:
            mistakes.append(f"{service!r} in [{where}] is not a valid service name: use small letters, digits, - and _")
        try:
            msgspec.convert(components, list[str])
        except msgspec.ValidationError:
            mistakes.append(f'`{service}` in [{where}] is not a list of names: write {service} = ["Component", ...]')
    return mistakes


def _unknown(table: Mapping[str, Any], allowed: Iterable[str], where: str) -> list[str]:
    place = f"in [{where}]" if where else "at the top"
    allowed = tuple(allowed)
    return [
        f"unknown key {key!r} {place}{near(key, allowed)}; allowed are: {', '.join(allowed)}"
        for key in table
        if key not in allowed
    ]


def near(word: str, known: Iterable[str]) -> str:
    """A hint at the name that was probably meant; "" where none is like it."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def listed(known: Iterable[str]) -> str:
    """The names that there are, for an error."""
    return f"there are {', '.join(known)}" if known else "there are none"
