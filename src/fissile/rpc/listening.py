"""How this process accepts on a listening socket, whoever made it.

An event loop listens again on the socket that it is given, with a queue of its own default: 100, whatever was asked
for before. Visitors beyond it are turned away, or wait for a retransmission of a second and more.
"""

import asyncio
import socket
import struct
from collections.abc import Callable

# Connections that wait until they are accepted: as many as come while a replica is replaced, or a crowd that comes at
# once. The system's own bound (net.core.somaxconn) may be lower.
BACKLOG = 4096
# struct tcp_info of linux/tcp.h: for a listening socket, `tcpi_unacked` is how many wait.
TCP_INFO_UNACKED = 24
# From the system's accept to the protocol's `connection_made`: one turn of uvloop, and one to spare.
ACCEPT_TURNS = 2


async def accept_on(sock: socket.socket, protocol: Callable[[], asyncio.BaseProtocol]) -> asyncio.Server:
    """Accept connections on a listening socket (Unix or TCP), which belongs to the server from now on."""
    loop = asyncio.get_running_loop()
    if sock.family != socket.AF_UNIX:
        # Connections inherit it. asyncio sets it on those alone that know they are TCP, by the number of their
        # protocol; on others each answer waits for 40 ms.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    listen = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
    try:
        return await listen(protocol, sock=sock, backlog=BACKLOG)
    except BaseException:
        sock.close()
        raise


async def let_in() -> None:
    """After a server was closed: those that it has accepted are known to their protocols.

    An event loop takes a connection from the queue in one turn and makes it known in a later one. Whoever looks in
    between sees nobody, and would leave a visitor without an answer.
    """
    for _ in range(ACCEPT_TURNS):
        await asyncio.sleep(0)


def waiting(sock: socket.socket) -> int:
    """How many connections wait to be accepted on a listening TCP socket (TCP_INFO, tcp(7)); 0 where nobody says it."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_UNACKED + 4)
        return struct.unpack_from("=I", info, TCP_INFO_UNACKED)[0]
    except (OSError, AttributeError, struct.error):  # a Unix socket, or not Linux
        return 0
