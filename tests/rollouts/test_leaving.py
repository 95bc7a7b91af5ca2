"""Nobody is kept in a release that goes, and nobody is kept from one that is good."""

import json
import os
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from background import wait_until
from chained import Chain, asked, chain, traffic

CLIENTS = 6
STREAMS = 60
CONNECTIONS = 200


@pytest.fixture
def app(tmp_path: Path):
    with chain(tmp_path / "app") as found:
        yield found


def path(app: Chain, name: str, code: str) -> None:
    """Front gets another path."""
    file = app.folder / "chain" / "front.py"
    text = file.read_text()
    assert 'if scope["path"] == "/stream":' in text
    text = text.replace(
        '            if scope["path"] == "/stream":', f'            if scope["path"] == "{name}":{code}'
    )
    file.write_text(text)


@pytest.mark.parametrize("how", ["promote", "abort"])
def test_a_cookie_is_not_kept_beyond_its_release(app: Chain, how: str):
    app.edit("back", VERSION=2)
    app.order("deploy", "--canary", "50%", "--watch", "100s", "--sticky", "cookie")
    cookies: dict[int, str] = {}
    while len(cookies) < 2:
        version, cookie = asked(app.page)
        cookies[version] = cookie
    stop = threading.Event()
    troubles: list[str] = []

    def client(cookie: str) -> None:
        while not stop.is_set():
            try:
                asked(app.page, cookie=cookie)
            except OSError as error:
                troubles.append(f"{cookie}: {error}")
            time.sleep(0.05)

    clients = [threading.Thread(target=client, args=[cookie]) for cookie in cookies.values() for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    app.order(how)
    wait_until(lambda: app.status()["rollout"] is None, "it is over")
    stop.set()
    for one in clients:
        one.join()
    assert not troubles


def test_a_door_that_changes_itself_cannot_keep_clients_and_says_so(app: Chain):
    app.edit("back", VERSION=2)
    assert "--sticky" not in app.order("deploy", "--plan", "--canary", "50%", "--sticky", "cookie")
    app.edit("front", VERSION=2)
    assert "--sticky does nothing at Front" in app.order("deploy", "--plan", "--canary", "50%", "--sticky", "cookie")


def test_the_share_stays_when_a_door_dies(app: Chain):
    app.edit("front", VERSION=2)
    app.order("deploy", "--canary", "50%", "--watch", "100s")
    newest = max(app.pids("front"))
    os.kill(newest, signal.SIGKILL)
    wait_until(lambda: len(app.pids("front")) == 2 and newest not in app.pids("front"), "another one serves")
    time.sleep(0.3)
    count = [front(app.page) for _ in range(CONNECTIONS)].count(2)
    assert 0.35 < count / CONNECTIONS < 0.65


def test_streams_that_last_are_not_slow_answers(app: Chain):
    path(
        app,
        "/events",
        """
                await send({"type": "http.response.start", "status": 200, "headers": []})
                while True:
                    await send({"type": "http.response.body", "body": b"x", "more_body": True})
                    await asyncio.sleep(0.5)
            elif scope["path"] == "/stream":""",
    )
    app.deploy()
    app.edit("back", VERSION=2)
    app.order("deploy", "--canary", "50%", "--watch", "100s")
    host, _, port = app.page.removeprefix("http://").rstrip("/").rpartition(":")
    streams: list[socket.socket] = []
    with traffic(app, rate=60) as seen:
        for _ in range(STREAMS):
            streams.append(socket.create_connection((host, int(port))))
            streams[-1].sendall(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n")
        time.sleep(3)
    rollout = app.status()["rollout"]
    assert rollout["stage"] == "canary", rollout
    assert not seen.failures
    for stream in streams:
        stream.close()
    app.order("abort")


def test_a_task_that_outlives_its_request_goes_on_in_the_release_that_stays(app: Chain):
    path(
        app,
        "/begin",
        """
                async def work():
                    while True:
                        try:
                            seen.append(await self._back.version())
                        except Exception as error:
                            seen.append(repr(error))
                        await asyncio.sleep(0.02)
                if not tasks:
                    tasks.append(asyncio.create_task(work()))
                answer = list(seen)
                seen.clear()
            elif scope["path"] == "/stream":""",
    )
    file = app.folder / "chain" / "front.py"
    file.write_text(
        file.read_text().replace("        async def app(", "        seen, tasks = [], []\n\n        async def app(")
    )
    app.deploy()
    assert _seen(app) == []
    app.edit("back", VERSION=2)
    app.deploy()
    time.sleep(0.2)
    versions = _seen(app)
    assert [*dict.fromkeys(versions)] == [1, 2]
    # Begun in a canary that is taken back, it comes back, too.
    app.edit("back", VERSION=3)
    app.order("deploy", "--canary", "50%", "--watch", "100s")
    app.order("abort")
    wait_until(lambda: app.status()["rollout"] is None, "it is over")
    assert set(_seen(app)) == {2}


def front(page: str) -> int:
    """The version of Front that answers on a new connection."""
    with urllib.request.urlopen(page, timeout=10) as answer:
        return json.loads(answer.read())[0]


def _seen(app: Chain) -> list[object]:
    with urllib.request.urlopen(f"{app.page}/begin", timeout=10) as answer:
        return json.loads(answer.read())
