"""The application as a whole: whether its supervisor answers, what runs, and the end of all."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from fissile.api.operation import Operation, answer, order, translated
from fissile.api.schema import DownOrder, Health, SupervisorStatus
from fissile.supervisor.supervisor import Supervisor

ANSWER_SECONDS = 0.05

OPERATIONS = {
    "health": Operation("GET", "/health", "Whether the supervisor answers; HEAD too", Health, open=True),
    "status": Operation("GET", "/status", "What runs now", SupervisorStatus),
    "down": Operation("POST", "/down", "Stop everything, in order", None, DownOrder),
}


class ApplicationRoutes:
    """Operations on the application. down: asks the process to end."""

    def __init__(self, supervisor: Supervisor, down: Callable[[], None]) -> None:
        self._supervisor = supervisor
        self._down = down

    async def health(self, request: Request) -> Response:
        """Answer that the supervisor does."""
        return answer(Health())

    async def status(self, request: Request) -> Response:
        """Answer what runs now."""
        return answer(translated(self._supervisor.status(), SupervisorStatus))

    async def down(self, request: Request) -> Response:
        """Record who stops the application, and begin to stop it."""
        given = await order(request, DownOrder)
        await self._supervisor.parts.shutdown.mark_stopped(who=given.who, why=given.why)
        # The answer goes first: ending closes the connection that it takes.
        asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._down)
        return answer({})
