"""The log files of an application, read where they are: a supervisor is not asked, and need not run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fissile.errors import ConfigError
from fissile.machine.log_lines import seconds_of as seconds_of
from fissile.machine.log_lines import stamp
from fissile.machine.logreader import Reader, Wanted, files_of
from fissile.machine.logreader import Row as Row
from fissile.machine.logreader import service_of as service_of
from fissile.machine.spools import OUTPUT
from fissile.supervisor.endpoints import ENDPOINTS, LOGS, nothing_runs, state_of


def open_logs(
    folder: Path,
    names: Sequence[str] = (),
    *,
    since: float | None = None,
    until: float | None = None,
    trace: bytes = b"",
    last: int | None = None,
) -> Reader:
    """The lines of an application's logs, by time.

    names: of services, components or replicas (images.0); none: all. since, until: seconds since 1970. trace: 32
    hexadecimal digits of one request. last: so many lines at the end. Raises ConfigError if there are no logs, or none
    of such a name.
    """
    state = state_of(folder)
    wanted = Wanted(
        b"" if since is None else stamp(since),
        b"" if until is None else stamp(until),
        trace,
        last,
    )
    return Reader(state / LOGS, state / OUTPUT, wanted, _chosen(state, folder, names))


def _chosen(state: Path, folder: Path, names: Sequence[str]) -> Callable[[str], bool]:
    """Whether the lines of a log are wanted. Raises ConfigError for a name that no log has."""
    try:
        found = files_of(state / LOGS)
    except OSError:
        if not folder.is_dir():
            raise nothing_runs(folder) from None
        raise ConfigError(
            f"there are no log files in {folder.resolve()}",
            remedy="`fissile up` writes them; `fissile run` prints to its own terminal",
        ) from None
    if not names:
        return lambda name: True
    places = _places(state)
    wanted = {places.get(name, name) for name in names}
    known = {service_of(name) for name in found} | found.keys() | set(places.values())
    unknown = sorted(wanted - known)
    if unknown:
        there = ", ".join(sorted({service_of(name) for name in known}))
        raise ConfigError(f"there is no log of {', '.join(unknown)}", remedy=f"there are logs of {there or 'nobody'}")
    return lambda name: name in wanted or service_of(name) in wanted


def _places(state: Path) -> dict[str, str]:
    """The service of each component, and of each service, of what ran last.

    Read without its struct: logs are shown whichever version wrote the file, and in whatever state it is.
    """
    import json

    try:
        services: dict[str, Any] = json.loads((state / ENDPOINTS).read_bytes())["services"]
        components = {one: name for name, service in services.items() for one in service["components"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return components | {name: name for name in services}
