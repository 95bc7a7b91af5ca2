"""Releases: those that are kept, who calls them, and the move from one to another."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from fissile.api.operation import Operation, answer, order, translated
from fissile.api.schema import Called, Deploy, DeployOrder, ReleaseInfo, RollbackOrder
from fissile.orchestrator import deploy_rules
from fissile.releases.release import Release
from fissile.supervisor.supervisor import Supervisor

OPERATIONS = {
    "release": Operation(
        "GET",
        "/release",
        "The running builds, or those of a kept release, with their parts and contracts",
        Release,
        query=("name",),
    ),
    "releases": Operation("GET", "/releases", "The kept releases, newest first", list[ReleaseInfo]),
    "callers": Operation(
        "GET",
        "/callers",
        "When methods were called over HTTP/JSON from outside, by Component.method",
        dict[str, Called],
    ),
    "deploy": Operation("POST", "/deploy", "Move the requests to the code in the folder", Deploy, DeployOrder),
    "rollback": Operation("POST", "/rollback", "Move the requests to an earlier release", Deploy, RollbackOrder),
}


class ReleaseRoutes:
    """Operations on releases. What reads the release store does so in a thread."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def release(self, request: Request) -> Response:
        """Answer the running release, or a kept one, as it is stored."""
        name = request.query_params.get("name", "")
        if name:
            return answer((await asyncio.to_thread(self._supervisor.store.find, name)).release)
        return answer(self._supervisor.operations.current_release())

    async def releases(self, request: Request) -> Response:
        """List the kept releases."""
        live = set(self._supervisor.operations.live_releases())
        lost = await self._supervisor.deployer.lost()
        found = [
            ReleaseInfo(
                name=kept.name,
                made=kept.made,
                topology=kept.release.topology,
                state="live" if kept.name in live else "kept",
                builds={service: build.name for service, build in kept.release.builds.items()},
                deployed=kept.deployed,
                lost=lost.get(kept.name, ()),
            )
            for kept in await asyncio.to_thread(self._supervisor.store.summaries)
        ]
        return answer(found)

    async def callers(self, request: Request) -> Response:
        """Answer who calls from outside."""
        return answer(translated(self._supervisor.operations.callers(), dict[str, Called]))

    async def deploy(self, request: Request) -> Response:
        """Begin a rollout of the code in the folder."""
        given = translated(await order(request, DeployOrder), deploy_rules.DeployOrder)
        return answer(translated(await self._supervisor.deployer.deploy(given), Deploy))

    async def rollback(self, request: Request) -> Response:
        """Begin a rollout of an earlier release; or abort the one under way, with nothing to answer."""
        given = translated(await order(request, RollbackOrder), deploy_rules.DeployOrder)
        begun = await self._supervisor.deployer.rollback(given)
        return answer(translated(begun, Deploy) if begun is not None else {})
