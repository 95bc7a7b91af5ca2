"""Orders that a service gives to what runs it, as somebody would who has broken into the service."""

import json
import os
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from background import Up, background, wait_until
from commands import fissile

APPLICATION = """
import asyncio
from fissile import Application, component, method

@component
class Leaf:
    @method(timeout=30.0)
    async def run(self, code: str) -> str:
        space = {}
        exec(code, space)
        return str(await asyncio.to_thread(space["attack"]))

@component
class Mid:
    async def one(self) -> int:
        return 1

app = Application(Leaf, Mid, name="victim")
"""
ASK = """
import socket
def ask(path, verb="POST", where="/services/mid/scale", body='{"replicas": 2}'):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        lines = (f"{verb} {where} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}", "", body)
        sock.sendall("\\r\\n".join(lines).encode())
        data = b""
        while piece := sock.recv(65536):
            data += piece
    return data.decode()
"""
# A grandchild that belongs to nobody any more, with nothing of what it inherited.
DAEMON = """
import os, resource, sys
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
resource.prlimit(0, 10, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
while True:
    with open(f"/proc/{os.getppid()}/cmdline") as parent:
        if "local-doors-daemon" not in parent.read():
            break
"""


class Victim(Up):
    """Its replicas do what a test says."""

    def run(self, code: str) -> str:
        endpoints = json.loads((self.folder / ".fissile" / "endpoints.json").read_text())
        request = urllib.request.Request(
            endpoints["services"]["leaf"]["gateway"] + "/rpc/Leaf/run",
            json.dumps({"code": code}).encode(),
            {"Authorization": f"Bearer {endpoints['token']}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.load(answer))

    def ask(self, path: str) -> str:
        return self.run(ASK + f"def attack(): return ask({path!r})")

    def log(self) -> str:
        return (self.folder / ".fissile" / "logs" / "fissile.log").read_text()

    @property
    def api(self) -> str:
        return str(self.folder / ".fissile" / "api.sock")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Victim]:
    (tmp_path / "victim.py").write_text(APPLICATION)
    (tmp_path / "fissile.toml").write_text('app = "victim:app"\n')
    with background(tmp_path, Victim) as app:
        yield app
        app.down()


def problem(answer: str) -> dict[str, Any]:
    head, _, body = answer.partition("\r\n\r\n")
    assert "{" in body, answer
    assert head.startswith("HTTP/1.1 403 "), answer
    return json.loads(body[body.index("{") : body.rindex("}") + 1])


def test_a_replica_orders_nothing_of_its_own_supervisor(app: Victim):
    app.up()
    for _ in range(20):
        said = problem(app.ask(app.api))
        assert said["detail"] == "a replica of this application may not order its own supervisor"
        assert said["remedy"]
    assert len(app.pids("mid")) == 1
    assert app.log().count("an order was refused") == 1
    assert fissile("scale", "mid", "2", "--path", app.folder).returncode == 0


def test_nor_does_what_a_replica_has_started_and_left(app: Victim):
    app.up()
    out = app.folder / "answer"
    program = app.folder / "local-doors-daemon.py"
    program.write_text(DAEMON + ASK + f"open({str(out)!r} + '.new', 'w').write(ask({app.api!r}))\n")
    program.write_text(program.read_text() + f"os.rename({str(out)!r} + '.new', {str(out)!r})\n")
    command = [sys.executable, str(program)]
    app.run(f"import subprocess\ndef attack(): subprocess.run({command}, env={{}}, check=True)")
    wait_until(out.exists, "the daemon has its answer")
    problem(out.read_bytes().decode())
    assert len(app.pids("mid")) == 1


def test_a_zygote_takes_orders_from_no_replica(app: Victim):
    app.up()
    attack = textwrap.dedent(f'''
        import glob, os, socket
        def attack():
            from fissile.machine.zygote import sealed_letters
            from fissile.machine.zygote.protocol import Exec, send
            from fissile.runtime.control import ReplicaSpec, Routes
            spec = ReplicaSpec("", "/", "mid", "mid", 0, "", "", (), Routes(), "", {{}})
            order = Exec(1, spec, ("/bin/sh", "-c", "echo > {app.folder}/pwned"), {{}}, "/")
            r, w = os.pipe()
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(glob.glob("{app.folder}/.fissile/zygote-*.sock")[0])
                try:
                    send(sock, order.public(), [sealed_letters.seal(order), w, w])
                    return sock.recv(100)
                except OSError as error:
                    return b""
    ''')
    assert app.run(attack) == "b''"
    assert fissile("restart", "mid", "--path", app.folder).returncode == 0  # it listens to its supervisor still
    supervisor = app.supervisor()
    app.kill(supervisor)
    assert app.run(attack) == "b''"
    app.up()
    assert app.supervisor() != supervisor
    assert app.run(attack) == "b''"
    assert not (app.folder / "pwned").exists()


FLOOD = """
import pathlib, socket, sys, threading
def flood():
    for number in range(10**9):
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(sys.argv[1])  # waits as long as the door is full
        if number == 3:
            pathlib.Path(sys.argv[2]).touch()
for _ in range(400):
    threading.Thread(target=flood).start()
"""


def test_a_person_has_his_turn_where_replicas_crowd_the_door(app: Victim, tmp_path: Path):
    app.up()
    program, full = tmp_path / "flood.py", tmp_path / "full"
    program.write_text(FLOOD)
    app.run(f"import subprocess\ndef attack(): subprocess.Popen({[sys.executable, str(program), app.api, str(full)]})")
    wait_until(full.exists, "the door is full")
    for replicas in ("2", "1"):
        found = fissile("scale", "mid", replicas, "--path", app.folder)
        assert found.returncode == 0, found.stderr


def test_a_replica_brings_up_no_other_supervisor(app: Victim):
    app.up()
    (leaf,) = app.pids("leaf")
    app.kill(app.supervisor())
    command = [sys.executable, "-m", "fissile", "up", str(app.folder)]
    said = app.run(
        "import subprocess\n"
        f"def attack(): return subprocess.run({command}, env={{}}, capture_output=True, text=True).stderr"
    )
    assert "a replica of this application may not order its own supervisor" in said
    assert os.path.exists(f"/proc/{leaf}")
    app.up()
    assert app.pids("leaf") == [leaf]
