"""How connections are accepted."""

import asyncio
import socket

from fissile.rpc.listening import accept_on


async def test_answers_are_not_held_back() -> None:
    """Nagle's algorithm is off, on asyncio's own loop and for a socket that does not know that it is TCP, too."""
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    class Door(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            sock = transport.get_extra_info("socket")
            accepted.set_result(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    sock = socket.create_server(("127.0.0.1", 0))
    assert sock.proto == 0
    server = await accept_on(sock, Door)
    _, writer = await asyncio.open_connection(*sock.getsockname())
    async with asyncio.timeout(5.0):
        assert await accepted != 0
    writer.close()
    server.close()
