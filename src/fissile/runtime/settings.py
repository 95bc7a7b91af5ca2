"""fissile.toml: read strictly, every mistake reported at once.

An unknown key is an error that lists the allowed ones: a setting that is silently ignored is found
at 3 a.m. Profiles are merged over the base table by table; environment variables named
FISSILE_<COMPONENT>_<FIELD> come last.
"""

import difflib
import os
import re
import shlex
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, cast

import msgspec

from fissile.component.graph import Graph
from fissile.component.topology import BUILT_IN, mistakes_in, topology_for
from fissile.errors import ConfigError
from fissile.rpc.server import DEFAULT_CONCURRENCY, DEFAULT_QUEUE
from fissile.runtime.host import field_names
from fissile.runtime.named import as_named

FILE_NAME = "fissile.toml"
REPLICAS_MAX = 1000
FOREIGN = ("command", "asgi", "wsgi")
# Variables of Fissile: its own, and those that set fields of components.
OURS = "FISSILE_"
SERVICE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")  # also a file's name, and what `ps` shows

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class CallSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[calls]: timeout_seconds is the deadline of methods that name none."""

    timeout_seconds: Seconds = 10.0


class MachineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[machine]: cores that automatic scaling may fill (0: all there are); port of the supervisor's API (0: any)."""

    cores: Annotated[int, msgspec.Meta(ge=0)] = 0
    api_port: Port = 0


class ReleaseSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[releases]: how many are kept with their code for a rollback, beside those that serve."""

    keep: Annotated[int, msgspec.Meta(ge=1)] = 10


class ScaleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[services.NAME.scale]: how many replicas automatic scaling may choose, and by what.

    target: calls in flight and waiting that one replica is meant for. weight: its share of the machine's
    cores when there are too few. idle_seconds: with min = 0, how long nothing happens before it sleeps.
    """

    min: Annotated[int, msgspec.Meta(ge=0, le=REPLICAS_MAX)] = 1
    max: Annotated[int, msgspec.Meta(ge=1, le=REPLICAS_MAX)] = 1
    target: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    weight: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    idle_seconds: Seconds = 60.0


class LimitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[services.NAME.limits]: what each replica may use.

    memory: as "256M". cpu: cores. files, processes: counts. disk: the folders that it may write to, from
    fissile.toml on; without it, all that its user may.
    """

    memory: str | int | None = None
    cpu: Annotated[float, msgspec.Meta(gt=0)] | None = None
    files: Count | None = None
    processes: Count | None = None
    disk: tuple[str, ...] | None = None


class ServiceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[services.NAME].

    replicas; calls at once (concurrency) and waiting (queue) in each; gateway port (0: any). command: run
    this program instead of Python components; asgi, wsgi: or this "module:attribute" that knows nothing of
    Fissile. folder: where it runs, from fissile.toml on. code: patterns as in .gitignore, of the files that are its
    code; None: what git tracks, else what is not ignored. environment: of it alone. ready: a path that
    answers 200 when it serves, or "tcp". ports: a port for "each" replica, or one that all inherit
    ("inherited", by LISTEN_FDS) or bind together ("reuseport"). calls: components that a program may call.
    after: services that are to be ready before it starts. overlap: whether a restart may run the new
    program beside the old one; not by default where `port` is fixed.
    stop_signal: by which a program ends in order. isolate: confine it (docs/reference/isolation.md), as `limits.disk`
    does too. user: run it, confined, as this user; only root can. The seconds are limits: until ready; for finishing
    what is in flight; for having all places held by calls whose time is up.
    """

    replicas: Annotated[int, msgspec.Meta(ge=1, le=REPLICAS_MAX)] = 1
    concurrency: Count = DEFAULT_CONCURRENCY
    queue: Annotated[int, msgspec.Meta(ge=0)] = DEFAULT_QUEUE
    port: Port = 0
    scale: ScaleSettings | None = None
    limits: LimitSettings = LimitSettings()
    spawn: bool = False
    command: str = ""
    asgi: str = ""
    wsgi: str = ""
    folder: str = "."
    code: tuple[str, ...] | None = None
    environment: dict[str, str] = {}
    ready: str = ""
    ports: Literal["each", "inherited", "reuseport"] = "each"
    calls: list[str] = []
    after: list[str] = []
    overlap: bool | None = None
    isolate: bool = False
    user: str = ""
    stop_signal: Literal["TERM", "INT", "QUIT", "HUP"] = "TERM"
    start_seconds: Seconds = 30.0
    drain_seconds: Seconds = 10.0
    stuck_seconds: Seconds = 30.0

    @property
    def guest(self) -> str:
        """ "asgi" or "wsgi" where it is an application that knows nothing of Fissile, else ""."""
        return "asgi" if self.asgi else "wsgi" if self.wsgi else ""

    @property
    def replicas_most(self) -> int:
        """How many there may be: one where a program has a fixed port that it shares with nobody."""
        return 1 if self.command and self.port and self.ports == "each" else REPLICAS_MAX

    @property
    def foreign(self) -> bool:
        """Whether it is something else than Python components."""
        return bool(self.command or self.asgi or self.wsgi)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What fissile.toml says, with a profile and the environment applied.

    app: "" where there are only services in other technologies. root: its folder; named: the same as it was named,
    which may be a link that is switched one day. file, profile: what was read ("": neither). profiles: the same with
    each of the other profiles instead, so that their mistakes are told, too.
    """

    app: str = ""
    root: str = ""
    named: str = ""
    file: str = ""
    profile: str = ""
    topology: str = "monolith"
    calls: CallSettings = CallSettings()
    machine: MachineSettings = MachineSettings()
    releases: ReleaseSettings = ReleaseSettings()
    topologies: dict[str, dict[str, list[str]]] = {}
    services: dict[str, ServiceSettings] = {}
    components: dict[str, dict[str, Any]] = {}
    profiles: dict[str, "Settings"] = {}

    def service(self, name: str) -> ServiceSettings:
        """The settings of a service, or the defaults."""
        return self.services.get(name, ServiceSettings())

    @property
    def lone_guest(self) -> ServiceSettings | None:
        """The asgi or wsgi service that is all there is: it is imported by the zygote, in its own environment."""
        services = list(self.services.values())
        return services[0] if not self.app and len(services) == 1 and services[0].guest else None


_TOP = ("app", "topology", "calls", "machine", "releases", "topologies", "services", "components", "profiles")
_PROFILE = tuple(key for key in _TOP if key not in ("app", "profiles"))


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
    mistakes = _check_tables(raw, _TOP, "")
    if not isinstance(profiles, dict):
        mistakes.append("[profiles] is not a table: write [profiles.NAME]")
        profiles = {}
    profiles = cast(dict[str, Any], profiles)
    for name, table in profiles.items():
        mistakes += _check_tables(table, _PROFILE, f"profiles.{name}")
    if "app" not in raw and not _has_foreign(raw, profiles.get(profile or "")):
        mistakes.append('`app` is missing: write app = "module:attribute", or a service with command, asgi or wsgi')
    if profile is not None and profile not in profiles:
        mistakes.append(f"there is no profile {profile!r}{_near(profile, profiles)}: {_listed(profiles)}")
    if mistakes:
        raise _mistaken(file, mistakes)
    # Each table was checked by itself, so only a mistake of ours could be found now.
    where = {"root": str(file.parent.resolve()), "named": str(as_named(file.parent)), "file": file.name}
    every = {
        name: msgspec.convert({**(merge(raw, profiles[name]) if name else raw), **where, "profile": name}, Settings)
        for name in ("", *profiles)
    }
    chosen = every.pop(profile or "")
    mistakes = told_once(_values(chosen), {name: _values(other) for name, other in every.items()})
    if mistakes:
        raise _mistaken(file, mistakes)
    return msgspec.structs.replace(chosen, profiles=every)


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


def _values(settings: Settings) -> list[str]:
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


def _has_foreign(*tables: object) -> bool:
    """Whether some service is something else than Python components."""
    for table in tables:
        services = table.get("services") if _is_table(table) else None
        for service in services.values() if _is_table(services) else ():
            if _is_table(service) and any(key in service for key in FOREIGN):
                return True
    return False


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
        merged[key] = merge(known, value) if _is_table(known) and _is_table(value) else value
    return merged


def _is_table(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _check_tables(table: object, allowed: tuple[str, ...], where: str) -> list[str]:
    """The mistakes of the whole file, or of one profile."""
    if not _is_table(table):
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
        if not _is_table(component):
            mistakes.append(f"[{prefix}components.{name}] is not a table")
    return mistakes


def _tables(table: dict[str, Any], key: str, prefix: str, mistakes: list[str]) -> list[tuple[str, object]]:
    found = table.get(key, {})
    if not _is_table(found):
        mistakes.append(f"[{prefix}{key}] is not a table: write [{prefix}{key}.NAME]")
        return []
    return list(found.items())


def _check_struct(table: object, kind: type[msgspec.Struct], where: str) -> list[str]:
    """Every unknown key and every wrong value, not only the first."""
    if not _is_table(table):
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
    if not _is_table(table):
        return mistakes
    if SERVICE_NAME.fullmatch(name) is None:
        mistakes.append(f"{name!r} in [{where}] is not a valid service name: use small letters, digits, - and _")
    for key, kind in (("scale", ScaleSettings), ("limits", LimitSettings)):
        if _is_table(table.get(key)):
            # Said once, and with the table's own name.
            mistakes = [mistake for mistake in mistakes if not mistake.startswith(f"`{key}` in [{where}]")]
            mistakes += _check_struct(table[key], kind, f"{where}.{key}")
    scale = table.get("scale")
    low, high = (scale.get("min", 1), scale.get("max", 1)) if _is_table(scale) else (1, 1)
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
    for name, value in environment.items() if _is_table(environment) else ():
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
    if not _is_table(services):
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
        f"unknown key {key!r} {place}{_near(key, allowed)}; allowed are: {', '.join(allowed)}"
        for key in table
        if key not in allowed
    ]


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _listed(known: Iterable[str]) -> str:
    return f"there are {', '.join(known)}" if known else "there are none"


def resolve(settings: Settings, graph: Graph | None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings checked against the application, with the environment's overrides. graph: None where there is none.

    Raises ConfigError with all that names what is not there, used or not: components, services, topologies, variables;
    and with services that wait for each other.
    """
    environ = os.environ if environ is None else environ
    mistakes = told_once(
        list(_misnamed(settings, graph)),
        {name: list(_misnamed(other, graph)) for name, other in settings.profiles.items()},
    )
    overrides = _overrides(graph, environ, mistakes) if graph is not None else {}
    if mistakes:
        raise _mistaken(Path(settings.root) / FILE_NAME, mistakes)
    tables = {name: dict(table) for name, table in settings.components.items()}
    for (component, field), value in overrides.items():
        tables.setdefault(component, {})[field] = value
    return msgspec.structs.replace(settings, components=tables)


