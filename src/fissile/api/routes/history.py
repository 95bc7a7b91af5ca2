"""What happened, from the journal: as a list, or as it goes on."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fissile.api.operation import Operation, answer, translated, whole
from fissile.api.schema import HISTORY_MAX, Entry
from fissile.supervisor.supervisor import Supervisor

EVENTS_POLL_SECONDS = 0.2

OPERATIONS = {
    "history": Operation(
        "GET", "/history", "What happened, oldest first", list[Entry], query=("service", "after", "limit")
    ),
    "events": Operation("GET", "/events", "What happens, as server-sent events", None, query=("service", "after")),
}


class HistoryRoutes:
    """Operations that read the journal. They do so in a thread: each may wait for the disk."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def history(self, request: Request) -> Response:
        """Answer the newest entries, or those after one."""
        query = request.query_params
        limit = min(whole(query.get("limit", "100"), "limit", least=1), HISTORY_MAX)
        return answer(await self._entries(query.get("service", ""), whole(query.get("after", "0"), "after"), limit))

    async def events(self, request: Request) -> Response:
        """Stream entries from now on, or from the one that the client saw last."""
        service = request.query_params.get("service", "")
        after = request.query_params.get("after") or request.headers.get("last-event-id")
        if after is None:
            newest = await self._entries(service, 0, 1)
            after = str(newest[-1].id if newest else 0)
        return StreamingResponse(self._stream(service, whole(after, "after")), media_type="text/event-stream")

    async def _entries(self, service: str, after: int, limit: int) -> list[Entry]:
        journal = self._supervisor.journal

        def read() -> list[Entry]:
            return translated(journal.history(service=service, after=after, limit=limit), list[Entry])

        return await asyncio.to_thread(read)

    async def _stream(self, service: str, after: int) -> AsyncIterator[bytes]:
        yield b": what happens from now on\n\n"
        while True:
            for entry in await self._entries(service, after, HISTORY_MAX):
                after = entry.id
                yield b"id: %d\nevent: %s\ndata: %s\n\n" % (entry.id, entry.kind.encode(), msgspec.json.encode(entry))
            await asyncio.sleep(EVENTS_POLL_SECONDS)
