"""The parts of the supervisor's side of a zygote: its connection, its children, its sockets, its replacement."""

import asyncio
import os
import socket
import subprocess
import sys

import pytest

from fissile.errors import ConfigError
from fissile.machine.pidfd import ends_within, exit_status, open_pidfd
from fissile.machine.zygote.children import ChildTable
from fissile.machine.zygote.connection import ZygoteConnection
from fissile.machine.zygote.errors import ForkError, zygote_died
from fissile.machine.zygote.kept_sockets import KeptSockets
from fissile.machine.zygote.protocol import HEAD, MESSAGE_BYTES_MAX, AckExit, Drop, Keep, Ping, receive
from fissile.machine.zygote.respawner import Respawner

linux = pytest.mark.skipif(sys.platform != "linux", reason="pidfds")


class Heard:
    """A receiver that remembers."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.ends: list[object] = []
        self.ended = asyncio.Event()

    def received(self, body: bytes) -> None:
        self.bodies.append(body)

    def disconnected(self) -> None:
        self.ends.append("disconnected")
        self.ended.set()

    def oversized(self, size: int) -> None:
        self.ends.append(size)
        self.ended.set()


async def test_a_message_that_was_begun_is_finished_though_nobody_waits_for_it():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    connection = ZygoteConnection(ours, Heard())
    large = asyncio.create_task(connection.send(Keep("x" * 4_000_000), []))
    late = asyncio.create_task(connection.send(Keep("never begun"), []))
    await asyncio.sleep(0)
    large.cancel()
    late.cancel()
    await asyncio.gather(large, late, return_exceptions=True)
    connection.post(Ping(7))
    first, second = [await asyncio.to_thread(receive, theirs) for _ in range(2)]
    assert first is not None
    assert first[0] == Keep("x" * 4_000_000)
    assert second is not None
    assert second[0] == Ping(7)
    connection.close(zygote_died())
    theirs.close()


async def test_messages_come_whole_however_they_are_cut_and_descriptors_in_their_order():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    heard = Heard()
    connection = ZygoteConnection(ours, heard)
    files = [os.memfd_create(name) for name in ("first", "second")]
    for number, file in enumerate(files):
        os.write(file, str(number).encode())
    data = HEAD.pack(3) + b"one" + HEAD.pack(3) + b"two"
    socket.send_fds(theirs, [data[:5]], [files[0]])
    await asyncio.sleep(0)
    socket.send_fds(theirs, [data[5:]], [files[1]])
    theirs.close()
    await heard.ended.wait()
    assert (heard.bodies, heard.ends) == ([b"one", b"two"], ["disconnected"])
    for number in range(2):
        fd = connection.take_fd()
        assert os.pread(fd, 9, 0) == str(number).encode()
        os.close(fd)
    connection.close(zygote_died())
    with pytest.raises(ForkError, match="the zygote died"):
        await connection.send(AckExit(1), [])
    for file in files:
        os.close(file)


async def test_the_size_of_a_message_that_is_too_large_is_told_before_it_is_read():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    heard = Heard()
    connection = ZygoteConnection(ours, heard)
    theirs.send(HEAD.pack(MESSAGE_BYTES_MAX + 1))
    await heard.ended.wait()
    assert heard.ends == [HEAD.size + MESSAGE_BYTES_MAX + 1]
    connection.close(zygote_died())
    theirs.close()


@linux
async def test_without_a_zygote_the_supervisor_sees_by_itself_how_its_own_child_ended():
    children = ChildTable()
    children.attach()
    process = subprocess.Popen([sys.executable, "-c", "input(); raise SystemExit(3)"], stdin=subprocess.PIPE)  # noqa: ASYNC220
    child = children.add(process.pid, open_pidfd(process.pid))
    children.orphan()
    process.communicate(b"\n")
    # Popen may have reaped it first: then nobody knows how it ended, but that it did.
    assert await asyncio.wait_for(child.exited, 5) in (3, None)
    await asyncio.sleep(0)
    assert len(children) == 0


@linux
async def test_what_a_zygote_says_too_late_is_learned_all_the_same():
    children = ChildTable()
    children.attach()
    process = subprocess.Popen([sys.executable, "-c", ""])  # noqa: ASYNC220
    pidfd = open_pidfd(process.pid)
    assert pidfd is not None
    process.wait()
    child = children.add(process.pid, pidfd)
    learned: list[int | None] = []
    child.learned = learned.append
    assert await asyncio.wait_for(child.exited, 5) is None
    await asyncio.sleep(0)
    assert len(children) == 0
    children.explain(process.pid, 9)
    children.explain(process.pid, 8)
    assert learned == [9]


@linux
def test_a_pidfd_tells_the_end_of_a_process_and_a_parent_how_it_ended():
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", "raise SystemExit(4)"], os.environ)
    pidfd = open_pidfd(pid)
    assert pidfd is not None
    assert ends_within(pidfd, 10.0)
    assert exit_status(pidfd) == 4
    assert exit_status(pidfd) is None  # reaped by then
    os.close(pidfd)
    assert open_pidfd(pid) is None


async def test_a_zygote_keeps_the_sockets_that_it_is_told_of_and_no_others():
    told: list[Keep | Drop] = []

    async def tell(message: Keep | Drop, _fds: list[int]) -> None:
        told.append(message)

    sockets = KeptSockets(tell)
    one, two, three = (socket.socket() for _ in range(3))
    await sockets.keep("a", one)
    await sockets.keep("b", two)
    told.clear()
    await sockets.keep_only({"b": two, "c": three})
    assert (told, sockets.by_name) == ([Drop("a"), Keep("c")], {"b": two, "c": three})
    await sockets.drop("a")
    await sockets.keep_only({"b": one, "c": three})
    assert told[2:] == [Drop("b"), Keep("b")]
    for sock in (one, two, three):
        sock.close()


async def test_a_zygote_that_cannot_be_started_is_not_started_again_at_once():
    events: list[tuple[str, str]] = []
    starts: list[int] = []

    async def start() -> None:
        starts.append(1)
        raise ConfigError("no app.py")

    respawner = Respawner(start, events)
    respawner.respawn()
    respawner.respawn()  # one is being started
    for _ in range(3):
        await asyncio.sleep(0)
    respawner.respawn()  # too early
    await asyncio.sleep(0)
    assert len(starts) == 1
    assert events == [("ZygoteFailed", "no zygote can be started: no app.py")]
    respawner.close()
