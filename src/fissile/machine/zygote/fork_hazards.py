"""What the import of an application leaves open, and a fork would share without a word.

A connection that was opened at import is the same one in every replica: two of them ask on it, and each gets the answer
of the other. A file that was opened for writing has one place for all, and a database in a file breaks when a
connection to it is carried into a child (sqlite.org/howtocorrupt.html, 2.6). A thread is in no child at all (fork(2)).
None of it is altered here: it is said, with the name by which the author knows it.

`sentences` decides, of what `opened` and `left` have seen. Harmless, and so not told: files that are only appended to,
as logs are; devices and pipes; what is mapped into memory; datagrams.
"""

import asyncio
import fcntl
import gc
import os
import socket
import stat
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, cast

import msgspec

_DESCRIPTORS = "/proc/self/fd"
_CHILDREN = "/proc/self/task"
_SQLITE = b"SQLite format 3\0"
# Between an object and the module that holds it: its holder, that one's fields, a list.
_HOLDERS_MAX = 5
_REFERRERS_MAX = 2_000
_NAMES_MAX = 5
REMEDY = "move that to start(), or set `spawn = true` for each service"
# A helper of Python's own, which children share as it is meant to be.
_HARMLESS_PROCESS = "multiprocessing.resource_tracker"


class Open(msgspec.Struct, frozen=True):
    """A descriptor as the kernel knows it. kind: "file", "stream" or "other".

    listening: a socket that accepts. peer: the address it is connected with; "": with none. owner: the variable that
    holds it, as in shop.db.CONNECTION; "" where none was found.
    """

    kind: str
    path: str = ""
    writes: bool = False
    appends: bool = False
    sqlite: bool = False
    library: bool = False
    held: bool = True
    listening: bool = False
    local: str = ""
    peer: str = ""
    owner: str = ""


class Left(msgspec.Struct, frozen=True):
    """What the import has left beside modules. threads, processes: their names. loops: variables of event loops."""

    opened: tuple[Open, ...] = ()
    threads: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    loops: tuple[str, ...] = ()


def told(one: Open) -> str:
    """What it is called in a sentence; "" where it does no harm to share it."""
    name = ""
    if one.kind == "stream" and one.listening:
        name = f"a listening socket at {one.local}"
    elif one.kind == "stream" and one.peer:
        name = f"a connection to {one.peer}"
    elif one.kind == "file" and one.sqlite and one.writes:
        name = f"the SQLite database {one.path}"
    elif one.kind == "file" and one.writes and not one.appends:
        name = f"the file {one.path}, open for writing"
    elif one.kind == "file" and not one.writes and one.held and not one.library:
        name = f"the file {one.path}, open for reading"
    return f"{name} ({one.owner})" if name and one.owner else name


def sentences(left: Left) -> Iterator[str]:
    """What people should know of it, each with the remedy; none where all is well."""
    shared = list(dict.fromkeys(name for one in left.opened if (name := told(one))))
    shared += [f"the event loop {name}" for name in left.loops]
    shared += [f"the process {name}" for name in left.processes]
    if shared:
        yield f"importing the application leaves open {_listed(shared)}: all replicas share that; {REMEDY}"
    if left.threads:
        yield f"importing the application starts threads ({_listed(left.threads)}): replicas do not have them; {REMEDY}"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - _NAMES_MAX
    return ", ".join(every[:_NAMES_MAX]) + (f" and {more} more" if more > 0 else "")


class Watch:
    """Sees what an import leaves: made before it, asked after it."""

    def __init__(self) -> None:
        self._modules = set(sys.modules)
        self._descriptors = dict(_descriptors())
        self._processes = set(_children())

    def left(self) -> Left:
        """What was not there before."""
        new = [fd for fd, name in _descriptors() if self._descriptors.get(fd) != name]
        seen = {fd: found for fd in new if (found := _seen(fd)) is not None}
        loops = [loop for loop in instances(asyncio.AbstractEventLoop) if not loop.is_closed()]
        owners = _Owners(set(sys.modules) - self._modules) if seen or loops else None
        return Left(
            tuple(_owned(fd, one, owners) for fd, one in seen.items()),
            tuple(thread.name for thread in threading.enumerate() if thread is not threading.main_thread()),
            tuple(name for pid in _children() if pid not in self._processes and (name := _process(pid))),
            tuple(owners.name(loop) or type(loop).__name__ for loop in loops) if owners is not None else (),
        )


def instances(*classes: type[Any]) -> list[Any]:
    """All objects of some classes that the garbage collector knows. A proxy is not asked what it says that it is."""
    every = gc.get_objects()
    kinds = {kind for kind in set(map(type, every)) if issubclass(kind, classes)}
    return [one for one in every if type(one) in kinds] if kinds else []


