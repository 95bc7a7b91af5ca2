"""`fissile doctor`, from outside: with an application and without, for people and for programs."""

import json
import socket
from pathlib import Path

from commands import fissile


def test_without_an_application(tmp_path: Path):
    done = fissile("doctor", tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("ok       settings        there is no fissile.toml here")
    assert done.stdout.splitlines()[-1].startswith("no faults, ")
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_another_program_has_is_a_fault(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "fissile.toml").write_text(f'[services.web]\ncommand = "true"\nport = {port}\n')
        done = fissile("doctor", "-C", tmp_path, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["ok"] is False
    (fault,) = [one for one in found["checks"] if one["state"] == "fault"]
    assert (fault["name"], fault["consequence"]) == (f"port {port}", "web cannot be started")
    assert fissile("doctor", tmp_path).returncode == 0


def test_settings_with_mistakes_are_a_fault_with_all_of_them(tmp_path: Path):
    (tmp_path / "fissile.toml").write_text('[services.web]\ncommand = "true"\nprot = 1\nrunner = "x"\n')
    done = fissile("doctor", tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("fault    settings")
    assert "unknown key 'prot'" in done.stdout
    assert "unknown key 'runner'" in done.stdout


def test_an_application_that_runs_has_its_ports(folder: Path):
    (folder / "fissile.toml").write_text(
        (folder / "fissile.toml").read_text() + f"\n[machine]\napi_port = {free_port()}\n"
    )
    try:
        assert fissile("up", folder).returncode == 0
        done = fissile("doctor", folder)
        assert done.returncode == 0, done.stdout
        assert "is valid; the application runs" in done.stdout
        assert "the API runs there" in done.stdout
    finally:
        fissile("down", folder)


def test_a_folder_that_is_not_there(tmp_path: Path):
    done = fissile("doctor", tmp_path / "gone")
    assert done.returncode == 2
    assert "there is no folder" in done.stderr


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
