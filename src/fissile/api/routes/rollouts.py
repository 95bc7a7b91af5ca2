"""Rollouts under way: how one stands, and what a person decides about it."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from fissile.api.operation import Operation, answer, order, translated, whole
from fissile.api.schema import DecideOrder, Outcome
from fissile.supervisor.supervisor import Supervisor

OPERATIONS = {
    "outcome": Operation("GET", "/rollouts/{number}", "The result of a rollout, or its progress", Outcome),
    "promote": Operation("POST", "/promote", "Give every request to the new release", None, DecideOrder),
    "abort": Operation("POST", "/abort", "Roll back to the old release", None, DecideOrder),
}


class RolloutRoutes:
    """Operations on rollouts."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def outcome(self, request: Request) -> Response:
        """Answer how a rollout stands; of an old one, the journal knows."""
        number = whole(request.path_params["number"], "the number of a rollout")
        return answer(translated(await asyncio.to_thread(self._supervisor.rollouts.outcome, number), Outcome))

    async def promote(self, request: Request) -> Response:
        """Promote the rollout under way."""
        given = await order(request, DecideOrder)
        await self._supervisor.rollouts.promote(given.rollout, who=given.who, why=given.why)
        return answer({})

    async def abort(self, request: Request) -> Response:
        """Abort the rollout under way."""
        given = await order(request, DecideOrder)
        await self._supervisor.rollouts.abort(given.rollout, who=given.who, why=given.why)
        return answer({})
