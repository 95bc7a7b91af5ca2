"""Services: new replicas of the same release, and how many there are."""

from starlette.requests import Request
from starlette.responses import Response

from fissile.api.operation import Operation, answer, order, translated
from fissile.api.schema import Done, Restarted, RestartOrder, ScaleOrder
from fissile.machine.environment import sent
from fissile.supervisor.supervisor import Supervisor

OPERATIONS = {
    "restart": Operation(
        "POST",
        "/services/{service}/restart",
        "Replace the replicas without losing a request; what is read at import is read again",
        Restarted,
        RestartOrder,
    ),
    "restart_all": Operation("POST", "/restart", "The same for all services, callees first", Restarted, RestartOrder),
    "scale": Operation("POST", "/services/{service}/scale", "Set the number of replicas", Done, ScaleOrder),
}


class ServiceRoutes:
    """Operations on services."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def restart(self, request: Request) -> Response:
        """Restart a service, and answer when all its replicas are replaced."""
        return await self._restart(request, request.path_params["service"])

    async def restart_all(self, request: Request) -> Response:
        """Restart every service in turn."""
        return await self._restart(request, "")

    async def _restart(self, request: Request, service: str) -> Response:
        given = await order(request, RestartOrder)
        environment = sent(given.environment, "restart --update-env")
        done = await self._supervisor.operations.restart(
            service, who=given.who, why=given.why, environment=environment, packages=given.packages
        )
        return answer(translated(done, Restarted))

    async def scale(self, request: Request) -> Response:
        """Scale a service; the answer does not wait for its replicas."""
        given = await order(request, ScaleOrder)
        service = request.path_params["service"]
        low, high = given.min, given.max
        if given.auto:
            low, high = self._supervisor.operations.bounds(service)
        elif given.replicas is not None:
            low = high = given.replicas
        if low is None or high is None:
            raise ValueError("give replicas, or min and max, or auto")
        await self._supervisor.operations.scale(service, low, high, who=given.who, why=given.why)
        return answer(Done(self._supervisor.operations.wanted(service)))
