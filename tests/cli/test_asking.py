"""What commands understand of a supervisor's answer, and of one that does not give it."""

import socket
import threading
from collections.abc import Callable

import pytest

from fissile.api.http import Answer, Broken, ask
from fissile.cli.arguments import guess
from fissile.cli.naming import service_named
from fissile.errors import ConfigError


def asked(pieces: list[bytes], use: Callable[[Answer], object]) -> object:
    """What comes of an answer that is sent in these pieces."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            assert b"\r\n\r\n" in theirs.recv(65536)
            for piece in pieces:
                theirs.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        return use(ask(ours, "POST", "/status", {"Name": "value"}, b"{}"))
    finally:
        thread.join()
        ours.close()


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nda\r\n7\r\nta\nmore\r\n0\r\n\r\n"


def test_an_answer_in_pieces_of_every_size():
    for size in (1, 2, 7, 100):
        pieces = [WHOLE[at : at + size] for at in range(0, len(WHOLE), size)]
        assert asked(pieces, lambda answer: (answer.status, answer.read())) == (200, b"hello")
        pieces = [CHUNKED[at : at + size] for at in range(0, len(CHUNKED), size)]
        assert asked(pieces, lambda answer: list(answer.lines())) == [b"data"]


@pytest.mark.parametrize("pieces", [[], [WHOLE[:10]], [WHOLE[:-1]], [b"SSH-2.0-OpenSSH\r\n\r\n"]])
def test_what_is_no_answer(pieces: list[bytes]):
    with pytest.raises(Broken):
        asked(pieces, lambda answer: answer.read())


SERVICES = {"back": ("Catalog", "Stock"), "pages": ("Pages",), "Odd": ("back",)}


@pytest.mark.parametrize(
    ("given", "service"), [("back", "back"), ("Catalog", "back"), ("Stock", "back"), ("Pages", "pages"), ("Odd", "Odd")]
)
def test_a_component_stands_for_its_service(given: str, service: str):
    assert service_named(given, SERVICES) == service


@pytest.mark.parametrize(
    ("given", "services", "words"),
    [
        ("catalog", SERVICES, "did you mean Catalog?"),
        ("nothing", SERVICES, "there are: back, pages, Odd"),
        ("Stock", {"a": ("Stock",), "b": ("Stock",)}, "in several services: a, b"),
        ("a", {}, "there are no services yet"),
    ],
)
def test_a_name_that_nobody_has(given: str, services: dict[str, tuple[str, ...]], words: str):
    with pytest.raises(ConfigError) as found:
        service_named(given, services)
    assert words in str(found.value)


def test_a_guess_is_near():
    assert guess("statsu", ["status", "restart"]) == "; did you mean status?"
    assert guess("x", ["status"]) == ""
