"""A callee in a process of its own: `callee.py unix:PATH` or `callee.py tcp:HOST:PORT`. It ends with its input."""

import asyncio
import socket
import sys
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent))

from shelves import SHELF, Shelf

from fissile.rpc.access import Access, token_digest
from fissile.rpc.server import Export, Server


def listen(address: str) -> socket.socket:
    scheme, _, rest = address.partition(":")
    sock = socket.socket(socket.AF_UNIX if scheme == "unix" else socket.AF_INET)
    if scheme == "unix":
        sock.bind(rest)
    else:
        host, _, port = rest.rpartition(":")
        sock.bind((host, int(port)))
    sock.listen()
    sock.setblocking(False)
    return sock


async def main(address: str) -> None:
    access = Access(
        peers={token_digest("secret"): "reader"},
        members={"reader": ("Reader",)},
        references={"Reader": frozenset({"Shelf"})},
    )
    server = Server("shelf", {"Shelf": Export(SHELF, Shelf())}, access)
    sock = listen(address)
    port = sock.getsockname()[1] if address.startswith("tcp") else 0
    await server.start(sock)  # which takes it over
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
