"""What supervisor and zygote say to each other over a Unix socket.

A message is four bytes of length and a msgpack body; file descriptors travel with the length. One of more than
MESSAGE_BYTES_MAX is not sent; who receives one reads past it, and goes on with the next. What one service alone
may know, its tokens and configuration above all, never stands in an argument list, in an environment that another can
read, or in the zygote's memory: it travels in letters (see `sealed_letters`), and the message beside one is without it.
"""

import os
import socket
import struct
from typing import Any

import msgspec

from fissile.component.topology import BUILT_IN, MONOLITH_SERVICE
from fissile.formats import FISSILE, PROCESSES
from fissile.machine.environment import Environment
from fissile.machine.walls import Confinement
from fissile.names import ServiceName
from fissile.releases.packages import Installed, Missing
from fissile.releases.release import Release
from fissile.runtime.control import ReplicaSpec, Routes
from fissile.runtime.forked import receive_descriptors
from fissile.settings.schema import Settings

FDS_MAX = 200
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
# Of what a traceback or an import says, for people.
TEXT_CHARACTERS_MAX = 100_000
PIECE_BYTES = 64 * 1024
HEAD = struct.Struct("!I")


class TooLarge(Exception):
    """A message of more than MESSAGE_BYTES_MAX. size: its bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"a message of {size} bytes, more than {MESSAGE_BYTES_MAX}, is not for a zygote")
        self.size = size


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Only in a letter: what the application is to be checked against.

    topology: its name. keep: when the supervisor is gone, keep all running and wait for the next one; else end all.
    source: the folder that the settings' folder is a copy of; "": it is none. zygote: its name, and at: when it was
    last ordered to import (seconds of the wall clock). environment: what it and all that it starts get. settled: the
    release that this is, whatever is installed by now; None: it is to be found out. forced: why services start anew
    though nothing of them has changed, by service ("": all). files: those of settings that were there to be read, see
    `settings_files`.
    """

    settings: Settings
    topology: str
    keep: bool = False
    source: str = ""
    zygote: str = ""
    at: float = 0.0
    environment: Environment = Environment()
    settled: "Settled | None" = None
    forced: dict[str, str] = {}
    files: dict[str, str] = {}

    def begin(self) -> "Begin":
        """What the zygote itself is told of it."""
        settings, guest = self.settings, self.settings.lone_guest
        if guest is None:
            common, own = shared_environment(settings, self.topology)
            return Begin(settings.app, settings.root, self.keep, self.source, environment=common, own=own)
        return Begin(
            getattr(guest, guest.guest), settings.root, self.keep, self.source, guest.folder or ".", guest.environment
        )


