"""The supervisor's end of the socket to a zygote: whole messages in and out, without blocking the event loop."""

import asyncio
import os
import socket
from collections import deque
from typing import Protocol

import msgspec

from fissile.machine.zygote.errors import ForkError, zygote_died
from fissile.machine.zygote.protocol import FDS_MAX, HEAD, MESSAGE_BYTES_MAX, TooLarge, ToZygote, encode
from fissile.runtime.forked import receive_descriptors

READ_BYTES = 64 * 1024


class Receiver(Protocol):
    """Gets what a connection brings."""

    def received(self, body: bytes) -> None:
        """A whole message has come."""
        ...

    def disconnected(self) -> None:
        """The other side has closed the connection, or it broke."""
        ...

    def oversized(self, size: int) -> None:
        """The other side announces a message of more bytes than any may have."""
        ...


class _Outgoing(msgspec.Struct, eq=False):
    """A message that is being sent. done: set once it is written; if cancelled before the first byte, it is skipped."""

    data: bytes
    fds: list[int]
    done: asyncio.Future[None] | None
    sent: int = 0


class ZygoteConnection:
    """A stream of messages and file descriptors to one zygote, until either side closes it."""

    def __init__(self, sock: socket.socket, receiver: Receiver) -> None:
        sock.setblocking(False)
        self._socket: socket.socket | None = sock
        self._receiver = receiver
        self._outbox: deque[_Outgoing] = deque()
        self._data = bytearray()
        self._fds: deque[int] = deque()
        asyncio.get_running_loop().add_reader(sock.fileno(), self._read)

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<ZygoteConnection {state}, {len(self._outbox)} to send, {len(self._data)} bytes read>"

    @property
    def is_open(self) -> bool:
        """Whether it still leads to a zygote."""
        return self._socket is not None

    async def send(self, message: ToZygote, fds: list[int]) -> None:
        """Send a message and wait until it is written. `fds` stay the caller's. Raises ForkError."""
        done = asyncio.get_running_loop().create_future()
        self.post(message, fds, done)
        await done

    def post(self, message: ToZygote, fds: list[int] | None = None, done: asyncio.Future[None] | None = None) -> None:
        """Queue a message. Raises ForkError if it is too large to be sent.

        On a closed connection it is dropped, and `done` fails.
        """
        try:
            body = encode(message)
        except TooLarge as error:
            raise ForkError(str(error), remedy="see who makes it so large") from None
        if self._socket is None:
            if done is not None:
                done.set_exception(zygote_died())
            return
        self._outbox.append(_Outgoing(HEAD.pack(len(body)) + body, fds or [], done))
        self._write()

    def take_fd(self) -> int:
        """Take the oldest descriptor that was received: they come in the order of their messages."""
        return self._fds.popleft()

    def close(self, error: ForkError) -> None:
        """Close it. `error` goes to whoever waits for a message to be written."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock.fileno())
        loop.remove_writer(sock.fileno())
        sock.close()
        self._data.clear()  # also ends the loop of `_read`, if the last message was the reason to close
        while self._fds:
            os.close(self._fds.popleft())
        waiting = [one.done for one in self._outbox]
        self._outbox.clear()
        for done in waiting:
            if done is not None and not done.done():
                done.set_exception(error)

    def _write(self) -> None:
        """Write as much as the socket takes."""
        sock, loop = self._socket, asyncio.get_running_loop()
        if sock is None:
            return
        while self._outbox:
            message = self._outbox[0]
            try:
                # A message that was begun is finished even if nobody waits for it any more: half a message would make
                # garbage of all that follow. Descriptors go with the first byte, once.
                if message.sent:
                    message.sent += sock.send(memoryview(message.data)[message.sent :])
                elif message.done is None or not message.done.done():
                    message.sent = socket.send_fds(sock, [message.data], message.fds)
                else:
                    message.sent = len(message.data)
            except BlockingIOError:
                loop.add_writer(sock.fileno(), self._write)
                return
            except OSError:
                self._receiver.disconnected()
                return
            if message.sent == len(message.data):
                self._outbox.popleft()
                if message.done is not None and not message.done.done():
                    message.done.set_result(None)
        loop.remove_writer(sock.fileno())

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            data, fds = receive_descriptors(self._socket, READ_BYTES, FDS_MAX)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        self._fds.extend(fds)
        if not data:
            self._receiver.disconnected()
            return
        self._data += data
        while len(self._data) >= HEAD.size:
            size = HEAD.size + HEAD.unpack_from(self._data)[0]
            if size > HEAD.size + MESSAGE_BYTES_MAX:
                self._receiver.oversized(size)
                return
            if len(self._data) < size:
                return
            body = bytes(self._data[HEAD.size : size])
            del self._data[:size]
            self._receiver.received(body)
