"""The folder .fissile: private, locked, cleaned, removed."""

import os
import socket
import stat
from pathlib import Path

import pytest

from fissile.errors import ConfigError
from fissile.supervisor.sockets import listen_public, listen_tcp, listen_unix, url
from fissile.supervisor.state import SOCKET_PATH_BYTES_MAX, Endpoints, ServiceEndpoints, StateFolder, read_endpoints

ENDPOINTS = Endpoints(os.getpid(), "a", "pair", "t", {"s": ServiceEndpoints("http://x", {}, ("C",), (1,))})


def test_it_is_private_and_goes_without_a_trace(tmp_path: Path):
    state = StateFolder(tmp_path)
    state.open()
    state.publish(ENDPOINTS)
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((state.path / "endpoints.json").stat().st_mode) == 0o600
    assert read_endpoints(tmp_path) == ENDPOINTS
    state.close()
    assert not state.path.exists()
    state.close()


def test_what_others_put_there_is_kept(tmp_path: Path):
    state = StateFolder(tmp_path)
    state.open()
    (state.path / "notes.txt").write_text("mine")
    state.close()
    assert [file.name for file in state.path.iterdir()] == ["notes.txt"]


def test_two_at_a_time_are_refused_with_the_pid_of_the_first(tmp_path: Path):
    first, second = StateFolder(tmp_path), StateFolder(tmp_path)
    first.open()
    with pytest.raises(ConfigError, match=rf"runs already \(pid {os.getpid()}\)"):
        second.open()
    second.close()  # has nothing to remove
    assert (first.path / "lock").exists()
    first.close()
    second.open()
    second.close()


def test_what_a_killed_supervisor_left_is_cleaned(tmp_path: Path):
    (tmp_path / ".fissile").mkdir(mode=0o755)
    (tmp_path / ".fissile" / "endpoints.json").write_text("{}")
    socket.socket(socket.AF_UNIX).bind(str(tmp_path / ".fissile" / "cart.0.sock"))
    state = StateFolder(tmp_path)
    state.open()
    state.clean()
    assert [file.name for file in state.path.iterdir()] == ["lock"]
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    state.close()


def test_a_folder_too_deep_for_a_socket_gets_a_short_one(tmp_path: Path):
    deep = tmp_path.joinpath(*["a-rather-long-name"] * 8)
    deep.mkdir(parents=True)
    state = StateFolder(deep)
    state.open()
    path = state.socket_path("s" * 40 + ".999")
    assert len(path.encode()) <= SOCKET_PATH_BYTES_MAX
    assert stat.S_IMODE(state.sockets.stat().st_mode) == 0o700
    listen_unix(path).close()
    state.close()
    assert not state.sockets.exists()
    assert not state.path.exists()


def test_a_place_that_cannot_be_used_is_one_clear_error(tmp_path: Path):
    (tmp_path / ".fissile").write_text("in the way")
    with pytest.raises(ConfigError, match=r"\.fissile cannot be used"):
        StateFolder(tmp_path).open()


@pytest.mark.parametrize("content", [None, b"", b"nonsense", b'{"pid": 1}'])
def test_nothing_runs(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / ".fissile").mkdir()
        (tmp_path / ".fissile" / "endpoints.json").write_bytes(content)
    with pytest.raises(ConfigError):
        read_endpoints(tmp_path)


def test_endpoints_of_a_dead_process_are_nothing_that_runs(tmp_path: Path):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    state = StateFolder(tmp_path)
    state.open()
    state.publish(Endpoints(pid, "a", "pair", "t", {}))
    with pytest.raises(ConfigError, match="nothing runs"):
        read_endpoints(tmp_path)
    state.close()


def test_a_port_that_is_taken_says_for_what_and_what_to_change():
    first = listen_tcp(0, "Frontend", "--port")
    port = first.getsockname()[1]
    with pytest.raises(ConfigError, match=rf"port {port}, wanted for Cart, is taken(.|\n)*choose another with --port"):
        listen_public(port, "Cart")
    with pytest.raises(ConfigError, match="cannot be used"):
        listen_tcp(70_000, "Cart", "--port")
    assert url(first) == f"http://127.0.0.1:{port}"
    first.close()


def test_without_a_wish_the_public_port_is_any_free_one_if_the_usual_is_taken():
    first, second = listen_public(None, "Frontend"), listen_public(None, "Frontend")
    assert first.getsockname()[1] != second.getsockname()[1]
    first.close()
    second.close()