def _misnamed(settings: Settings, graph: Graph | None) -> Iterator[str]:
    """Mistakes that only the application shows."""
    components = list(graph.components) if graph is not None else []
    for name in settings.components:
        if name not in components:
            yield f"[components.{name}] is no component{_near(name, components)}: {_listed(components)}"
    services = _all_services(settings, graph)
    for name, service in settings.services.items():
        if name not in services and not service.foreign:
            yield f"[services.{name}] is a service of no topology{_near(name, services)}: {_listed(services)}"
        kinds = (
            ("calls", service.calls, "component", components),
            ("after", service.after, "service", [*dict.fromkeys([*services, *settings.services])]),
        )
        for key, others, kind, known in kinds:
            for other in others:
                if other not in known:
                    near = _near(other, known)
                    yield f"[services.{name}] has {key} = {other!r}, which is no {kind}{near}: {_listed(known)}"
    if settings.topology not in (*BUILT_IN, *settings.topologies):
        known = [*BUILT_IN, *settings.topologies]
        near = _near(settings.topology, known)
        yield f"`topology` is {settings.topology!r}, which does not exist{near}: {_listed(known)}"
    for name, grouping in settings.topologies.items():
        if graph is None:
            yield f"[topologies.{name}] groups components, but there is no `app` that has some"
        else:
            yield from (f"[topologies.{name}]: {mistake}" for mistake in mistakes_in(graph, grouping))
    yield from dict.fromkeys(_circles(settings, graph))


