"""The API of a supervisor as an ASGI application: what runs, what happened, and the changes that people make.

The routes are in `routes`; here is what they share: who may ask, what an error becomes, and what becomes of those
who still wait when the supervisor ends. On the Unix socket, the folder's permissions say who may ask; on TCP, a token.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fissile.api.openapi import encoded
from fissile.api.operation import Handler
from fissile.api.problem import refusal, stopped, unauthorized, unknown_path, wrong_method
from fissile.api.routes.application import ApplicationRoutes
from fissile.api.routes.history import HistoryRoutes
from fissile.api.routes.releases import ReleaseRoutes
from fissile.api.routes.rollouts import RolloutRoutes
from fissile.api.routes.services import ServiceRoutes
from fissile.api.table import OPERATIONS
from fissile.rpc.access import token_digest
from fissile.supervisor.supervisor import Supervisor


class Api:
    """The operations on one supervisor. down: asks the process to end. token: for TCP; None asks for none."""

    def __init__(self, supervisor: Supervisor, down: Callable[[], None], token: str | None) -> None:
        self._routes = (
            ApplicationRoutes(supervisor, down),
            HistoryRoutes(supervisor),
            ReleaseRoutes(supervisor),
            RolloutRoutes(supervisor),
            ServiceRoutes(supervisor),
        )
        self._digest = None if token is None else token_digest(token)
        self._asked: set[asyncio.Future[Response]] = set()

    def end(self) -> None:
        """Tell everybody who still waits for an answer that the application is stopped."""
        for task in list(self._asked):
            task.cancel()

    def asgi(self) -> Starlette:
        """Make the ASGI application."""
        handlers = {name: getattr(one, name) for one in self._routes for name in OPERATIONS if hasattr(one, name)}
        routes = [
            Route(one.path, self._guarded(handlers[name], open_to_all=one.open), methods=[one.verb])
            for name, one in OPERATIONS.items()
        ]
        return Starlette(
            routes=[*routes, Route("/openapi.json", _openapi)],
            exception_handlers={404: unknown_path, 405: wrong_method},
        )

    def _guarded(self, handler: Handler, *, open_to_all: bool) -> Handler:
        async def answered(request: Request) -> Response:
            if not open_to_all and not self._authorized(request):
                return unauthorized()
            try:
                return await self._unless_it_ends(handler(request))
            except Exception as error:
                return refusal(error)

        return answered

    def _authorized(self, request: Request) -> bool:
        if self._digest is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Digests are compared, and in constant time: the time that it takes tells nothing of the token.
        known = hmac.compare_digest(token_digest(given.strip()), self._digest)
        return known and scheme.lower() == "bearer"

    async def _unless_it_ends(self, operation: Awaitable[Response]) -> Response:
        task = asyncio.ensure_future(operation)
        self._asked.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            # Two may have cancelled: the server, because the client is gone (raise on), or `end` (answer).
            asking = asyncio.current_task()
            if asking is None or asking.cancelling():
                raise
            return stopped()
        finally:
            self._asked.discard(task)


async def _openapi(request: Request) -> Response:
    """Answer this API's own document."""
    return Response(encoded(), media_type="application/json")