def shared_environment(settings: Settings, topology: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables that all services have alike which are forked from one import; and the names of the others.

    Of `microservices` nobody knows before the import which ones there are: they have none alike.
    """
    names = [name for name, one in settings.services.items() if one.guest]
    names += [MONOLITH_SERVICE] if topology == BUILT_IN[0] else list(settings.topologies.get(topology, ()))
    forked = {name: one for name in names if not (one := settings.service(name)).spawn and not one.command}
    known = topology == BUILT_IN[0] or topology in settings.topologies
    first, *others = [one.environment for one in forked.values()] if known and forked else [dict[str, str]()]
    common = {name: value for name, value in first.items() if all(one.get(name) == value for one in others)}
    own = [one.environment for one in settings.services.values() if not (one.spawn or one.foreign)]
    return common, tuple(sorted({name for variables in own for name in variables} - common.keys()))


class Settled(msgspec.Struct, frozen=True):
    """A release as it was found when it was imported first, and what was installed then."""

    release: Release
    installed: Installed


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Import the application, and have a child check it. With it travel two letters: a Load, and one for its answer.

    target: "module:attribute"; "" where there is nothing to import. root, keep, source: as of Load. folder: of a
    single guest, which knows nothing of Fissile, from the root on ("": it is an application). environment: of that
    guest, or what all services have that are forked from the import; own: names of those that one of them has alone.
    """

    target: str
    root: str
    keep: bool = False
    source: str = ""
    folder: str = ""
    environment: dict[str, str] = {}
    own: tuple[str, ...] = ()


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """Fork a replica. With it travel: a letter with the same in full, its stdout, its stderr, its listening sockets.

    environment: added to the zygote's.
    """

    order: int
    spec: ReplicaSpec
    control_address: str
    control_token: str
    environment: dict[str, str] = {}
    confinement: Confinement = Confinement()

    def public(self) -> "Fork":
        """Without what the child alone may know."""
        return msgspec.structs.replace(self, spec=public(self.spec), control_token="", environment={})


class Exec(msgspec.Struct, frozen=True, tag="exec"):
    """Run a program as a replica. With it travel the same as with Fork.

    The sockets become descriptors 3 and following, and the environment says so as systemd does (see
    sd_listen_fds(3)). spec: who it is; nothing in it is told to the program. raw: variables whose values are no text,
    as an Environment has them.
    """

    order: int
    spec: ReplicaSpec
    arguments: tuple[str, ...]
    environment: dict[str, str]
    folder: str
    confinement: Confinement = Confinement()
    raw: bytes = b""

    def public(self) -> "Exec":
        """Without what the child alone may know."""
        return msgspec.structs.replace(self, spec=public(self.spec), arguments=(), environment={}, raw=b"")


def public(spec: ReplicaSpec) -> ReplicaSpec:
    """A replica as those know it who only look after it."""
    return msgspec.structs.replace(spec, token="", config={}, routes=Routes(), gateway_token="")


class Import(msgspec.Struct, frozen=True, tag="import"):
    """Import what replicas import when they start, for all that come."""

    modules: tuple[str, ...]


class Keep(msgspec.Struct, frozen=True, tag="keep"):
    """Keep a listening socket, which travels with this, for the next supervisor."""

    name: str


class Retire(msgspec.Struct, frozen=True, tag="retire"):
    """Nothing more will be forked: no spare is needed."""


class Listen(msgspec.Struct, frozen=True, tag="listen"):
    """The next supervisor comes by another socket, which travels with this."""


class Drop(msgspec.Struct, frozen=True, tag="drop"):
    """Close a kept socket."""

    name: str


class AdoptChild(msgspec.Struct, frozen=True, tag="adopt_child"):
    """Know of a replica of a dead zygote; its pidfd travels with this."""

    pid: int
    spec: ReplicaSpec


class AckExit(msgspec.Struct, frozen=True, tag="ack_exit"):
    """The supervisor knows of an end: it need not be remembered for the next one."""

    pid: int


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Say that you live: answered by Pong, once all that was ordered before is done."""

    number: int


class GetInventory(msgspec.Struct, frozen=True, tag="get_inventory"):
    """A new supervisor asks what there is. Answered by ChildRunning and Kept for each, then Inventory."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """What a zygote says first to whoever supervises it. Neither its layout alters, nor that of a message as such.

    format: that of PROCESSES (see formats); fissile: the version of its package. All that supervisor, zygote and
    replicas say to each other, letters too, is of that format: a supervisor of another goes no further.
    """

    format: int = PROCESSES.number
    fissile: str = FISSILE


class _First(msgspec.Struct):
    """The first message of any zygote, as far as all have it."""

    type: str = ""
    format: int = 1
    fissile: str = ""


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """Only in a letter: the application as the supervisor needs to know it, without code: names and checked values.

    services: components by service, in start order. references: components that each one calls.
    http: components with a public listener. migrations: components that have some. volatile_state: what
    components say that they keep in memory alone. config: tables by component, environment included.
    release: the builds of its services, and their contracts. warnings: what people should know of its import.
    installed: what was imported from elsewhere; missing: what of it is not as it was when the release was settled.
    """

    name: str
    services: dict[ServiceName, tuple[str, ...]]
    references: dict[str, tuple[str, ...]]
    http: tuple[str, ...]
    config: dict[str, dict[str, Any]]
    release: Release
    migrations: tuple[str, ...] = ()
    volatile_state: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    installed: Installed = Installed()
    missing: tuple[Missing, ...] = ()


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed"):
    """The application cannot be loaded; `message` is for people."""

    message: str


class Examined(msgspec.Struct, frozen=True, tag="examined"):
    """The application was imported and checked. What came of it, a Loaded or LoadFailed, is in the letter for it."""


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
    """A replica ended. status: its exit code, or the negative number of the signal that killed it.

    None: another zygote forked it, so nobody saw how.
    """

    pid: int
    status: int | None


class ChildRunning(msgspec.Struct, frozen=True, tag="child_running"):
    """A replica that lives. With it travels its pidfd (`handle`)."""

    pid: int
    spec: ReplicaSpec
    handle: bool


class ChildExited(msgspec.Struct, frozen=True, tag="child_exited"):
    """A replica that ended while nobody supervised. status: None where nobody saw how."""

    pid: int
    spec: ReplicaSpec
    status: int | None


class Kept(msgspec.Struct, frozen=True, tag="kept"):
    """A socket that was kept travels with this."""

    name: str


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """The answer to the Ping of this number."""

    number: int


class Inventory(msgspec.Struct, frozen=True, tag="inventory"):
    """That was all. With it travel the letters by which it began: the Load, and the Loaded that came of it."""

    pid: int


ToZygote = Begin | Fork | Exec | Import | Keep | Listen | Drop | Retire | AdoptChild | AckExit | Ping | GetInventory
FromZygote = (
    Hello | Examined | LoadFailed | Forked | ForkFailed | Exited | ChildRunning | ChildExited | Kept | Pong | Inventory
)

_encode = msgspec.msgpack.Encoder().encode
decode_to_zygote = msgspec.msgpack.Decoder(ToZygote).decode
decode_from_zygote = msgspec.msgpack.Decoder(FromZygote).decode


def encode(message: ToZygote | FromZygote) -> bytes:
    """The body of a message. Raises TooLarge."""
    body = _encode(message)
    if len(body) > MESSAGE_BYTES_MAX:
        raise TooLarge(len(body))
    return body


def stranger(body: bytes) -> str:
    """Of whose Fissile a zygote is that begins with this message, if not of this one, in words; else "".

    One that does not say hello is of format 1.
    """
    try:
        first = msgspec.msgpack.decode(body, type=_First)
    except msgspec.DecodeError:
        first = _First()
    number, by = (first.format, first.fissile) if first.type == "hello" else (1, "")
    return "" if PROCESSES.reads(number) else PROCESSES.strange(number, by)


def clipped(text: str) -> str:
    """What is left of a text that is for people, and may be of any size."""
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[:TEXT_CHARACTERS_MAX]}… (cut)"


def send(sock: socket.socket, message: ToZygote | FromZygote, fds: list[int] | None = None) -> None:
    """Send a message on a blocking socket. Raises OSError, or TooLarge before anything is sent."""
    body = encode(message)
    socket.send_fds(sock, [HEAD.pack(len(body))], fds or [])
    sock.sendall(body)


def receive(sock: socket.socket) -> tuple[ToZygote, list[int]] | None:
    """The next message on a blocking socket with its file descriptors; None at the end.

    Raises OSError, or TooLarge or msgspec.DecodeError of one that was read past: the next may be received after it.
    """
    head, fds = receive_descriptors(sock, HEAD.size, FDS_MAX)
    if len(head) < HEAD.size:
        return None
    size = HEAD.unpack(head)[0]
    if size > MESSAGE_BYTES_MAX:
        for fd in fds:
            os.close(fd)
        return _pass_over(sock, size)
    body = bytearray(size)
    view = memoryview(body)
    got = 0
    while got < len(body):
        count = sock.recv_into(view[got:])
        if count == 0:
            return None
        got += count
    try:
        return decode_to_zygote(body), fds
    except msgspec.DecodeError:
        for fd in fds:
            os.close(fd)
        raise


def _pass_over(sock: socket.socket, size: int) -> None:
    """Read past a body of this size. Raises TooLarge, once that is done."""
    left = size
    while left:
        piece = sock.recv(min(left, PIECE_BYTES))
        if not piece:
            return
        left -= len(piece)
    raise TooLarge(size)
