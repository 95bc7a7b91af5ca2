"""The supervisor's side of the zygote: orders forks, and knows when each child ends.

The zygote sends a pidfd with every child, so that a signal never hits a stranger that got the number
of a dead one, and an end is noticed at once, whatever the zygote does; how it ended comes from the zygote, its parent.
A zygote that dies takes no replica with it: another is started, which is told of the children. One that hangs is
found by its silence (`look`), killed, and replaced in the same way. A supervisor that dies takes nothing with it
either: the next one asks the zygote what there is (`adopt`).
"""

import asyncio
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fissile.errors import ConfigError, FissileError, StartError
from fissile.machine import mark
from fissile.machine import proctitle as title
from fissile.machine.environment import Environment, parted, taken
from fissile.machine.lastlines import LastLines
from fissile.machine.procfs import Mark, born
from fissile.machine.sockets import listen_unix, remove_unix
from fissile.machine.zygote import sealed
from fissile.machine.zygote.protocol import (
    FDS_MAX,
    HEAD,
    MESSAGE_BYTES_MAX,
    AckExit,
    AdoptChild,
    ChildExited,
    ChildRunning,
    Confinement,
    Drop,
    Examined,
    Exec,
    Exited,
    Fork,
    Forked,
    ForkFailed,
    FromZygote,
    GetInventory,
    Hello,
    Import,
    Inventory,
    Keep,
    Kept,
    Listen,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Retire,
    Settled,
    TooLarge,
    ToZygote,
    decode_from_zygote,
    encode,
    public,
    stranger,
)
from fissile.machine.zygote.unreleased import settings_files
from fissile.orchestrator.hang_detector import HangDetector, Look
from fissile.releases.manifest import manifest
from fissile.releases.packages import listed
from fissile.rpc.paths import addressed
from fissile.runtime.control import ReplicaSpec
from fissile.runtime.forked import receive_descriptors
from fissile.runtime.places import edited, places

# The program that is the zygote.
SERVER = "fissile.machine.zygote.server"
PIDFD_SIGNAL_PROCESS_GROUP = 4
# A zygote that is importing when the next supervisor comes answers after that.
ADOPT_SECONDS_MAX = 15.0
# Between two looks at a zygote. Silent for as long as the others say, it hangs: while it has nothing slow to do; while
# it imports what a replica had to import by itself; and while it loads the application.
LOOK_SECONDS = 0.5
SILENT_SECONDS_MAX = 5.0
IMPORT_SECONDS_MAX = 30.0
LOAD_SECONDS_MAX = 600.0
# From so long a silence on, people are told of it.
SUSPECT_SECONDS = 1.5
# After an end, for the zygote to say how.
STATUS_SECONDS_MAX = 0.25
# Before a zygote is started again after one that could not be.
REVIVE_SECONDS, REVIVE_SECONDS_MAX = 1.0, 30.0
# The number of a zygote that was given up stays its own: whoever has just read it looks at nobody else by it.
NUMBER_SECONDS = 10.0
ORDER_ATTEMPTS = 2
CLOSE_SECONDS_MAX = 5.0
# It gives a second to what its import has started.
END_SECONDS_MAX = 2.0
PEER = struct.Struct("iii")
READ_BYTES = 64 * 1024
OUTCOME: Any = Loaded | LoadFailed


class ForkError(FissileError):
    """A replica could not be forked: the machine's fault, or the zygote died."""


class LoadDied(ForkError, StartError):
    """The zygote died while it imported the application."""


class ZygoteHung(ForkError):
    """The zygote did not answer, and was killed before it took the order."""


class OtherFissile(ForkError, ConfigError):
    """A zygote and its replicas were started by another version of Fissile. Nothing of them was touched."""


UNCONFINED = Confinement()


