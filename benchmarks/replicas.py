"""How soon a new replica of examples/hello answers, forked from the zygote or by exec, and its memory.

From the order to the first answer: the client connects to the listening socket, which is there before
the replica is, and waits. Memory is PSS: shared pages count in parts.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from fissile.bench.report import Figure, figure
from fissile.bench.stats import median, ratio
from fissile.machine.zygote.client import ZygoteClient
from fissile.machine.zygote.protocol import Load
from fissile.machine.zygote.server import PREFORK_AFTER_SECONDS
from fissile.rpc.access import Access, token_digest
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.stub import remote
from fissile.runtime.control import OPERATOR, ReplicaSpec, Routes
from fissile.runtime.loading import load_application
from fissile.settings.load import load

HELLO = Path(__file__).parents[1] / "examples" / "hello"
EXEC_REPLICA = Path(__file__).with_name("exec_replica.py")
TOKEN = "the operator's token"
REPLICAS = 6
CALLS_BEFORE_MEMORY = 200

End = Callable[[], Awaitable[None]]
Start = Callable[[ReplicaSpec, list[socket.socket]], Awaitable[tuple[int, End]]]


@dataclass
class Found:
    """Milliseconds to the first answer by round; MiB."""

    fork_ms: list[float] = field(default_factory=list)
    second_ms: list[float] = field(default_factory=list)
    exec_ms: list[float] = field(default_factory=list)
    forked_mib: float = 0.0
    exec_mib: float = 0.0


def pss_mib(pid: int) -> float:
    """Proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the kernel does not say the PSS of {pid}")


def parent_of(pid: int) -> int:
    """A process's parent: the zygote, or this process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("PPid:"):
            return int(line.split()[1])
    raise RuntimeError(f"the kernel does not say the parent of {pid}")


ACCESS = Access({token_digest(TOKEN): OPERATOR}, {OPERATOR: (OPERATOR,)}, {OPERATOR: frozenset({"Hello"})})


class Hello:
    """One replica of the service `hello`, and a client of it."""

    def __init__(self, folder: Path, number: int) -> None:
        self.address = f"unix:{folder}/hello-{number}"
        handover = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening = [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET), handover]
        self.listening[0].bind(self.address.removeprefix("unix:"))
        self.listening[1].bind(("127.0.0.1", 0))
        handover.bind(f"{folder}/edge-{number}")
        for sock in self.listening:
            sock.listen(128)
            sock.setblocking(False)
        interface = load_application("hello:app", HELLO).components["Hello"].interface
        self.channel = Channel(
            "hello",
            [self.address],
            caller_service=OPERATOR,
            token=TOKEN,
            callers=(OPERATOR,),
            contracts=contracts_of([interface]),
        )
        self.reference: Any = remote(interface, self.channel, caller=OPERATOR)
        self.spec = ReplicaSpec(
            application="hello:app",
            root=str(HELLO),
            service="hello",
            set="hello",
            slot=number,
            build="b",
            release="r",
            components=("Hello",),
            routes=Routes(access=ACCESS),
            token="",
            config={},
        )
        self.pid = 0
        self._end: End | None = None

    async def start(self, start: Start) -> float:
        """Order the replica; milliseconds until it has answered a call."""
        begun = time.perf_counter()
        call = asyncio.ensure_future(self.reference.greet("you"))
        self.pid, self._end = await start(self.spec, self.listening)
        answer = await call
        taken = (time.perf_counter() - begun) * 1000
        if "you" not in answer:
            raise RuntimeError(f"examples/hello answers {answer!r}")
        return taken

    async def stop(self) -> None:
        """End it."""
        await self.channel.close()
        if self._end is not None:
            await self._end()
        for sock in self.listening:
            sock.close()


async def start_by_exec(spec: ReplicaSpec, listening: list[socket.socket]) -> tuple[int, End]:
    """A replica from a new interpreter."""
    fds = [sock.fileno() for sock in listening]
    command = [sys.executable, str(EXEC_REPLICA), *map(str, fds)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=fds)  # noqa: ASYNC220 - its cost is measured
    assert child.stdin is not None
    child.stdin.write(msgspec.json.encode(spec))
    child.stdin.close()

    async def end() -> None:
        child.kill()
        await asyncio.to_thread(child.wait)

    return child.pid, end


async def _measure(rounds: int, folder: Path) -> Found:
    found = Found()
    numbers = iter(range(10_000))
    zygote = ZygoteClient(Load(load(HELLO), "microservices"), lambda _: (os.dup(1), os.dup(2)))

    async def start_by_fork(spec: ReplicaSpec, listening: list[socket.socket]) -> tuple[int, End]:
        fds = [1, 2, *(sock.fileno() for sock in listening)]
        child = await zygote.fork(spec, "unix:/nobody-supervises-it", "", fds)

        async def end() -> None:
            child.signal(signal.SIGKILL)
            await child.exited

        return child.pid, end

    async def once(start: Start) -> float:
        hello = Hello(folder, next(numbers))
        try:
            return await hello.start(start)
        finally:
            await hello.stop()

    try:
        await zygote.start()
        await once(start_by_fork)
        await once(start_by_exec)
        for _ in range(rounds):
            # A spare is made a tenth of a second after the last order; the second of two in a row does without.
            await asyncio.sleep(PREFORK_AFTER_SECONDS + 0.1)
            found.fork_ms.append(await once(start_by_fork))
            found.second_ms.append(await once(start_by_fork))
            found.exec_ms.append(await once(start_by_exec))
        found.exec_mib = await _memory(folder, numbers, start_by_exec)
        found.forked_mib = await _memory(folder, numbers, start_by_fork)
        return found
    finally:
        await zygote.close()


async def _memory(folder: Path, numbers: Iterable[int], start: Start) -> float:
    """MiB that each further replica adds to the whole of replicas and zygote."""
    replicas: list[Hello] = []
    wholes: list[float] = []
    try:
        for number in numbers:
            hello = Hello(folder, number)
            replicas.append(hello)
            await hello.start(start)
            for _ in range(CALLS_BEFORE_MEMORY):
                await hello.reference.greet("you")
            counted = {one.pid for one in replicas} | {parent_of(hello.pid)} - {os.getpid()}
            wholes.append(sum(pss_mib(pid) for pid in counted))
            if len(replicas) == REPLICAS:
                break
        return (wholes[-1] - wholes[0]) / (REPLICAS - 1)
    finally:
        for hello in replicas:
            await hello.stop()


def measure(rounds: int) -> Found:
    """Start-up in turns, then memory."""
    with tempfile.TemporaryDirectory(prefix="fissile-bench-") as folder:
        return uvloop.run(_measure(rounds, Path(folder)))


def figures(found: Found) -> Iterable[Figure]:
    """The goals of a replica's birth."""
    yield figure(
        "replica: first answer, by exec / from the zygote", ratio(found.exec_ms, found.fork_ms), "times", ">= 15"
    )
    yield figure("replica: first answer, from the zygote", median(found.fork_ms), "ms")
    yield figure("replica: first answer, from the zygote, the second of two in a row", median(found.second_ms), "ms")
    yield figure("replica: first answer, by exec", median(found.exec_ms), "ms")
    yield figure("replica: memory of one more, from the zygote (PSS)", found.forked_mib, "MiB", "<= 8")
    yield figure("replica: memory of one more, by exec (PSS)", found.exec_mib, "MiB")
