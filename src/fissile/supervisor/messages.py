"""What supervisor and zygote say to each other over their socket pair.

A message is four bytes of length and a msgpack body; file descriptors travel with the length. Tokens
and configuration go this way too, so that they never stand in an argument list or an environment.
"""

import socket
import struct
from typing import Any

import msgspec

from fissile.runtime.control import ReplicaSpec
from fissile.runtime.settings import Settings

FDS_MAX = 200
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
HEAD = struct.Struct("!I")


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Import the application and check it against the settings and the topology's name."""

    settings: Settings
    topology: str


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """Fork a replica. With it travel: its stdout, its stderr, then its listening sockets."""

    order: int
    spec: ReplicaSpec
    control_address: str
    control_token: str


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The application as the supervisor needs to know it: no code, only names and checked values.

    services: components by service, in start order. references: components that each one calls.
    http: components with a public listener. config: tables by component, environment included.
    builds: content hash by service.
    """

    name: str
    services: dict[str, tuple[str, ...]]
    references: dict[str, tuple[str, ...]]
    http: tuple[str, ...]
    config: dict[str, dict[str, Any]]
    builds: dict[str, str]
    warning: str = ""


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed"):
    """The application cannot be loaded; `message` is for people."""

    message: str


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """A replica was forked. With it travels a pidfd where the system has them (`handle`)."""

    order: int
    pid: int
    handle: bool


class ForkFailed(msgspec.Struct, frozen=True, tag="fork_failed"):
    """The system refused to fork."""

    order: int
    message: str


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """A replica ended. status: its exit code, or the negative number of the signal that killed it."""

    pid: int
    status: int


ToZygote = Load | Fork
FromZygote = Loaded | LoadFailed | Forked | ForkFailed | Exited

encode = msgspec.msgpack.Encoder().encode
decode_to_zygote = msgspec.msgpack.Decoder(ToZygote).decode
decode_from_zygote = msgspec.msgpack.Decoder(FromZygote).decode


def send(sock: socket.socket, message: ToZygote | FromZygote, fds: list[int] | None = None) -> None:
    """Send a message on a blocking socket."""
    body = encode(message)
    socket.send_fds(sock, [HEAD.pack(len(body))], fds or [])
    sock.sendall(body)


def receive(sock: socket.socket) -> tuple[ToZygote, list[int]] | None:
    """The next message on a blocking socket with its file descriptors; None at the end."""
    head, fds, _, _ = socket.recv_fds(sock, HEAD.size, FDS_MAX)
    if len(head) < HEAD.size:
        return None
    body = bytearray(HEAD.unpack(head)[0])
    view = memoryview(body)
    got = 0
    while got < len(body):
        count = sock.recv_into(view[got:])
        if count == 0:
            return None
        got += count
    return decode_to_zygote(body), fds