class ProcessHandle:
    """A forked replica. `exited` gets its exit code, a negative signal number, or None if not known.

    learned: called with the status when the zygote says it after all. told: whether a zygote will say how it ended.
    """

    def __init__(self, pid: int, handle: int | None) -> None:
        self.pid = pid
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.handle = handle
        self.learned: Callable[[int | None], None] | None = None
        self._told = True
        self._gone = False
        if handle is not None:
            asyncio.get_running_loop().add_reader(handle, self._ends)

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal, if it still lives; to all of its group, if that is said."""
        if self.exited.done() or self._gone:
            return
        with suppress(ProcessLookupError):
            if group:
                self._signal_group(number)
            elif self.handle is not None:
                signal.pidfd_send_signal(self.handle, number)
            else:
                os.kill(self.pid, number)

    def _signal_group(self, number: int) -> None:
        """By the pidfd where the kernel does that (pidfd_send_signal(2), since Linux 6.9)."""
        if self.handle is not None:
            with suppress(OSError):
                signal.pidfd_send_signal(self.handle, number, None, PIDFD_SIGNAL_PROCESS_GROUP)
                return
        if born(self.pid) is not None:
            os.killpg(self.pid, number)

    def watch(self) -> None:
        """Learn of the end by the pidfd alone: nobody is left to report how."""
        self._told = False
        if self.handle is None or self._gone:
            self.ended(None)

    def _ends(self) -> None:
        """It is gone; how, says its parent, which may be this process by now."""
        assert self.handle is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.handle)
        self._gone = True
        status = _reaped(self.handle)
        if status is not None or not self._told:
            self.ended(status)
        else:
            loop.call_later(STATUS_SECONDS_MAX, self.ended, None)

    def let_go(self) -> None:
        """Look after it no more."""
        if self.handle is not None:
            asyncio.get_running_loop().remove_reader(self.handle)
            os.close(self.handle)
            self.handle = None

    def ended(self, status: int | None) -> None:
        """It has ended."""
        self.let_go()
        if not self.exited.done():
            self.exited.set_result(status)
        elif status is not None and self.exited.result() is None and self.learned is not None:
            learned, self.learned = self.learned, None
            learned(status)


def _reaped(handle: int) -> int | None:
    """How a process ended that has become a child of this one (waitid(2)); None of any other."""
    try:
        found = os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG)
    except (AttributeError, OSError):
        return None
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


class _Letter(msgspec.Struct, eq=False):
    """A message on its way to the zygote. gone: done when it is written; cancelled, it is not begun any more."""

    data: bytes
    fds: list[int]
    gone: asyncio.Future[None] | None
    sent: int = 0


class Found(msgspec.Struct, frozen=True):
    """What a zygote that outlived its supervisor had kept. buried: who died meanwhile, and how."""

    zygote: int
    load: Load
    loaded: Loaded
    children: tuple[tuple[ProcessHandle, ReplicaSpec], ...]
    buried: tuple[tuple[ReplicaSpec, int | None], ...]
    sockets: dict[str, socket.socket]


class Memory(msgspec.Struct, frozen=True):
    """By what a zygote began that outlived its supervisor, and what came of it."""

    pid: int
    load: Load
    loaded: Loaded


class ZygoteClient:
    """One zygote and its children.

    pipes: gives a process's stdout and stderr by its name. path: the Unix socket at which a zygote that
    outlives the supervisor is found; without one it ends with the supervisor, and all replicas too. marked: how
    the zygote and all that come of it are marked.
    """

    def __init__(
        self,
        load: Load,
        pipes: Callable[[str], tuple[int, int]],
        path: str | None = None,
        marked: Mark | None = None,
    ) -> None:
        self.children: dict[int, ProcessHandle] = {}
        if not load.environment.block:  # an earlier Fissile has not told which it was
            load = msgspec.structs.replace(load, environment=taken())
        self._load = load
        self._answer: Loaded | None = None
        self._pipes = pipes
        self._path = path
        self._mark = marked
        self._listener: socket.socket | None = None
        self._zygote: subprocess.Popen[bytes] | None = None
        self._zygote_pid: int | None = None
        self._socket: socket.socket | None = None
        self._loaded: asyncio.Future[Examined | LoadFailed] | None = None
        self._told: asyncio.Future[Memory] | None = None
        self._orders: dict[int, asyncio.Future[ProcessHandle]] = {}
        self._specs: dict[int, ReplicaSpec] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._buried: list[tuple[ReplicaSpec, int | None]] = []
        self._imported: set[str] = set()
        self._last_order = 0
        self._data = bytearray()
        self._handles: list[int] = []
        self._outbox: deque[_Letter] = deque()
        self._starting = asyncio.Lock()
        self._retired = False
        self._closed = False
        # Whether its code can be loaded: then a zygote that is gone is replaced.
        self._loads = False
        # Whether it has said hello.
        self._greeted = False
        self._handle: int | None = None
        self._vigil = HangDetector()
        # Zygotes that hung, since when (monotonic seconds).
        self._given_up: list[tuple[float, subprocess.Popen[bytes]]] = []
        self._importing = 0
        # Those whose end was seen before their zygote has said how.
        self._unexplained: dict[int, ProcessHandle] = {}
        self._reviving: asyncio.Task[None] | None = None
        self._revive_at = 0.0
        self._revive_pause = REVIVE_SECONDS
        self._news: list[tuple[str, str]] = []

    @property
    def target(self) -> str:
        """What its zygote imports, as "module:attribute"; "" for nothing."""
        return self._load.begin().target

    @property
    def name(self) -> str:
        """By which what is desired tells it from other zygotes of the same release."""
        return self._load.zygote

    @property
    def load(self) -> Load:
        """What it was ordered to import."""
        return self._load

    @property
    def loaded(self) -> Loaded:
        """What came of that last."""
        assert self._answer is not None
        return self._answer

    @property
    def root(self) -> str:
        """The folder of its code."""
        return self._load.settings.root

    @property
    def environment(self) -> Environment:
        """What all that it starts get."""
        return self._load.environment

    def files_now(self, root: Path | None = None) -> dict[str, str]:
        """The files of settings that an import would read now. root: the application's folder."""
        settings = self._load.settings
        folders = [one.folder for one in settings.services.values()]
        copied = manifest(Path(settings.root))
        code = frozenset(copied.files if copied is not None else ())
        return settings_files(root or Path(self._load.source or settings.root), code, *folders)

    def settle(self, loaded: Loaded) -> None:
        """From now on it is this release, whatever is installed when it has to be imported again."""
        self._answer = loaded
        self._load = msgspec.structs.replace(self._load, settled=Settled(loaded.release, loaded.installed))

    @property
    def idle(self) -> bool:
        """Whether it has no children, and none is on its way."""
        return not self.children and not self._orders

    async def retire(self) -> None:
        """It forks no more, and only looks after the children that it has."""
        if not self._retired:
            self._retired = True
            with suppress(ForkError):
                await self._send(Retire(), [])

    @property
    def pid(self) -> int | None:
        """The zygote's own pid while it lives."""
        return self._zygote_pid if self._socket is not None else None

    def own(self) -> set[int]:
        """The processes that are waited for here."""
        return {pid for pid in (self.pid, *(zygote.pid for _, zygote in self._given_up)) if pid is not None}

    @property
    def trouble(self) -> str:
        """What people should know of the zygote; "" where all is well."""
        silent = self._vigil.looks * LOOK_SECONDS
        if self._retired or self._closed or not self._loads:
            return ""
        if self._socket is None:
            return f"zygote {self._zygote_pid} is gone: another one is being started"
        if silent >= SUSPECT_SECONDS and self._seconds_max == SILENT_SECONDS_MAX:
            return f"zygote {self._zygote_pid} has not answered for {silent:.1f} s: no replica can be started"
        return self.strange

    @property
    def strange(self) -> str:
        """What of its packages is not as it was when its release was made; "" if all is."""
        if self._answer is None or not self._answer.missing:
            return ""
        release, missing = self._answer.release.name, self._answer.missing
        return f"release {release} runs with other packages than it was deployed with: {listed(missing)}"

    @property
    def _seconds_max(self) -> float:
        """How long it may be silent now."""
        if self._loaded is not None and not self._loaded.done():
            return LOAD_SECONDS_MAX
        return IMPORT_SECONDS_MAX if self._importing else SILENT_SECONDS_MAX

    def look(self) -> list[tuple[str, str]]:
        """See whether the zygote answers, every LOOK_SECONDS: one that hangs is killed, one that is gone replaced.

        What has happened since the last look: what it is in a history, and in words.
        """
        self._reap_given_up(time.monotonic() - NUMBER_SECONDS)
        if self._socket is None:
            self._revive()
        else:
            found = self._vigil.look(round(self._seconds_max / LOOK_SECONDS))
            if found is Look.ASK:
                self._post(Ping(self._vigil.asked))
            elif found is Look.HUNG:
                self._give_up_zygote(
                    f"zygote {self._zygote_pid} did not answer for {self._seconds_max:g} s and was killed"
                )
        news, self._news = self._news, []
        return news

    def _give_up_zygote(self, text: str) -> None:
        self._news.append(("ZygoteHung", text))
        self._kill_zygote()
        if self._zygote is not None:
            self._given_up.append((time.monotonic(), self._zygote))
            self._zygote = None
        self._lost(ZygoteHung(text, remedy="another one is started"))

    def _reap_given_up(self, before: float) -> None:
        self._given_up = [(at, zygote) for at, zygote in self._given_up if at > before or zygote.poll() is None]

    def _kill_zygote(self) -> None:
        with suppress(ProcessLookupError):
            if self._zygote is not None:
                self._zygote.kill()
            elif self._handle is not None:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            elif self._zygote_pid is not None:
                os.kill(self._zygote_pid, signal.SIGKILL)

    def _revive(self) -> None:
        """Replace a zygote that is gone: its replicas need a parent that outlives the supervisor."""
        if not self._loads or self._retired or self._closed:
            return
        if self._reviving is not None or time.monotonic() < self._revive_at:
            return

        async def revive() -> None:
            try:
                async with self._starting:
                    if self._socket is None:
                        await self.start()
                        text = f"zygote {self._zygote_pid} has taken the place of another"
                        self._news.append(("ZygoteStarted", "; ".join(filter(None, (text, self.strange)))))
                self._revive_at, self._revive_pause = time.monotonic() + REVIVE_SECONDS, REVIVE_SECONDS
            except FissileError as error:
                self._news.append(("ZygoteFailed", f"no zygote can be started: {error.message}"))
                self._revive_at = time.monotonic() + self._revive_pause
                self._revive_pause = min(2 * self._revive_pause, REVIVE_SECONDS_MAX)
            finally:
                self._reviving = None

        self._reviving = asyncio.get_running_loop().create_task(revive())

    async def start(self) -> Loaded:
        """Start the zygote and have it load the application. Raises ConfigError with the author's mistake."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        inherited = [theirs.fileno()]
        if self._path is not None:
            if self._listener is not None:
                self._listener.close()
            self._listener = listen_unix(self._path)
            inherited.append(self._listener.fileno())
        out, err = self._pipes("zygote")
        printed = LastLines(out)
        listener = str(inherited[1]) if len(inherited) > 1 else "-1"
        try:
            self._zygote = subprocess.Popen(  # noqa: ASYNC220 -- milliseconds, once
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "fissile.machine.zygote.server",
                    str(inherited[0]),
                    listener,
                    title.PADDING,
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=inherited,
                # Components' own variables go by the order to load, each to its own service alone.
                env=self._load.environment.general(),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            printed.close()
            raise ForkError(f"Python cannot be started: {error}", remedy="see what the machine lacks") from None
        finally:
            theirs.close()
            os.close(out)
            os.close(err)
        self._forget_zygote()
        self._zygote_pid = self._zygote.pid
        mark.put_on(self._zygote.pid, self._mark)  # it imports nothing of the application before it is told to
        self._loaded = asyncio.get_running_loop().create_future()
        self._listen(ours)
        try:
            answer = await self._examined(self._loaded)
        except (ZygoteHung, OtherFissile):
            raise
        except ForkError:
            known = places(self._load.settings.root, self._load.source)
            raise LoadDied(
                f"the process that imports {self.target} has ended",
                remedy="mend what ends it; `fissile logs zygote` shows all that it printed",
                service="zygote",
                last_lines=[edited(line, known) for line in printed.read()],
            ) from None
        finally:
            printed.close()
        if isinstance(answer, LoadFailed):
            self._lost(wanted=True)  # it ends by that, and can fork nothing
            raise ConfigError(edited(answer.message, places(self._load.settings.root, self._load.source)))
        self._loads = True
        self.settle(answer)
        await self._hand_down()
        return answer

    async def _examined(self, done: "asyncio.Future[Examined | LoadFailed]") -> Loaded | LoadFailed:
        """Have the zygote import the application, and a child of it check it."""
        files = await asyncio.to_thread(self.files_now)
        self._load = msgspec.structs.replace(self._load, at=time.time(), files=files)
        letters = [sealed.seal(self._load), sealed.blank()]
        try:
            await self._send(self._load.begin(), letters)
            answer = await done
            return answer if isinstance(answer, LoadFailed) else sealed.read(letters[1], OUTCOME)
        finally:
            close_all(letters)

    async def _hand_down(self) -> None:
        """To a new zygote what an old one knew."""
        for child in list(self.children.values()):
            spec = self._specs.get(child.pid)
            if spec is not None and child.handle is not None:
                await self._send(AdoptChild(child.pid, spec), [child.handle])
        if self._imported:
            await self._import(tuple(self._imported))
        for name, sock in list(self._sockets.items()):
            await self._send(Keep(name), [sock.fileno()])

    async def _import(self, modules: tuple[str, ...]) -> None:
        self._importing = self._vigil.asked + 1
        await self._send(Import(modules), [])

    def _forget_zygote(self) -> None:
        """Nothing is known of the next one yet."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self._vigil, self._importing = HangDetector(), 0

    async def adopt(self) -> Found | None:
        """Take over the zygote of a dead supervisor; None if there is none. Raises OtherFissile, and lets it go on."""
        if self._path is None:
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with addressed(self._path) as path:
                sock.connect(path)
        except OSError as error:
            sock.close()
            if isinstance(error, ConnectionRefusedError):
                remove_unix(self._path)  # its zygote is gone, and nobody else can come to it: the folder is locked
            return None
        self._listen(sock)
        self._told = asyncio.get_running_loop().create_future()
        try:
            await self._send(GetInventory(), [])
            async with asyncio.timeout(ADOPT_SECONDS_MAX):
                told = await self._told
        except OtherFissile:
            raise
        except (ForkError, TimeoutError):
            self._zygote_pid = _listener_pid(sock)
            if self._zygote_pid is not None:  # it hangs, and holds ports that others will want
                self._handle = _pidfd(self._zygote_pid)
                self._kill_zygote()
                remove_unix(self._path)
            self._lost(wanted=True)
            return None
        self._loads, self._load = True, told.load
        if not told.load.environment.block:  # an earlier Fissile ordered it
            name = Path(self._path).stem
            self._load = msgspec.structs.replace(told.load, environment=taken(), zygote=name)
        self.settle(told.loaded)
        self._zygote_pid = told.pid
        self._handle = _pidfd(told.pid)
        children = tuple((child, self._specs[child.pid]) for child in self.children.values())
        buried, self._buried = tuple(self._buried), []
        return Found(told.pid, told.load, told.loaded, children, buried, self._sockets)

    def _listen(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._greeted = False
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable, sock)

    async def prepare(self, modules: Iterable[str]) -> None:
        """Have the zygote import what a replica had to import by itself, so that the next need not."""
        new = tuple(name for name in modules if name not in self._imported)
        if new:
            self._imported.update(new)
            with suppress(ForkError):  # only time is lost
                await self._import(new)

    async def keep(self, name: str, sock: socket.socket) -> None:
        """Have the zygote keep a listening socket for the next supervisor."""
        self._sockets[name] = sock
        if self._path is not None:
            with suppress(ForkError):  # the next zygote gets them all
                await self._send(Keep(name), [sock.fileno()])

    @property
    def path(self) -> str | None:
        """Where the next supervisor finds its zygote."""
        return self._path

    async def renew(self) -> None:
        """Have the zygote listen at a new socket, instead of one that was removed for good. Raises OSError."""
        if self._path is not None and self._socket is not None:
            listener = listen_unix(self._path)
            if self._listener is not None:
                self._listener.close()
            self._listener = listener
            with suppress(ForkError):  # the next zygote makes its own
                await self._send(Listen(), [listener.fileno()])

    async def drop(self, name: str) -> None:
        """Such a socket is needed no more."""
        if self._sockets.pop(name, None) is None:
            return
        if self._path is not None:
            with suppress(ForkError):
                await self._send(Drop(name), [])

    async def keep_just(self, sockets: Mapping[str, socket.socket]) -> None:
        """These are all that the zygote is to keep."""
        for name, sock in list(self._sockets.items()):
            if sockets.get(name) is not sock:
                await self.drop(name)
        for name, sock in sockets.items():
            if name not in self._sockets:
                await self.keep(name, sock)

    async def fork(
        self,
        spec: ReplicaSpec,
        control_address: str,
        control_token: str,
        fds: list[int],
        *,
        environment: dict[str, str] | None = None,
        confinement: Confinement = UNCONFINED,
    ) -> ProcessHandle:
        """Fork a replica; fds: stdout, stderr, listening sockets. Raises ForkError."""
        return await self._order(
            lambda number: Fork(number, spec, control_address, control_token, environment or {}, confinement), fds
        )

    async def execute(
        self,
        spec: ReplicaSpec,
        arguments: tuple[str, ...],
        environment: dict[str, str],
        folder: str,
        fds: list[int],
        *,
        confinement: Confinement = UNCONFINED,
    ) -> ProcessHandle:
        """Run a program as a replica; fds: stdout, stderr, listening sockets. Raises ForkError."""
        text, raw = parted(environment)
        return await self._order(lambda number: Exec(number, spec, arguments, text, folder, confinement, raw), fds)

    async def _order(self, make: Callable[[int], Fork | Exec], fds: list[int]) -> ProcessHandle:
        for _ in range(ORDER_ATTEMPTS - 1):
            with suppress(ZygoteHung):
                return await self._ordered(make, fds)
        return await self._ordered(make, fds)

    async def _ordered(self, make: Callable[[int], Fork | Exec], fds: list[int]) -> ProcessHandle:
        async with self._starting:
            if self._socket is None:
                await self.start()
        self._last_order += 1
        order = make(self._last_order)
        answer = self._orders[order.order] = asyncio.get_running_loop().create_future()
        letter = sealed.seal(order)
        try:
            await self._send(order.public(), [letter, *fds])
            child = await answer
            if not child.exited.done():
                self._specs[child.pid] = public(order.spec)
            return child
        finally:
            os.close(letter)
            self._orders.pop(order.order, None)

    async def _send(self, message: ToZygote, fds: list[int]) -> None:
        """Send a message; fds stay the caller's. Raises ForkError."""
        gone = asyncio.get_running_loop().create_future()
        self._post(message, fds, gone)
        await gone

    def _post(self, message: ToZygote, fds: list[int] | None = None, gone: asyncio.Future[None] | None = None) -> None:
        """Have a message written in its turn. Raises ForkError where it is too large to be sent."""
        try:
            body = encode(message)
        except TooLarge as error:
            raise ForkError(str(error), remedy="see who makes it so large") from None
        self._outbox.append(_Letter(HEAD.pack(len(body)) + body, fds or [], gone))
        if self._socket is None:
            self._return_letters(_died())
        else:
            self._write()

    def _write(self) -> None:
        """Write what the socket takes. A message that was begun is finished, or all that follow would be garbage."""
        sock, loop = self._socket, asyncio.get_running_loop()
        if sock is None:
            return
        while self._outbox:
            letter = self._outbox[0]
            try:
                if letter.sent:
                    letter.sent += sock.send(memoryview(letter.data)[letter.sent :])
                elif letter.gone is None or not letter.gone.done():
                    letter.sent = socket.send_fds(sock, [letter.data], letter.fds)
                else:
                    letter.sent = len(letter.data)
            except BlockingIOError:
                loop.add_writer(sock.fileno(), self._write)
                return
            except OSError:
                self._lost()
                return
            if letter.sent == len(letter.data):
                self._outbox.popleft()
                if letter.gone is not None and not letter.gone.done():
                    letter.gone.set_result(None)
        loop.remove_writer(sock.fileno())

    def _return_letters(self, error: ForkError) -> None:
        letters = list(self._outbox)
        self._outbox.clear()
        for letter in letters:
            if letter.gone is not None and not letter.gone.done():
                letter.gone.set_exception(error)

    def _readable(self, sock: socket.socket) -> None:
        try:
            data, handles = receive_descriptors(sock, READ_BYTES, FDS_MAX)
        except BlockingIOError:
            return
        except OSError:
            data, handles = b"", []
        self._handles += handles
        if not data:
            self._lost()
            return
        self._data += data
        while len(self._data) >= HEAD.size:
            size = HEAD.size + HEAD.unpack_from(self._data)[0]
            if size > HEAD.size + MESSAGE_BYTES_MAX:
                self._give_up_zygote(f"zygote {self._zygote_pid} sent a message of {size} bytes and was killed")
                return
            if len(self._data) < size:
                return
            body = bytes(self._data[HEAD.size : size])
            del self._data[:size]
            self._hear(body)

    def _hear(self, body: bytes) -> None:
        """A message has come. The first one says whose Fissile it is."""
        by = "" if self._greeted else stranger(body)
        try:
            if not by:
                self._greeted = True
                self._act(decode_from_zygote(body))
        except msgspec.DecodeError as error:
            by = f"another Fissile ({error})"
        if by:
            self._lost(self._other(by), wanted=True)

    def _other(self, by: str) -> OtherFissile:
        if self._told is not None and not self._told.done():
            return OtherFissile(
                f"what runs was started by {by}",
                remedy="nothing was touched: use that version; or end it with the `fissile down` of that (in order) "
                "or of this one (in no order)",
            )
        return OtherFissile(
            f"another Fissile was installed since this supervisor began: a zygote of it is {by}",
            remedy="install that one again; or `fissile down`, and `fissile up` with the new one",
        )

    def _act(self, message: FromZygote) -> None:
        if isinstance(message, Forked):
            # Descriptors come in the order of the messages that they belong to.
            child = self._child(message.pid, message.handle)
            waiting = self._orders.get(message.order)
            if waiting is not None and not waiting.done():
                waiting.set_result(child)
            else:
                child.signal(signal.SIGKILL)  # whoever ordered it has given up
        elif isinstance(message, Exited):
            child = self.children.get(message.pid) or self._unexplained.pop(message.pid, None)
            if child is not None:
                child.ended(message.status)
            self._unexplained.pop(message.pid, None)
            self._note(message.pid)
        elif isinstance(message, Pong):
            self._vigil.answer(message.number)
            if message.number >= self._importing:
                self._importing = 0
        elif isinstance(message, ForkFailed):
            waiting = self._orders.get(message.order)
            if waiting is not None and not waiting.done():
                waiting.set_exception(
                    ForkError(f"the system refuses a process: {message.message}", remedy="raise its limits")
                )
        elif isinstance(message, ChildRunning):
            self._child(message.pid, message.handle)
            self._specs[message.pid] = message.spec
        elif isinstance(message, ChildExited):
            self._buried.append((message.spec, message.status))
            self._note(message.pid)
        elif isinstance(message, Kept):
            self._sockets[message.name] = sock = socket.socket(fileno=self._handles.pop(0))
            sock.setblocking(False)
        elif isinstance(message, Inventory):
            letters, self._handles = self._handles[:2], self._handles[2:]
            if self._told is not None and not self._told.done():
                order, answer = letters
                self._told.set_result(Memory(message.pid, sealed.read(order, Load), sealed.read(answer, Loaded)))
            close_all(letters)
        elif isinstance(message, Hello):
            pass
        elif self._loaded is not None and not self._loaded.done():
            self._loaded.set_result(message)

    def _note(self, pid: int) -> None:
        """Tell the zygote that an end is known."""
        with suppress(ForkError):
            self._post(AckExit(pid))

    def _child(self, pid: int, handle: bool) -> ProcessHandle:
        child = self.children[pid] = ProcessHandle(pid, self._handles.pop(0) if handle else None)
        child.exited.add_done_callback(lambda _: self._forget(child))
        return child

    def _forget(self, child: ProcessHandle) -> None:
        if self.children.get(child.pid) is child:
            del self.children[child.pid]
            self._specs.pop(child.pid, None)
            if child.exited.result() is None and self._socket is not None:
                self._unexplained[child.pid] = child

    def _lost(self, error: ForkError | None = None, *, wanted: bool = False) -> None:
        """There is no zygote any more. error: for whoever waits for it. wanted: nobody need be told."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        if error is None and not wanted:
            self._news.append(("ZygoteDied", f"zygote {self._zygote_pid} died"))
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock.fileno())
        loop.remove_writer(sock.fileno())
        sock.close()
        error = error or _died()
        self._data.clear()
        for handle in self._handles:
            os.close(handle)
        self._handles.clear()
        self._unexplained.clear()
        self._return_letters(error)
        for waiting in (self._loaded, self._told, *self._orders.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
        for child in list(self.children.values()):
            child.watch()
        if not wanted:
            self._revive()  # whoever needs a replica next waits the less

    def let_go(self) -> None:
        """Leave the zygote and all its children as they are, and know of them no more."""
        self._stop_reviving()
        for child in self.children.values():
            child.let_go()
        self.children.clear()
        self._lost(wanted=True)
        self._forget_zygote()
        if self._listener is not None:
            self._listener.close()

    async def close(self) -> None:
        """End all children that are left, and the zygote."""
        self._stop_reviving()
        for child in list(self.children.values()):
            child.signal(signal.SIGKILL)
        left = [child.exited for child in self.children.values()]
        if left:
            await asyncio.wait(left, timeout=CLOSE_SECONDS_MAX)
        self._lost(wanted=True)
        if self._listener is not None:
            self._listener.close()
        if self._path is not None:
            remove_unix(self._path)
        await self._end_zygote()
        self._reap_given_up(time.monotonic())
        self._forget_zygote()

    def _stop_reviving(self) -> None:
        self._closed = True
        if self._reviving is not None:
            self._reviving.cancel()

    async def _end_zygote(self) -> None:
        """It ends with its socket; what may hold it up is the application's own import, or that it hangs."""
        loading = self._loaded is not None and not self._loaded.done()
        seconds = 0.0 if loading else END_SECONDS_MAX
        if self._zygote is not None:
            try:
                await asyncio.to_thread(self._zygote.wait, seconds)
            except subprocess.TimeoutExpired:
                self._zygote.kill()
                await asyncio.to_thread(self._zygote.wait)
        elif self._handle is not None and not await asyncio.to_thread(_over, self._handle, seconds):
            self._kill_zygote()


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)


def _died() -> ForkError:
    return ForkError("the zygote died", remedy="see the log for its last words; another one is started")


def _pidfd(pid: int) -> int | None:
    """A descriptor that means this process and never another; None where the system has no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _over(handle: int, seconds: float) -> bool:
    """Whether a process has ended, after so long at the latest (pidfd_open(2))."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _listener_pid(sock: socket.socket) -> int | None:
    """The process that listens where this socket is connected to (SO_PEERCRED, unix(7)); None where nobody says."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    pid, _, _ = PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, option, PEER.size))
    return pid if pid > 0 and pid != os.getpid() else None
