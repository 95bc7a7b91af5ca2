"""Answers visitors of a service that somebody has scaled to zero.

Its listeners stay open, so that nobody else gets their ports. While no replica accepts there, the supervisor does, and
says at once in HTTP what a request would have waited for in vain. Visitors are strangers: little of what they send is
read, and not for long.
"""

import asyncio
import socket
from contextlib import suppress

import msgspec

from fissile.rpc.absence import back
from fissile.rpc.listening import BACKLOG
from fissile.supervisor.state import SupervisorState

HEAD_BYTES_MAX = 8192
HEAD_SECONDS_MAX = 2.0
# For the answer to arrive before the connection is closed, which may throw away what is unread.
LINGER_SECONDS_MAX = 1.0
CONNECTIONS_MAX = 64
RETRY_AFTER_SECONDS = 10


class Notice(msgspec.Struct, frozen=True, eq=False):
    """What is said at a listening socket: why, and what to do."""

    sock: socket.socket
    why: str
    remedy: str


def notices(state: SupervisorState) -> dict[int, Notice]:
    """What to say at the listeners of services that are scaled to zero, by descriptor.

    A service is among them once no replica of it accepts any more: two who accept at one socket take turns.
    """
    found: dict[int, Notice] = {}
    asleep = state.app.router().asleep()
    for service in state.sets.live().values() if asleep else ():
        why = asleep.get(service.name)
        if why is not None:
            for sock in (*((service.gateway,) if service.gateway is not None else ()), *service.public.values()):
                found[sock.fileno()] = Notice(sock, f"{service.name} {why}", back(service.name))
    return found


class UnavailableResponder:
    """Answers at listening sockets in place of replicas that are not there."""

    def __init__(self) -> None:
        self._answering: dict[int, asyncio.Task[None]] = {}
        # The eldest first: where there are too many, who has been there longest goes.
        self._open: dict[asyncio.StreamWriter, None] = {}

    def follow(self, notices: dict[int, Notice]) -> None:
        """Answer at these sockets, by descriptor, and at no others."""
        for key in [key for key in self._answering if key not in notices]:
            self._answering.pop(key).cancel()
        for key, notice in notices.items():
            if key not in self._answering:
                # The descriptor is one of our own: the listener itself stays open when this ends.
                own = notice.sock.dup()
                self._answering[key] = asyncio.get_running_loop().create_task(self._answer(own, notice))

    async def _answer(self, sock: socket.socket, notice: Notice) -> None:
        answer = _response(notice)

        async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(self._open) >= CONNECTIONS_MAX:
                eldest = next(iter(self._open))
                del self._open[eldest]
                eldest.transport.abort()
            self._open[writer] = None
            try:
                await _tell(reader, writer, answer)
            finally:
                self._open.pop(writer, None)
                writer.transport.abort()

        with sock:
            server = await asyncio.start_server(meet, sock=sock, limit=HEAD_BYTES_MAX, backlog=BACKLOG)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                server.close()


async def _tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
    """Answer once the request's head is there, or once that takes too long or too much."""
    with suppress(OSError, EOFError, asyncio.LimitOverrunError, TimeoutError):
        async with asyncio.timeout(HEAD_SECONDS_MAX):
            await reader.readuntil(b"\r\n\r\n")
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS_MAX):
            writer.write(answer)
            await writer.drain()
            writer.write_eof()
            while await reader.read(HEAD_BYTES_MAX):
                pass


def _response(notice: Notice) -> bytes:
    """A problem document (RFC 9457) as a whole answer (RFC 9112)."""
    body = msgspec.json.encode(
        {
            "type": "urn:fissile:error:unavailable",
            "title": "unavailable",
            "status": 503,
            "detail": notice.why,
            "remedy": notice.remedy,
            "retry_after_seconds": RETRY_AFTER_SECONDS,
        }
    )
    return (
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n"
        b"retry-after: %d\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (RETRY_AFTER_SECONDS, len(body))
    ) + body
