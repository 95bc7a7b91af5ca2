"""Processes that an application forks or executes: they have nothing of the door, and their end is theirs alone."""

import json
import os
import signal
import socket
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from background import wait_until
from supervised import lives
from ways import WAYS, application

CODE = """
import json, os, subprocess, time
from fissile import Application, component

def forked():
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        with open(read) as pipe:
            return pid, json.loads(pipe.readline())
    os.write(write, json.dumps(held("/proc/self/fd")).encode() + b"\\n")
    os.close(write)
    time.sleep(60)
    os._exit(0)

def held(folder):
    found = []
    for fd in os.listdir(folder):
        try:
            found.append(os.readlink(f"{folder}/{fd}"))
        except OSError:
            pass
    return found

def executed():
    return subprocess.run(
        "ls -l /proc/self/fd", shell=True, close_fds=False, capture_output=True, text=True
    ).stdout.splitlines()

async def page(scope, receive, send):
    pid, found = forked() if scope["path"] == "/fork" else (0, [])
    body = json.dumps({"pid": os.getpid(), "child": pid, "held": found, "executed": executed()}).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

@component
class Pages:
    def http(self):
        return page

app = Application(Pages)
"""


def asked(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.parametrize(("way", "place"), [*((way, "app") for way in WAYS), ("microservices", "deeply/" * 15)])
def test_a_child_of_the_application_has_nothing_of_the_door(tmp_path: Path, way: str, place: str):
    folder = tmp_path / place
    with application(folder, way, CODE) as (run, page):
        url = urlsplit(page)
        assert url.hostname is not None
        # The answer closes the connection, though a child was forked while it was open.
        with socket.create_connection((url.hostname, url.port), timeout=10) as client:
            client.sendall(b"GET /fork HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        found = json.loads(answer.partition(b"\r\n\r\n")[2])
        # Left is at most the pair by which the loop wakes itself: it leads nowhere.
        sockets = {name[8:-1] for name in found["held"] if name.startswith("socket:")}
        assert len(sockets) <= 2, found
        assert not sockets & bound(), found
        assert not [line for line in found["executed"] if "socket:" in line or "anon_inode" in line], found
        # Its end is no end of the replica.
        os.kill(found["child"], signal.SIGTERM)
        wait_until(lambda: not lives(found["child"]), "the end of the child")
        assert asked(page)["pid"] == found["pid"]
        child = asked(f"{page}/fork")["child"]
        try:
            run.end()
            # Port and folder are free, whether it lives or not.
            socket.create_server((url.hostname, url.port or 0)).close()
            with application(folder, way, CODE) as (_, again):
                assert asked(again)["pid"] != found["pid"]
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def bound() -> set[str]:
    """The inodes of all sockets of the machine that have an address (proc(5))."""
    tcp = [line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    unix = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {*tcp, *(parts[6] for parts in unix if len(parts) > 7)}
