"""`--port` is that of the page that people open, whatever the page is made of, and it is kept until `fissile down`."""

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from background import background, text_at
from commands import fissile

from fissile.machine.procfs import born

CODE = """
async def page(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})


def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"here"]
"""
SITE = '[services.site]\nasgi = "a:page"\n'
OTHER = '[services.other]\nwsgi = "a:wsgi"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "application"
    folder.mkdir()
    (folder / "a.py").write_text(CODE)
    return folder


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def up(folder: Path, *options: object) -> dict[str, Any]:
    done = fissile("up", folder, "--json", *map(str, options))
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def port_of(found: dict[str, Any], service: str) -> int:
    return int(found["services"][service]["public"][service].rpartition(":")[2])


def end_all(found: dict[str, Any]) -> None:
    """As in a power cut."""
    for pid in (found["pid"], found["zygote"], *(int(pid) for pid in found["births"])):
        if born(pid) is not None:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (SITE, "site"),
        (OTHER, "other"),
        (SITE + OTHER, "site"),
        (OTHER + SITE, "other"),
        (SITE + "port = 1\n", "site"),  # which nobody could listen at, and nobody has to
    ],
)
def test_the_first_page_gets_it_and_keeps_it_over_a_power_cut(folder: Path, text: str, first: str):
    (folder / "fissile.toml").write_text(text)
    port = free_port()
    with background(folder):
        found = up(folder, "--port", port)
        assert port_of(found, first) == port
        assert text_at(f"http://127.0.0.1:{port}") == "here"
        end_all(found)
        again = up(folder)
        assert port_of(again, first) == port
        assert text_at(f"http://127.0.0.1:{port}") == "here"
        os.kill(again["pid"], signal.SIGKILL)
        assert port_of(up(folder), first) == port  # its successor
        assert fissile("down", folder).returncode == 0


def test_any_free_port_is_kept_too_and_another_one_is_taken_where_one_asks_for_it(folder: Path):
    (folder / "fissile.toml").write_text(SITE)
    with background(folder):
        found = up(folder, "--port", "0")
        end_all(found)
        again = up(folder)
        assert port_of(again, "site") == port_of(found, "site")
        end_all(again)
        port = free_port()
        last = up(folder, "--port", port)
        assert port_of(last, "site") == port
        assert fissile("down", folder).returncode == 0
        # What was stopped on purpose begins anew.
        assert port_of(up(folder, "--port", "0"), "site") != 0
        assert fissile("down", folder).returncode == 0


def test_a_port_that_somebody_has_is_named_with_the_way_out(folder: Path):
    (folder / "fissile.toml").write_text(SITE)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = fissile("up", folder, "--port", str(port))
        assert done.returncode == 2
        assert f"port {port}, wanted for site, is taken by another program" in done.stderr
        assert "--port" in done.stderr
        (folder / "fissile.toml").write_text(SITE + f"port = {port}\n")
        done = fissile("up", folder)
        assert "`port` under [services.site], or --port" in done.stderr
