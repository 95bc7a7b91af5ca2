"""The hostile peers of the storm, in a process of their own: raw sockets that do what `malice` says."""

import asyncio
import socket
import struct
from collections import Counter
from typing import Any

import msgspec

from tests.storm.child import Orders, run, say
from tests.storm.malice import Await, Known, Leave, Read, Send, Session, Wait, sessions

WORKERS = 6
LONG_WORKERS = 4
PROGRESS_SECONDS = 0.25
# Longer than any answer takes that is read at once, and longer than a hello is waited for.
PATIENCE_SECONDS = 15.0
# Where the callee does not read on because its answers are not read.
SEND_SECONDS_MAX = 0.5
SLOW_SECONDS_MAX = 1.0
RESET = struct.pack("ii", 1, 0)
_HEADER = struct.Struct("<IBI")
ANSWERS = frozenset({4, 5, 8})


class Closed(Exception):
    """The callee closed the connection."""


class Link:
    """One raw connection, and the frames that came on it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.rest = bytearray()
        self.answers = 0
        self.welcomed = False

    async def send(self, data: bytes) -> None:
        """Write, unless the callee takes nothing for a while."""
        try:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                await self.loop.sock_sendall(self.sock, data)
        except TimeoutError:
            return
        except OSError:
            raise Closed from None

    async def receive(self, step: int) -> None:
        """Read once and count the answers."""
        try:
            data = await self.loop.sock_recv(self.sock, step)
        except OSError:
            raise Closed from None
        if not data:
            raise Closed
        self.rest += data
        position = 0
        while len(self.rest) - position >= _HEADER.size:
            length, kind, _ = _HEADER.unpack_from(self.rest, position)
            if len(self.rest) - position < 4 + length:
                break
            self.answers += kind in ANSWERS
            self.welcomed = self.welcomed or kind == 2
            position += 4 + length
        del self.rest[:position]


class Hostile:
    """The workers of this process."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.seed: int = given["seed"]
        self.calls: int = given["calls"]
        self.known = msgspec.convert(given["known"], Known)
        self.begun = 0
        self.done = 0
        self.offences = 0
        self.outcomes: Counter[str] = Counter()
        self.wrong = 0

    async def work(self, worker: int, *, long: bool = False) -> None:
        """One connection after the other until the share is done."""
        for session in sessions(self.seed, worker, self.known, long=long):
            if self.begun >= self.calls:
                return
            if not long:
                self.begun += session.calls
            self.offences += session.offence
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    outcome = await self.attack(session)
            except TimeoutError:
                outcome = "not ended"
                self.complain(session, f"not over after {PATIENCE_SECONDS:g} s")
            self.outcomes[f"{session.name}: {outcome}"] += session.calls
            if not long:
                self.done += session.calls

    async def attack(self, session: Session) -> str:
        """One connection from its beginning to its end."""
        sock = await self.connect(session.over)
        link = Link(sock)
        try:
            try:
                for move in session.moves:
                    await self.do(link, move)
                if session.leave is Leave.CLOSED:
                    while True:
                        await link.receive(1 << 20)
            except Closed:
                if session.leave is not Leave.CLOSED:
                    self.complain(session, "closed, though it kept to the protocol")
                return "closed"
            if session.leave is Leave.RESET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return session.leave.value
        finally:
            sock.close()

    async def do(self, link: Link, move: Send | Await | Read | Wait) -> None:
        """One move."""
        if isinstance(move, Send):
            step = max(1, -(-len(move.data) // move.pieces))
            for start in range(0, len(move.data), step):
                await link.send(move.data[start : start + step])
                if move.pieces > 1:
                    await asyncio.sleep(0)
        elif isinstance(move, Await):
            while not link.welcomed:
                await link.receive(1 << 16)
        elif isinstance(move, Wait):
            await asyncio.sleep(move.seconds)
        elif move.pause:
            try:
                async with asyncio.timeout(min(SLOW_SECONDS_MAX, move.pause * 20)):
                    while link.answers < move.answers:
                        await link.receive(move.step)
                        await asyncio.sleep(move.pause)
            except TimeoutError:
                return
        else:
            while link.answers < move.answers:
                await link.receive(move.step)

    async def connect(self, over: str) -> socket.socket:
        """A raw socket to the callee."""
        address = self.given[over].partition(":")[2]
        loop = asyncio.get_running_loop()
        if over == "unix":
            sock = socket.socket(socket.AF_UNIX)
            target: Any = address
        else:
            sock = socket.socket()
            host, _, port = address.rpartition(":")
            target = (host, int(port))
        sock.setblocking(False)
        while True:
            try:
                await loop.sock_connect(sock, target)
                return sock
            except BlockingIOError:  # a Unix socket whose queue is full
                await asyncio.sleep(0.01)

    def complain(self, session: Session, what: str) -> None:
        """Tell the driver of a promise that was broken."""
        self.wrong += 1
        if self.wrong <= 20:
            say(broken=f"{what} ({session.told()})")


async def storm(given: dict[str, Any], orders: Orders) -> None:
    """Do this process's share, then say what came of it."""
    hostile = Hostile(given)

    async def progress() -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            say(done=hostile.done)

    watch = asyncio.create_task(progress())
    async with asyncio.TaskGroup() as group:
        for worker in range(WORKERS):
            group.create_task(hostile.work(worker))
        for worker in range(LONG_WORKERS):
            group.create_task(hostile.work(WORKERS + worker, long=True))
    watch.cancel()
    say(
        done=hostile.done,
        idle=True,
        end=True,
        outcomes=hostile.outcomes,
        offences=hostile.offences,
        wrong=hostile.wrong,
    )
    await orders.next()


if __name__ == "__main__":
    run(storm)
