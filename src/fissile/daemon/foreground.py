"""An application in the foreground, until a signal ends it.

A monolith needs none of the platform: its sockets and components live in this process. Any other topology is a
supervisor and its replicas.
"""

from collections.abc import Callable

import uvloop

from fissile.daemon.monolith import MONOLITH, run_monolith
from fissile.daemon.supervision import run_services
from fissile.settings.schema import Settings
from fissile.supervisor.endpoints import Endpoints


def run(
    settings: Settings,
    topology: str,
    port: int | None,
    *,
    ready: Callable[[Endpoints], None],
    log: Callable[[str], None],
    direct: bool = False,
) -> None:
    """Run an application until it is told to stop.

    ready: called once everything is up. log: takes what people should know. direct: within one process, calls between
    components are plain calls; otherwise they pass values, errors and context exactly as a wire would.
    Raises FissileError.
    """
    if topology == MONOLITH and settings.app and not any(one.foreign for one in settings.services.values()):
        uvloop.run(run_monolith(settings, port, ready, log, copied=not direct))
    else:
        uvloop.run(run_services(settings, topology, port, ready, log))
