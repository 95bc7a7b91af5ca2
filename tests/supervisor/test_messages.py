"""A message that is too large is not sent; one that comes all the same is read past, and nothing else is lost."""

import socket
import threading

import pytest

from fissile.supervisor import messages
from fissile.supervisor.messages import HEAD, MESSAGE_BYTES_MAX, Import, Ping, TooLarge, clipped, receive, send


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
