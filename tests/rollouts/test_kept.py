"""Thirty clients keep their connections, whatever becomes of the replicas: each replica gets its part of them."""

import http.client
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from background import background, wait_until
from chained import Chain
from commands import fissile

CLIENTS = 30
REST_SECONDS = 0.05
# Within so many seconds each replica has its part of them.
EVEN_SECONDS_MAX = 10.0
LOOK_SECONDS = 0.5

SITE = """
import os

VERSION = 1


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": str(os.getpid())})
    elif scope["type"] == "http":
        body = b"%d %d %s" % (os.getpid(), VERSION, (await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
"""


class Clients:
    """They ask all the time, with requests that nobody sends twice, and close when they are told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        self.answers: list[tuple[float, str, str]] = []
        self.lost: list[str] = []

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                connection.request("POST", "/", str(number))
                answer = connection.getresponse()
                text = answer.read().decode()
                if answer.status != 200 or not text.endswith(f" {number}"):
                    self.lost.append(f"{answer.status} {text}")
                else:
                    pid, version, _ = text.split()
                    self.answers.append((time.monotonic(), pid, version))
                if answer.getheader("connection") == "close":
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                connection.close()
            time.sleep(REST_SECONDS)
        connection.close()

    def shares(self, what: int = 1) -> dict[str, float]:
        """Of the answers from now on, which part each process has given; what: 2: each version."""
        begun = time.monotonic()
        time.sleep(LOOK_SECONDS)
        count = Counter(str(answer[what]) for answer in self.answers[-2000:] if answer[0] >= begun)
        total = sum(count.values())
        return {name: number / total for name, number in count.items()}

    def even(self, count: int) -> set[str]:
        """Wait until so many processes have their parts; which ones."""
        begun = time.monotonic()
        while True:
            found = self.shares()
            if len(found) == count and min(found.values()) >= 0.6 / count:
                return set(found)
            assert time.monotonic() - begun < EVEN_SECONDS_MAX, found

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Chain]:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "fissile.toml").write_text('[services.site]\nasgi = "site_app:app"\ndrain_seconds = 3\n')
    (folder / "site_app.py").write_text(SITE)
    with background(folder, Chain) as found:
        assert isinstance(found, Chain)
        found.start()
        yield found


def port(app: Chain) -> int:
    return int(app.page.rstrip("/").rpartition(":")[2])


def scale(app: Chain, count: int) -> None:
    result = fissile("scale", "site", str(count), "--path", app.folder)
    assert result.returncode == 0, result


@contextmanager
def websocket(app: Chain) -> Iterator[Any]:
    """A connection that tells which process it has, each time that it is asked."""
    sync = pytest.importorskip("websockets.sync.client")
    with sync.connect(f"ws://127.0.0.1:{port(app)}/") as one:

        def asked() -> str:
            one.send("who?")
            return str(one.recv())

        yield asked


def test_replicas_that_come_later_get_their_part_and_no_request_is_lost(app: Chain):
    with websocket(app) as talks, Clients(port(app)) as clients:
        first = clients.even(1)
        scale(app, 3)
        three = clients.even(3)
        assert first <= three
        assert {talks()} == first  # who talks on is left alone
        for pid in (min(first), min(three - first)):
            os.kill(int(pid), signal.SIGTERM)
            wait_until(lambda: int(pid) not in app.pids("site"), "it has ended")  # noqa: B023
            assert pid not in clients.even(3)
        scale(app, 1)
        clients.even(1)
        scale(app, 3)
        clients.even(3)
        assert fissile("restart", "site", "--path", app.folder).returncode == 0
        clients.even(3)
    assert not clients.lost


def test_a_canary_of_the_door_itself_gets_its_share_of_those_who_keep_their_connections(app: Chain):
    scale(app, 2)
    with websocket(app) as talks, Clients(port(app)) as clients:
        clients.even(2)
        pid = talks()
        (app.folder / "site_app.py").write_text(SITE.replace("VERSION = 1", "VERSION = 2"))
        app.order("deploy", "--canary", "30%", "--watch", "100s")
        begun = time.monotonic()
        while not 0.2 <= (found := clients.shares(2)).get("2", 0.0) <= 0.4:
            assert time.monotonic() - begun < EVEN_SECONDS_MAX, found
        assert talks() == pid
        app.order("abort")
        wait_until(lambda: app.status()["rollout"] is None, "it is taken back")
        assert clients.shares(2) == {"1": 1.0}
        assert talks() == pid
    assert not clients.lost
