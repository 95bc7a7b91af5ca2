"""The table of all operations, by name."""

from fissile.api.operation import Operation
from fissile.api.routes import application, history, releases, rollouts, services

OPERATIONS: dict[str, Operation] = {
    **application.OPERATIONS,
    **history.OPERATIONS,
    **releases.OPERATIONS,
    **rollouts.OPERATIONS,
    **services.OPERATIONS,
}