def _descriptors() -> Iterator[tuple[int, str]]:
    """Those of this process, each with what it leads to (proc_pid_fd(5)). None where there is no /proc."""
    with suppress(OSError):
        for text in os.listdir(_DESCRIPTORS):
            with suppress(OSError):
                yield int(text), os.readlink(f"{_DESCRIPTORS}/{text}")


def _seen(fd: int) -> Open | None:
    with suppress(OSError):
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            return _socket(fd)
        if stat.S_ISREG(mode):
            return _file(fd)
    return None


def _file(fd: int) -> Open:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    path = os.readlink(f"{_DESCRIPTORS}/{fd}")
    begin = b""
    with suppress(OSError):
        begin = os.pread(fd, len(_SQLITE), 0)
    places = [sysconfig.get_path("stdlib"), sys.prefix, sys.base_prefix if sys.base_prefix != "/usr" else "/usr/lib"]
    return Open(
        "file",
        path,
        writes=flags & os.O_ACCMODE != os.O_RDONLY,
        appends=bool(flags & os.O_APPEND),
        sqlite=begin == _SQLITE,
        library=any(path.startswith(f"{place}/") for place in places),
    )


def _socket(fd: int) -> Open | None:
    sock = socket.socket(fileno=fd)
    try:
        if sock.type not in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            return None
        listening = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        peer = ""
        with suppress(OSError):
            peer = _address(sock.getpeername())
        return Open("stream", listening=listening, local=_address(sock.getsockname()), peer=peer)
    finally:
        sock.detach()


def _address(name: Any) -> str:
    if isinstance(name, tuple):
        host, port = str(cast(Any, name[0])), cast(Any, name[1])
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _owned(fd: int, one: Open, owners: "_Owners | None") -> Open:
    if owners is None:
        return one
    holder = owners.of(fd)
    # SQLite's connection has no method that tells its descriptor.
    if holder is None and one.kind == "file":
        connections = owners.all("sqlite3", "Connection")
        # A new database is empty until something is written to it.
        if connections and one.writes and not os.fstat(fd).st_size:
            one = msgspec.structs.replace(one, sqlite=True)
        if one.sqlite and len(connections) == 1:
            holder = connections[0]
    name = owners.name(holder) if holder is not None else ""
    return msgspec.structs.replace(one, owner=name, held=holder is not None)


class _Owners:
    """Which variable holds what. modules: those that were imported; others come after them."""

    def __init__(self, modules: set[str]) -> None:
        found = sorted(sys.modules.items(), key=lambda item: item[0] not in modules)
        self._modules: dict[int, str] = {}
        # Held, so that nothing else gets their place: what stands for a module may make its variables when asked.
        self._variables: list[object] = []
        for name, module in found:
            with suppress(Exception):  # whatever has been put there as a module
                variables = vars(module)
                self._variables.append(variables)
                self._modules.setdefault(id(variables), name)
        self._objects = gc.get_objects()
        self._by_fd: dict[int, object] = {}
        for one in self._objects:
            # Of its class: a proxy may do something when it is asked for what it stands for.
            kind = cast("type[object]", type(one))
            if callable(getattr(kind, "fileno", None)) and not issubclass(kind, type):
                with suppress(Exception):
                    fd = one.fileno()
                    if isinstance(fd, int):
                        self._by_fd.setdefault(fd, one)

    def of(self, fd: int) -> object | None:
        """The object that has a descriptor."""
        return self._by_fd.get(fd)

    def all(self, module: str, name: str) -> list[object]:
        """The objects of a class."""
        kind: Any = getattr(sys.modules.get(module), name, None)
        return instances(kind) if isinstance(kind, type) else []

    def name(self, one: object) -> str:
        """The variable of a module that holds an object, itself or by others; "" where there is none."""
        ways: list[object] = [one]
        seen = {id(ways), id(self._objects), id(self._by_fd)}
        for _ in range(_HOLDERS_MAX):
            above: list[object] = []
            for target in ways:
                for holder in gc.get_referrers(target):
                    module = self._modules.get(id(holder))
                    if module is not None:
                        names = cast("Mapping[str, object]", holder).items()
                        found = [name for name, value in names if value is target]
                        if found:
                            return f"{module}.{found[0]}"
                    elif id(holder) not in seen and type(holder).__name__ not in ("frame", "list_iterator"):
                        above.append(holder)
                        seen.add(id(holder))
                if len(above) > _REFERRERS_MAX:
                    return ""
            seen.add(id(above))
            seen.add(id(ways))
            ways = above
        return ""


def _children() -> Iterator[int]:
    """The processes that this one has begun (proc_tid_children(5))."""
    with suppress(OSError):
        for thread in os.listdir(_CHILDREN):
            with suppress(OSError, ValueError), open(f"{_CHILDREN}/{thread}/children") as file:
                yield from map(int, file.read().split())


def _process(pid: int) -> str:
    """What it is called; "" where it is one that children may share."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
    return "" if _HARMLESS_PROCESS in words else f"{words[:60]} (pid {pid})"