def _all_services(settings: Settings, graph: Graph | None) -> list[str]:
    """Those that consist of components in some topology."""
    found: dict[str, None] = {}
    if graph is not None:
        found |= dict.fromkeys(service for name in BUILT_IN for service in topology_for(graph, name, {}).services)
    for services in settings.topologies.values():
        found |= dict.fromkeys(services)
    return list(found)


def standing_alone(settings: Settings, graph: Graph | None) -> list[str]:
    """The services that consist of no components in any topology: databases, programs, applications of others."""
    grouped = set(_all_services(settings, graph)) if graph is not None else set[str]()
    return [name for name, one in settings.services.items() if one.foreign and name not in grouped]


def ready_before(settings: Settings, services: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """For each of these services, with their components, those that are to be ready before it starts.

    Programs that stand alone come before all others: a database has to be there before those who use it.
    """
    alone = [name for name, components in services.items() if not components and settings.service(name).command]
    found: dict[str, list[str]] = {}
    for name in services:
        after = [*settings.service(name).after, *(alone if name not in alone else ())]
        found[name] = [other for other in dict.fromkeys(after) if other in services and other != name]
    return found


def _circles(settings: Settings, graph: Graph | None) -> Iterator[str]:
    """Services that wait for each other in some topology, so that none of them would ever start."""
    alone = dict.fromkeys(standing_alone(settings, graph), ())
    groupings: list[Mapping[str, Iterable[str]]] = [alone]
    if graph is not None:
        named = [name for name, grouping in settings.topologies.items() if not mistakes_in(graph, grouping)]
        groupings = [topology_for(graph, name, settings.topologies).services for name in (*BUILT_IN, *named)]
    for services in groupings:
        circle = _circle(ready_before(settings, {**alone, **services}))
        if circle:
            waits = ", ".join(f"{name} after {other}" for name, other in pairwise([*circle, circle[0]]))
            yield f"none could start first: {waits}; programs without components start before all others: mend `after`"


def _circle(before: Mapping[str, Iterable[str]]) -> list[str]:
    """Names each of which has the next among those before it, and the last one the first; empty: there are none."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name not in done:
            for other in before.get(name, ()):
                if found := follow(other, [*path, name]):
                    return found
            done.add(name)
        return []

    for name in before:
        if found := follow(name, []):
            return found
    return []


def _overrides(graph: Graph, environ: Mapping[str, str], mistakes: list[str]) -> dict[tuple[str, str], str]:
    """Values by component and field; a variable of a component that has no such field is a mistake."""
    variables = {
        f"FISSILE_{name}_{field}".upper(): (name, field)
        for name, component in graph.components.items()
        for config in component.configs
        for field in field_names(config.type)
    }
    prefixes = tuple({f"FISSILE_{name}_".upper() for name, _ in variables.values()})
    for variable in environ:
        if variable.startswith(prefixes) and variable not in variables:
            known = _near(variable, variables)
            mistakes.append(f"the environment's {variable} is no component's field{known}: {_listed(variables)}")
    return {where: environ[variable] for variable, where in variables.items() if variable in environ}
