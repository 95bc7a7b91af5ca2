"""HTTP/1.1 as commands speak it to a supervisor: one request, one answer, on a connection of its own.

httptools parses, which serves pages as well. http.client would take longer to import than a supervisor to answer.
"""

import socket
from collections.abc import Iterator, Mapping

from httptools import HttpParserError, HttpResponseParser

RECEIVE_BYTES = 65536


class Broken(Exception):
    """The other side does not speak HTTP, or ended in the middle."""


class Answer:
    """What comes back; its head is there. Raises Broken, OSError."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._parser = HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._head = self._whole = False
        while not self._head:
            self._receive()
        self.status: int = self._parser.get_status_code()

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._head = True

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._whole = True

    def _receive(self) -> None:
        data = self._sock.recv(RECEIVE_BYTES)
        if not data:
            raise Broken("it ended in the middle of its answer")
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            raise Broken(f"it does not speak HTTP: {error}") from None

    def read(self) -> bytes:
        """The whole body."""
        with self._sock:
            while not self._whole:
                self._receive()
        return b"".join(self._chunks)

    def lines(self) -> Iterator[bytes]:
        """Its lines without their ends, as they come."""
        rest = b""
        with self._sock:
            while True:
                *lines, rest = (rest + b"".join(self._chunks)).split(b"\n")
                self._chunks.clear()
                yield from lines
                if self._whole:
                    return
                self._receive()


def ask(sock: socket.socket, verb: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
    """Send a request, and wait for the head of its answer. Raises Broken, OSError."""
    fields = {"Host": "supervisor", "Content-Length": str(len(body)), "Connection": "close", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    sock.sendall(f"{verb} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
    return Answer(sock)
