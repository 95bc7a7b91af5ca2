"""A message that is too large is not sent; one that comes all the same is read past, and nothing else is lost."""

import os
import socket
import subprocess
import sys
import threading

import msgspec
import pytest

from fissile.formats import PROCESSES
from fissile.machine.zygote import protocol as messages
from fissile.machine.zygote.protocol import (
    HEAD,
    MESSAGE_BYTES_MAX,
    Hello,
    Import,
    Ping,
    Pong,
    TooLarge,
    clipped,
    receive,
    send,
    stranger,
)


@pytest.fixture
def pair():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with one, other:
        yield one, other


def test_what_is_too_large_is_not_begun(pair: tuple[socket.socket, socket.socket]):
    with pytest.raises(TooLarge):
        send(pair[0], Import(("m" * (MESSAGE_BYTES_MAX + 1),)))
    send(pair[0], Ping(7))
    assert receive(pair[1]) == (Ping(7), [])


def test_what_comes_all_the_same_is_passed_over(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(messages, "MESSAGE_BYTES_MAX", 100)

    def write() -> None:
        socket.send_fds(pair[0], [HEAD.pack(1_000_000)], [0])  # with a descriptor, which is not kept
        pair[0].sendall(b"x" * 1_000_000)
        send(pair[0], Ping(8))

    writing = threading.Thread(target=write)
    writing.start()
    with pytest.raises(TooLarge) as error:
        receive(pair[1])
    assert error.value.size == 1_000_000
    assert receive(pair[1]) == (Ping(8), [])
    writing.join()


def test_a_text_of_any_size_fits():
    assert len(clipped("x" * MESSAGE_BYTES_MAX)) < 200_000
    assert clipped("short") == "short"


def body(message: object) -> bytes:
    return msgspec.msgpack.encode(message)


def test_a_zygote_of_another_version_is_known_by_what_it_says_first():
    number = PROCESSES.number
    assert stranger(body(Hello())) == ""
    assert stranger(body(Hello(number + 1, "7.0"))).startswith("a newer Fissile (7.0), in format")
    assert stranger(body(Hello(PROCESSES.oldest - 1, "0.0.1"))).startswith("an older Fissile (0.0.1), in format")
    assert stranger(body({"type": "hello", "format": number + 1, "more": {}})).startswith("a newer Fissile, in format")
    for other in (Pong(1), {"type": "hello", "format": "two"}, [1, 2], {"type": "known", "spec": None}):
        assert stranger(body(other)).startswith("an older Fissile, in format 1 of messages")
    assert stranger(b"\xc1")


def test_a_message_that_is_not_known_is_passed_over(pair: tuple[socket.socket, socket.socket]):
    unknown = body({"type": "of a later version", "number": 1})
    socket.send_fds(pair[0], [HEAD.pack(len(unknown))], [0])
    pair[0].sendall(unknown)
    send(pair[0], Ping(9))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(msgspec.DecodeError):
        receive(pair[1])
    assert len(os.listdir("/proc/self/fd")) == before
    assert receive(pair[1]) == (Ping(9), [])


@pytest.mark.parametrize(("number", "age"), [(PROCESSES.number + 1, "a newer"), (PROCESSES.oldest - 1, "an older")])
def test_a_spawned_replica_reads_no_order_of_another_version(number: int, age: str):
    command = [sys.executable, "-P", "-m", "fissile.machine.zygote.spawn", str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"ordered by {age} Fissile, in format {number} of messages" in done.stderr
    assert "→ install that one again" in done.stderr
